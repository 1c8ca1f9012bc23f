"""Weights and stores from elsewhere in place of a plan's needs, on the project's own stages."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, StoreError, UsageError
from kuleshov.core.project import SHIPPED
from kuleshov.features.store_writer import StoreWriter
from kuleshov.pipeline.plan import Planned, Request, make_plan


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with data sets' folders, weights of several methods, a TxE's, and a store of events."""
    for name in ("k400", "vidsitu", "lvu", "gpt2-medium"):
        (tmp_path / "data" / name).mkdir(parents=True)
    trained = {name: [f"{name}-k400"] for name in ("cvrl", "modist", "supervised")}
    trained |= {f"{name}-vs": [f"{name}-k400", f"{name}-vidsitu"] for name in ("cvrl", "modist")}
    trained |= {"tuned": [*trained["cvrl-vs"], "verbs-vidsitu"], "slow": trained["supervised"]}
    manifests = {name: {"trained": phases, "clip": {}} for name, phases in trained.items()}
    for name, manifest in {**manifests, "txe": {"architecture": "txe"}, "own": {"clip": {}}}.items():
        (tmp_path / f"{name}.safetensors").write_text(name)
        (tmp_path / f"{name}.json").write_text(json.dumps(manifest))
    with StoreWriter(tmp_path / "store", 4, 2.0, 2.0) as writer:
        writer.begin(["a"])
        writer.add("a", torch.zeros(5, 4))
        writer.finish()
    return tmp_path


def plan(given: Path, stage: str, *uses: str, **more) -> Planned:
    words = tuple(use.replace("=", f"={given}/") for use in uses)
    return make_plan(Request(stage, SHIPPED, root=given / "data", runs=given / "runs", uses=words, **more))


def names(planned: Planned) -> list[str]:
    return [one.stage.name for one in planned.order()]


@pytest.mark.parametrize("stage", ["train-verbs", "train-relations", "train-roles"])
def test_features_and_a_txe_leave_nothing_else_to_do(given, stage):
    planned = plan(given, stage, "features=store", "txe=txe.safetensors")
    assert names(planned) == ["reduce-valid", stage] and set(planned.used) == {"features", "txe"}
    pretrained = next(job for job in planned.jobs if job.row == "pretrained")
    assert f"--data.init_args.events={given}/store" in pretrained.words
    assert f"--model.init_args.txe_weights={given}/txe.safetensors" in pretrained.words


def test_what_only_other_rows_read_is_not_made(given):
    shutil.rmtree(given / "data" / "k400")
    with pytest.raises(MissingDataError, match="data set k400"):
        plan(given, "train-verbs", "features=store")
    some = plan(given, "train-verbs", "features=store", rows=("backbone", "scratch"))
    assert names(some) == ["reduce-valid", "train-verbs"] and len(some.jobs) == 2
    whole = plan(given, "train-verbs", "features=store", needs_data=False)
    assert "pretrain-txe" in names(whole) and whole.folder == some.folder
    given_both = plan(given, "train-verbs", "features=store", "txe=txe.safetensors", rows=("backbone",))
    assert names(given_both) == ["reduce-valid", "train-verbs"]


def test_a_need_of_one_row_brings_only_what_that_row_reads(given):
    made = names(plan(given, "table-3", rows=("cvrl-tuned",), needs_data=False))
    assert "table-4" in made and made.count("pretrain-backbone") == 1 and "pretrain-slow" not in made


def test_a_txe_is_pretrained_on_given_features_without_a_video(given):
    planned = plan(given, "pretrain-txe", "features=store", data="vidsitu")
    assert names(planned) == ["pretrain-txe"]
    # a store is of the data set of the stage that was asked for, or of the one that is named
    found = names(plan(given, "train-verbs", "features=store", weights=given / "cvrl.safetensors"))
    assert found == ["extract-features", "pretrain-txe", "reduce-valid", "train-verbs"]
    found = names(plan(given, "train-verbs", "features=store", "features@lvu=store"))
    assert found == ["pretrain-txe", "reduce-valid", "train-verbs"]
    with pytest.raises(UsageError, match="features@vidsitu="):
        plan(given, "summary", "features=store")
    assert "extract-features" not in names(plan(given, "summary", "features@vidsitu=store", "features@lvu=store"))


def test_the_digest_of_what_is_given_is_in_the_fingerprint(given):
    first = plan(given, "pretrain-txe", "features=store", data="vidsitu")
    with StoreWriter(given / "store", 4, 2.0, 2.0) as writer:
        writer.begin(["b"])
        writer.add("b", torch.ones(5, 4))
        writer.finish()
    assert plan(given, "pretrain-txe", "features=store", data="vidsitu").fingerprint != first.fingerprint


def test_weights_stand_for_backbones_that_have_been_through_the_same(given):
    planned = plan(given, "table-4", weights=given / "modist.safetensors")
    assert set(planned.used) == {"modist"}
    assert set(planned.needs) == {"supervised", "cvrl", "cvrl_vs", "modist_vs", "slow_k400", "reduced"}
    # the second phase goes on from the first one's
    assert set(planned.needs["modist_vs"].used) == {"first"} and set(planned.needs["cvrl_vs"].needs) == {"first"}
    assert planned.needs["cvrl_vs"].needs["first"] is planned.needs["cvrl"]
    rows = {job.row: job.words for job in planned.jobs}
    assert f"--model.init_args.backbone_weights={given}/modist.safetensors" in rows["modist"]
    assert not any("modist.safetensors" in word for row in ("cvrl", "supervised") for word in rows[row])
    each = [f"{name}={name}.safetensors" for name in ("supervised", "modist", "cvrl")]
    each += [f"{name}_vs={name}-vs.safetensors" for name in ("cvrl", "modist")]
    assert set(plan(given, "table-4", *each, "slow_k400=slow.safetensors").needs) == {"reduced"}
    # one phase is not two
    assert set(plan(given, "table-4", weights=given / "cvrl-vs.safetensors").used) == {"cvrl_vs"}
    # a stage that does not ask for a method takes any
    assert set(plan(given, "extract-features", weights=given / "own.safetensors").used) == {"backbone"}


def test_one_of_several_needs_of_a_name_is_reached_by_those_above_it(given):
    planned = plan(given, "table-3", "cvrl_tuned.backbone=tuned.safetensors")
    assert set(planned.needs["cvrl_tuned"].used) == {"backbone"} and not planned.needs["modist_tuned"].used
    # what takes the place of a need stands for all that have been through the same
    planned = plan(given, "table-3", "backbone=tuned.safetensors")
    assert set(planned.needs["cvrl_tuned"].used) == {"backbone"} and not planned.needs["modist_tuned"].used
    assert set(planned.needs["cvrl_txe"].needs["features"].used) == {"backbone"}


def test_a_txe_on_features_of_an_unknown_backbone_stands_where_it_is_named(given):
    manifest = {"architecture": "txe", "data": {"trained": ["unknown"], "sets": ["vidsitu"]}}
    (given / "txe.json").write_text(json.dumps(manifest))
    planned = plan(given, "table-1", "txe_vidsitu=txe.safetensors")
    assert set(planned.used) == {"txe_vidsitu"} and str(planned.used["txe_vidsitu"]) == "txe"
    # one that says something else does not
    (given / "txe.json").write_text(json.dumps({**manifest, "data": {"trained": ["modist-k400"]}}))
    with pytest.raises(KuleshovError, match=r"txe trained by modist-k400\): nothing .*txe_vidsitu@vidsitu cvrl-k400"):
        plan(given, "table-1", "txe_vidsitu=txe.safetensors")


def test_weights_start_only_what_was_asked_for(given):
    whole = make_plan(
        Request(
            "table-5",
            SHIPPED,
            root=given / "data",
            runs=given / "runs",
            weights=given / "supervised.safetensors",
            needs_data=False,
        )
    )
    assert not any("start" in one.used for one in whole.order())
    alone = Request(
        "pretrain-backbone", SHIPPED, root=given / "data", runs=given / "runs", weights=given / "modist.safetensors"
    )
    assert "start" in make_plan(alone).used


def test_given_networks_keep_their_sizes_in_a_smoke_run(given):
    (small,) = plan(
        given, "train-verbs", "features=store", "txe=txe.safetensors", smoke=True, rows=("pretrained",)
    ).jobs
    assert not any("txe_hidden" in word for word in small.words) and "--data.init_args.batch_size=2" in small.words
    (small,) = plan(given, "train-verbs", "features=store", smoke=True, rows=("pretrained",)).jobs
    assert "--model.init_args.txe_hidden=32" in small.words


def test_a_store_of_another_data_set_or_unfinished_is_refused(given):
    manifest = json.loads((given / "store" / "manifest.json").read_text())
    (given / "store" / "manifest.json").write_text(json.dumps({**manifest, "data": "vidsitu"}))
    with pytest.raises(UsageError, match="has events of vidsitu, not of lvu: write features@vidsitu="):
        plan(given, "pretrain-txe", "features=store", data="lvu")
    assert plan(given, "pretrain-txe", "features=store", data="vidsitu").used
    (given / "store" / "manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    with pytest.raises(StoreError, match="the store is unfinished"):
        plan(given, "pretrain-txe", "features=store", data="vidsitu")


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]", "is empty"), ('["v_abcdefghijk_seg_0_10", "v_abcdefghijk_seg_0_10"]', "twice"), ("[3]", "a text expected")],
)
def test_a_list_of_segments_is_read_before_anything_runs(given, text: str, said: str):
    (given / "some.json").write_text(text)
    with pytest.raises(FormatError, match=said):
        plan(given, "train-verbs", "reduced=some.json")


def test_a_txe_of_another_backbone_is_refused_at_planning(given):
    store = given / "store" / "manifest.json"
    store.write_text(json.dumps({**json.loads(store.read_text()), "backbone": {"trained": ["supervised-k400"]}}))
    (given / "txe.json").write_text(json.dumps({"architecture": "txe", "data": {"trained": ["cvrl-k400"]}}))
    with pytest.raises(UsageError, match=r"trained by cvrl-k400\) is for the features of another backbone than"):
        plan(given, "train-verbs", "features=store", "txe=txe.safetensors")
    allowed = (("model.init_args.allow_other_backbone", "true"),)
    assert plan(given, "train-verbs", "features=store", "txe=txe.safetensors", overrides=allowed).used


def test_films_have_to_be_named(given):
    with pytest.raises(UsageError, match="--data folder needs --root"):
        make_plan(Request("pretrain-txe", SHIPPED, data="folder", runs=given / "runs"))


def test_another_split_is_reported_on(given):
    (given / "some.json").write_text('["v_abcdefghijk_seg_0_10"]')
    planned = plan(given, "train-verbs", "reduced=some.json")
    assert "reduced" in planned.used and f"--data.init_args.split_file={given}/some.json" in planned.jobs[0].words
    assert "reduce-valid" in names(plan(given, "train-verbs"))
    assert "reduce-valid" not in names(plan(given, "train-verbs", scale="gpu"))
    tried = plan(given, "train-verbs", "reduced=some.json", smoke=True)
    sample = tried.needs["sample"].folder
    reported = f"--data.init_args.split_file={sample}/sample/split_files/vseg_split_valid_lb.json"
    assert reported in tried.jobs[0].words and "reduce-valid" not in names(tried)


@pytest.mark.parametrize(
    ("stage", "use", "error", "text"),
    [
        (
            "table-4",
            "cvrl=modist.safetensors",
            KuleshovError,
            r"backbone trained by modist-k400\): nothing .*cvrl@k400 cvrl-k400, .*cvrl_vs@vidsitu cvrl-k400 cvrl-v",
        ),
        ("train-verbs", "features=txe.safetensors", KuleshovError, "it is txe, the need is events"),
        ("train-verbs", "txe=cvrl.safetensors", KuleshovError, "it is backbone, the need is txe"),
        (
            "train-verbs",
            "feature=store",
            KuleshovError,
            r"nothing in the plan takes it \(needs: features.backbone@k400, features@vidsitu, r",
        ),
        ("train-verbs", "txe=nothing.safetensors", MissingDataError, "weights not found"),
        ("train-verbs", "features=data", MissingDataError, "name a finished store"),
        ("train-verbs", "features", UsageError, "--use takes NEED=PATH"),
    ],
)
def test_what_does_not_fit_is_refused(given, stage, use, error, text):
    with pytest.raises(error, match=text):
        plan(given, stage, use)


def test_a_damaged_store_is_refused(given):
    (given / "store" / "index.json").write_text("{}")
    with pytest.raises(StoreError):
        plan(given, "train-verbs", "features=store")
