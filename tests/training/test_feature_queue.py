import sys
from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.training.feature_queue import FeatureQueue

sys.path.insert(0, str(Path(__file__).parents[1]))
from distributed import on_ranks


def plain(size: int, batches: list[list[int]]) -> list[int]:
    """The last `size` items, by place: item number i lies at i modulo size."""
    items = [item for batch in batches for item in batch]
    held = {}
    for number, item in enumerate(items):
        held[number % size] = item
    return [held[place] for place in range(min(size, len(items)))]


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("counts", [[3], [3, 3, 3], [9, 2], [0, 5, 0, 1], [20], [7, 7]])
def test_holds_the_last_rows_whatever_the_batch(size: int, counts: list[int]):
    queue, batches, number = FeatureQueue(size, 2), [], 0
    for count in counts:
        batch = list(range(number, number + count))
        number += count
        batches.append(batch)
        queue.enqueue(torch.tensor(batch, dtype=torch.float).reshape(-1, 1).expand(-1, 2))
    assert queue.filled()[:, 0].tolist() == plain(size, batches)
    assert int(queue.fill) == min(size, number)


def test_only_filled_rows_are_offered():
    queue = FeatureQueue(5, 3)
    assert queue.filled().shape == (0, 3)
    queue.enqueue(torch.ones(2, 3))
    assert queue.filled().shape == (2, 3)


def test_age_counts_calls():
    queue = FeatureQueue(4, 1)
    assert queue.mean_age() == 0
    queue.enqueue(torch.ones(2, 1))
    assert queue.mean_age() == 0
    queue.enqueue(torch.ones(2, 1))
    assert queue.mean_age() == 0.5


def test_state_comes_back_whole():
    queue, other = FeatureQueue(4, 2), FeatureQueue(4, 2)
    queue.enqueue(torch.rand(6, 2))
    other.load_state_dict(queue.state_dict())
    more = torch.rand(3, 2)
    queue.enqueue(more)
    other.enqueue(more)
    for name, value in queue.get_extra_state().items():
        assert torch.equal(value, other.get_extra_state()[name])
    # a state and no buffers: DDP sends every buffer from rank 0 at every step
    assert not list(queue.buffers()) and list(queue.state_dict()) == ["_extra_state"]


def test_refuses_other_widths():
    with pytest.raises(KuleshovError, match=r"takes rows \(n, 2\), got \(3, 5\)"):
        FeatureQueue(4, 2).enqueue(torch.rand(3, 5))
    with pytest.raises(KuleshovError, match="at least 1, got 0 and 2"):
        FeatureQueue(0, 2)


def enqueue_share(rank: int, shares: list[list[int]]):
    queue = FeatureQueue(5, 1)
    for share in shares:
        offset, count = sum(share[:rank]), share[rank]
        queue.enqueue(torch.arange(offset, offset + count, dtype=torch.float).reshape(-1, 1))
    return queue.get_extra_state()


def test_ranks_hold_the_same_queue_as_one_process():
    shares = [[3, 1], [0, 2], [4, 4]]
    alone = enqueue_share(0, [[sum(share)] for share in shares])
    for state in on_ranks(2, enqueue_share, shares):
        for name, value in alone.items():
            assert torch.equal(value, state[name]), name
