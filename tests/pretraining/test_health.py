"""Measures of a representation against closed forms and slow versions."""

import math

import pytest
import torch
import torch.nn.functional as F

from kuleshov.pretraining import representation_health as health


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), dim=1)


def test_alignment():
    eye = torch.eye(4)
    assert float(health.alignment(eye, eye)) == 0
    assert float(health.alignment(eye, -eye)) == pytest.approx(4)  # opposite points are 2 apart
    assert float(health.alignment(eye, eye.roll(1, 0))) == pytest.approx(2)


def test_uniformity():
    same = unit(1, 5).expand(6, 5)
    assert float(health.uniformity(same)) == pytest.approx(0, abs=1e-5)
    assert float(health.uniformity(torch.eye(6))) == pytest.approx(-4)  # exp(-2 * 2) for every pair
    points = unit(7, 3)
    pairs = [math.exp(-2 * float((points[i] - points[j]).square().sum())) for i in range(7) for j in range(i)]
    assert float(health.uniformity(points)) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)


def test_embedding_std():
    assert float(health.embedding_std(unit(1, 9).expand(5, 9))) == pytest.approx(0, abs=1e-6)
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert float(health.embedding_std(corners)) == pytest.approx(1)
    assert float(health.embedding_std(unit(2000, 16))) == pytest.approx(1, abs=0.01)


def test_effective_rank():
    assert float(health.effective_rank(torch.ones(6, 4))) == 0
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert float(health.effective_rank(corners)) == pytest.approx(5, rel=1e-5)
    line = torch.arange(8.0)[:, None] * torch.ones(1, 3)
    assert float(health.effective_rank(line)) == pytest.approx(1, rel=1e-4)
    # two directions with singular values in the ratio 3 : 1
    spread = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert float(health.effective_rank(spread + 10)) == pytest.approx(math.exp(entropy), rel=1e-4)


def test_contrast_top1():
    eye = torch.eye(4)
    assert float(health.contrast_top1(eye, eye)) == 1
    assert float(health.contrast_top1(eye, eye.roll(1, 0))) == 0
    assert float(health.contrast_top1(eye, eye[[0, 1, 3, 2]])) == 0.5
    same = unit(1, 4).expand(4, 4)
    assert float(health.contrast_top1(same, same)) == 0


def test_queue_top1():
    eye = torch.eye(4)
    assert float(health.queue_top1(eye, eye, -eye)) == 1
    assert float(health.queue_top1(eye, -eye, eye)) == 0
    assert float(health.queue_top1(eye, 0.5 * eye, 0.9 * eye[:1])) == 0.75
    assert math.isnan(float(health.queue_top1(eye, eye, torch.zeros(0, 4))))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((3.0, 5.0, 0.5), None),
        ((3.0, 5.0, 0.01), "collapsed: all embeddings point the same way"),
        ((4.95, 5.0, 0.5), r"the loss 4.950 sits at chance \(5.000\)"),
        ((3.0, 0.0, 0.5), None),
    ],
)
def test_collapse_reason(values, text):
    reason = health.collapse_reason(*values)
    assert reason is None if text is None else text.replace("\\", "") in reason
