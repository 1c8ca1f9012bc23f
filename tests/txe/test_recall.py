"""Masked-event recall against a count by hand."""

import pytest
import torch
from torch.nn import functional as F

from kuleshov.txe.event_masking import block_mask
from kuleshov.txe.masked_event_recall import RecallCounts, nearest_shown


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
    counts = RecallCounts(5)
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
    found = counts.compute()
    mean = {key: sum(values) / len(values) for key, values in hits.items()}
    assert 0.1 < mean[("all",)] < 0.95
    assert found["val/recall"] == pytest.approx(mean[("all",)])
    for size in (1, 2, 3):
        assert found[f"val/recall_size_{size}"] == pytest.approx(mean[("size", size)])
        assert found[f"val/recall_place_{size}"] == pytest.approx(mean[("place", size)])
    assert found["val/recall_offscreen"] == pytest.approx(mean[("screen", 1)])
    assert found["val/recall_onscreen"] == pytest.approx(mean[("screen", 0)])
    assert "val/recall_place_4" not in found and 0 < found["val/others"] <= 6


def test_at_most_a_thousand_others_count():
    counts = RecallCounts(5)
    predictions, targets, others, masked, size, batch = batch_of(4, 1100, 0)
    # the true event itself stands past the thousandth place: it must not count
    others[1050:] = predictions[0]
    batch["others_movie"][:] = -1
    others[:1000] = -predictions[0]
    counts.update(predictions, targets, others, masked, size, batch)
    assert counts.others == 1000
    assert float(counts.hits[size[0], 0]) >= 1


def test_no_tokens_give_no_values():
    assert RecallCounts(5).compute() == {}


def test_copying_scores_when_neighbors_are_alike():
    counts = RecallCounts(5)
    predictions, targets, others, masked, size, batch = batch_of(6, 30, 3)
    targets[:] = targets[:, :1]
    counts.update(predictions, targets, others, masked, size, batch)
    assert counts.compute()["val/recall_copy"] == 1.0
