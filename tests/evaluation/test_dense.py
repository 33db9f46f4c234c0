"""Dense evaluation against cutting every crop out and showing it to the network."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.errors import InputSizeError, UsageError
from striate.evaluation.dense import fully_convolutional
from striate.nets import build, find
from striate.nets.modules import Chain, LocalResponseNorm, RbfOutput


def filled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor, also running statistics, values that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator) * 0.4
                tensor.copy_(drawn.abs() + 0.5 if "running_var" in name else drawn)
    return net


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(5, 5, 1)
        self.bn = nn.BatchNorm2d(5)
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(maps + self.bn(self.conv(maps)))


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(5, 3, 1)
        self.two = nn.Conv2d(5, 4, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat((self.one(maps), functional.relu(self.two(maps))), dim=1)


# Networks without padding: name -> (layers, side of the images, pixels from one place to the next).
UNPADDED: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "convolution and fully connected": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(5 * 16, 7),
            nn.Tanh(),
            nn.Dropout(0.9),
            nn.Linear(7, 4),
        ),
        10,
        2,
    ),
    "average of the whole maps": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, stride=2), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(5, 4)
        ),
        9,
        2,
    ),
    "average and no fully connected layer": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ELU(), nn.AvgPool2d(6), nn.Flatten()),
        8,
        1,
    ),
    "overlapping pools": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 2), nn.MaxPool2d(3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 9, 4)
        ),
        8,
        2,
    ),
    "batch normalisation, also of features": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(5 * 16, 6, bias=False),
            nn.BatchNorm1d(6),
            nn.LeakyReLU(),
            nn.Linear(6, 4),
        ),
        6,
        1,
    ),
    "response normalisation": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3, stride=3),
            LocalResponseNorm(size=3, alpha=0.2, k=1.0),
            nn.Flatten(),
            nn.Linear(5 * 9, 4),
        ),
        9,
        3,
    ),
    "inception": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3), Branches(), nn.MaxPool2d(2), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(7, 4)
        ),
        8,
        2,
    ),
    "residual": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3), Residual(), nn.Flatten(), nn.Linear(5 * 25, 4)),
        7,
        1,
    ),
    "grouped, without maps": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * 36, 4)), 6, 1),
    "radial basis functions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(5 * 16, 6), RbfOutput(torch.randn(4, 6))
        ),
        6,
        1,
    ),
    "fitting average": (
        lambda: nn.Sequential(nn.Conv2d(2, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(5, 4)),
        6,
        1,
    ),
}


@pytest.mark.parametrize("name", UNPADDED)
def test_each_place_is_the_answer_to_its_crop(name):
    make, side, step = UNPADDED[name]
    net = filled(make()).eval()
    dense = fully_convolutional(net, (2, side, side))
    images = torch.randn(3, 2, side + 3 * step, side + step, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = dense(images)
        assert maps.shape == (3, 4, 4, 2)
        for row in range(4):
            for column in range(2):
                crop = images[
                    :, :, row * step : row * step + side, column * step : column * step + side
                ].contiguous()
                assert maps[:, :, row, column].numpy() == pytest.approx(net(crop).numpy(), abs=1e-5, rel=1e-5)


def test_padding_reads_the_neighbours_as_a_twin_written_by_hand():
    """Simonyan and Zisserman, section 3.2: the padding of a crop comes from the image around it."""
    net = filled(
        nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(5 * 16, 6),
            nn.ReLU(),
            nn.Linear(6, 4),
        )
    ).eval()
    images = torch.randn(2, 2, 14, 10)
    with torch.no_grad():
        maps = functional.max_pool2d(
            functional.conv2d(images, net[0].weight, net[0].bias, padding=1).relu(), 2
        )
        kernel = torch.zeros(6, 5, 4, 4)
        for unit in range(6):  # the flattening counts channels slowest, columns fastest
            for place in range(80):
                kernel[unit, place // 16, place % 16 // 4, place % 4] = net[4].weight[unit, place]
        maps = functional.conv2d(maps, kernel, net[4].bias).relu()
        expected = torch.einsum("kc,nchw->nkhw", net[6].weight, maps) + net[6].bias[:, None, None]
        got = fully_convolutional(net, (2, 8, 8))(images)
    assert got.shape == (2, 4, 4, 2)
    assert got.numpy() == pytest.approx(expected.numpy(), abs=1e-5)


# name -> arguments that make it small
PUBLISHED = {
    "mlp2": {},
    "lenet5": {},
    "lenet5_rbf": {},
    "lenet_caffe": {},
    "alexnet": {"input_px": 67},
    "caffenet": {"input_px": 67},
    "zfnet": {"input_px": 64},
    "nin_cifar10": {},
    "nin_imagenet": {"input_px": 67},
    "convnetjs_cifar": {},
    "cuda_convnet_relu": {},
    "vgg16": {"input_px": 32},
    "vgg11_bn": {"input_px": 32},
    "googlenet": {"input_px": 96},
    "googlenet_tv": {"input_px": 96},
    "resnet18": {"input_px": 32},
    "resnet20": {},
    "inception_bottleneck": {},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_at_its_own_size_it_is_the_network(name):
    arguments = {key: value for key, value in PUBLISHED[name].items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build(name, num_classes=10 if name == "lenet5_rbf" else 6, **arguments)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.randn(2, *net.input_shape, generator=torch.Generator().manual_seed(2))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    dense = fully_convolutional(net)
    assert net.training  # as it was built
    assert not any(module.training for module in dense.modules())
    net.eval()
    with torch.no_grad():
        expected = net(images)
        got = dense(images)
        wider = dense(torch.randn(1, images.shape[1], images.shape[2] + 64, images.shape[3] + 32))
    assert got.shape[2:] == (1, 1)
    assert got[:, :, 0, 0].numpy() == pytest.approx(expected.numpy(), abs=1e-5, rel=1e-4)
    assert min(wider.shape[2:]) > 1
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_map_sizes_of_vgg_by_the_paper():
    """Section 4.1 and the arithmetic of it: floor(Q / 32) - 6 places a side."""
    with torch.device("meta"):
        net = build("vgg11")
    dense = fully_convolutional(net)
    for scale, places in ((256, 2), (384, 6), (512, 10)):
        maps = dense(torch.empty(1, 3, scale, scale, device="meta"))
        assert maps.shape == (1, 1000, places, places)


def test_a_network_in_the_notation(tmp_path):
    text = "INPUT 16x16x3\nCONV 8 3x3 pad 1\nRELU\nMAX POOL 2x2 stride 2\nFC 12\nRELU\nFC 5\n"
    path = tmp_path / "own.net"
    path.write_text(text)
    net = find(str(path)).build(num_classes=5).eval()
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        got = fully_convolutional(net)(images)
        assert got[:, :, 0, 0].numpy() == pytest.approx(net(images).numpy(), abs=1e-5)


def test_weights_are_shared():
    net = filled(nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(80, 4))).eval()
    dense = fully_convolutional(net, (2, 6, 6))
    theirs = {parameter.data_ptr() for parameter in dense.parameters()}
    assert theirs == {parameter.data_ptr() for parameter in net.parameters()}
    with torch.no_grad():
        net[2].weight.zero_()
        maps = dense(torch.randn(1, 2, 7, 7))
    assert maps.numpy() == pytest.approx(
        np.broadcast_to(net[2].bias.detach()[:, None, None].numpy(), (1, 4, 2, 2))
    )


class Reshaping(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.view(len(maps), -1)


class Squeezing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(6)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.pool(maps)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((nn.Conv2d(2, 5, 1), Reshaping(), nn.Linear(180, 4)), "can't be read|view"),
        ((Squeezing(), nn.Flatten(), nn.Linear(72, 4)), "joins maps of different sizes by mul"),
        ((nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(18, 4)), "AdaptiveAvgPool2d"),
        ((nn.Conv2d(2, 5, 1), nn.GroupNorm(1, 5), nn.Flatten(), nn.Linear(180, 4)), "GroupNorm"),
        ((nn.Flatten(), nn.LayerNorm(72), nn.Linear(72, 4)), "LayerNorm"),
        ((nn.Conv2d(2, 4, 3), nn.Flatten()), "does not end in one row of scores"),
        ((nn.Conv2d(2, 4, 6),), "does not end in one row of scores"),
    ],
)
def test_what_has_no_convolutional_form_is_refused_by_name(layers, words):
    with pytest.raises(UsageError, match=words):
        fully_convolutional(nn.Sequential(*layers), (2, 6, 6))


def test_sizes_are_checked():
    net = Chain("small", (2, 6, 6), {"flatten": nn.Flatten(), "fc": nn.Linear(72, 4)})
    dense = fully_convolutional(net)
    with pytest.raises(InputSizeError, match="small, dense, expects images of 2 channels and at least 6x6"):
        dense(torch.randn(1, 2, 6, 5))
    with pytest.raises(InputSizeError, match="got 3x6x6"):
        dense(torch.randn(1, 3, 6, 6))
    with pytest.raises(UsageError, match="give input_shape"):
        fully_convolutional(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)))
