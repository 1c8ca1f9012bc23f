"""Batch normalization over the global batch of several CPU processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kuleshov.core.distributed import world_size

_CACHE_BYTES = 2**20


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalization whose statistics are those of all ranks' batches together, on the CPU.

    The same state dict and the same result as the ordinary layer on the concatenated batch. Every clip's sums are
    taken by themselves and added in double precision, so that the result is the same to the last bit or two
    however the clips are dealt out to ranks: a deep network multiplies a rounding error by thousands.
    `torch.nn.SyncBatchNorm` works on GPUs only.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any input (B, C, ...) will do."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, C, ...) per channel."""
        if not self.training:
            return super().forward(input)
        values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        values = values.unsqueeze(2) if values.ndim == 2 else values
        mean, variance, total = _statistics(values.detach())
        self._track(mean, variance, total)
        scale = torch.rsqrt(variance + self.eps)
        result = _Normalize.apply(values, self.weight, self.bias, mean, scale, total)
        return result.view(input.shape).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, total: Tensor) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
        unbiased = variance * total / (total - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)


class _Normalize(torch.autograd.Function):
    """(x - mean) * scale * weight + bias per channel, where mean and scale are the global batch's own."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, total: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, mean, scale, total)
        slope = weight.double() * scale  # (C,)
        return torch.addcmul(_per_channel(bias.double() - mean * slope, x), x, _per_channel(slope, x))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, total = ctx.saved_tensors
        own = _gradient_sums(gradient, x, mean, scale)
        weight_gradient, bias_gradient = own.to(weight.dtype)
        along, level = _over_ranks(own) / total  # means of gradient * normalized x, and of the gradient
        slope = weight.double() * scale
        pull = -slope * along * scale
        shift = -slope * level - pull * mean
        result = torch.addcmul(_per_channel(shift, x), gradient, _per_channel(slope, x))
        return result.addcmul_(x, _per_channel(pull, x)), weight_gradient, bias_gradient, None, None, None


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) in the precision and the shape to go with x (B, C, ...)."""
    return values.to(x.dtype).view(1, -1, *[1] * (x.ndim - 2))


def _over_ranks(own: Tensor) -> Tensor:
    """The sum over the ranks of a tensor of equal shape on each; the argument is left as it is."""
    if world_size() == 1:
        return own
    summed = own.clone()
    dist.all_reduce(summed)
    return summed


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) over all ranks' (B, C, ...), and the number of values (), in double."""
    rows, channels = x.shape[:2]
    found = [_clip_moments(part) for part in x.split(_rows_at_once(x))]
    means, variances = (torch.cat(parts).double() for parts in zip(*found, strict=True))  # (B, C)
    packed = [means.sum(0), (variances + means.square()).sum(0), means.new_tensor([rows])]
    mean, square, rows_of_all = _over_ranks(torch.cat(packed)).split([channels, channels, 1])
    mean, square = mean / rows_of_all, square / rows_of_all
    total = rows_of_all[0] * (x.numel() // (rows * channels))
    return mean, (square - mean.square()).clamp(min=0), total


def _rows_at_once(x: Tensor) -> int:
    """Clips of (B, C, ...) whose intermediate values stay in a processor's cache."""
    return max(1, _CACHE_BYTES // (x[0].numel() * x.element_size()))


def _clip_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each clip's mean and biased variance, (B, C), of (B, C, ...)."""
    axes = list(range(2, x.ndim))
    means = x.mean(axes, keepdim=True)
    return means.flatten(1), (x - means).square_().mean(axes)


def _gradient_sums(gradient: Tensor, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Sums over this rank's (B, C, ...) of gradient * normalized x, and of gradient, (2, C) in double."""
    axes, rows = list(range(2, x.ndim)), _rows_at_once(x)
    along, level = [], []
    for part, clips in zip(gradient.split(rows), x.split(rows), strict=True):
        product = (clips - _per_channel(mean, x)).mul_(part)
        along.append(product.sum(axes))
        level.append(part.sum(axes))
    sums = torch.stack([torch.cat(along), torch.cat(level)]).double().sum(1)  # (2, C)
    return torch.stack([sums[0] * scale, sums[1]])


def share_batch_norm(module: nn.Module, device_type: str) -> nn.Module:
    """Make every batch norm of a module work over all processes; in one process nothing changes.

    Args:
        module: changed in place; its state dict keeps its keys.
        device_type: `cpu` takes the exact layer, other devices torch's own.

    Returns:
        The module.
    """
    if world_size() == 1:
        return module
    return exact_batch_norm(module) if device_type == "cpu" else nn.SyncBatchNorm.convert_sync_batchnorm(module)


def exact_batch_norm(module: nn.Module) -> nn.Module:
    """Make every batch norm of a module a `GlobalBatchNorm`, in place, and return the module."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            # the class alone differs: parameters, buffers, hooks and optimizers' references stay
            layer.__class__ = GlobalBatchNorm
    return module
