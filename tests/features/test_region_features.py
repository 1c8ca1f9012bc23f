import math

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.features.region_features import region_features, roi_align


def slow_value(channel, y, x):
    """Bilinear interpolation at one point, written from the definition."""
    height, width = channel.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    c = channel.tolist()
    upper = c[top][left] * (1 - u) + c[top][right] * u
    lower = c[bottom][left] * (1 - u) + c[bottom][right] * u
    return upper * (1 - v) + lower * v


def slow_roi_align(maps, boxes, owner, size, samples):
    out = torch.zeros(len(boxes), maps.shape[1], size, size)
    for r, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        cell_w, cell_h = (x2 - x1) / size, (y2 - y1) / size
        for c in range(maps.shape[1]):
            for i in range(size):
                for j in range(size):
                    total = 0.0
                    for a in range(samples):
                        for b in range(samples):
                            y = y1 - 0.5 + (i + (a + 0.5) / samples) * cell_h
                            x = x1 - 0.5 + (j + (b + 0.5) / samples) * cell_w
                            total += slow_value(maps[owner[r], c], y, x)
                    out[r, c, i, j] = total / samples**2
    return out


@pytest.mark.parametrize(("size", "samples"), [(1, 1), (2, 2), (3, 1)])
def test_against_the_definition(size, samples):
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 5, 7)
    low = torch.rand(12, 2) * 8 - 2
    boxes = torch.cat([low, low + torch.rand(12, 2) * 6], dim=1)
    owner = torch.randint(0, 2, (12,))
    expected = slow_roi_align(maps, boxes, owner, size, samples)
    torch.testing.assert_close(roi_align(maps, boxes, owner, size, samples), expected, atol=1e-5, rtol=1e-5)


def test_a_constant_map_gives_the_constant():
    boxes = torch.tensor([[0.3, 0.2, 4.0, 3.1]])
    assert (roi_align(torch.full((1, 2, 4, 5), 3.0), boxes, torch.tensor([0])) == 3.0).all()


def test_a_ramp_gives_each_cells_center():
    """On f(x, y) = x every average of symmetric points is the cell's center, half a pixel off its edge."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    out = roi_align(ramp, torch.tensor([[1.0, 1.0, 7.0, 7.0]]), torch.tensor([0]), size=3)
    torch.testing.assert_close(out[0, 0, 0], torch.tensor([1.5, 3.5, 5.5]))


def test_the_whole_map_in_single_pixels_is_the_map():
    maps = torch.randn(1, 2, 6, 6)
    out = roi_align(maps, torch.tensor([[0.0, 0.0, 6.0, 6.0]]), torch.tensor([0]), size=6, samples=1)
    torch.testing.assert_close(out, maps)


def test_far_outside_is_zero():
    out = roi_align(torch.ones(1, 1, 4, 4), torch.tensor([[10.0, 10.0, 12.0, 12.0]]), torch.tensor([0]), size=2)
    assert not out.any()


def test_gradients_reach_the_map():
    maps = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[0.4, 0.7, 3.2, 2.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: roi_align(m, boxes, torch.tensor([0]), 2), maps)


def test_region_features_find_the_box():
    maps = torch.zeros(1, 2, 3, 4, 8)  # (M, D, T, H, W)
    maps[0, 1, :, :, 4:] = 6.0
    boxes = torch.tensor([[0.0, 0.0, 0.4, 1.0], [0.6, 0.0, 1.0, 1.0]])
    found = region_features(maps, boxes, torch.zeros(2, dtype=torch.long), pool="mean")
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0], [0.0, 6.0]]))
    maps[0, 1, 0] = 0.0  # time is averaged
    assert region_features(maps, boxes, torch.zeros(2, dtype=torch.long))[1, 1] == pytest.approx(4.0)


def test_wrong_arguments_are_named():
    with pytest.raises(KuleshovError, match="size and samples of at least 1, got 0 and 2"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4), torch.zeros(1), 0)
    with pytest.raises(KuleshovError, match=r"boxes \(R, 4\) and owner \(R,\) expected, got \(2, 3\) and \(2,\)"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(KuleshovError, match="pooled by max or mean, not 'sum'"):
        region_features(torch.zeros(1, 1, 1, 2, 2), torch.zeros(0, 4), torch.zeros(0), pool="sum")
