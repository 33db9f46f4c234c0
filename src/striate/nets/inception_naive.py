"""The lectures' arithmetic on Inception modules: the naive one, and the one with 1x1 bottlenecks.

Both read 28x28x256 maps. Here each is part of a small network, so that it can be run, trained and compared.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from striate.nets.entry import NetEntry
from striate.nets.modules import Chain

INPUT_SHAPE = (3, 28, 28)


class DepthConcat(nn.Module):
    """Apply every branch to the same maps and join what they give in depth, in the order of the branches.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, Fig. 2.
    Departures: none.
    """

    def __init__(self, branches: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for key, branch in branches.items():
            self.add_module(key, branch)

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x C x H x W`` to ``N x D x H x W``, where D is the sum of the branches' depths."""
        return torch.cat([branch(maps) for branch in self.children()], dim=1)


def inception_naive(num_classes: int = 10) -> Chain:
    """Build a small network around the naive module: 1x1, 3x3, 5x5 and max pool, joined to 672 maps.

    The module's convolutions take 854,196,224 multiply-accumulates: 25,690,112 (1x1), 346,816,512 (3x3) and
    481,689,600 (5x5).

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 28 x 28`` images to ``N x num_classes`` logits.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, Fig. 2a, with the widths of the lectures.
    Departures: see ``ENTRIES``.
    """
    module = DepthConcat(
        {
            "branch1x1": _branch({"conv1x1": _conv(256, 128, 1), "relu1x1": nn.ReLU()}),
            "branch3x3": _branch({"conv3x3": _conv(256, 192, 3), "relu3x3": nn.ReLU()}),
            "branch5x5": _branch({"conv5x5": _conv(256, 96, 5), "relu5x5": nn.ReLU()}),
            "pool": nn.MaxPool2d(3, stride=1, padding=1),
        }
    )
    return _classifier("inception_naive", module, 128 + 192 + 96 + 256, num_classes)


def inception_bottleneck(num_classes: int = 10) -> Chain:
    """Build the network of ``inception_naive`` with 1x1 bottlenecks of 64 maps, joined to 480 maps.

    The module's convolutions take 271,351,808 multiply-accumulates: three times 12,845,056 (1x1 to 64 maps),
    25,690,112 (1x1), 86,704,128 (3x3) and 120,422,400 (5x5).

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 28 x 28`` images to ``N x num_classes`` logits.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, Fig. 2b, with the widths of the lectures.
    Departures: see ``ENTRIES``.
    """
    module = DepthConcat(
        {
            "branch1x1": _branch({"conv1x1": _conv(256, 128, 1), "relu1x1": nn.ReLU()}),
            "branch3x3": _branch(
                {
                    "reduce3x3": _conv(256, 64, 1),
                    "relu3x3_reduce": nn.ReLU(),
                    "conv3x3": _conv(64, 192, 3),
                    "relu3x3": nn.ReLU(),
                }
            ),
            "branch5x5": _branch(
                {
                    "reduce5x5": _conv(256, 64, 1),
                    "relu5x5_reduce": nn.ReLU(),
                    "conv5x5": _conv(64, 96, 5),
                    "relu5x5": nn.ReLU(),
                }
            ),
            "branch_pool": _branch(
                {
                    "pool": nn.MaxPool2d(3, stride=1, padding=1),
                    "proj": _conv(256, 64, 1),
                    "relu_proj": nn.ReLU(),
                }
            ),
        }
    )
    return _classifier("inception_bottleneck", module, 128 + 192 + 96 + 64, num_classes)


def _classifier(name: str, module: nn.Module, num_maps: int, num_classes: int) -> Chain:
    net = Chain(
        name,
        INPUT_SHAPE,
        {
            "stem": _conv(3, 256, 3),
            "relu_stem": nn.ReLU(),
            "inception": module,
            "avgpool": nn.AvgPool2d(28),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(num_maps, num_classes),
        },
    )
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


def _branch(layers: dict[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _conv(in_maps: int, out_maps: int, kernel_px: int) -> nn.Conv2d:
    return nn.Conv2d(in_maps, out_maps, kernel_size=kernel_px, padding=kernel_px // 2)


_PAPER = "Szegedy et al.: Going deeper with convolutions. arXiv 1409.4842, CVPR 2015, Fig. 2"
_PUBLISHED_ERROR = "not published: an example of arithmetic that the lectures do not train"
_DEPARTURES = (
    "The lectures draw the module alone, on 28x28x256 maps: the stem (a 3x3 convolution from the image to"
    " 256 maps), the average over all positions and the fully connected layer are added so that it can be"
    " trained.",
    "Each convolution of the module is followed by a ReLU, as in GoogLeNet, and weights start from He's"
    " normal distribution (fan-in), biases from zero: the lectures do not say.",
)

ENTRIES = (
    NetEntry(
        name="inception_naive",
        title="Naive Inception module (lectures)",
        year=2014,
        paper=f"{_PAPER}a, with the lectures' widths",
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=inception_naive,
        recipe="photos",
        published_error=_PUBLISHED_ERROR,
        departures=_DEPARTURES,
        page="docs/nets/googlenet.md",
    ),
    NetEntry(
        name="inception_bottleneck",
        title="Inception module with bottlenecks (lectures)",
        year=2014,
        paper=f"{_PAPER}b, with the lectures' widths",
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=inception_bottleneck,
        recipe="photos",
        published_error=_PUBLISHED_ERROR,
        departures=_DEPARTURES,
        page="docs/nets/googlenet.md",
    ),
)
