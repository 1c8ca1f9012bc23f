"""The tree of runs of the reports' tests, and a whole untrained hierarchy."""

from pathlib import Path

import pytest
import torch

from kuleshov import backbones
from kuleshov.core.weights import save_weights
from kuleshov.tasks.context_task import ContextTask
from kuleshov.tasks.relations.events import RelationsFromEvents
from kuleshov.tasks.roles.module import RolesFromEvents
from kuleshov.tasks.roles.tokens import RoleTokens
from kuleshov.tasks.verbs.events import VerbsFromEvents
from kuleshov.video.clip_format import ClipFormat

from ..report.conftest import runs, stage

__all__ = ["hierarchy", "runs", "stage"]

VERBS = ["chase.01", "hug.01", "look.01", "push.01"]
TXE = {"context": "scratch", "hidden": 16, "layers": 1, "heads": 2, "feedforward": 16}


def hand_on(network: ContextTask, folder: Path, facts: dict) -> None:
    network.assemble(facts, network._choices)
    for name, (source, manifest) in network.exports().items():
        save_weights(folder / "pretrained-seed0" / "weights" / f"{name}.safetensors", source.state_dict(), manifest)


@pytest.fixture
def hierarchy(stage, monkeypatch) -> Path:
    """A tables run over networks with random weights."""
    torch.manual_seed(0)
    monkeypatch.setattr(ContextTask, "weights_sha256", lambda self: None)
    backbone = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    network = backbones.build("slow_d_r50", width=2)
    clip = ClipFormat(num_frames=4, frame_stride=4, frame_rate=8.0, crop_size=32, short_side=32)
    backbones.save(backbone / "weights" / "backbone.safetensors", network, clip)
    width = {"width": network.feature_width}
    verbs, relations, roles = (
        stage(f"train-{task}", digits=digit * 8, needs=[backbone])
        for task, digit in (("verbs", "2"), ("relations", "3"), ("roles", "4"))
    )
    hand_on(VerbsFromEvents(**TXE), verbs, {**width, "verbs": VERBS})
    hand_on(RelationsFromEvents(head_width=8, **TXE), relations, {**width, "relation_counts": [1, 1, 1, 1]})
    tokens = RoleTokens.train(["a man", "in a park"], VERBS, ["Arg0", "AScn"], 300)
    sizes = {"decoder_width": 16, "decoder_layers": 1, "decoder_heads": 2, "decoder_feedforward": 16, "bottleneck": 0}
    writer = RolesFromEvents(longest_output=8, **sizes, **TXE)
    hand_on(writer, roles, {**width, "tokens": tokens.to_text(), "longest": 8})
    return stage("tables", digits="55555555", needs=[verbs, relations, roles])
