"""Roles: data, what is written, and the YAML files through the command line."""

import json

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.core.weights import save_weights
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, ROLES
from kuleshov.metrics.role_metrics import choose_references
from kuleshov.metrics.vidsitu_scorers import RoleScorer
from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu
from kuleshov.tasks.gpt2 import Gpt2Decoder
from kuleshov.tasks.roles import RoleData, RoleTask
from kuleshov.training.lightning_cli import main
from kuleshov.txe.encoder import TxE, describe


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


def test_roles_may_keep_the_order_of_their_verb(small_vidsitu):
    sorted_, listed = role_data(small_vidsitu), role_data(small_vidsitu, role_order="lists")
    event = listed.annotations.roles("train")[listed.train_ids[0]][0][0]
    ids = listed.tokens.encode(event.verb, {"AScn": "in a kitchen", "Arg0": "a man"}, sort=False)
    assert list(listed.tokens.decode(ids)) == ["AScn", "Arg0"]
    assert list(listed.tokens.decode(sorted_.tokens.encode(event.verb, {"AScn": "x", "Arg0": "y"}))) == ["Arg0", "AScn"]
    # the small files list their arguments in that order already
    assert torch.equal(listed.train_rows.tensors["tokens"], sorted_.train_rows.tensors["tokens"])


@pytest.mark.parametrize(
    ("context", "before", "after"), [("none", False, True), ("scratch", True, False), ("pretrained", False, False)]
)
def test_the_official_mlp_stands_before_txe(small_vidsitu, tmp_path, context, before, after):
    sizes = {"txe_layers": 1, "txe_heads": 2, "txe_feedforward": 8, "decoder_layers": 1, "decoder_heads": 2}
    sizes |= {"decoder_width": 8, "decoder_feedforward": 8, "bottleneck": 0, "event_mlp": "before"}
    if context == "pretrained":
        txe = TxE(16, hidden=8, layers=1, heads=2, feedforward=8)
        save_weights(tmp_path / "txe.safetensors", txe.state_dict(), describe(txe))
        sizes["txe_weights"] = str(tmp_path / "txe.safetensors")
    task = RoleTask(context=context, txe_hidden=8, **sizes)
    task.assemble(role_data(small_vidsitu).facts())
    assert (task.before is not None) == before
    assert isinstance(task.decoder.memory, torch.nn.Sequential) == after
    events = torch.randn(2, 5, 16)
    memory = task.eval().memory_of(events)
    expected = task.contextualizer(task.before(events) if before else events)
    torch.testing.assert_close(memory.squeeze(1), (task.decoder.memory(expected) if after else expected).flatten(0, 1))


def test_the_official_mlp_needs_plain_features_and_one_width(small_vidsitu):
    with pytest.raises(KuleshovError, match="event_mlp=before .* set feature_normalization to none"):
        RoleTask(context="scratch", event_mlp="before", feature_normalization="whiten")
    task = RoleTask(context="scratch", event_mlp="before", txe_hidden=8, txe_heads=2, decoder_width=16)
    with pytest.raises(KuleshovError, match="features of width 8 are attended to as they are: decoder_width is 16"):
        task.assemble(role_data(small_vidsitu).facts())


@pytest.mark.parametrize("draw", ["listed", "whole"])
def test_references_of_a_shorter_list(small_vidsitu, draw):
    data = VidSitu(small_vidsitu / "vidsitu")
    whole, few = data.segments("valid"), data.segments("valid")[3:9]
    scorer = RoleScorer(data, "valid", few, draw)
    drawn = {one.segment: one for one in choose_references(whole if draw == "whole" else few, data.roles("valid"))}
    assert scorer.references == [drawn[name] for name in few]
    other = choose_references(few if draw == "whole" else whole, data.roles("valid"))
    assert scorer.references != [one for one in other if one.segment in few]


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
