"""Batch normalisation over the global batch."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kuleshov.core.distributed import active, world_size


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose backward is an all-reduce as well."""

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation whose statistics are those of all ranks' batches together, on any device.

    The same state dict and the same result as the ordinary layer on the concatenated batch;
    `torch.nn.SyncBatchNorm` does this on GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any input (B, C, ...) will do."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) per channel."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = _SumOverRanks.apply(torch.cat([values.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total  # (C,)
        centred = values - mean.view(shape)
        # two passes: the mean of squares minus the squared mean loses too many digits
        variance = _SumOverRanks.apply(centred.square().sum(axes)) / total
        self._track(mean, variance, total)
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        return (normal * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)


def share_batch_norm(module: nn.Module, device_type: str) -> nn.Module:
    """Make every batch norm of a module work over all ranks, where there are several.

    Args:
        module: changed in place; its state dict keeps its keys.
        device_type: `cuda` takes torch's own layer, which is faster there.

    Returns:
        The module.
    """
    if not active() or world_size() == 1:
        return module
    if device_type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for layer in list(module.modules()):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm3d):
            # the class alone differs: parameters, buffers, hooks and optimisers' references stay
            layer.__class__ = GlobalBatchNorm
    return module
