"""Layers on crops against the same layers on whole occluded images."""

import random

import pytest
import torch
from torch import nn

from striate.anatomy import Axis
from striate.look.incremental import Changed, axis_step, plan
from striate.look.occlusion import places
from striate.nets import build
from striate.nets.modules import LocalResponseNorm, ResidualBlock


def both(net, shape, size, stride, num_images=2):
    """Return the scores of all occluded images: by crops, and whole; and how many layers ran on crops."""
    net.eval()
    images, fills = torch.randn(num_images, *shape), torch.randn(num_images, *shape)
    tops, lefts = places(shape[1], size[0], stride), places(shape[2], size[1], stride)
    steps = plan(net, shape, tops, lefts, size)
    group = [(n, i, j) for n in range(num_images) for i in range(len(tops)) for j in range(len(lefts))]
    with torch.no_grad():
        covered = []
        for owner, row, column in group:
            image = images[owner].clone()
            window = (
                ...,
                slice(tops[row], tops[row] + size[0]),
                slice(lefts[column], lefts[column] + size[1]),
            )
            image[window] = fills[owner][window]
            covered.append(image)
        whole = net(torch.stack(covered))
        if not steps:
            return whole, whole, 0
        changed = Changed(net, steps)
        half = len(group) // 2
        crops = [
            changed.rest(changed.maps(images, fills, part, tops, lefts, size))
            for part in (group[:half], group[half:])
        ]
    return torch.cat(crops), whole, len(steps)


@pytest.mark.parametrize("seed", range(25))
def test_random_chains_with_all_kinds_of_windows(seed):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shape = (2, draw.randint(33, 47), draw.randint(33, 47))
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(5):
        kind = draw.choice(["conv", "conv", "max", "mean", "norm", "relu", "pad", "block"])
        kernel = draw.randint(1, 4)
        if kind == "conv":
            layers.append(
                nn.Conv2d(
                    channels,
                    4,
                    (kernel, draw.randint(1, 3)),
                    stride=draw.randint(1, 3),
                    padding=draw.randint(0, 2),
                    dilation=draw.randint(1, 2),
                )
            )
            channels = 4
        elif kind in ("max", "mean"):
            pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
            layers.append(
                pool(
                    kernel,
                    stride=draw.randint(1, 3),
                    padding=draw.randint(0, kernel // 2),
                    ceil_mode=draw.random() < 0.5,
                )
            )
        elif kind == "norm":
            layers.append(draw.choice([nn.BatchNorm2d(channels), LocalResponseNorm(alpha=1e-2, k=2.0)]))
        elif kind == "relu":
            layers.append(nn.ReLU(inplace=draw.random() < 0.5))
        elif kind == "pad":
            layers.append(nn.ZeroPad2d(tuple(draw.randint(0, 3) for _ in range(4))))
        else:
            layers.append(ResidualBlock(channels, 4, stride=draw.randint(1, 2), shortcut=draw.choice("AB")))
            channels = 4
    net = nn.Sequential(*layers)
    crops, whole, _ = both(net, shape, (draw.randint(1, 9), draw.randint(1, 9)), draw.randint(5, 12))
    torch.testing.assert_close(crops, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "size", "steps"),
    [
        ("lenet5", {}, 7, 3),
        ("alexnet", {}, 50, 8),
        ("resnet18", {"input_px": 128}, 20, 6),
        ("resnet20", {}, 7, 5),
        ("vgg16", {"input_px": 64}, 9, 15),
    ],
)
def test_the_papers_networks(name, arguments, size, steps):
    net = build(name, num_classes=10, **arguments)
    crops, whole, done = both(net, net.input_shape, (size, size), stride=100, num_images=1)
    assert done >= steps
    torch.testing.assert_close(crops, whole, rtol=1e-4, atol=1e-4)


def test_one_layer_along_one_axis_by_hand():
    # 12 units, windows of 3 by 2 from -1 on: output i reads 2i - 1, 2i, 2i + 1. Units 4 and 5 change.
    # Outputs 2 (3, 4, 5) and 3 (5, 6, 7) change; they read 3 to 7; a crop begins at an even unit.
    step = axis_step(Axis(3, 2, -1), 12, 6, (4,), 2)
    assert (step.kept_starts, step.kept) == ((2,), 2)
    assert (step.crop_starts, step.crop) == ((2,), 6)
    # At the end, units 10 and 11: outputs 5 (9, 10, 11) and, to have two, 4 (7, 8, 9).
    step = axis_step(Axis(3, 2, -1), 12, 6, (4, 10), 2)
    assert (step.kept_starts, step.kept) == ((2, 4), 2)
    assert (step.crop_starts, step.crop) == ((2, 6), 6)
    assert axis_step(Axis(12, None, 0), 12, 1, (4,), 2) is None


class Own(nn.Sequential):
    def forward(self, images):
        return super().forward(images.flip(2))


@pytest.mark.parametrize(
    "net",
    [
        Own(nn.Conv2d(2, 3, 3), nn.ReLU()),
        nn.Sequential(Own(nn.Conv2d(2, 3, 3))),
        nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")),
        nn.Sequential(nn.CircularPad2d(2), nn.Conv2d(2, 3, 3)),
        nn.Sequential(nn.InstanceNorm2d(2), nn.Conv2d(2, 3, 3)),
        nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Conv2d(2, 3, 3)),
        nn.Sequential(nn.Flatten(), nn.Linear(2 * 32 * 32, 3)),
        nn.Sequential(nn.Softmax2d(), nn.Upsample(scale_factor=2)),
    ],
)
def test_what_is_not_known_to_be_local_runs_whole_or_right(net):
    shape = (2, 32, 32)
    crops, whole, _ = both(net, shape, (5, 5), 9)
    torch.testing.assert_close(crops, whole, rtol=1e-4, atol=1e-5)


def test_a_network_that_somebody_listens_to_runs_whole():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU())
    assert plan(net, (2, 32, 32), (0, 9), (0, 9), (5, 5))
    net[0].register_forward_hook(lambda module, inputs, output: None)
    assert not plan(net, (2, 32, 32), (0, 9), (0, 9), (5, 5))


def test_layers_from_the_one_that_is_looked_at_run_whole():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3))
    assert len(plan(net, (2, 64, 64), (0, 9), (0, 9), (5, 5))) == 3
    assert len(plan(net, (2, 64, 64), (0, 9), (0, 9), (5, 5), whole="1")) == 1
