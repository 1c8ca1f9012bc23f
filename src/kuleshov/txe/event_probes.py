"""What TxE keeps of the events that it is shown: linear probes on its output, beside the same on its input."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json
from kuleshov.features.feature_store import grid_step
from kuleshov.pretraining.probes import fit_linear, majority_accuracy
from kuleshov.synthetic.truth import event_labels
from kuleshov.txe.contextualizer import encode_long
from kuleshov.txe.encoder import TxE
from kuleshov.txe.event_table import Movies
from kuleshov.txe.window_data import EVENT_SECONDS, EventWindows

OFF_SCREEN = "off_screen"
Labels = dict[str, dict[str, list[int]]]  # movie -> name -> the label of its k-th two-second event


class EventProbes(pl.Callback):
    """Logs what ridge regression reads from TxE's output for events that are not hidden, at the end of validation.

    `keep/NAME` is the accuracy, on the movies held out, of a probe that was fitted on training movies,
    `keep/NAME_input` that of the same probe on what goes into TxE, `keep/NAME_trivial` that of the most frequent label.
    Where the labels say which events happen off screen, `keep/NAME_offscreen` and `keep/NAME_onscreen` part the
    output's.

    Args:
        every_n_epochs: how often.
        movies: training movies that the probes are fitted on, the first by id.
        labels: JSON {movie id: {name: [label of its k-th two-second event]}}, whole numbers, `off_screen` 0 or 1;
            default: the generated world's truth, where the data's `video_root` is in one; otherwise nothing is logged.
    """

    def __init__(self, every_n_epochs: int = 10, movies: int = 128, labels: str | None = None) -> None:
        self.every_n_epochs, self.movies, self.labels = every_n_epochs, movies, labels

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit and score the probes on rank 0."""
        data: EventWindows = trainer.datamodule
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not (trainer.is_global_zero and due) or trainer.sanity_checking or data.val_windows is None:
            return
        labels = read_labels(self.labels, data.video_root)
        if labels:
            scores = probe_events(pl_module.txe, data, labels, self.movies)
            pl_module.log_dict({f"keep/{name}": value for name, value in scores.items()}, rank_zero_only=True)


def read_labels(path: str | None, video_root: str | None) -> Labels:
    """The labels of a file, else those of the world that the videos are in, else none."""
    if path is not None:
        return read_json(path)
    return event_labels(Path(video_root).parent.parent) if video_root else {}


@torch.no_grad()
def probe_events(txe: TxE, data: EventWindows, labels: Labels, most: int) -> dict[str, float]:
    """Accuracies by name, as `EventProbes` logs them.

    Raises:
        KuleshovError: the labels name no movie that was trained on, or none that was held out, or are not alike.
    """
    training = data.train_windows.movies
    chosen = np.zeros(len(training.ids), dtype=bool)
    chosen[np.argsort(np.array(training.ids))[:most]] = True
    parts = [_labeled(txe, data, one, labels) for one in (training.only(chosen), data.val_windows.movies)]
    (inputs, outputs, known), (asked_inputs, asked_outputs, asked) = parts
    if not (known and asked):
        raise KuleshovError("the labels name no movie that is trained on, or none that is held out: check the ids")
    hidden, scores = asked.get(OFF_SCREEN), {}
    for name in sorted(known.keys() & asked.keys() - {OFF_SCREEN}):
        right = fit_linear(outputs, known[name]).predict(asked_outputs) == asked[name]
        right_input = fit_linear(inputs, known[name]).predict(asked_inputs) == asked[name]
        scores[name] = float(right.double().mean())
        scores[f"{name}_input"] = float(right_input.double().mean())
        scores[f"{name}_trivial"] = majority_accuracy(known[name], asked[name])
        for part, flag in (("offscreen", 1), ("onscreen", 0)):
            if hidden is not None and bool((hidden == flag).any()):
                scores[f"{name}_{part}"] = float(right[hidden == flag].double().mean())
    return scores


def _labeled(txe: TxE, data: EventWindows, movies: Movies, labels: Labels) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """TxE's normalized input (M, D) and output (M, H) for the movies' labeled events, and the labels (M,) by name."""
    step = grid_step(data.table.stores[0], EVENT_SECONDS)
    inputs, outputs = [], []
    found: dict[str, list[Tensor]] = {name: [] for name in next(iter(labels.values()))}
    for name, first, count in zip(movies.ids, movies.first, movies.count, strict=True):
        if name not in labels:
            continue
        if labels[name].keys() != found.keys() or len({*map(len, labels[name].values())}) != 1:
            raise KuleshovError(f"labels of {name}: each movie needs {', '.join(found)}, as many of each")
        rows = torch.arange(first, first + count, device=txe.mask_vector.device)
        events = data.table.take(rows)
        places = torch.arange(0, count, step)[: len(next(iter(labels[name].values())))]
        inputs.append(txe.normalizer(events)[places].cpu())
        outputs.append(encode_long(txe, events.unsqueeze(0), data.step)[0, places].float().cpu())
        for what, values in labels[name].items():
            found[what].append(torch.tensor(values[: len(places)], dtype=torch.long))
    if not inputs:
        return torch.zeros(0), torch.zeros(0), {}
    return torch.cat(inputs), torch.cat(outputs), {what: torch.cat(values) for what, values in found.items()}
