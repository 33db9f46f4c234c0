"""The check of receptive fields: it passes where fields hold, and finds the truth where they do not."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate import nets
from striate.anatomy import Axis, Field, check_fields, perturb, trace
from striate.anatomy.trace import follow
from striate.core.errors import UsageError


class Mixed(nn.Module):
    """Functional calls, a reused module, dilation, groups, ceil mode, branches, several outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.lrn = nn.LocalResponseNorm(3)
        self.last = nn.Linear(16, 5)

    def forward(self, images):
        maps = functional.relu(self.first(images))
        branch = torch.tanh(self.norm(self.twice(self.lrn(maps))))
        maps = torch.cat([maps + self.twice(branch), functional.avg_pool2d(branch, 3, 1, 1)], 1)
        maps = functional.max_pool2d(maps, 3, 2, ceil_mode=True)
        return self.last(maps.mean((2, 3))), maps


def test_everything_at_once_holds():
    results = check_fields(Mixed(), (3, 31, 40))
    assert [result.layer for result in results if result.ok is not True] == []
    by_name = {result.layer: result for result in results}
    assert by_name["twice"].units == by_name["max_pool2d"].units == 9
    assert by_name["last"].units == 1


@pytest.mark.parametrize("name", ["lenet5", "cuda_convnet_relu", "resnet20", "nin_cifar10"])
def test_networks_of_the_papers_hold(name):
    assert all(result.ok for result in check_fields(nets.build(name)))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (Axis(4, 2, -1), (15, 17)),  # one pixel too many
        (Axis(2, 2, -1), (15, 17)),  # one too few
        (Axis(3, 2, 0), (15, 17)),  # one pixel aside
        (Axis(3, 1, -1), (15, 17)),  # another stride
    ],
)
def test_wrong_arithmetic_is_found_and_put_right(monkeypatch, wrong, found):
    """A 3x3 window with stride 2 and padding 1: the middle one of 16 sees pixels 2 * 8 - 1 to 2 * 8 + 1."""
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU())

    def lying(net, input_shape):
        record = trace(net, input_shape)
        liar = replace(record["0"], field=Field(rows=wrong, columns=record["0"].field.columns))
        return replace(record, layers=(record.layers[0], liar, record.layers[2]))

    monkeypatch.setattr(perturb, "trace", lying)
    image, liar, relu = check_fields(net, (2, 32, 32))
    assert image.ok
    assert relu.ok
    assert liar.ok is False
    middle = next(one for one in liar.differences if (one.predicted.row, one.predicted.column) == (8, 8))
    assert middle.predicted.rows == wrong.box(8)
    assert middle.found_rows == found
    assert middle.found_columns == (15, 17)


def test_gaps_of_dilated_windows_are_not_differences():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, dilation=4, padding=4), nn.Conv2d(1, 1, 2, stride=3))
    assert all(result.ok for result in check_fields(net, (1, 20, 23)))


def test_rows_without_a_field_say_why():
    class Grids(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.MaxPool2d(2), nn.Conv2d(1, 1, 5)

        def forward(self, images):
            return self.a(images) + self.b(images)

    *known, joined = check_fields(Grids(), (1, 8, 8))
    assert all(result.ok for result in known)
    assert joined.ok is None
    assert "different grids" in joined.reason


def test_depth_does_not_wash_the_signal_out():
    layers = [layer for _ in range(60) for layer in (nn.Conv2d(2, 2, 3, padding=1), nn.Sigmoid())]
    net = nn.Sequential(nn.Conv2d(1, 2, 1), *layers)
    assert all(result.ok for result in check_fields(net, (1, 140, 9)))


def test_the_network_is_left_alone():
    net = Mixed().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    check_fields(net, (3, 16, 16))
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_progress_goes_to_the_end():
    told = []
    check_fields(
        nets.build("lenet5"), progress=lambda stage, done, total, note="": told.append((done, total))
    )
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 0


def test_buffers_need_values():
    with torch.device("meta"):
        net = nets.build("lenet5")
    with pytest.raises(UsageError, match=r"buffers have values, got C3\.link_slots on meta: build it on cpu"):
        check_fields(net)


def test_a_network_built_on_meta_without_buffers_of_its_own():
    with torch.device("meta"):
        net = nets.build("resnet20")
    assert all(result.ok for result in check_fields(net))


class Short(nn.Module):
    """A convolution that is used twice, a ReLU without a module, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(16, 2)

    def forward(self, images):
        return self.last(self.drop(torch.relu(self.conv(self.conv(images)))).flatten(1))


def test_follow_hands_out_what_each_row_gives():
    net, images = Short(), torch.randn(3, 1, 4, 4)
    seen = []
    follow(net, images, lambda name, values: seen.append((name, values.clone())))
    once = functional.conv2d(images, net.conv.weight, net.conv.bias, padding=1)
    twice = functional.conv2d(once, net.conv.weight, net.conv.bias, padding=1)
    kept = twice.clamp(min=0)
    scores = kept.reshape(3, 16) @ net.last.weight.T + net.last.bias
    assert [name for name, _ in seen] == [layer.name for layer in trace(net, (1, 4, 4))]
    for (_, values), expected in zip(seen, (images, once, twice, kept, kept, scores), strict=True):
        torch.testing.assert_close(values, expected)
        assert not values.requires_grad


def test_follow_stops_where_it_is_told_to_and_leaves_the_network_as_it_was():
    net = Short()
    seen = []

    def stop(name, values):
        seen.append(name)
        if name == "conv#2":
            raise KeyError(name)

    with pytest.raises(KeyError, match="conv#2"):
        follow(net, torch.zeros(1, 1, 4, 4), stop)
    assert seen == ["input", "conv", "conv#2"]
    assert net.training
    assert net.drop.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert net(torch.zeros(1, 1, 4, 4)).requires_grad
