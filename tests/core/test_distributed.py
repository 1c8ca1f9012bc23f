import sys
from pathlib import Path

import pytest
import torch

from kuleshov.core.distributed import gather_objects, gather_rows, gather_with_gradient, leave_group, rank, world_size

sys.path.insert(0, str(Path(__file__).parents[1]))
from distributed import on_ranks

ROWS = torch.arange(8, dtype=torch.float).reshape(4, 2) / 7


def loss_of(rows: torch.Tensor) -> torch.Tensor:
    return (rows @ rows.T).exp().sum().log()


def gradient_on(rank: int, count: int) -> torch.Tensor:
    each = len(ROWS) // count
    local = ROWS[rank * each : (rank + 1) * each].clone().requires_grad_()
    # every rank computes the whole loss; averaging over ranks is what DDP does to gradients
    (loss_of(gather_with_gradient(local)) / count).backward()
    return local.grad


@pytest.mark.parametrize("count", [2, 4])
def test_gradient_through_the_gather_equals_one_process(count: int):
    alone = gradient_on(0, 1)
    together = torch.cat(on_ranks(count, gradient_on, count))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def gather_uneven(rank: int):
    rows = gather_rows(torch.full((rank * 2, 3), float(rank)))
    return {"rows": rows, "objects": gather_objects([f"rank {rank}"] * rank)}


def test_uneven_rows_and_objects_come_in_rank_order():
    for found in on_ranks(3, gather_uneven):
        assert found["rows"][:, 0].tolist() == [1, 1, 2, 2, 2, 2]
        assert found["objects"] == ["rank 1", "rank 2", "rank 2"]


def test_one_process_changes_nothing():
    assert (rank(), world_size()) == (0, 1)
    assert gather_with_gradient(ROWS) is ROWS
    assert torch.equal(gather_rows(ROWS), ROWS)
    assert gather_objects([1, "a"]) == [1, "a"]


def test_a_process_leaves_its_group_once(tmp_path: Path):
    assert not torch.distributed.is_initialized()
    leave_group()
    torch.distributed.init_process_group("gloo", f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    leave_group()
    assert not torch.distributed.is_initialized()
    leave_group()
