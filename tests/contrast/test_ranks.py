"""One process with a batch of 8 equals two with 4 and four with 2: losses, gradients, queues, statistics."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("ranks.py")


def processes(world: int, folder: Path) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Run the script in `world` processes and give each one's results."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(rank),
                str(world),
                str(folder / "rendezvous"),
                str(folder / "out"),
            ],
            env=environment,
        )
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in running] == [0] * world
    return [torch.load(f"{folder}/out.{rank}", weights_only=True) for rank in range(world)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """What one process gives, run apart because the script puts shallow networks in place."""
    return processes(1, tmp_path_factory.mktemp("alone"))[0]


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_processes_gives_the_same(tmp_path, alone, world):
    for shared in processes(world, tmp_path):
        for method in alone:
            expected, found = alone[method], shared[method]
            assert expected.keys() == found.keys()
            assert any(key.startswith("grad") for key in expected)
            for key, value in expected.items():
                scale = max(float(value.double().norm()), 1e-8)
                assert float((value - found[key]).double().norm()) <= 1e-5 * scale, (method, key)


def test_queues_hold_the_last_rows_of_all_processes(alone):
    state = alone["modist"]
    assert int(state["state/visual_queue.fill"]) == 20 and int(state["state/visual_queue.head"]) == 24 % 20
    rows = state["state/motion_queue.rows"]
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20, dtype=rows.dtype), rtol=1e-5, atol=1e-5)


def test_the_first_step_of_modist_has_nothing_to_contrast_with(alone):
    assert float(alone["modist"]["loss/0"]) == 0
    assert float(alone["modist"]["loss/1"]) > 0
    assert float(alone["modist, the batch's negatives"]["loss/0"]) > 0
