"""One, two and four ranks: the same loss, the same gradients, the same queue."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from kuleshov.txe.event_masking import block_mask
from kuleshov.txe.masked_event import MaskedEventPretraining
from kuleshov.txe.masked_event_losses import MaskedEventRecall
from kuleshov.txe.window_data import EventWindows

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from distributed import on_ranks

STEPS = 3
SIZES = {"hidden": 8, "layers": 1, "heads": 2, "feedforward": 12, "dropout": 0.0, "lr": 1e-2}


def three_steps(rank: int, world: int, store: str, batch_size: int, queue_size: int, options: dict) -> dict:
    """Three steps of training as DDP does them; rank 0's losses, gradients and queue."""
    torch.manual_seed(0)
    module = MaskedEventPretraining(queue_size=queue_size, **SIZES, **options)
    data = EventWindows([store], batch_size=batch_size, val_fraction=0.0)
    data.setup("fit")
    module._trainer = SimpleNamespace(datamodule=data)
    module.log = lambda *_, **__: None
    module.setup("fit")
    module.on_train_start()
    optimizer = torch.optim.SGD(module.txe.parameters(), lr=0.1)
    found = {}
    for step, batch in zip(range(STEPS), data.train_dataloader(), strict=False):
        loss = module.training_step(data.on_after_batch_transfer(batch, 0), step)
        optimizer.zero_grad()
        loss.backward()
        module.on_after_backward()
        values = [loss.detach(), *(p.grad for p in module.txe.parameters() if p.grad is not None)]
        for value in values if world > 1 else []:
            dist.all_reduce(value)
            value /= world
        found[f"loss{step}"] = loss.detach()
        found |= {f"grad{step}.{i}": value.clone() for i, value in enumerate(values[1:])}
        optimizer.step()
    assert len([name for name in found if name.startswith("loss")]) == STEPS
    if options.get("loss") != "l2":
        found |= {f"queue.{name}": value.clone() for name, value in module.queues[0].get_extra_state().items()}
        found["rows"] = module.queue_rows[0].rows.clone()
    return found


# batch size and queue size: a multiple of K, not a multiple, more than K, and a short last batch (thirty movies)
CASES = [(8, 40, {}), (7, 33, {}), (12, 17, {"sampling": "max_discrepancy"}), (13, 50, {"loss": "l2"})]


def all_cases(rank: int, world: int, store: str) -> list[dict]:
    return [three_steps(rank, world, store, *case) for case in CASES]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_train_alike(world: int, make_store):
    store = str(make_store())
    alone = all_cases(0, 1, store)
    for cases in on_ranks(world, all_cases, world, store):
        for found, expected in zip(cases, alone, strict=True):
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=name)
            if "rows" in expected:
                assert torch.equal(found["rows"], expected["rows"])


def recall_of_a_share(rank: int, world: int) -> dict:
    """Recall of 22 windows, each on one of the ranks."""
    generator = torch.Generator().manual_seed(0)
    targets, others = (F.normalize(torch.randn(*shape, 3, generator=generator), dim=-1) for shape in ((22, 5), (9,)))
    noise = torch.randn(22, 3, generator=generator)
    share = torch.arange(22).tensor_split(world)[rank]
    masked = block_mask(torch.ones(22).long(), torch.arange(22) % 5, 5)
    predictions = F.normalize(targets[masked] + 0.3 * noise, dim=-1)[share]
    batch = {"movie": share, "others_movie": torch.arange(9), "offscreen": torch.arange(22 * 5).view(22, 5)[share] % 2}
    recall = MaskedEventRecall(5)
    recall.update(predictions, targets[share], others, masked[share], torch.ones(len(share)).long(), batch)
    return recall.compute()


def test_ranks_count_alike():
    alone = recall_of_a_share(0, 1)
    assert 0 < alone["recall"] < 1
    for found in on_ranks(2, recall_of_a_share, 2):
        assert {name: float(v) for name, v in found.items()} == pytest.approx({n: float(v) for n, v in alone.items()})
