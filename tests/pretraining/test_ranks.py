"""One process with a batch of 8 equals two with 4 and four with 2: losses, gradients, queues, statistics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("ranks.py")


def processes(world: int, folder: Path, precision: str) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Run the script in `world` processes and give each one's results."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1" if precision == "float64" else "2"}
    running = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(rank),
                str(world),
                str(folder / "rendezvous"),
                str(folder / "out"),
                precision,
            ],
            env=environment,
        )
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in running] == [0] * world
    return [torch.load(f"{folder}/out.{rank}", weights_only=True) for rank in range(world)]


def difference(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor], part: str) -> float:
    """The norm of the difference of all tensors whose name begins so, relative to that of the expected ones."""
    names = [name for name in expected if name.startswith(part)]
    assert names and expected.keys() == found.keys()
    true = torch.cat([expected[name].double().flatten() for name in names])
    other = torch.cat([found[name].double().flatten() for name in names])
    return float((true - other).norm() / true.norm().clamp(min=1e-8))


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """What one process gives, run apart because the script puts shallow networks in place."""
    precisions = ("float32", "float64")
    return {name: processes(1, tmp_path_factory.mktemp("alone"), name)[0] for name in precisions}


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same(tmp_path, alone, world):
    for shared in processes(world, tmp_path, "float64"):
        for method, expected in alone["float64"].items():
            assert any(key.startswith("grad") for key in expected)
            for key in expected:
                assert difference(expected, shared[method], key) <= 1e-5, (method, key)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_so_it_does_in_the_precision_of_a_training(tmp_path, alone, world):
    for shared in processes(world, tmp_path, "float32"):
        for method, expected in alone["float32"].items():
            parts = ["loss/0", "loss/1", "grad0"]
            if method != "cvrl":
                # its weights of three steps depend on rounding: the gradients are large where clips are alike
                parts = [*parts, "loss/2", "grad1", "state/visual_queue", "state/motion_queue"]
            for part in parts:
                assert difference(expected, shared[method], part) <= 1e-5, (method, part)


def test_queues_hold_the_last_rows_of_all_processes(alone):
    state = alone["float64"]["modist"]
    assert int(state["state/visual_queue.fill"]) == 20 and int(state["state/visual_queue.head"]) == 24 % 20
    rows = state["state/motion_queue.rows"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20, dtype=rows.dtype), rtol=1e-5, atol=1e-5)


def test_the_first_step_of_modist_has_nothing_to_contrast_with(alone):
    found = alone["float64"]
    assert float(found["modist"]["loss/0"]) == 0
    assert float(found["modist"]["loss/1"]) > 0
    assert float(found["modist, the batch's negatives"]["loss/0"]) > 0
