"""Networks: sizes, shapes, names, and equality with a plain construction of the same network."""

import pytest
import torch
import torch.nn.functional as F

from kuleshov.backbones import architectures
from kuleshov.core.errors import KuleshovError

NAMES = ("slow_d_r50", "slow_r50", "i3d_r50", "i3d_nl_r50", "motion_2d")


def build(name: str, **arguments) -> torch.nn.Module:
    return getattr(architectures, name)(**arguments)


def nonlocal_(x: torch.Tensor, state: dict, key: str) -> torch.Tensor:
    """Wang et al., CVPR 2018, equation 1 with the embedded Gaussian: position by position."""

    def embed(part, y):
        return F.conv3d(y, state[f"{key}.conv_{part}.weight"], state[f"{key}.conv_{part}.bias"])

    seen = F.max_pool3d(x, (1, 2, 2))
    theta, phi, g = embed("theta", x), embed("phi", seen), embed("g", seen)
    said = torch.empty_like(theta)
    for clip in range(len(x)):
        keys, values = phi[clip].flatten(1), g[clip].flatten(1)
        for place in range(theta[clip, 0].numel()):
            weights = (theta[clip].flatten(1)[:, place] @ keys / theta.shape[1] ** 0.5).softmax(0)
            said[clip].view(theta.shape[1], -1)[:, place] = values @ weights
    return embed("out", said)


def plain_forward(name: str, state: dict, clips: torch.Tensor) -> torch.Tensor:
    """The network written out from the tables of the papers, as functions of a state dict."""
    stem_stride = 2 if name in ("slow_d_r50", "motion_2d") else 1

    def norm(x, key):
        mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{key}.weight"], state[f"{key}.bias"], eps=1e-5)

    kernel = state["s1.pathway0_stem.conv.weight"]
    x = F.conv3d(clips, kernel, stride=(stem_stride, 2, 2), padding=(kernel.shape[2] // 2, 3, 3))
    x = F.max_pool3d(norm(x, "s1.pathway0_stem.bn").relu(), (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for stage, depth in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for block in range(depth):
            key = f"s{stage}.pathway0_res{block}"
            stride = (1, 2, 2) if stage > 2 and block == 0 else 1
            a = state[f"{key}.branch2.a.weight"]
            y = norm(F.conv3d(x, a, padding=(a.shape[2] // 2, 0, 0)), f"{key}.branch2.a_bn").relu()
            y = F.conv3d(y, state[f"{key}.branch2.b.weight"], stride=stride, padding=(0, 1, 1))
            y = F.conv3d(norm(y, f"{key}.branch2.b_bn").relu(), state[f"{key}.branch2.c.weight"])
            y = norm(y, f"{key}.branch2.c_bn")
            if block == 0:
                x = norm(F.conv3d(x, state[f"{key}.branch1.weight"], stride=stride), f"{key}.branch1_bn")
            x = (x + y).relu()
            key = f"s{stage}.pathway0_nonlocal{block}"
            if f"{key}.conv_theta.weight" in state:
                x = x + norm(nonlocal_(x, state, key), f"{key}.bn")
        if stage == 2 and name.startswith("i3d"):
            x = F.max_pool3d(x, (2, 1, 1))
    return x.flatten(2).mean(2)


def randomize(network: torch.nn.Module) -> torch.nn.Module:
    """Batch-norm statistics that matter."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.4, 0.8)
            torch.nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.8, 1.2)
    return network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_equals_plain_construction(name):
    network = randomize(build(name, width=4))
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        ours, plain = network(clips), plain_forward(name, network.state_dict(), clips)
        spread = network(clips.to(memory_format=torch.channels_last_3d))
    assert ours.shape == (2, 128) and network.feature_width == 128
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(spread, plain, rtol=1e-4, atol=1e-5)


# counted from the published configurations: backbone without head, in millions
@pytest.mark.parametrize(
    ("name", "millions"),
    [("slow_d_r50", 31.67), ("slow_r50", 31.63), ("i3d_r50", 27.22), ("i3d_nl_r50", 34.58), ("motion_2d", 0.38)],
)
def test_parameter_count_and_map_at_full_size(name, millions):
    with torch.device("meta"):
        network = build(name)
        clip = torch.empty(1, 3, 16, 224, 224)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    frames = 16 if name == "slow_r50" else 8
    assert network.forward_map(clip).shape == (1, network.feature_width, frames, 7, 7)
    assert network.feature_width == (256 if name == "motion_2d" else 2048)


def test_non_local_blocks_start_as_nothing_added():
    network, plain = build("i3d_nl_r50", width=2).eval(), build("i3d_r50", width=2).eval()
    plain.load_state_dict({key: network.state_dict()[key] for key in plain.state_dict()})
    clips = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(network(clips), plain(clips))
    assert [key for key in network.state_dict() if key.endswith("conv_g.weight")] == [
        f"s{stage}.pathway0_nonlocal{block}.conv_g.weight" for stage, block in ((3, 1), (3, 3), (4, 1), (4, 3), (4, 5))
    ]


def test_temporal_kernels_of_every_block():
    expected = {
        "slow_d_r50": [5] + [1] * 7 + [3] * 9,
        "slow_r50": [1] + [1] * 7 + [3] * 9,
        "i3d_r50": [5] + [3] * 3 + [3, 1, 3, 1] + [3, 1] * 3 + [1, 3, 1],
        "motion_2d": [5] + [1] * 16,
    }
    for name, kernels in expected.items():
        state = build(name, width=1).state_dict()
        found = [v.shape[2] for k, v in state.items() if k.endswith(("stem.conv.weight", "branch2.a.weight"))]
        assert found == kernels, name


def test_zero_init_starts_blocks_as_shortcuts():
    plain, zero = build("slow_r50", width=2, zero_init_final_gamma=False), build("slow_r50", width=2)
    key = "s3.pathway0_res1.branch2.c_bn.weight"
    assert plain.state_dict()[key].eq(1).all() and zero.state_dict()[key].eq(0).all()
    block = zero.s3.pathway0_res1.eval()
    x = torch.rand(1, 16, 2, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_batch_norm_constants():
    norms = [m for m in build("i3d_r50", width=1).modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert len(norms) == 53 and {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: build("slow_r50", width=0), "a width of at least 1 and four stages, got width 0"),
        (lambda: build("slow_r50", width=1)(torch.zeros(2, 8, 3, 32, 32)), r"got \(2, 8, 3, 32, 32\)"),
    ],
)
def test_mistakes_are_named(call, text):
    with pytest.raises(KuleshovError, match=text):
        call()
