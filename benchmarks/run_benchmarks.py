"""Every benchmark, one after the other, and one table of what they measured.

    make bench
    python benchmarks/run_benchmarks.py [--only txe,video] [--output NEW.json] [--before OLD.json]

`--before` is what `--output` wrote of another version on the same machine: the last column is how many times as fast
this one is. Exit status 1 where an aim is missed or a benchmark failed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from lines import Line, read, table

HERE = Path(__file__).parent
# these print tables of their own: of how cost grows, and of how long a step waits
OTHERS = ("growth", "data_wait")


def main() -> int:
    """Run them, print the table, and name what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="benchmarks by name: backbone, txe, ...")
    parser.add_argument("--output", type=Path, help="keep the lines as JSON")
    parser.add_argument("--before", type=Path, help="lines of another version")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else sorted(p.stem[6:] for p in HERE.glob("bench_*.py"))
    lines, failed = list[Line](), []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            print(f"== {name}", file=sys.stderr, flush=True)
            path = Path(folder) / f"{name}.json"
            given = [] if name in OTHERS else ["--lines", str(path)]
            done = subprocess.run([sys.executable, str(HERE / f"bench_{name}.py"), *given])
            failed += [name] if done.returncode else []
            lines += read(path) if path.is_file() else []
    if arguments.output is not None:
        arguments.output.write_text(json.dumps([asdict(line) for line in lines]))
    print(table(lines, read(arguments.before) if arguments.before else []))
    for line in lines:
        if line.missed:
            print(f"missed: {line.job}, against {line.peer}: {line.cells()[3]} < {line.aim:.2f}", file=sys.stderr)
    if failed:
        print(f"failed, or missed an aim: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
