"""The lines of the one table of `make bench`: a job, our rates, a peer's, the ratio, the share of the floor."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HEAD = ("job", "ours: least, median, most", "peer", "times as fast: least, median, most", "aim", "of the floor")


@dataclass(frozen=True)
class Line:
    """A job, measured in rounds in which ours and the peer took turns.

    Attributes:
        job: what was done.
        unit: of the rates.
        ours: rates, one a round.
        peer: what else one would use; empty where there is nothing.
        theirs: its rates.
        floor: rates that the machine allows, one a round, where they are known.
        aim: the least median ratio; 0 for none.
    """

    job: str
    unit: str
    ours: Sequence[float]
    peer: str = ""
    theirs: Sequence[float] = ()
    floor: Sequence[float] = ()
    aim: float = 0.0

    @property
    def ratios(self) -> list[float]:
        """Round by round."""
        return [one / other for one, other in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    @property
    def missed(self) -> bool:
        """Whether the aim is."""
        return bool(self.aim) and statistics.median(self.ratios) < self.aim

    def cells(self) -> tuple[str, ...]:
        """As a row below `HEAD`."""
        floor = [one / most for one, most in zip(self.ours, self.floor, strict=True)] if self.floor else []
        ratios, aim = spread(self.ratios), f"{self.aim:.1f}" if self.aim else ""
        share = f"{statistics.median(floor):.0%}" if floor else ""
        return self.job, f"{spread(self.ours)} {self.unit}", self.peer, ratios, aim, share


def spread(values: Sequence[float]) -> str:
    """Least, median and most, in words."""
    ordered = (min(values), statistics.median(values), max(values)) if values else ()
    return ", ".join(f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" for value in ordered)


def rounds(ways: dict[str, Callable[[], float]], number: int) -> dict[str, list[float]]:
    """Rates of each way, which take turns, back and forth: what runs before a way can slow it."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(number):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            found[name].append(ways[name]())
    return found


def table(lines: Sequence[Line], before: Sequence[Line] = ()) -> str:
    """The table in Markdown; with an earlier one's lines also how many times as fast the medians are now."""
    earlier = {(line.job, line.peer): statistics.median(line.ours) for line in before}
    rows = [(*HEAD, "over before")] if before else [HEAD]
    rows.append(("---",) * len(rows[0]))
    for line in lines:
        old = earlier.get((line.job, line.peer))
        over = f"{statistics.median(line.ours) / old:.2f}" if old else ""
        rows.append((*line.cells(), over) if before else line.cells())
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def finish(lines: Sequence[Line], path: Path | None) -> int:
    """Print the table, or write the lines where a path is given; 1 where an aim is missed."""
    if path is None:
        print(table(lines))
    else:
        path.write_text(json.dumps([asdict(line) for line in lines]))
    return int(any(line.missed for line in lines))


def read(path: Path) -> list[Line]:
    """Lines that `finish` has written."""
    return [Line(**raw) for raw in json.loads(path.read_text())]
