"""A task's network is built again from what a run hands on."""

import json

import pytest
import torch

from kuleshov.core.errors import WeightsError
from kuleshov.core.weights import save_weights
from kuleshov.features.event_store import EventStore
from kuleshov.tasks.context_task import load
from kuleshov.training.lightning_cli import main
from kuleshov.txe.encoder import TxE, save

TASKS = {"verbs": "verbs/verbs", "relations": "relations/relations", "roles": "roles/roles"}


@pytest.fixture(scope="module")
def trained(small_vidsitu, tmp_path_factory):
    """{task: run} of each task on a pretrained TxE, which is gone afterwards."""
    runs = tmp_path_factory.mktemp("runs")
    weights = runs / "txe.safetensors"
    save(weights, TxE(16, hidden=16, layers=1, heads=2, feedforward=16), {})
    for task, name in TASKS.items():
        words = ["fit", "-c", f"configs/train-{name}.yaml", "-c", f"configs/train-{name}.demo.yaml"]
        words += [f"--data.init_args.annotations={small_vidsitu}/vidsitu"]
        words += [f"--data.init_args.store={small_vidsitu}/store", f"--trainer.default_root_dir={runs / task}"]
        words += ["--model.init_args.context=pretrained", f"--model.init_args.txe_weights={weights}"]
        sizes = {"hidden": 16, "layers": 1, "heads": 2, "feedforward": 16, "lr": 0.01, "warmup_epochs": 0}
        words += [f"--model.init_args.{name}={value}" for name, value in sizes.items()]
        main([*words, "--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"])
    weights.unlink()
    return {task: runs / task for task in TASKS}


@pytest.fixture(scope="module")
def stored(small_vidsitu):
    names = json.loads((small_vidsitu / "vidsitu/split_files/vseg_split_valid_lb.json").read_text())
    store = EventStore(small_vidsitu / "store")
    return [store.events(name) for name in names]


def predictions(run):
    return json.loads((run / "predictions/valid.json").read_text())


def test_verbs_are_named_as_in_the_run(trained, stored):
    network = load(trained["verbs"] / "weights/verbs.safetensors")
    for events, record in zip(stored, predictions(trained["verbs"]), strict=True):
        named = network.name_events(events)
        assert [[verb for verb, _ in event] for event in named] == record["pred_vbs_ev"]
        assert all(0 <= p <= 1 for event in named for _, p in event)


def test_a_long_movie_is_named_event_by_event(trained, stored):
    network = load(trained["verbs"] / "weights/verbs.safetensors")
    movie = torch.cat(stored[:3])
    assert [len(event) for event in network.name_events(movie, count=2, step=2)] == [2] * 15


def test_relations_are_named_as_in_the_run(trained, stored):
    network = load(trained["relations"] / "weights/relations.safetensors")
    for events, record in zip(stored, predictions(trained["relations"]), strict=True):
        assert network.relate(events) == [labels[0] for labels in record["pred_evrels_ev"]]


def test_roles_are_written_as_in_the_run(trained, stored):
    network = load(trained["roles"] / "weights/roles.safetensors")
    for events, record in zip(stored, predictions(trained["roles"]), strict=True):
        written = record["vb_output"].values()
        roles = network.write_roles(events, [event["vb_id"] for event in written])
        assert roles == [{r: text for r, text in event.items() if r != "vb_id"} for event in written]


def test_other_weights_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"kind": "backbone"})
    with pytest.raises(WeightsError, match="holds no task's network"):
        load(tmp_path / "w.safetensors")
