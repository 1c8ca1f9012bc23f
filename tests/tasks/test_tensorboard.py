"""What TensorBoard has of the heads: the loss on the reported split, confusion matrices, written roles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kuleshov.cli import main
from kuleshov.metrics.confusion_matrix import OTHERS, confusion_matrix
from kuleshov.tasks.event_task import load_task
from kuleshov.tasks.pictures import confusion_figure, roles_table
from kuleshov.tasks.relations import RelationData
from kuleshov.tasks.roles import RoleData
from kuleshov.tasks.verbs import VerbData


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    return events.Reload()


@pytest.mark.parametrize(("task", "kind"), [("verbs", VerbData), ("relations", RelationData), ("roles", RoleData)])
@torch.inference_mode()
def test_the_loss_on_the_reported_split_is_logged(words, small_vidsitu, tmp_path, task, kind):
    with torch.inference_mode(False):
        assert main(words(task, tmp_path, "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1")) == 0
    events = board(tmp_path)
    logged = [event.value for event in events.Scalars("val/loss")]
    data = kind(annotations=f"{small_vidsitu}/vidsitu", events=f"{small_vidsitu}/store")
    data.setup("fit")
    network, (batch,) = load_task(tmp_path / "weights" / f"{task}.safetensors"), data.val_dataloader()
    # the weights are those of the best epoch
    assert len(logged) == 2 and min(abs(float(network.loss(batch)) - value) for value in logged) < 2e-3
    if task == "roles":
        (text,) = events.Tensors("test/roles/text_summary")
        (table,) = text.tensor_proto.string_val
        assert table.decode().count("\n") == 1 + 8 * 5 and data.test_ids[0] in table.decode()
    else:
        assert len(events.Images("test/confusion")) == 1


def test_the_loss_is_left_out_where_labels_are_withheld(small_vidsitu):
    data = VerbData(annotations=f"{small_vidsitu}/vidsitu", events=f"{small_vidsitu}/store")
    data.targets = lambda ids, split: VerbData.targets(data, ids if split == "train" else [*ids, "absent"], split)
    data.setup("fit")
    assert "verbs" in data.train_rows.tensors and "verbs" not in data.test_rows.tensors


def test_confusions_are_counted_and_drawn():
    pairs = [("a", "a"), ("a", "b"), ("a", "a"), ("b", "a"), ("c", "x")]
    labels, counts = confusion_matrix(pairs, shown=2)
    assert labels == ["a", "b", OTHERS] and counts.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 1]]
    (axes,) = confusion_figure(pairs, "verbs").axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("named", "annotators", "verbs")
    assert np.allclose(axes.images[0].get_array()[0], [2 / 3, 1 / 3, 0, 0]) and len(axes.texts) == 4


def test_written_roles_are_a_table():
    text = roles_table([("s Ev1", "run.01", {"Arg0": "a | b"}, {"Arg0": "c", "AScn": "d"})])
    assert text.splitlines()[-1] == "| s Ev1 | run.01 | Arg0: a / b | Arg0: c; AScn: d |"
