"""Random generators that belong to a sample, not to a process.

What is drawn for a sample comes from a generator made of (seed, epoch, index, view): it depends neither on the
number of workers or ranks, nor on where a run was interrupted.
"""

import numpy as np


def numpy_generator(seed: int, epoch: int, index: int, view: int = 0) -> np.random.Generator:
    """The NumPy generator of one view of one sample in one epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, index, view))))


def torch_generator(seed: int, epoch: int, index: int, view: int = 0):
    """The CPU `torch.Generator` of one view of one sample in one epoch."""
    import torch  # NumPy's users (the generated world) need no torch

    state = np.random.SeedSequence((seed, epoch, index, view)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))
