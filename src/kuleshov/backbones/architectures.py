"""The networks by name: clips (B, 3, T, H, W) to features (B, 32 * width).

Arguments of all: `width`, channels of the stem, which all other widths follow; `zero_init_final_gamma`, start every
residual block as its shortcut, as PySlowFast's K400 configurations do (CVRL's released code shows no such start).
"""

from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.video.clip_format import ClipFormat


def slow_d_r50(width: int = 64, zero_init_final_gamma: bool = True) -> ResNet3d:
    """Slow-D, section 3.1 of the paper; conv1 itself is strided in time, as in the authors' code."""
    kernels = ((1,), (1,), (3,), (3,))
    return ResNet3d(width, 5, 2, kernels, zero_init_final_gamma=zero_init_final_gamma, clip=ClipFormat(16, 4))


def slow_r50(width: int = 64, zero_init_final_gamma: bool = True) -> ResNet3d:
    """Slow 8x8: PySlowFast's configs/Kinetics/SLOW_8x8_R50.yaml."""
    kernels = ((1,), (1,), (3,), (3,))
    return ResNet3d(width, 1, 1, kernels, zero_init_final_gamma=zero_init_final_gamma, clip=ClipFormat(8, 8))


def i3d_r50(width: int = 64, zero_init_final_gamma: bool = True) -> ResNet3d:
    """I3D 8x8: PySlowFast's configs/Kinetics/I3D_8x8_R50.yaml."""
    kernels = ((3,), (3, 1), (3, 1), (1, 3))
    return ResNet3d(width, 5, 1, kernels, True, zero_init_final_gamma=zero_init_final_gamma, clip=ClipFormat(8, 8))


def i3d_nl_r50(width: int = 64, zero_init_final_gamma: bool = True) -> ResNet3d:
    """I3D 8x8 with five non-local blocks, VidSitu's own backbone: PySlowFast's c2/I3D_NLN_8x8_R50.yaml."""
    kernels, after = ((3,), (3, 1), (3, 1), (1, 3)), ((), (1, 3), (1, 3, 5), ())
    options = {"zero_init_final_gamma": zero_init_final_gamma, "clip": ClipFormat(8, 8)}
    return ResNet3d(width, 5, 1, kernels, True, nonlocal_after=after, **options)


def motion_2d(width: int = 8, zero_init_final_gamma: bool = True) -> ResNet3d:
    """MoDist's motion network: two-dimensional but for conv1, an eighth of the visual width."""
    clip = ClipFormat(16, 4, mean=(0, 0, 0), std=(1, 1, 1))
    return ResNet3d(width, 5, 2, ((1,),) * 4, zero_init_final_gamma=zero_init_final_gamma, clip=clip)
