"""Batch normalization over the global batch of several CPU processes."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kuleshov.core.distributed import world_size


def share_batch_norm(module: nn.Module, device_type: str) -> nn.Module:
    """Make every batch norm of a module work over all processes, in place; in one process nothing changes.

    Devices other than the `cpu` take torch's `SyncBatchNorm`, which works on GPUs only.
    """
    if world_size() == 1:
        return module
    return exact_batch_norm(module) if device_type == "cpu" else nn.SyncBatchNorm.convert_sync_batchnorm(module)


def exact_batch_norm(module: nn.Module) -> nn.Module:
    """Make every batch norm of a module a `GlobalBatchNorm`, in place; its state dict keeps its keys."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            # the class alone differs: parameters, buffers, hooks and optimizers' references stay
            layer.__class__ = GlobalBatchNorm
    return module


class GlobalBatchNorm(_BatchNorm):
    """Batch normalization whose statistics are those of all ranks' batches together, on the CPU.

    Every clip's sums are taken by themselves and added in double precision, so that the result is the same to the
    last bit or two however the clips are dealt out to ranks: a deep network multiplies a rounding error by thousands.
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
        self._track(mean, variance * total / (total - 1).clamp(min=1))
        result = _Normalize.apply(values, self.weight, self.bias, mean, torch.rsqrt(variance + self.eps), total)
        return result.view(input.shape).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
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
        axes = list(range(2, x.ndim))
        along = ((x - _per_channel(mean, x)) * gradient).sum(axes).double().sum(0) * scale
        own = torch.stack([along, gradient.sum(axes).double().sum(0)])  # (2, C), of this rank
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
    summed = own.clone()
    if world_size() > 1:
        dist.all_reduce(summed)
    return summed


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (C,) over all ranks' (B, C, ...), and the number of values (), in double."""
    rows, channels = x.shape[:2]
    axes = list(range(2, x.ndim))
    centers = x.mean(axes, keepdim=True)
    variances, means = (x - centers).square_().mean(axes).double(), centers.flatten(1).double()  # (B, C)
    packed = [means.sum(0), (variances + means.square()).sum(0), means.new_tensor([rows])]
    mean, square, rows_of_all = _over_ranks(torch.cat(packed)).split([channels, channels, 1])
    mean, square = mean / rows_of_all, square / rows_of_all
    return mean, (square - mean.square()).clamp(min=0), rows_of_all[0] * (x.numel() // (rows * channels))
