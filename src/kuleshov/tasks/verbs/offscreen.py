"""Accuracy on events that happen off screen, which only their neighbors can tell."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kuleshov.core.errors import MissingDataError
from kuleshov.core.files import read_json
from kuleshov.metrics.verb_metrics import ANNOTATORS


def read_offscreen(root: Path, file: str | None) -> dict[str, list[bool]]:
    """Which events happen off screen, {} where nothing says so.

    Raises:
        MissingDataError: the file was named and is not there.
    """
    path = Path(file) if file is not None else root.parent / "truth" / "vidsitu_offscreen.json"
    if not path.is_file():
        if file is not None:
            raise MissingDataError("off-screen flags", path.absolute(), "leave offscreen_file out")
        return {}
    return read_json(path)


def split_accuracy(
    predicted: Mapping[str, Sequence[Sequence[str]]],
    annotated: Mapping[str, Sequence[Sequence[str]]],
    offscreen: Mapping[str, Sequence[bool]],
) -> dict[str, tuple[float, int]]:
    """Acc@1 in per cent, as Acc@1 counts it, of the events off screen and of those on screen.

    Args:
        predicted: segment -> five events of ranked verbs.
        annotated: segment -> five events of one verb per annotator.
        offscreen: segment -> five truth values; segments that are not in it are left out.

    Returns:
        `acc1_offscreen` and `acc1_onscreen`, each with the number of segments that have such events.
    """
    hits: dict[bool, list[bool]] = {True: [], False: []}
    segments: dict[bool, set[str]] = {True: set(), False: set()}
    for name, events in predicted.items():
        for ranked, given, hidden in zip(events, annotated[name], offscreen.get(name, ()), strict=False):
            hits[bool(hidden)].append(ranked[0] in given[:ANNOTATORS])
            segments[bool(hidden)].add(name)
    names = {True: "acc1_offscreen", False: "acc1_onscreen"}
    return {
        names[hidden]: (100.0 * sum(found) / len(found), len(segments[hidden]))
        for hidden, found in hits.items()
        if found
    }
