"""The four networks by name."""

from dataclasses import dataclass

from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.core.errors import KuleshovError
from kuleshov.video.clip_format import ClipFormat


@dataclass(frozen=True)
class Architecture:
    """Sizes of one network; see `ResNet3d` for their meaning.

    Attributes:
        width: channels of the stem at full size.
        clip: the input it is usually given.
    """

    width: int
    stem_kernel: int
    stem_stride: int
    temporal_kernels: tuple[tuple[int, ...], ...]
    pool_after_res2: bool
    clip: ClipFormat


ARCHITECTURES = {
    # the paper's section 3.1; conv1 itself is strided in time, as in the authors' code
    "slow_d_r50": Architecture(64, 5, 2, ((1,), (1,), (3,), (3,)), False, ClipFormat(16, 4)),
    # PySlowFast configs/Kinetics/SLOW_8x8_R50.yaml
    "slow_r50": Architecture(64, 1, 1, ((1,), (1,), (3,), (3,)), False, ClipFormat(8, 8)),
    # PySlowFast configs/Kinetics/I3D_8x8_R50.yaml
    "i3d_r50": Architecture(64, 5, 1, ((3,), (3, 1), (3, 1), (1, 3)), True, ClipFormat(8, 8)),
    # MoDist's motion network: two-dimensional but for conv1, an eighth of the visual width
    "motion_2d": Architecture(
        8, 5, 2, ((1,), (1,), (1,), (1,)), False, ClipFormat(16, 4, mean=(0, 0, 0), std=(1, 1, 1))
    ),
}


def architecture(name: str) -> Architecture:
    """The sizes of a network by its name.

    Raises:
        KuleshovError: no such network.
    """
    if name not in ARCHITECTURES:
        raise KuleshovError(f"no backbone is called {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build(name: str, width: int | None = None, zero_init_final_gamma: bool = True) -> ResNet3d:
    """A backbone from clips (B, 3, T, H, W) float to features (B, D) with D = 32 * width.

    Args:
        name: `slow_d_r50`, `slow_r50`, `i3d_r50` or `motion_2d`.
        width: channels of the stem; all other widths follow. Full size (64, motion_2d 8) when None.
        zero_init_final_gamma: start every residual block as its shortcut, as PySlowFast's K400 configurations do;
            CVRL's released code shows no such start.

    Raises:
        KuleshovError: no such network, or a width below 1.
    """
    sizes = architecture(name)
    network = ResNet3d(
        width=sizes.width if width is None else width,
        stem_kernel=sizes.stem_kernel,
        stem_stride=sizes.stem_stride,
        temporal_kernels=sizes.temporal_kernels,
        pool_after_res2=sizes.pool_after_res2,
        zero_init_final_gamma=zero_init_final_gamma,
    )
    network.architecture = name
    return network
