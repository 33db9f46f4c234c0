"""GoogLeNet, "Going deeper with convolutions": as published, and as torchvision builds it.

Layer names follow the paper's Table 1 and Caffe's model file: conv1, conv2_reduce, conv2, inception_3a to
inception_5b, and the auxiliary classifiers aux1 (on 4a) and aux2 (on 4d). Inside a module: conv1x1;
reduce3x3, conv3x3; reduce5x5, conv5x5; pool, proj; their outputs are joined in this order.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.arithmetic import output_size
from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import LocalResponseNorm, check_input

AUXILIARY_WEIGHT = 0.3
AUXILIARY_DROPOUT = 0.7


class GoogLeNet(nn.Module):
    """Named layers in order, with auxiliary classifiers placed where they branch off.

    Attributes:
        name: the network's name.
        input_shape: channels, height and width in pixels of the images that it takes.
        training_only: names of the auxiliary classifiers.
        auxiliary_weight: what the loss of each of them is multiplied by.

    Paper: Szegedy et al. 2014, Fig. 3 and section 5.
    Departures: none.
    """

    def __init__(self, name: str, input_px: int, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for key, layer in layers.items():
            self.add_module(key, layer)
        self.name = name
        self.input_shape = (3, input_px, input_px)
        self.training_only = tuple(key for key in layers if key in ("aux1", "aux2"))
        self.auxiliary_weight = AUXILIARY_WEIGHT

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images to scores.

        Args:
            images: ``N x C x H x W``, where ``C x H x W`` is ``input_shape``.

        Returns:
            ``N x num_classes`` logits. While a network with auxiliary classifiers trains, the tuple of these
            and of each classifier's, in the order of ``training_only``; in eval mode they are not computed.

        Raises:
            InputSizeError: the images have another size.
        """
        check_input(images, self.input_shape, self.name)
        features = images
        auxiliary_scores = []
        for key, layer in self.named_children():
            if key not in self.training_only:
                features = layer(features)
            elif self.training:
                auxiliary_scores.append(layer(features))
        return (features, *auxiliary_scores) if auxiliary_scores else features


class Inception(nn.Module):
    """Four branches on the same maps, joined in depth: 1x1; 1x1 then 3x3; 1x1 then 5x5; max pool then 1x1.

    The arguments are a row of Table 1.

    Paper: Szegedy et al. 2014, Fig. 2b and Table 1.
    Departures: none.
    """

    def __init__(
        self, in_maps: int, n1x1: int, n3x3_reduce: int, n3x3: int, n5x5_reduce: int, n5x5: int, n_proj: int
    ) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(in_maps, n1x1, kernel_size=1)
        self.relu1x1 = nn.ReLU()
        self.reduce3x3 = nn.Conv2d(in_maps, n3x3_reduce, kernel_size=1)
        self.relu3x3_reduce = nn.ReLU()
        self.conv3x3 = nn.Conv2d(n3x3_reduce, n3x3, kernel_size=3, padding=1)
        self.relu3x3 = nn.ReLU()
        self.reduce5x5 = nn.Conv2d(in_maps, n5x5_reduce, kernel_size=1)
        self.relu5x5_reduce = nn.ReLU()
        self.conv5x5 = nn.Conv2d(n5x5_reduce, n5x5, kernel_size=5, padding=2)
        self.relu5x5 = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.proj = nn.Conv2d(in_maps, n_proj, kernel_size=1)
        self.relu_proj = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in_maps x H x W`` to ``N x (n1x1 + n3x3 + n5x5 + n_proj) x H x W``."""
        branch1x1 = self.relu1x1(self.conv1x1(maps))
        branch3x3 = self.relu3x3(self.conv3x3(self.relu3x3_reduce(self.reduce3x3(maps))))
        branch5x5 = self.relu5x5(self.conv5x5(self.relu5x5_reduce(self.reduce5x5(maps))))
        branch_pool = self.relu_proj(self.proj(self.pool(maps)))
        return torch.cat((branch1x1, branch3x3, branch5x5, branch_pool), dim=1)


class InceptionTv(nn.Module):
    """torchvision's module: batch normalisation before each ReLU, and a 3x3 kernel in the "5x5" branch.

    Paper: none; torchvision's ``googlenet``. Names and arguments are those of ``Inception``.
    Departures: none from torchvision.
    """

    def __init__(
        self, in_maps: int, n1x1: int, n3x3_reduce: int, n3x3: int, n5x5_reduce: int, n5x5: int, n_proj: int
    ) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(in_maps, n1x1, kernel_size=1, bias=False)
        self.bn1x1 = _batch_norm(n1x1)
        self.relu1x1 = nn.ReLU()
        self.reduce3x3 = nn.Conv2d(in_maps, n3x3_reduce, kernel_size=1, bias=False)
        self.bn3x3_reduce = _batch_norm(n3x3_reduce)
        self.relu3x3_reduce = nn.ReLU()
        self.conv3x3 = nn.Conv2d(n3x3_reduce, n3x3, kernel_size=3, padding=1, bias=False)
        self.bn3x3 = _batch_norm(n3x3)
        self.relu3x3 = nn.ReLU()
        self.reduce5x5 = nn.Conv2d(in_maps, n5x5_reduce, kernel_size=1, bias=False)
        self.bn5x5_reduce = _batch_norm(n5x5_reduce)
        self.relu5x5_reduce = nn.ReLU()
        self.conv5x5 = nn.Conv2d(n5x5_reduce, n5x5, kernel_size=3, padding=1, bias=False)
        self.bn5x5 = _batch_norm(n5x5)
        self.relu5x5 = nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.proj = nn.Conv2d(in_maps, n_proj, kernel_size=1, bias=False)
        self.bn_proj = _batch_norm(n_proj)
        self.relu_proj = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x in_maps x H x W`` to ``N x (n1x1 + n3x3 + n5x5 + n_proj) x H x W``."""
        branch1x1 = self.relu1x1(self.bn1x1(self.conv1x1(maps)))
        branch3x3 = self.relu3x3_reduce(self.bn3x3_reduce(self.reduce3x3(maps)))
        branch3x3 = self.relu3x3(self.bn3x3(self.conv3x3(branch3x3)))
        branch5x5 = self.relu5x5_reduce(self.bn5x5_reduce(self.reduce5x5(maps)))
        branch5x5 = self.relu5x5(self.bn5x5(self.conv5x5(branch5x5)))
        branch_pool = self.relu_proj(self.bn_proj(self.proj(self.pool(maps))))
        return torch.cat((branch1x1, branch3x3, branch5x5, branch_pool), dim=1)


class AveragePoolTo4x4(nn.Module):
    """Average maps of an even side to 4x4 as torchvision's adaptive pooling does, with fixed windows.

    Window i of a side s covers the pixels from ``floor(i s/4)`` to ``ceil((i + 1) s/4) - 1``. For an even s
    these are two equal windows in each half of the side: of 14 px, 0-3, 3-6, 7-10 and 10-13.

    Paper: none; torchvision's ``googlenet``. The paper's pool is 5x5 with stride 3.
    Departures: none from torchvision.
    """

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.half_px = side_px // 2
        self.window_px = -(-self.half_px // 2)

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x C x side_px x side_px`` to ``N x C x 4 x 4``."""
        half, window = self.half_px, self.window_px
        stride = half - window
        rows = []
        for top in (0, half):
            quarters = [maps[:, :, top : top + half, left : left + half] for left in (0, half)]
            rows.append(torch.cat([functional.avg_pool2d(q, window, stride) for q in quarters], dim=3))
        return torch.cat(rows, dim=2)

    def extra_repr(self) -> str:
        """Say the numbers that the printed network shows."""
        return (
            f"side_px={2 * self.half_px}, window_px={self.window_px}, stride={self.half_px - self.window_px}"
        )


def googlenet(
    num_classes: int = 1000, *, input_px: int = 224, auxiliaries: bool = True, dropout: float = 0.4
) -> GoogLeNet:
    """Build GoogLeNet as published: 22 weighted layers, nine Inception modules, two auxiliary classifiers.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, a multiple of 32; the paper's is 224. At least 96 with
            auxiliary classifiers, whose ``fc1`` changes its size, and 32 without.
        auxiliaries: whether to build the auxiliary classifiers, which only training uses.
        dropout: fraction of the pooled features zeroed in training, in [0, 1). In the auxiliary classifiers
            it is always 0.7.

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits; see
        ``GoogLeNet.forward`` for training.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range, or ``auxiliaries`` is no truth value.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, Table 1 and section 5.
    Departures: choices where the paper is silent, see ``ENTRIES``.
    """
    _check_arguments("googlenet", input_px, auxiliaries, dropout, usual_dropout=0.4)
    side_px = input_px // 16  # of the maps that the auxiliary classifiers read
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "norm1": LocalResponseNorm(size=5, alpha=1e-4 / 5, beta=0.75, k=1),
        "conv2_reduce": nn.Conv2d(64, 64, kernel_size=1),
        "relu2_reduce": nn.ReLU(),
        "conv2": nn.Conv2d(64, 192, kernel_size=3, padding=1),
        "relu2": nn.ReLU(),
        "norm2": LocalResponseNorm(size=5, alpha=1e-4 / 5, beta=0.75, k=1),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "inception_3a": Inception(192, 64, 96, 128, 16, 32, 32),
        "inception_3b": Inception(256, 128, 128, 192, 32, 96, 64),
        "pool3": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "inception_4a": Inception(480, 192, 96, 208, 16, 48, 64),
    }
    if auxiliaries:
        layers["aux1"] = _auxiliary(512, side_px, num_classes)
    layers |= {
        "inception_4b": Inception(512, 160, 112, 224, 24, 64, 64),
        "inception_4c": Inception(512, 128, 128, 256, 24, 64, 64),
        "inception_4d": Inception(512, 112, 144, 288, 32, 64, 64),
    }
    if auxiliaries:
        layers["aux2"] = _auxiliary(528, side_px, num_classes)
    layers |= {
        "inception_4e": Inception(528, 256, 160, 320, 32, 128, 128),
        "pool4": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "inception_5a": Inception(832, 256, 160, 320, 32, 128, 128),
        "inception_5b": Inception(832, 384, 192, 384, 48, 128, 128),
        "avgpool": nn.AvgPool2d(input_px // 32),
        "flatten": nn.Flatten(),
        "drop": nn.Dropout(dropout),
        "fc": nn.Linear(1024, num_classes),
    }
    net = GoogLeNet("googlenet", input_px, layers)
    for key, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            if key in ("fc", "aux1.fc2", "aux2.fc2"):
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return net


def googlenet_tv(
    num_classes: int = 1000, *, input_px: int = 224, auxiliaries: bool = True, dropout: float = 0.2
) -> GoogLeNet:
    """Build torchvision's GoogLeNet: batch normalisation, 3x3 kernels for 5x5, another pool4, no LRN.

    Args:
        num_classes: number of output units.
        input_px: as ``googlenet``, but ``fc1`` of the auxiliary classifiers keeps its size.
        auxiliaries: as ``googlenet``.
        dropout: as ``googlenet``.

    Returns:
        As ``googlenet``. torchvision's published weights expect images with levels in [-1, 1].

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range, or ``auxiliaries`` is no truth value.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, as rebuilt in torchvision 0.28.
    Departures: those of torchvision, see ``ENTRIES``.
    """
    _check_arguments("googlenet_tv", input_px, auxiliaries, dropout, usual_dropout=0.2)
    side_px = input_px // 16  # of the maps that the auxiliary classifiers read
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False),
        "bn1": _batch_norm(64),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "conv2_reduce": nn.Conv2d(64, 64, kernel_size=1, bias=False),
        "bn2_reduce": _batch_norm(64),
        "relu2_reduce": nn.ReLU(),
        "conv2": nn.Conv2d(64, 192, kernel_size=3, padding=1, bias=False),
        "bn2": _batch_norm(192),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "inception_3a": InceptionTv(192, 64, 96, 128, 16, 32, 32),
        "inception_3b": InceptionTv(256, 128, 128, 192, 32, 96, 64),
        "pool3": nn.MaxPool2d(3, stride=2, ceil_mode=True),
        "inception_4a": InceptionTv(480, 192, 96, 208, 16, 48, 64),
    }
    if auxiliaries:
        layers["aux1"] = _auxiliary_tv(512, side_px, num_classes)
    layers |= {
        "inception_4b": InceptionTv(512, 160, 112, 224, 24, 64, 64),
        "inception_4c": InceptionTv(512, 128, 128, 256, 24, 64, 64),
        "inception_4d": InceptionTv(512, 112, 144, 288, 32, 64, 64),
    }
    if auxiliaries:
        layers["aux2"] = _auxiliary_tv(528, side_px, num_classes)
    layers |= {
        "inception_4e": InceptionTv(528, 256, 160, 320, 32, 128, 128),
        "pool4": nn.MaxPool2d(2, stride=2, ceil_mode=True),
        "inception_5a": InceptionTv(832, 256, 160, 320, 32, 128, 128),
        "inception_5b": InceptionTv(832, 384, 192, 384, 48, 128, 128),
        "avgpool": nn.AvgPool2d(input_px // 32),
        "flatten": nn.Flatten(),
        "drop": nn.Dropout(dropout),
        "fc": nn.Linear(1024, num_classes),
    }
    net = GoogLeNet("googlenet_tv", input_px, layers)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
    return net


def _auxiliary(in_maps: int, side_px: int, num_classes: int) -> nn.Sequential:
    pooled_px = output_size(side_px, 5, stride=3).size
    layers: dict[str, nn.Module] = {
        "avgpool": nn.AvgPool2d(5, stride=3),
        "conv": nn.Conv2d(in_maps, 128, kernel_size=1),
        "relu": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(128 * pooled_px**2, 1024),
        "relu1": nn.ReLU(),
        "drop": nn.Dropout(AUXILIARY_DROPOUT),
        "fc2": nn.Linear(1024, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def _auxiliary_tv(in_maps: int, side_px: int, num_classes: int) -> nn.Sequential:
    layers: dict[str, nn.Module] = {
        "avgpool": AveragePoolTo4x4(side_px),
        "conv": nn.Conv2d(in_maps, 128, kernel_size=1, bias=False),
        "bn": _batch_norm(128),
        "relu": nn.ReLU(),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(128 * 4 * 4, 1024),
        "relu1": nn.ReLU(),
        "drop": nn.Dropout(AUXILIARY_DROPOUT),
        "fc2": nn.Linear(1024, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def _batch_norm(num_maps: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(num_maps, eps=1e-3)


def _check_arguments(
    name: str, input_px: int, auxiliaries: bool, dropout: float, *, usual_dropout: float
) -> None:
    if not isinstance(auxiliaries, bool):
        raise UsageError(f"{name} expects auxiliaries to be true or false, got {auxiliaries!r}: write false")
    least_px, with_or_without = (96, "with") if auxiliaries else (32, "without")
    if input_px < least_px or input_px % 32:
        raise UsageError(
            f"{name} expects input_px to be a multiple of 32, at least {least_px} {with_or_without} auxiliary"
            f" classifiers, got {input_px}: use 224, the paper's"
        )
    if not 0 <= dropout < 1:
        raise UsageError(f"{name} expects dropout in [0, 1), got {dropout}: use {usual_dropout}")


_PAPER = (
    "Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going deeper with"
    " convolutions. arXiv 1409.4842, CVPR 2015"
)
_OTHER_SIZES = "Image sizes other than 224 px are allowed with input_px, a multiple of 32"

ENTRIES = (
    NetEntry(
        name="googlenet",
        title="GoogLeNet (Inception v1)",
        year=2014,
        paper=_PAPER,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=googlenet,
        recipe="googlenet",
        published_error=(
            "10.07 % top-5 on ILSVRC-2014 (validation; one network, one crop), 9.15 with 10 crops, 7.89 with"
            " 144; 6.67 with seven networks and 144 crops; top-1 not published"
        ),
        departures=(
            "Local response normalisation has size 5, alpha 1e-4 divided by the size, beta 0.75 and k 1, as"
            " in Caffe's model: the paper names the layer and gives no values.",
            "Max pools between the stages have no padding and round their size up, as in Caffe's model: the"
            " paper gives only the sizes that result.",
            "conv1 is one 7x7 convolution of 9,472 parameters, as in Caffe's model, and 4c, 4d and 5a follow"
            " from their printed widths: Table 1 prints other parameter and operation counts for these four.",
            "Weights start from He's normal distribution (fan-in), those of the three last layers from a"
            " normal distribution of standard deviation 0.01, and biases from zero: the paper does not say,"
            " and Caffe's model takes Glorot and Bengio's uniform distribution with biases of 0.2.",
            f"{_OTHER_SIZES}, at least 96 with auxiliary classifiers; their fc1 then changes its size.",
        ),
        page="docs/nets/googlenet.md",
        aliases=("inception_v1",),
    ),
    NetEntry(
        name="googlenet_tv",
        title="GoogLeNet (torchvision's)",
        year=2014,
        paper=f"{_PAPER}; as rebuilt in torchvision",
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=googlenet_tv,
        recipe="googlenet",
        published_error=(
            "30.2 % top-1, 10.5 % top-5 on ILSVRC-2012 (validation; torchvision's weights, shorter side 256,"
            " one crop of 224)"
        ),
        departures=(
            "Convolutions have no bias and are followed by batch normalisation with eps 1e-3, as in"
            " torchvision; the paper has biases and no batch normalisation.",
            'The "5x5" branches have 3x3 kernels, as in torchvision, where this is a known mistake; they keep'
            " their names.",
            "pool4 is 2x2 with stride 2, as in torchvision; the paper's is 3x3 with stride 2.",
            "There is no local response normalisation, as in torchvision.",
            "The auxiliary classifiers average their maps to 4x4 over windows of 4 px that start at 0, 3, 7"
            " and 10, as torchvision's adaptive pooling does; the paper's windows are 5 px wide with stride"
            " 3.",
            "The pooled features have dropout 0.2, as in torchvision; the paper has 0.4.",
            "Weights start from a normal distribution of standard deviation 0.01 and the biases of fully"
            " connected layers from PyTorch's uniform distribution, as in torchvision: the paper does not"
            " say.",
            f"{_OTHER_SIZES}, at least 96 with auxiliary classifiers.",
        ),
        page="docs/nets/googlenet.md",
    ),
)
