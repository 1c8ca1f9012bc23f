"""Batch normalisation over the global batch."""

import torch
from torch import Tensor, nn

from kuleshov.core.distributed import active, gather_with_gradient, world_size


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
        mean, variance, total = _statistics(values, axes)
        self._track(mean, variance, total)
        scale = self.weight * torch.rsqrt(variance + self.eps)  # (C,)
        return ((values - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)


def _statistics(values: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (C,) over all ranks' (B, C, ...), with gradient, and the number of values (1,).

    One collective for both: each rank's own mean and sum of squared distances from it, put together as Chan,
    Golub and LeVeque (1983) do; sums of squares would lose digits.
    """
    channels = values.shape[1]
    count = values.new_tensor([values.numel() / channels])
    own_mean = values.mean(axes)
    shape = [1, -1] + [1] * (values.ndim - 2)
    own_spread = (values - own_mean.view(shape)).square().sum(axes)
    packed = torch.cat([own_mean, own_spread, count])[None]  # (1, 2C + 1)
    means, spreads, counts = gather_with_gradient(packed).split([channels, channels, 1], dim=1)  # (ranks, .)
    counts = counts.detach()
    total = counts.sum(0)
    mean = (means * counts).sum(0) / total
    spread = (spreads + counts * (means - mean).square()).sum(0)
    return mean, spread / total, total


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
