"""Random generators that belong to a sample, not to a process.

What is drawn for a sample comes from a generator made of (seed, epoch, index, view): it depends neither on the
number of workers or ranks, nor on where a run was interrupted.
"""

import numpy as np


def numpy_generator(seed: int, epoch: int, index: int, view: int = 0) -> np.random.Generator:
    """The NumPy generator of one view of one sample in one epoch."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, index, view))))
