"""The order of samples, the same for any number of processes."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator

# the view under which the order is drawn, apart from the views of the samples themselves
ORDER = 0xFFFF


class GlobalBatchSampler(DistributedSampler):
    """Shuffles by (seed, epoch) and gives each process its contiguous share of every global batch.

    The t-th global batch holds the same samples in the same order, whatever the number of processes; the
    last, incomplete one is dropped. A subclass of `DistributedSampler` so that Lightning leaves it in place
    and tells it the epoch.

    Args:
        size: number of samples.
        batch_size: samples in a global batch.
        seed: together with the epoch decides the order.

    Raises:
        KuleshovError: fewer samples than a batch, or a batch that the processes cannot share evenly.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if batch_size % world_size():
            raise KuleshovError(
                f"a global batch of {batch_size} cannot be shared by {world_size()} processes: choose a multiple"
            )
        if size < batch_size:
            raise KuleshovError(f"{size} videos are fewer than one batch of {batch_size}: lower batch_size")
        super().__init__(range(size), num_replicas=world_size(), rank=rank(), seed=seed, drop_last=True)
        self.batch_size = batch_size
        self.steps = size // batch_size

    def __len__(self) -> int:
        """Samples that this process sees in an epoch."""
        return self.steps * self.batch_size // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """This process's samples, batch after batch."""
        order = numpy_generator(self.seed, self.epoch, 0, view=ORDER).permutation(len(self.dataset))
        batches = order[: self.steps * self.batch_size].reshape(self.steps, self.num_replicas, -1)
        return iter(np.ascontiguousarray(batches[:, self.rank]).ravel().tolist())
