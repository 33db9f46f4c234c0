import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, relu
from torch import nn

from striate import nets
from striate.core.errors import UsageError


def max_pool_3_2(maps):
    """Largest of each 3x3 window, every 2 pixels; the last window may hang over the edge."""
    side = -(-(maps.shape[1] - 3) // 2) + 1  # rounded up
    windows = [[maps[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] for j in range(side)] for i in range(side)]
    return np.stack([np.stack([w.max(axis=(1, 2)) for w in row], axis=1) for row in windows], axis=1)


def forward(net, image, blocks):
    """The authors' files: convolutions and 1x1 ones with a ReLU each, a pool between blocks, an average."""
    state = arrays(net)
    maps = image.double().numpy()
    for number, (stride, padding, cccps) in enumerate(blocks, start=1):
        if number > 1:
            maps = max_pool_3_2(maps)
        weight, bias = state[f"conv{number}.weight"], state[f"conv{number}.bias"]
        maps = relu(conv(maps, weight, bias, stride=stride, padding=padding))
        for cccp in cccps:
            maps = relu(conv(maps, state[f"cccp{cccp}.weight"], state[f"cccp{cccp}.bias"]))
    return maps.mean(axis=(1, 2))


@pytest.mark.parametrize(
    ("name", "arguments", "blocks"),
    [
        ("nin_cifar10", {}, [(1, 2, (1, 2)), (1, 2, (3, 4)), (1, 1, (5, 6))]),
        (
            "nin_imagenet",
            {"input_px": 96},
            [(4, 0, (1, 2)), (1, 2, (3, 4)), (1, 1, (5, 6)), (1, 1, (7, 8))],
        ),
    ],
)
@torch.no_grad()
def test_forward_is_that_of_the_authors_files(name, arguments, blocks):
    net = nets.build(name, num_classes=7, **arguments).eval()
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            parameter.normal_(std=0.1)
    image = torch.randn(net.input_shape)
    expected = forward(net, image, blocks)
    assert len(set(expected.round(6))) > 2  # not only the zeros of a ReLU
    np.testing.assert_allclose(net(image[None])[0].numpy(), expected, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_scores_are_never_negative():
    """A ReLU follows the last 1x1 convolution too, in the authors' files; not in MatConvNet's."""
    net = nets.build("nin_cifar10").eval()
    net.cccp6.bias.fill_(-1e3)
    assert (net(torch.randn(2, 3, 32, 32)) == 0).all()


@pytest.mark.parametrize(
    ("name", "others"),
    [("nin_cifar10", {}), ("nin_imagenet", {"conv1": 0.01, "conv3": 0.01, "cccp8": 0.01})],
)
def test_initial_spread_is_that_of_the_authors_files(name, others):
    net = nets.build(name)
    for key, layer in net.named_children():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.std().item() == pytest.approx(others.get(key, 0.05), rel=0.05), key
            assert layer.weight.mean().item() == pytest.approx(0, abs=0.005), key
            assert not layer.bias.any(), key


@pytest.mark.parametrize(
    ("name", "dropped"), [("nin_cifar10", ["drop1", "drop2"]), ("nin_imagenet", ["drop3"])]
)
def test_dropout_follows_the_pools(name, dropped):
    with torch.device("meta"):
        net = nets.build(name)
        children = dict(nets.build(name, dropout=0.2).named_children())
    names = [key for key, _ in net.named_children()]
    assert [key for key in names if isinstance(net.get_submodule(key), nn.Dropout)] == dropped
    for key in dropped:
        assert names[names.index(key) - 1] == key.replace("drop", "pool")
        assert (net.get_submodule(key).p, children[key].p) == (0.5, 0.2)


@pytest.mark.parametrize(
    ("input_px", "window"),
    # 55: 12, 6, 3, 1. 96: 22, 11, 5, 2. 227: 55, 27, 13, 6. 256: 62, 31, 15, 7 (pools round up).
    [(55, 1), (96, 2), (224, 6), (227, 6), (256, 7)],
)
def test_the_average_covers_the_last_maps(input_px, window):
    with torch.device("meta"):
        net = nets.build("nin_imagenet", input_px=input_px).eval()
        assert net.avgpool.kernel_size == window
        assert net[: len(net) - 2](torch.empty(1, 3, input_px, input_px)).shape == (1, 1000, window, window)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nin_imagenet", {"input_px": 54}, "at least 55, got 54: use 224"),
        ("nin_imagenet", {"dropout": 1.0}, r"nin_imagenet expects dropout in \[0, 1\), got 1.0: use 0.5"),
        ("nin_cifar10", {"dropout": -0.1}, r"nin_cifar10 expects dropout in \[0, 1\), got -0.1: use 0.5"),
        ("nin_cifar10", {"input_px": 64}, "nin_cifar10 expects dropout, got input_px"),
    ],
)
def test_wrong_arguments(name, arguments, message):
    with pytest.raises(UsageError, match=message):
        nets.build(name, **arguments)
