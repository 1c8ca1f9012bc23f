"""One process with a batch of 8 equals two with 4 and four with 2: losses, gradients, queues, statistics.

One process takes torch's own batch norm otherwise; here it is made to take the exact layer that several take.
"""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from kuleshov.core.distributed import world_size
from kuleshov.metrics.answers import Answers
from kuleshov.pretraining.batch_norm import exact_batch_norm, share_batch_norm
from kuleshov.pretraining.cvrl import CVRL
from kuleshov.pretraining.modist import MoDist
from kuleshov.pretraining.probes import knn_answers, knn_scores

sys.path.insert(0, str(Path(__file__).parents[1]))
from distributed import on_ranks

BATCH, STEPS = 8, 3
Found = dict[str, dict[str, torch.Tensor]]


def shallow(*kernels: int) -> dict:
    """A 3-D ResNet of one block a stage, so that there are fewer collectives to wait for."""
    sizes = {"width": 2, "stem_kernel": 5, "stem_stride": 2, "depths": [1, 1, 1, 1]}
    temporal = {"temporal_kernels": [[kernel] for kernel in kernels]}
    return {"class_path": "kuleshov.backbones.resnet3d.ResNet3d", "init_args": {**sizes, **temporal}}


def modules() -> dict[str, tuple[torch.nn.Module, tuple[str, ...]]]:
    """The two methods at tiny size, from a fixed seed."""
    torch.manual_seed(0)
    narrow = {"backbone": shallow(1, 1, 3, 3), "hidden_width": 16, "embedding_width": 8}
    cvrl = CVRL(**narrow)
    # the queue is no multiple of the batch, and wraps round
    sizes = {**narrow, "motion_backbone": shallow(1, 1, 1, 1), "queue_size": 20}
    sizes |= {"key_momentum": 0.9, "motion_weight": 0.5}
    modist, batch = MoDist(**sizes), MoDist(**sizes, batch_negatives=True, recompute_stages=2)
    parts = ("clip_a", "clip_b", "motion_a", "motion_b")
    return {"cvrl": (cvrl, parts[:2]), "modist": (modist, parts), "modist, the batch's negatives": (batch, parts)}


def clips(step: int, name: str) -> torch.Tensor:
    """One fixed tensor (B, 3, T, H, W) of the global batch."""
    number = ("clip_a", "clip_b", "motion_a", "motion_b").index(name)
    generator = torch.Generator().manual_seed(10 * step + number)
    return torch.rand(BATCH, 3, 4, 32, 32, generator=generator)


def average(tensors: list[torch.Tensor]) -> None:
    """What DistributedDataParallel does with gradients."""
    for tensor in tensors if world_size() > 1 else ():
        dist.all_reduce(tensor)
        tensor /= world_size()


def train(module: torch.nn.Module, names: tuple[str, ...], rank: int) -> dict[str, torch.Tensor]:
    """Losses and first gradients of three steps, and the state after them."""
    module = share_batch_norm(module, "cpu") if world_size() > 1 else exact_batch_norm(module)
    share = slice(rank * BATCH // world_size(), (rank + 1) * BATCH // world_size())
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    found = {}
    for step in range(STEPS):
        batch = {name: clips(step, name)[share].to(next(module.parameters()).dtype) for name in names}
        loss = module.loss(batch)[0] if "motion_a" in batch else module.loss(*batch.values())[0]
        optimizer.zero_grad()
        loss.backward()
        total = loss.detach().clone()
        average([total, *(p.grad for p in module.parameters() if p.grad is not None)])
        found[f"loss/{step}"] = total
        if step == 0 or "motion_a" in batch:
            # MoDist's first step has empty queues and therefore no gradient
            found |= {f"grad{step}/{n}": p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
        optimizer.step()
    for name, value in module.state_dict().items():
        parts = value if isinstance(value, dict) else {"": value}
        found |= {f"state/{name.removesuffix('_extra_state')}{key}": part.clone() for key, part in parts.items()}
    return found


def run(rank: int) -> dict[str, Found]:
    """All results of one process, by precision, and the k-NN accuracy of unequal shares."""
    found = {}
    torch.set_num_threads(1)
    for precision in ("float32", "float64"):
        dtype = getattr(torch, precision)
        # oneDNN takes other convolutions for few clips than for many, which round differently
        with torch.backends.mkldnn.flags(enabled=False):
            trained = {name: train(module.to(dtype), names, rank) for name, (module, names) in modules().items()}
        found[precision] = trained
    return {**found, "knn": knn(rank)}


def knn(rank: int) -> dict[str, float]:
    """Seven samples of the bank and six queries, dealt out with repeats, as Lightning's sampler does."""
    generator = torch.Generator().manual_seed(1)
    features, labels = torch.randn(13, 4, generator=generator), torch.randint(0, 3, (13,), generator=generator)
    places = [place % 13 for place in range(rank, 16, world_size())]
    part = (torch.tensor(places) >= 7).long()
    metric = Answers(partial(knn_scores, neighbors=3))
    batch = {"label": labels[places], "part": part, "index": torch.tensor(places) - 7 * part}
    metric.update(*knn_answers(features[places], batch))
    return {name: value for name, value in metric.compute().items() if isinstance(value, float | int)}


def difference(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], part: str) -> float:
    """The norm of the difference of all tensors whose name begins so, relative to that of the expected ones."""
    names = [name for name in expected if name.startswith(part)]
    assert names and expected.keys() == found.keys()
    true = torch.cat([expected[name].double().flatten() for name in names])
    other = torch.cat([found[name].double().flatten() for name in names])
    return float((true - other).norm() / true.norm().clamp(min=1e-8))


@pytest.fixture(scope="module")
def alone() -> dict[str, Found]:
    """What one process gives."""
    threads = torch.get_num_threads()
    found = run(0)
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same(alone, world):
    for shared in on_ranks(world, run):
        assert shared["knn"] == alone["knn"] and alone["knn"]["n"] == 6
        for method, expected in alone["float64"].items():
            assert any(key.startswith("grad") for key in expected)
            for key in expected:
                assert difference(expected, shared["float64"][method], key) <= 1e-5, (method, key)
        for method, expected in alone["float32"].items():
            parts = ["loss/0", "loss/1", "grad0"]
            if method != "cvrl":
                # its weights of three steps depend on rounding: the gradients are large where clips are alike
                parts = [*parts, "loss/2", "grad1", "state/visual_queue", "state/motion_queue"]
            for part in parts:
                assert difference(expected, shared["float32"][method], part) <= 1e-5, (method, part)


def test_queues_hold_the_last_rows_of_all_processes(alone):
    state = alone["float64"]["modist"]
    assert int(state["state/visual_queue.fill"]) == 20 and int(state["state/visual_queue.head"]) == 24 % 20
    rows = state["state/motion_queue.rows"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20, dtype=rows.dtype), rtol=1e-5, atol=1e-5)


def test_ddp_sends_no_queue():
    module = modules()["modist"][0]
    assert module.visual_queue.rows.numel() and not [name for name, _ in module.named_buffers() if "queue" in name]


def test_the_first_step_of_modist_has_nothing_to_contrast_with(alone):
    found = alone["float64"]
    assert float(found["modist"]["loss/0"]) == 0
    assert float(found["modist"]["loss/1"]) > 0
    assert float(found["modist, the batch's negatives"]["loss/0"]) > 0
