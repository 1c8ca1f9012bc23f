"""The three tasks on VidSitu's real annotation files, with features drawn at random."""

import json

import pytest
import torch

from kuleshov.features.store_writer import StoreWriter
from kuleshov.tasks.relations import RelationData
from kuleshov.tasks.roles import RoleData
from kuleshov.tasks.verbs import VerbData
from kuleshov.training.lightning_cli import main


@pytest.fixture(scope="module")
def vidsitu(real_data):
    if not (real_data / "vidsitu").is_dir():
        pytest.skip(f"no vidsitu folder in {real_data}")
    return real_data / "vidsitu"


def store_of(folder, names):
    writer = StoreWriter(folder, 8, 2.0, 2.0, "fp32")
    for name in names:
        writer.add(name, torch.randn(5, 8))
    writer.finish()
    return str(folder)


@pytest.fixture(scope="module")
def sample(vidsitu, tmp_path_factory):
    """Annotations in the role format, and a store of their segments."""
    names = json.loads((vidsitu / "roles_sample/vseg_split_valid_lb.json").read_text())
    return vidsitu / "roles_sample", store_of(tmp_path_factory.mktemp("store") / "s", names)


def test_roles_come_back_from_their_tokens(sample):
    root, store = sample
    data = RoleData(annotations=str(root), events=store, train_split="valid", longest=400)
    data.setup("fit")
    annotated = data.annotations.roles("valid")
    compared = 0
    for name, events in zip(data.train_ids, data.train_rows.tensors["tokens"].tolist(), strict=True):
        for ids, event in zip(events, annotated[name][0], strict=True):
            assert data.tokens.decode(ids[1:]) == {role: text for role, text in event.roles if text}
            compared += 1
    assert compared == 5 * len(data.train_ids) >= 500


def test_relations_of_the_first_annotator(sample):
    root, store = sample
    data = RelationData(annotations=str(root), events=store, train_split="valid")
    data.setup("fit")
    labels = data.train_rows.tensors["relations"]
    assert labels.shape == (len(data.train_ids), 4)
    assert set(labels.unique().tolist()) <= {-1, 0, 1, 2, 3}


def test_verbs_of_the_whole_valid_split(vidsitu, tmp_path):
    names = json.loads((vidsitu / "split_files/vseg_split_valid_lb.json").read_text())
    data = VerbData(
        annotations=str(vidsitu), events=store_of(tmp_path / "s", names[:200]), train_split="valid", allow_missing=True
    )
    data.setup("fit")
    assert len(data.verbs) == 1556 and len(data.test_ids) == 200 and len(data.split_ids) == 1324
    assert (data.train_rows.tensors["verbs"] >= 0).float().mean() > 0.99


def test_a_training_on_real_roles_is_scored(sample, tmp_path, lines_of):
    root, store = sample
    words = ["fit", "-c", "configs/train-roles/roles.yaml", "-c", "configs/train-roles/roles.demo.yaml"]
    words += [f"--data.init_args.annotations={root}", f"--data.init_args.events={store}"]
    words += ["--data.init_args.train_split=valid", f"--trainer.default_root_dir={tmp_path}"]
    words += ["--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--model.init_args.longest_output=6"]
    main(words)
    lines = lines_of(tmp_path)
    assert lines["backbone", "CIDEr"].n == lines["backbone", "CIDEr"].of >= 100
