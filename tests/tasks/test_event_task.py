"""What every task on event features hands on: networks that load again, predictions, and what it refuses."""

import json
import shutil

import pytest
import torch

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.plugins import TRUST, trust
from kuleshov.core.results import read_results
from kuleshov.core.weights import load_weights, save_weights
from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.features.feature_store import EventStore
from kuleshov.tasks.event_task import load_task
from kuleshov.training.lightning_cli import main
from kuleshov.txe.encoder import TxE, save

UNLABELED = {"verbs": "testvb", "relations": "testevrel", "roles": "testsrl"}


@pytest.fixture(scope="module")
def pretrained(words, tmp_path_factory):
    """(task, run, *more) -> words of a small training on a pretrained TxE."""
    weights = tmp_path_factory.mktemp("txe") / "txe.safetensors"
    save(weights, TxE(16, hidden=16, layers=1, heads=2, feedforward=16), {})
    sizes = {"txe_hidden": 16, "txe_layers": 1, "txe_heads": 2, "txe_feedforward": 16, "lr": 0.01, "warmup_epochs": 0}
    sizes["feature_normalization"] = "none"
    shared = [f"--model.init_args.{name}={value}" for name, value in sizes.items()]
    shared += ["--model.init_args.context=pretrained", f"--model.init_args.txe_weights={weights}"]
    shared += ["--trainer.max_epochs=2", "--trainer.check_val_every_n_epoch=1"]
    return lambda task, run, *more, command="fit": words(task, run, *shared, *more, command=command)


@pytest.fixture(scope="module")
def trained(pretrained, tmp_path_factory):
    """{task: run} of each task."""
    runs = tmp_path_factory.mktemp("runs")
    for task in UNLABELED:
        main(pretrained(task, runs / task))
    return {task: runs / task for task in UNLABELED}


@pytest.fixture(scope="module")
def stored(small_vidsitu):
    names = json.loads((small_vidsitu / "vidsitu/split_files/vseg_split_valid_lb.json").read_text())
    store = EventStore(small_vidsitu / "store")
    return [store.events(name) for name in names]


def network_and_predictions(run):
    path = run / "weights" / f"{run.name}.safetensors"
    assert load_weights(path)[1]["init_args"]["txe_weights"] is None  # it is loaded without the TxE it started from
    return load_task(path), json.loads((run / "predictions/valid.json").read_text())


def test_verbs_are_named_as_in_the_run(trained, stored):
    network, predictions = network_and_predictions(trained["verbs"])
    for events, record in zip(stored, predictions, strict=True):
        named = network.name_events(events)
        assert [[verb for verb, _ in event] for event in named] == record["pred_vbs_ev"]
        assert all(0 <= p <= 1 for event in named for _, p in event)
    movie = torch.cat(stored[:3])
    assert [len(event) for event in network.name_events(movie, count=2, step=2)] == [2] * 15


def test_relations_are_named_as_in_the_run(trained, stored):
    network, predictions = network_and_predictions(trained["relations"])
    for events, record in zip(stored, predictions, strict=True):
        with torch.inference_mode():
            places = network(events.unsqueeze(0))[0].argmax(-1).tolist()
        assert [RELATIONS[place] for place in places] == [labels[0] for labels in record["pred_evrels_ev"]]


def test_roles_are_written_as_in_the_run(trained, stored):
    network, predictions = network_and_predictions(trained["roles"])
    for events, record in zip(stored, predictions, strict=True):
        written = record["vb_output"].values()
        roles = network.write_roles(events, [event["vb_id"] for event in written])
        assert roles == [{r: text for r, text in event.items() if r != "vb_id"} for event in written]


@pytest.mark.parametrize("task", UNLABELED)
def test_predict_writes_the_official_file(trained, tmp_path, task):
    run = shutil.copytree(trained[task], tmp_path / task)
    official = (run / "predictions/valid.json").read_bytes()
    shutil.rmtree(run / "predictions")
    main(["predict", "-c", f"{run}/config.yaml", f"--trainer.default_root_dir={run}"])
    assert (run / "predictions/valid.json").read_bytes() == official


@pytest.mark.parametrize("task", UNLABELED)
def test_a_split_without_labels_is_predicted_and_not_scored(trained, pretrained, tmp_path, capfd, task):
    run, split = shutil.copytree(trained[task], tmp_path / task), UNLABELED[task]
    before = read_results(run / "results.jsonl")
    main(pretrained(task, run, f"--data.init_args.split={split}", command="test"))
    assert len(read_predictions(run / f"predictions/{split}.json", task, 4)) == 4
    assert "no labels: not scored" in capfd.readouterr().err
    assert read_results(run / "results.jsonl") == before and not (run / "tests").exists()


def test_a_training_needs_labels_to_choose_the_epoch_by(words, tmp_path):
    with pytest.raises(KuleshovError, match="vinfo_testvb_lb.json not found"):
        main(words("verbs", tmp_path, "--data.init_args.split=testvb", "--trainer.check_val_every_n_epoch=1"))


def test_verbs_must_be_given_for_roles(words, tmp_path):
    with pytest.raises(KuleshovError, match="vsann_testvb_lb.json not found|no verbs for 4 of 4 .*verb_predictions"):
        main(words("roles", tmp_path, "--data.init_args.split=testvb"))


def test_weights_of_other_data_are_refused(trained, pretrained, tmp_path):
    run = shutil.copytree(trained["roles"], tmp_path / "roles")
    with pytest.raises(KuleshovError, match="trained on data with other tokens"):
        main(pretrained("roles", run, "--data.init_args.vocabulary_size=270", command="predict"))


def test_features_of_another_backbone_are_refused(pretrained, tmp_path):
    weights = tmp_path / "txe.safetensors"
    save(weights, TxE(16, hidden=16, layers=1, heads=2, feedforward=16), {"data": {"backbone_sha256": "abcdef01" * 8}})
    more = (f"--model.init_args.txe_weights={weights}", "--trainer.fast_dev_run=true")
    with pytest.raises(KuleshovError, match="backbone abcdef01, these are of backbone unknown: .*allow_other_backbone"):
        main(pretrained("verbs", tmp_path, *more))
    allowed = main(pretrained("verbs", tmp_path, *more, "--model.init_args.allow_other_backbone=true"))
    assert allowed.trainer.state.finished


def test_other_weights_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"kind": "backbone"})
    with pytest.raises(WeightsError, match="w.safetensors holds no task's network"):
        load_task(tmp_path / "w.safetensors")


def test_a_task_of_another_package_is_loaded_once_it_is_trusted(trained, tmp_path, monkeypatch):
    (tmp_path / "their_tasks.py").write_text(
        "from kuleshov.tasks.verbs import VerbTask\n\nclass Louder(VerbTask):\n    task = 'louder'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(TRUST, "")
    tensors, manifest = load_weights(trained["verbs"] / "weights/verbs.safetensors")
    path = tmp_path / "louder.safetensors"
    save_weights(path, tensors, {**manifest, "class_path": "their_tasks.Louder"})
    with pytest.raises(KuleshovError, match="louder.safetensors.*their_tasks.Louder.*--trust their_tasks"):
        load_task(path)
    trust(["their_tasks"])
    assert load_task(path).task == "louder"
