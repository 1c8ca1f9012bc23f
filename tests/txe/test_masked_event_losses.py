"""The masked-event losses and recall against slow versions and closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from kuleshov.txe.event_masking import block_mask
from kuleshov.txe.masked_event_losses import MaskedEventRecall, masked_event_infonce, nearest_is_true, nearest_shown


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def slow_infonce(predictions, targets, distractors, temperature, ignored=None) -> list[float]:
    """Equation 1, term by term."""
    values = []
    for m, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        true = math.exp(float(prediction @ target) / temperature)
        others = [
            math.exp(float(prediction @ other) / temperature)
            for k, other in enumerate(distractors)
            if ignored is None or not ignored[m, k]
        ]
        values.append(-math.log(true / (true + sum(others))))
    return values


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_infonce_is_equation_1(temperature: float):
    torch.manual_seed(0)
    predictions, targets, distractors = unit(7, 4), unit(7, 4), unit(11, 4)
    ignored = torch.rand(7, 11) < 0.3
    for mask in (None, ignored):
        pairs = None if mask is None else mask.nonzero().T
        found = masked_event_infonce(predictions, targets, distractors, temperature, pairs)
        assert found.tolist() == pytest.approx(slow_infonce(predictions, targets, distractors, temperature, mask))


@pytest.mark.parametrize("near", [False, True])
def test_infonce_of_several_parts_is_the_mean_over_them(near: bool):
    torch.manual_seed(0)
    shapes = [(7, 2, 4), (7, 2, 4), (11, 2, 4), (7, 3, 2, 4)]
    parts = [unit(*shape) for shape in shapes]
    whole = [part.flatten(-2) / math.sqrt(2) for part in parts]
    neighbors = whole[3] if near else None
    pairs = torch.tensor([[0, 0, 4], [3, 10, 5]])
    ignored = torch.zeros(7, 11, dtype=torch.bool).index_put_(tuple(pairs), torch.tensor(True))
    found = masked_event_infonce(*whole[:3], 0.3, pairs, neighbors, parts=2)
    for m in range(7):
        slow = []
        for part in range(2):
            prediction, target, queue = parts[0][m, part], parts[1][m, part], parts[2][~ignored[m], part]
            others = torch.cat([queue, parts[3][m, :, part]]) if near else queue
            slow += slow_infonce(prediction[None], target[None], others, 0.3)
        assert float(found[m]) == pytest.approx(sum(slow) / 2)


@pytest.mark.parametrize("queue", [0, 11])
def test_infonce_counts_a_predictions_own_neighbors(queue: int):
    torch.manual_seed(0)
    predictions, targets, distractors, neighbors = unit(7, 4), unit(7, 4), unit(queue, 4), unit(7, 3, 4)
    found = masked_event_infonce(predictions, targets, distractors, 0.3, neighbors=neighbors)
    for m in range(7):
        everything = torch.cat([distractors, neighbors[m]])
        slow = slow_infonce(predictions[m : m + 1], targets[m : m + 1], everything, 0.3)
        assert found[m : m + 1].tolist() == pytest.approx(slow)


@pytest.mark.parametrize("count", [1, 10, 65536])
def test_identical_vectors_give_log_of_one_plus_k(count: int):
    same = F.normalize(torch.ones(3, 2, dtype=torch.float64), dim=-1)
    found = masked_event_infonce(same, same, same[:1].expand(count, 2))
    assert found.tolist() == pytest.approx([math.log(1 + count)] * 3)


def test_infonce_of_orthogonal_distractors_in_closed_form():
    prediction = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    found = masked_event_infonce(prediction, prediction, torch.tensor([[0.0, 1.0]] * 4).double(), 0.5)
    assert float(found) == pytest.approx(math.log(1 + 4 * math.exp(-2)))


def test_infonce_without_distractors_is_zero_and_harmless():
    predictions = unit(2, 3).requires_grad_()
    loss = masked_event_infonce(predictions, unit(2, 3), torch.zeros(0, 3))
    assert loss.tolist() == [0.0, 0.0]
    everything_ignored = torch.ones(2, 5).nonzero().T
    loss = masked_event_infonce(predictions, unit(2, 3), unit(5, 3), ignored=everything_ignored)
    loss.sum().backward()
    assert loss.tolist() == [0.0, 0.0] and bool(predictions.grad.isfinite().all())


def test_infonce_of_extreme_temperatures_stays_finite():
    predictions = unit(3, 4).float().requires_grad_()
    loss = masked_event_infonce(predictions, -predictions.detach(), unit(9, 4).float(), 1e-3)
    loss.sum().backward()
    assert bool(loss.isfinite().all()) and bool(predictions.grad.isfinite().all())


def test_nearest_counts_ties_as_misses_and_leaves_out_the_ignored():
    prediction = torch.tensor([[1.0, 0.0]] * 3)
    targets = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
    others = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
    assert nearest_is_true(prediction, targets, others).tolist() == [True, False, False]
    ignored = torch.tensor([[False, False], [True, True], [False, True]])
    assert nearest_is_true(prediction, targets, others, ignored).tolist() == [True, True, False]
    assert nearest_is_true(prediction, targets, others[:0]).tolist() == [True] * 3


def test_ignored_distractors_get_and_give_no_gradient():
    predictions, targets, distractors = unit(3, 4).requires_grad_(), unit(3, 4), unit(5, 4)
    pairs = torch.tensor([[0, 2, 2], [1, 0, 4]])
    masked_event_infonce(predictions, targets, distractors, 0.5, pairs).sum().backward()
    found = predictions.grad.clone()
    predictions.grad = None
    for m in range(3):
        kept = [k for k in range(5) if [m, k] not in pairs.T.tolist()]
        masked_event_infonce(predictions[m : m + 1], targets[m : m + 1], distractors[kept], 0.5).sum().backward()
    torch.testing.assert_close(found, predictions.grad)


def test_nearest_shown_prefers_the_earlier_of_two():
    masked = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 1, 1, 1, 1]]).bool()
    found = nearest_shown(masked)
    assert [row[hidden].tolist() for row, hidden in zip(found, masked, strict=True)] == [
        [0, 3],
        [2, 2],
        [1, 3],
        [0, 0, 0, 0],
    ]


def batch_of(count: int, others: int, seed: int) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    size, start = torch.randint(1, 4, (count,), generator=generator), torch.zeros(count, dtype=torch.long)
    masked = block_mask(size, start, 5)
    targets = F.normalize(torch.randn(count, 5, 3, generator=generator), dim=-1)
    noise = torch.randn(int(masked.sum()), 3, generator=generator)
    predictions = F.normalize(targets[masked] + 0.3 * noise, dim=-1)
    distractors = F.normalize(torch.randn(others, 3, generator=generator), dim=-1)
    batch = {
        "movie": torch.arange(count),
        "others_movie": torch.randint(-1, count, (others,), generator=generator),
        "offscreen": torch.randint(-1, 2, (count, 5), generator=generator).to(torch.int8),
    }
    return predictions, targets, distractors, masked, size, batch


def test_counts_equal_a_slow_count():
    counts = MaskedEventRecall(5)
    hits: dict[tuple, list[bool]] = {}
    for seed in (0, 1):
        predictions, targets, others, masked, size, batch = arguments = batch_of(20, 6, seed)
        counts.update(*arguments)
        row = 0
        for window in range(20):
            for place in range(5):
                if not masked[window, place]:
                    continue
                allowed = [o for o, m in zip(others, batch["others_movie"], strict=True) if m != window]
                true = predictions[row] @ targets[window, place]
                hit = all(true > predictions[row] @ other for other in allowed)
                for key in (
                    ("all",),
                    ("size", int(size[window])),
                    ("place", place + 1),
                    ("screen", int(batch["offscreen"][window, place])),
                ):
                    hits.setdefault(key, []).append(hit)
                row += 1
    found = {name: float(value) for name, value in counts.compute().items()}
    mean = {key: sum(values) / len(values) for key, values in hits.items()}
    assert 0.1 < mean[("all",)] < 0.95
    assert found["recall"] == pytest.approx(mean[("all",)])
    for size in (1, 2, 3):
        assert found[f"recall_size_{size}"] == pytest.approx(mean[("size", size)])
        assert found[f"recall_place_{size}"] == pytest.approx(mean[("place", size)])
    assert found["recall_offscreen"] == pytest.approx(mean[("screen", 1)])
    assert found["recall_onscreen"] == pytest.approx(mean[("screen", 0)])
    assert "recall_place_4" not in found and 0 < found["others"] <= 6


def test_at_most_a_thousand_others_count():
    counts = MaskedEventRecall(5)
    predictions, targets, others, masked, size, batch = batch_of(4, 1100, 0)
    # the true event itself stands past the thousandth place: it must not count
    others[1050:] = predictions[0]
    batch["others_movie"][:] = -1
    others[:1000] = -predictions[0]
    counts.update(predictions, targets, others, masked, size, batch)
    assert counts.others == 1000
    assert float(counts.hits[size[0], 0].sum()) >= 1


def test_copying_scores_when_neighbors_are_alike():
    counts = MaskedEventRecall(5)
    predictions, targets, others, masked, size, batch = batch_of(6, 30, 3)
    targets[:] = targets[:, :1]
    counts.update(predictions, targets, others, masked, size, batch)
    assert counts.compute()["recall_copy"] == 1.0
    counts.reset()
    assert counts.compute() == {}
