"""Roles: data, what is written, and the YAML files through the command line."""

import json

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.vidsitu_format import EVENTS, ROLES
from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu
from kuleshov.tasks.gpt2 import Gpt2Decoder
from kuleshov.tasks.roles import RoleData, RoleTask
from kuleshov.training.lightning_cli import main


def role_data(root, **options):
    data = RoleData(annotations=str(root / "vidsitu"), events=str(root / "store"), **options)
    data.setup("fit")
    return data


def test_data_has_the_first_annotators_roles(small_vidsitu):
    data = role_data(small_vidsitu)
    tokens = data.train_rows.tensors["tokens"]
    assert tokens.shape[:2] == (24, 5)
    annotated = data.annotations.roles("train")
    for name, events in zip(data.train_ids, tokens.tolist(), strict=True):
        for ids, event in zip(events, annotated[name][0], strict=True):
            assert data.tokens.decode(ids[1:]) == dict(event.roles)
            assert ids[0] == data.tokens.verb(event.verb)


def test_verbs_may_be_predicted(small_vidsitu, tmp_path):
    path = tmp_path / "valid.json"
    ranked = [["hug.01", "run.02", "fall.01", "push.01", "jump.03"]] * 5
    path.write_text(json.dumps([{"ann_idx": i, "pred_vbs_ev": ranked} for i in range(13)]))
    data = role_data(small_vidsitu, verb_predictions=str(path))
    assert data.given_verbs[data.test_ids[4]] == ["hug.01"] * 5
    assert (data.test_rows.tensors["verbs"] == data.tokens.verb("hug.01")).all()
    path.write_text(json.dumps([{"ann_idx": i, "pred_vbs_ev": ranked} for i in range(12)]))
    with pytest.raises(KuleshovError, match="has no verbs for 1 of 13 segments"):
        role_data(small_vidsitu, verb_predictions=str(path))


def test_two_vocabularies_are_refused():
    with pytest.raises(KuleshovError, match="tokens and gpt2 both name a vocabulary"):
        RoleData(annotations="a", events="b", tokens="t.json", gpt2="g")


def test_gpt2_says_what_it_needs(tmp_path):
    with pytest.raises(KuleshovError, match="goes with context=language, not none"):
        RoleTask(gpt2=str(tmp_path))
    with pytest.raises(KuleshovError, match=r"pip install 'kuleshov\[gpt2\]'|GPT-2 not found|holds no GPT-2"):
        Gpt2Decoder(str(tmp_path / "none"), 10)


@pytest.mark.parametrize("context", ["scratch", "language"])
def test_the_yamls_run_through_the_command_line(words, tmp_path, context):
    more = ("--trainer.fast_dev_run=true", f"--model.init_args.context={context}", "--model.init_args.memory_events=5")
    assert main(words("roles", tmp_path, *more)).trainer.state.finished


def test_a_training_learns_and_its_file_scores_the_same(words, small_vidsitu, tmp_path, lines_of):
    more = ("--data.init_args.batch_size=8", "--model.init_args.beam=2", "--model.init_args.lr=0.003")
    main(words("roles", tmp_path, *more))
    lines = lines_of(tmp_path)
    report = evaluate_vidsitu("roles", small_vidsitu / "vidsitu", tmp_path / "predictions/valid.json")
    for metric, value in report.metrics.items():
        assert lines["backbone", metric].value == value
    assert report.metrics["ROUGE-L"] > 20
    records = json.loads((tmp_path / "predictions/valid.json").read_text())
    assert [record["ann_idx"] for record in records] == list(range(13))
    for record in records:
        assert list(record["vb_output"]) == list(EVENTS)
        assert all(set(event) <= {"vb_id", *ROLES} for event in record["vb_output"].values())
    assert (tmp_path / "tokens.json").is_file()


def test_language_only_sees_no_video(small_vidsitu):
    data = role_data(small_vidsitu)
    model = RoleTask(context="language", decoder_width=16, decoder_layers=1, decoder_heads=2)
    model.trainer = type("Trainer", (), {"datamodule": data})()
    model.configure_model()
    model.eval()
    batch = next(iter(data.train_dataloader()))
    other = {**batch, "events": torch.randn_like(batch["events"])}
    assert float(model.loss(batch)) == float(model.loss(other))
