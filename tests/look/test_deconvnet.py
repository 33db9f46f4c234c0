"""What ``deconvnet.py`` adds to the signals: boxes, and the strongest units."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.core.errors import UsageError
from striate.look.deconv_picture import drawn_box, projection_colours, unit_rows
from striate.look.deconvnet import RULES, compare_rules, strongest_channels
from striate.look.layers import field_of
from striate.nets import build


@pytest.mark.parametrize("layer", ["S2", "C3_relu"])
def test_a_projection_lies_inside_its_box_and_reaches_its_edges(layer):
    net, images = build("lenet5_modern"), torch.randn(3, 1, 32, 32)
    (view,) = compare_rules(net, images, layer, channels=[3], at=(4, 5))
    # C1 5x5, S2 2/2: 6 px, step 2. C3 5x5 over that: 6 + 4 * 2 = 14 px, step 2.
    size = {"S2": 6, "C3_relu": 14}[layer]
    assert view.boxes == ((8, 10, 8 + size - 1, 10 + size - 1),) * 3
    gradients = view.projections["gradient"].maps
    outside = gradients.clone()
    outside[:, :, 8 : 8 + size, 10 : 10 + size] = 0
    assert outside.abs().max() == 0
    live = gradients.abs().sum((0, 1)) > 0
    if live.any():
        assert live.any(1).nonzero().flatten().tolist() == list(range(8, 8 + size))


def test_all_rules_tell_the_same_unit():
    net, images = build("resnet20"), torch.randn(2, 3, 32, 32)
    layer = [path for path, module in net.named_modules() if type(module) is nn.ReLU][5]
    views = compare_rules(net, images, layer, channels=[2, 7])
    assert [view.channel for view in views] == [2, 7]
    for view in views:
        assert tuple(view.projections) == RULES
        for rule in RULES:
            torch.testing.assert_close(view.projections[rule].values, view.values)
            assert view.projections[rule].places == view.places
        assert any("addition" in name for name in view.extensions)
    with pytest.raises(UsageError, match="at least one rule"):
        compare_rules(net, images, layer, channels=[1], rules=[])


def test_fully_connected_units_see_everything():
    (view,) = compare_rules(build("lenet5_modern"), torch.randn(1, 1, 32, 32), "output", channels=[3])
    assert view.boxes == ((0, 0, 31, 31),)
    assert view.places == (None,)


class Reads(nn.Module):
    """Runs, but its code depends on values; and one convolution is used twice."""

    def __init__(self, depends):
        super().__init__()
        self.conv, self.depends = nn.Conv2d(1, 1, 3), depends

    def forward(self, x):
        if self.depends and float(x.detach().sum()) > 1e9:
            return x
        return functional.relu(self.conv(self.conv(x)))


def test_fields_of_reused_and_unreadable_modules():
    field = field_of(Reads(False), (1, 9, 9), "conv")
    assert field is not None
    assert field.rows.size_px == 5  # of its last use, as the projection
    assert field_of(Reads(True), (1, 9, 9), "conv") is None
    (view,) = compare_rules(Reads(True), torch.randn(1, 1, 9, 9), "conv", channels=[0])
    assert view.boxes == ((0, 0, 8, 8),)


def test_strongest_channels():
    net = nn.Sequential(nn.Conv2d(1, 3, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1, 1))
        net[0].bias.zero_()
    image = torch.tensor([[3.0, -2.0], [0.0, 1.0]])[None, None]  # peaks 3, 4, 1.5
    assert strongest_channels(net, image, "0", 2) == [1, 0]
    assert strongest_channels(net, image, "0", 9) == [1, 0, 2]
    features = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        features[1].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 9]]))
    assert strongest_channels(features, image, "1", 1) == [1]


def test_colours():
    colours, limit = projection_colours(np.array([[[-2.0], [0.0]], [[1.0], [2.0]]], np.float32))
    assert limit == pytest.approx(2)
    assert colours[:, :, 0] == pytest.approx(np.array([[0, 0.5], [0.75, 1]]), abs=1e-6)
    colours, limit = projection_colours(np.zeros((2, 2, 3), np.float32))
    assert limit == 0
    assert (colours == 0.5).all()


def test_boxes_that_can_be_drawn():
    assert drawn_box((3, 4, 10, 11), (32, 32)) == (3, 4, 10, 11)
    assert drawn_box((5, 5, 4, 20), (32, 32)) == (0, 0, 31, 31)  # sees padding alone
    assert drawn_box((0, 0, 31, 30), (32, 32)) == (0, 0, 31, 31)
    assert drawn_box((0, 0, 11, 1), (32, 32)) == (0, 0, 11, 7)  # at the border, widened


def test_blue_first_networks_are_shown_in_true_colours():
    net, image = nn.Sequential(nn.Conv2d(3, 1, 1)), torch.rand(1, 3, 4, 4)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))  # the first channel is blue
        net[0].bias.zero_()
    (view,) = compare_rules(net, image, "0", channels=[0])
    ((_, _, panel, *_),) = unit_rows([view], 0, shown=np.zeros((4, 4, 3), np.float32), colour_order="BGR")
    assert panel.pixels.reshape(-1, 3).max(0) == pytest.approx([0.5, 0.5, 1])


def test_rows_of_panels():
    net, image = build("lenet5_modern"), torch.randn(1, 1, 32, 32)
    shown = np.zeros((32, 32, 3), np.float32)
    rows = unit_rows(
        compare_rules(net, image, "C3", channels=[1, 2], at=(3, 3)), 0, shown=shown, colour_order="RGB"
    )
    assert [len(row) for row in rows] == [5, 5]
    assert rows[0][0].boxes == ((6, 6, 19, 19),)
    assert rows[1][1].pixels.shape == rows[1][4].pixels.shape == (14, 14, 3)
    whole = unit_rows(compare_rules(net, image, "F6", channels=[1]), 0, shown=shown, colour_order="RGB")
    assert [len(row) for row in whole] == [4]  # the patch would be the image
    assert whole[0][0].boxes == ()


def test_the_field_of_a_module_used_twice_is_that_of_its_last_use():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, images):
            return self.conv(self.conv(images))

    field = field_of(Twice(), (1, 9, 9), "conv")
    assert field is not None
    assert (field.rows.size_px, field.rows.jump_px, field.rows.start_px) == (5, 1, 0)  # two 3x3 see 5x5
