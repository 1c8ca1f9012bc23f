"""What TensorBoard shows of a scored task: which answers are given for which, and texts beside the annotators'."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.figure import Figure

from kuleshov.metrics.confusion_matrix import confusion_matrix


def confusion_figure(pairs: Sequence[tuple[str, str]], title: str) -> Figure:
    """The confusion matrix of (annotators' label, named label) pairs, colored by its rows' shares, with counts."""
    labels, counts = confusion_matrix(pairs)
    size = 1.5 + 0.3 * len(labels)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts / counts.sum(1, keepdims=True).clip(1), vmin=0, vmax=1, cmap="Blues")
    places = range(len(labels))
    axes.set(xlabel="named", ylabel="annotators", title=title, xticks=places, yticks=places)
    axes.set_xticklabels(labels, rotation=90, fontsize=7)
    axes.set_yticklabels(labels, fontsize=7)
    for row, column in zip(*counts.nonzero(), strict=True):
        dark = counts[row, column] > counts[row].sum() / 2
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")
    return figure


def roles_table(events: Iterable[tuple[str, str, Mapping[str, str], Mapping[str, str]]]) -> str:
    """Markdown of (event, verb, roles written, the annotator's roles)."""
    lines = ["| event | verb | written | annotator |", "|---|---|---|---|"]
    for event, verb, written, given in events:
        cells = ["; ".join(f"{role}: {text}" for role, text in roles.items()) for roles in (written, given)]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in (event, verb, *cells)) + " |")
    return "\n".join(lines)
