"""Scoring time of a full validation set's roles, and the same figures by the official code.

    python benchmarks/bench_scoring.py [--segments 1326] [--limit 30] [--official VIDSITU]

Rates (of the processor's time) are of all figures and of those that validation during training needs; exits with 1
where all figures take longer than the limit. `--official` names a checkout of
TheShadow29/VidSitu (see official_vidsitu.py): then the figures must equal its evaluator's, too.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import official_vidsitu
from lines import Line, finish

from kuleshov.datasets.vidsitu_format import EVENTS, Annotation, VidSituEvent
from kuleshov.metrics.role_metrics import Prediction, References, choose_references, score_roles

NAMES = ("Arg0 (agent)", "Arg1 (thing)", "Arg2 (goal)", "ArgM (location)", "Scene of the Event")
SHORT = ("Arg0", "Arg1", "Arg2", "ALoc", "AScn")


def valid_set(segments: int, seed: int = 0) -> tuple[list[Prediction], list[References], dict[str, list[Annotation]]]:
    """Made-up texts in VidSitu's proportions: four annotators, some 150 verbs, two to five roles an event."""
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(1500)]
    weights = [1 / (i + 1) for i in range(1500)]
    verbs = [f"verb.{i:03d}" for i in range(150)]

    def text() -> str:
        return " ".join(rng.choices(words, weights, k=rng.choice((1, 2, 3, 4, 6, 8))))

    annotations: dict[str, list[Annotation]] = {}
    predictions = []
    for number in range(segments):
        asked = [(rng.choice(verbs), rng.sample(range(5), rng.randint(2, 5))) for _ in EVENTS]
        pool = [text() for _ in range(12)]
        annotations[f"v_source{number:05d}_seg_0_10"] = [
            tuple(_event(verb, roles, pool, rng) for verb, roles in asked) for _ in range(4)
        ]
        predictions.append(
            {
                event: {SHORT[role]: rng.choice(pool) for role in roles}
                for event, (_, roles) in zip(EVENTS, asked, strict=True)
            }
        )
    return predictions, choose_references(list(annotations), annotations), annotations


def _event(verb: str, roles: list[int], pool: list[str], rng: random.Random) -> VidSituEvent:
    arguments = {NAMES[role]: rng.choice(pool) for role in roles}
    return VidSituEvent(verb, verb, arguments, tuple(arguments), None)


def official(
    folder: Path, predictions: list[Prediction], annotations: dict[str, list[Annotation]]
) -> tuple[dict[str, float], float]:
    """The official evaluator's figures, and its seconds, reading its files included."""
    module = official_vidsitu.load(folder)
    with tempfile.TemporaryDirectory() as place:
        paths = official_vidsitu.write_files(Path(place), predictions, annotations)
        started = time.process_time()
        return official_vidsitu.figures(module, paths), time.process_time() - started


def main() -> int:
    """Measure and print; 1 where the limit is exceeded or a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=1326, help="segments in the set (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=30.0, help="most seconds (default: %(default)s)")
    parser.add_argument("--official", type=Path, help="checkout of VidSitu's official code")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    args = parser.parse_args()
    predictions, references, annotations = valid_set(args.segments)
    seconds: dict[str, list[float]] = {"all figures": [], "headline figures": []}
    for _ in range(args.rounds):
        for name, taken in seconds.items():
            started = time.process_time()
            figures = score_roles(predictions, references, headline=name == "headline figures")
            taken.append(time.process_time() - started)
    worst, peer = 0.0, ("", [])
    if args.official is not None:
        figures, found = score_roles(predictions, references), []
        for _ in range(args.rounds):
            theirs, taken = official(args.official, predictions, annotations)
            found.append(args.segments / taken)
        worst = max(abs(figures[name] - value) for name, value in theirs.items() if name in figures)
        print(f"greatest difference from the official code {worst:.1e}", file=sys.stderr)
        peer = ("the official code", found)
    lines = []
    for name, taken in seconds.items():
        rates = [args.segments / one for one in taken]
        theirs = peer if name == "all figures" else ("", [])
        lines.append(Line(f"roles of {args.segments} segments scored, {name}", "segments/s", rates, *theirs))
    slow = max(seconds["all figures"]) > args.limit
    return finish(lines, args.lines) | int(slow or worst > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
