"""Heads, key encoders, the k-NN probe, the order of samples, filmstrips."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.answers import Answers
from kuleshov.pretraining.backbone_pretraining import paired_filmstrip
from kuleshov.pretraining.batch_norm import GlobalBatchNorm, exact_batch_norm, share_batch_norm
from kuleshov.pretraining.clip_data import GlobalBatchSampler
from kuleshov.pretraining.contrastive_losses import ProjectionHead
from kuleshov.pretraining.modist import MoDist, follow
from kuleshov.pretraining.probes import knn_answers, knn_predict, knn_scores, majority_accuracy


def test_cvrl_head_has_the_published_shape():
    with torch.device("meta"):
        head = ProjectionHead(2048)
    shapes = [tuple(layer.weight.shape) for layer in head.layers if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(2048, 2048)] * 3 + [(128, 2048)]
    assert sum(isinstance(layer, torch.nn.BatchNorm1d) for layer in head.layers) == 3
    assert {layer.momentum for layer in head.layers if isinstance(layer, torch.nn.BatchNorm1d)} == {0.003}


def test_modist_head_has_two_layers_and_no_norm():
    head = ProjectionHead(256, hidden_layers=1, batch_norm=False)
    assert [type(layer).__name__ for layer in head.layers] == ["Linear", "ReLU", "Linear"]
    features = torch.randn(3, 256)
    plain = F.linear(features, head.layers[0].weight, head.layers[0].bias).relu()
    plain = F.linear(plain, head.layers[2].weight, head.layers[2].bias)
    torch.testing.assert_close(head(features), plain / plain.norm(dim=1, keepdim=True))
    with pytest.raises(KuleshovError, match="at least 1, got 256, 2048, 0 and 3 layers"):
        ProjectionHead(256, output_width=0)


@pytest.mark.parametrize("norm", [False, True])
def test_modist_heads_may_have_batch_norm(norm):
    networks = {f"{name}backbone": {"class_path": "motion_2d", "init_args": {"width": 1}} for name in ("", "motion_")}
    module = MoDist(**networks, hidden_width=4, embedding_width=2, head_batch_norm=norm)
    heads = (module.visual_head, module.motion_head, module.keys["visual_head"], module.keys["motion_head"])
    assert not any(parameter.requires_grad for parameter in module.keys.parameters())
    for head in heads:
        assert any(isinstance(layer, torch.nn.BatchNorm1d) for layer in head.layers) == norm


def test_key_encoder_follows():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    key = copy.deepcopy(network)
    before = [p.clone() for p in key.parameters()]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    follow(key, network, 0.9)
    for old, now in zip(before, key.parameters(), strict=True):
        torch.testing.assert_close(now, old + 0.1)
    network[1].running_mean.add_(5.0)
    follow(key, network, 0.0)
    assert torch.equal(key[0].weight, network[0].weight) and not key[1].running_mean.any()


def test_knn_equals_a_plain_vote():
    generator = torch.Generator().manual_seed(0)
    bank, labels = torch.randn(30, 4, generator=generator), torch.randint(0, 3, (30,), generator=generator)
    queries = torch.randn(9, 4, generator=generator)
    predicted = knn_predict(bank, labels, queries, neighbors=5, temperature=0.1)
    for query, answer in zip(queries, predicted, strict=True):
        cosines = F.cosine_similarity(query[None], bank)
        votes = [0.0, 0.0, 0.0]
        for place in cosines.argsort(descending=True)[:5]:
            votes[int(labels[place])] += float((cosines[place] / 0.1).exp())
        assert int(answer) == max(range(3), key=votes.__getitem__)
    assert torch.equal(knn_predict(bank, labels, bank, neighbors=1), labels)
    assert majority_accuracy(torch.tensor([2, 2, 0]), torch.tensor([2, 1, 2, 2])) == 0.75
    with pytest.raises(KuleshovError, match="needs labeled features, got 0 and 0 labels"):
        knn_predict(bank[:0], labels[:0], queries)


def test_knn_accuracy_counts_each_sample_once():
    features, labels = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)), torch.arange(7) % 2
    part, index = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    metric = Answers(partial(knn_scores, neighbors=1))

    def update(places):
        metric.update(
            *knn_answers(features[places], {"label": labels[places], "part": part[places], "index": index[places]})
        )

    for places in ([0, 4, 1], [6, 5, 4, 6], [3, 2, 0, 6]):
        update(places)
    hits = (knn_predict(features[:4], labels[:4], features[4:], 1) == labels[4:]).float().mean()
    found = metric.compute()
    assert {name: found[name] for name in ("knn_top1", "trivial", "n")} == {
        "knn_top1": float(hits),
        "trivial": pytest.approx(2 / 3),
        "n": 3,
    }
    metric.reset()
    update([0, 1, 2, 3])
    assert "knn_top1" not in metric.compute()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_batches_are_the_same_for_any_number_of_processes(monkeypatch, processes):
    alone = GlobalBatchSampler(19, 8, seed=3)
    alone.set_epoch(2)
    expected = torch.tensor(list(alone)).reshape(2, 8)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr("kuleshov.pretraining.clip_data.world_size", lambda: processes)
        monkeypatch.setattr("kuleshov.pretraining.clip_data.rank", lambda rank=rank: rank)
        share = GlobalBatchSampler(19, 8, seed=3)
        share.set_epoch(2)
        assert len(share) == 16 // processes == len(list(share))
        shares.append(torch.tensor(list(share)).reshape(2, -1))
    assert torch.equal(torch.cat(shares, dim=1), expected)
    assert len(expected.unique()) == 16
    alone.set_epoch(3)
    assert list(alone) != expected.flatten().tolist()


def test_sampler_names_mistakes(monkeypatch):
    with pytest.raises(KuleshovError, match="5 videos are fewer than one batch of 8"):
        GlobalBatchSampler(5, 8, seed=0)
    monkeypatch.setattr("kuleshov.pretraining.clip_data.world_size", lambda: 3)
    with pytest.raises(KuleshovError, match="a global batch of 8 cannot be shared by 3 processes"):
        GlobalBatchSampler(50, 8, seed=0)


def test_filmstrip():
    clips, other = torch.rand(2, 3, 5, 4, 6), torch.rand(2, 3, 2, 8, 8)
    strip = paired_filmstrip(clips, other)
    assert strip.shape == (3, 16, 30)
    assert torch.equal(strip[:, 8:12, 12:18], clips[1, :, 2])
    assert torch.equal(strip[:, 4:8, :6], other[0, :, 0, ::2, [0, 1, 2, 4, 5, 6]])
    short = paired_filmstrip(clips, clips + 1, max_frames=2)
    assert torch.equal(short[:, :4, 6:], clips[0, :, 4]) and short[:, 4:8].eq(1).all()


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 2, 5, 4), (2, 40, 4, 60, 60)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_global_batch_norm_is_batch_norm(shape, layout):
    torch.manual_seed(0)
    layers = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm3d
    plain = layers(shape[1]).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    shared = exact_batch_norm(copy.deepcopy(plain))
    assert type(shared) is GlobalBatchNorm
    x = 3 + torch.randn(shape, dtype=torch.double)
    x = x.to(memory_format=layout) if len(shape) == 5 else x
    weights = torch.randn(shape, dtype=torch.double)
    found = []
    for layer in (plain, shared):
        value = x.clone().requires_grad_()
        out = layer(value)
        (out * weights).sum().backward()
        found.append([out, value.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()])
    for expected, result in zip(*found, strict=True):
        torch.testing.assert_close(result, expected)
    shared.eval(), plain.eval()
    torch.testing.assert_close(shared(x), plain(x))


def test_global_batch_norm_of_two_values_in_closed_form():
    layer = exact_batch_norm(nn.BatchNorm1d(1, eps=0))
    assert layer(torch.tensor([[1.0], [5.0]])).tolist() == [[-1.0], [1.0]]
    # momentum 0.1: from 0 towards the mean 3, from 1 towards the unbiased variance 8
    assert float(layer.running_mean) == pytest.approx(0.3)
    assert float(layer.running_var) == pytest.approx(1.7)


def test_global_batch_norm_sums_each_clip_by_itself():
    torch.manual_seed(0)
    x = (100 + torch.randn(64, 5, 4, 9, 9)).contiguous(memory_format=torch.channels_last_3d)
    layer = exact_batch_norm(nn.BatchNorm3d(5))
    order = torch.randperm(64)
    # the ordinary layer's sums over the batch differ in their last digits when clips change places
    assert torch.equal(layer(x)[order], layer(x[order]))


def test_global_batch_norm_keeps_half_precision():
    layer = exact_batch_norm(nn.BatchNorm3d(4))
    x = torch.randn(2, 4, 2, 3, 3)
    out = layer(x.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), nn.BatchNorm3d(4)(x), atol=0.05, rtol=0.05)


def test_one_process_keeps_the_layers_of_torch(monkeypatch):
    assert type(share_batch_norm(nn.BatchNorm3d(4), "cpu")) is nn.BatchNorm3d
    monkeypatch.setattr("kuleshov.pretraining.batch_norm.world_size", lambda: 2)
    assert type(share_batch_norm(nn.BatchNorm3d(4), "cpu")) is GlobalBatchNorm
    assert type(share_batch_norm(nn.BatchNorm3d(4), "cuda")) is nn.SyncBatchNorm
