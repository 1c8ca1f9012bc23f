"""3-D ResNets of bottleneck blocks, of any size.

Names of modules follow PySlowFast (facebookresearch/SlowFast), so that a state dict of one loads into the
other key for key: `s1.pathway0_stem.conv.weight`, `s2.pathway0_res0.branch2.a_bn.running_mean`, and so on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from kuleshov.core.errors import KuleshovError
from kuleshov.video.clip_format import ClipFormat

BN_EPS = 1e-5
BN_MOMENTUM = 0.1


def batch_norm(channels: int) -> nn.BatchNorm3d:
    """Batch normalization with PySlowFast's constants."""
    return nn.BatchNorm3d(channels, eps=BN_EPS, momentum=BN_MOMENTUM)


class Stem(nn.Module):
    """Convolution k x 7 x 7, batch norm, ReLU and a 1 x 3 x 3 max-pool of stride 2."""

    def __init__(self, channels: int, temporal_kernel: int, temporal_stride: int) -> None:
        super().__init__()
        kernel, stride, padding = (temporal_kernel, 7, 7), (temporal_stride, 2, 2), (temporal_kernel // 2, 3, 3)
        self.conv = nn.Conv3d(3, channels, kernel, stride, padding, bias=False)
        self.bn = batch_norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool_layer = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, channels, T / temporal_stride, H / 4, W / 4)."""
        return self.pool_layer(self.relu(self.bn(self.conv(clips))))


class Transform(nn.Module):
    """The residual branch: T x 1 x 1, then 1 x 3 x 3 with the spatial stride, then 1 x 1 x 1."""

    def __init__(self, inputs: int, inner: int, outputs: int, temporal_kernel: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv3d(inputs, inner, (temporal_kernel, 1, 1), padding=(temporal_kernel // 2, 0, 0), bias=False)
        self.a_bn = batch_norm(inner)
        self.b = nn.Conv3d(inner, inner, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False)
        self.b_bn = batch_norm(inner)
        self.c = nn.Conv3d(inner, outputs, 1, bias=False)
        self.c_bn = batch_norm(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T, H, W) to (B, outputs, T, H / stride, W / stride)."""
        x = self.relu(self.a_bn(self.a(x)))
        x = self.relu(self.b_bn(self.b(x)))
        return self.c_bn(self.c(x))


class Bottleneck(nn.Module):
    """A residual block; the shortcut is a strided 1 x 1 x 1 convolution where the shape changes.

    Where `recompute` is set, a training step keeps its input alone and computes the rest again.
    """

    recompute = False

    def __init__(self, inputs: int, inner: int, outputs: int, temporal_kernel: int, stride: int) -> None:
        super().__init__()
        self.projects = inputs != outputs or stride != 1
        if self.projects:
            self.branch1 = nn.Conv3d(inputs, outputs, 1, stride=(1, stride, stride), bias=False)
            self.branch1_bn = batch_norm(outputs)
        self.branch2 = Transform(inputs, inner, outputs, temporal_kernel, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, T, H, W) to (B, outputs, T, H / stride, W / stride)."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return _recomputed(self, self._residual, x)
        return self._residual(x)

    def _residual(self, x: Tensor) -> Tensor:
        shortcut = self.branch1_bn(self.branch1(x)) if self.projects else x
        return self.relu(shortcut + self.branch2(x))


class NonLocal(nn.Module):
    """Every position plus what all positions say of it: attention of one head (Wang et al., CVPR 2018).

    Keys and values are pooled 1 x 2 x 2; it starts as nothing added.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.conv_theta, self.conv_phi, self.conv_g = (nn.Conv3d(channels, inner, 1) for _ in range(3))
        self.conv_out, self.bn = nn.Conv3d(inner, channels, 1), batch_norm(channels)
        self.pool = nn.MaxPool3d((1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) of at least 2 x 2 pixels to the same shape."""
        query, seen = self.conv_theta(x), self.pool(x)
        heads = (part.flatten(2).transpose(1, 2) for part in (query, self.conv_phi(seen), self.conv_g(seen)))
        said = F.scaled_dot_product_attention(*heads)  # (B, T H W, inner)
        return x + self.bn(self.conv_out(said.transpose(1, 2).unflatten(2, x.shape[2:])))


class ResNet3d(nn.Module):
    """A 3-D ResNet with four stages of bottleneck blocks and global average pooling.

    Args:
        width: channels of the stem; the stages put out 4, 8, 16 and 32 times as many.
        stem_kernel: temporal kernel of conv1.
        stem_stride: temporal stride of conv1.
        temporal_kernels: for each stage the temporal kernels of its blocks, repeated in turn.
        pool_after_res2: a 2 x 1 x 1 max-pool after the first stage, as I3D has.
        depths: blocks in each stage.
        nonlocal_after: for each stage the blocks that a non-local block follows.
        zero_init_final_gamma: start every block as its shortcut (last batch-norm scale 0).
        clip: the clips that it is usually given; any other size will do.

    Raises:
        KuleshovError: a size that is not positive, or not four stages.
    """

    def __init__(
        self,
        width: int,
        stem_kernel: int,
        stem_stride: int,
        temporal_kernels: Sequence[Sequence[int]],
        pool_after_res2: bool = False,
        depths: Sequence[int] = (3, 4, 6, 3),
        nonlocal_after: Sequence[Sequence[int]] = ((), (), (), ()),
        zero_init_final_gamma: bool = True,
        clip: ClipFormat | None = None,
    ) -> None:
        super().__init__()
        if width < 1 or len(depths) != 4 or len(temporal_kernels) != 4 or min(depths) < 1:
            raise KuleshovError(
                f"a 3-D ResNet needs a width of at least 1 and four stages, got width {width}, "
                f"depths {tuple(depths)}, temporal kernels {tuple(temporal_kernels)}"
            )
        self.width = width
        self.feature_width, self.clip = 32 * width, clip or ClipFormat()
        self.s1 = nn.Module()
        self.s1.add_module("pathway0_stem", Stem(width, stem_kernel, stem_stride))
        inputs = width
        for stage, (depth, kernels, after) in enumerate(zip(depths, temporal_kernels, nonlocal_after, strict=True)):
            outputs = 4 * width * 2**stage
            self.add_module(f"s{stage + 2}", _stage(inputs, outputs, depth, kernels, 1 if stage == 0 else 2, after))
            inputs = outputs
        self.pathway0_pool = nn.MaxPool3d((2, 1, 1), stride=(2, 1, 1)) if pool_after_res2 else nn.Identity()
        _initialize(self, zero_init_final_gamma)

    def recompute(self, stages: int) -> None:
        """Let the blocks of the first `stages` residual stages, 0 to 4, keep less memory and compute twice.

        Raises:
            KuleshovError: another number.
        """
        if not 0 <= stages <= 4:
            raise KuleshovError(f"a backbone has 4 residual stages: {stages} of them cannot be computed again")
        for number in range(4):
            for block in getattr(self, f"s{number + 2}"):
                block.recompute = number < stages

    def forward_map(self, clips: Tensor) -> Tensor:
        """The last stage's map, (B, D, T', H / 32, W / 32), of clips (B, 3, T, H, W).

        Raises:
            KuleshovError: clips of another shape.
        """
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise KuleshovError(f"a backbone reads clips (B, 3, T, H, W), got {tuple(clips.shape)}")
        x = self.s1.pathway0_stem(clips)
        x = self.pathway0_pool(self.s2(x))
        return self.s5(self.s4(self.s3(x)))

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D), the average of the last map over time and space, of clips (B, 3, T, H, W)."""
        return self.forward_map(clips).mean(dim=(2, 3, 4))


def _stage(
    inputs: int, outputs: int, depth: int, kernels: Sequence[int], stride: int, nonlocal_after: Sequence[int]
) -> nn.Sequential:
    blocks = nn.Sequential()
    for index in range(depth):
        block = Bottleneck(inputs, outputs // 4, outputs, kernels[index % len(kernels)], stride)
        blocks.add_module(f"pathway0_res{index}", block)
        if index in nonlocal_after:
            blocks.add_module(f"pathway0_nonlocal{index}", NonLocal(outputs))
        inputs, stride = outputs, 1
    return blocks


@torch.no_grad()
def _initialize(network: nn.Module, zero_init_final_gamma: bool) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, NonLocal):
            nn.init.zeros_(module.bn.weight)
        elif isinstance(module, Transform) and zero_init_final_gamma:
            nn.init.zeros_(module.c_bn.weight)


# compiled code cannot tell batch norm to leave its running statistics alone the second time
@torch.compiler.disable
def _recomputed(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`forward(x)`, of which only x is kept for the backward pass (Chen et al., arXiv 1604.06174).

    The running statistics of the module's batch norms move once; `forward` draws no random numbers.
    """
    options = {"use_reentrant": False, "preserve_rng_state": False}
    return checkpoint(forward, x, context_fn=lambda: (nullcontext(), _statistics_held(module)), **options)


@contextmanager
def _statistics_held(module: nn.Module) -> Iterator[None]:
    # `track_running_stats` would not do: without them batch norm saves other tensors than the first time
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
