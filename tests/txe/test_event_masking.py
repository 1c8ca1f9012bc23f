"""The law of the masks, and the blocks of greatest discrepancy against brute force."""

import numpy as np
import pytest
import torch
from scipy import stats

from kuleshov.core.errors import KuleshovError
from kuleshov.txe.encoder import TxE
from kuleshov.txe.event_masking import allowed_sizes, block_discrepancies, block_mask, draw_blocks

DRAWS = 100_000


@pytest.mark.parametrize(
    ("events", "ratio", "sizes", "expected"),
    [
        (5, 0.6, None, (1, 2, 3)),
        (5, 0.2, None, (1,)),
        (10, 0.7, None, tuple(range(1, 8))),
        (100, 0.29, None, tuple(range(1, 30))),
        (5, 0.6, [1, 2, 3, 4], (1, 2, 3, 4)),
        (5, 0.6, [2, 2], (2,)),
    ],
)
def test_allowed_sizes(events, ratio, sizes, expected):
    assert allowed_sizes(events, ratio, sizes) == expected


@pytest.mark.parametrize(("ratio", "sizes"), [(0.1, None), (1.0, None), (0.6, [0, 1]), (0.6, [5]), (0.6, [])])
def test_sizes_that_do_not_fit_are_refused(ratio, sizes):
    with pytest.raises(KuleshovError, match=r"mask sizes \[.*\] do not fit windows of 5 events: use sizes from 1"):
        allowed_sizes(5, ratio, sizes)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (1,), (2, 4)])
def test_size_and_start_are_uniform(sizes):
    uniforms = torch.from_numpy(np.random.default_rng(0).random((DRAWS, 2), dtype=np.float32))
    size, start = draw_blocks(uniforms, sizes, 5)
    counts = [int((size == m).sum()) for m in sizes]
    assert sum(counts) == DRAWS and (len(sizes) == 1 or stats.chisquare(counts).pvalue > 1e-4)
    for m in sizes:
        places = torch.bincount(start[size == m], minlength=5).tolist()
        assert places[5 - m + 1 :] == [0] * (m - 1)
        assert stats.chisquare(places[: 5 - m + 1]).pvalue > 1e-4


def test_the_ends_of_the_unit_interval_give_the_ends_of_the_law():
    last = float(np.nextafter(np.float32(1), np.float32(0)))
    size, start = draw_blocks(torch.tensor([[0.0, 0.0], [last, last]]), (1, 2, 3), 5)
    assert size.tolist() == [1, 3] and start.tolist() == [0, 2]


def test_block_mask_hides_exactly_the_block():
    found = block_mask(torch.tensor([1, 3, 2]), torch.tensor([4, 0, 2]), 5)
    assert found.int().tolist() == [[0, 0, 0, 0, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 0]]


@torch.no_grad()
def brute_force(txe: TxE, window: torch.Tensor, size: int) -> list[float]:
    """Discrepancy of every start, one forward pass a candidate."""
    plain = txe.reconstruct(txe(window[None]))[0]
    scores = []
    for start in range(len(window) - size + 1):
        masked = torch.zeros(1, len(window), dtype=torch.bool)
        masked[0, start : start + size] = True
        changed = txe.reconstruct(txe(window[None], masked))[0]
        inside = range(start, start + size)
        scores.append(float(sum((changed[i] - plain[i]).norm() for i in inside)) / size)
    return scores


def test_max_discrepancy_picks_what_brute_force_picks(tiny_txe):
    txe = tiny_txe(dropout=0.5).train()
    events, size = torch.randn(40, 5, 6), torch.tensor([1, 2, 3, 4] * 10)
    found = block_discrepancies(txe, events, size)
    starts = found.argmax(1)
    assert txe.training
    txe.eval()
    for window, m, scores, start in zip(events, size.tolist(), found, starts.tolist(), strict=True):
        expected = brute_force(txe, window, m)
        assert scores[: 5 - m + 1].tolist() == pytest.approx(expected, abs=1e-5)
        assert bool((scores[5 - m + 1 :] == -torch.inf).all())
        assert start == int(np.argmax(expected))
    assert len(set(starts.tolist())) > 2
