"""The four-layer CIFAR-10 network of Krizhevsky's cuda-convnet, with ReLU and with tanh.

Layer names are those of the file "layers-19pct" of cuda-convnet: conv1 to conv3, pool1 to pool3, fc10. The
non-linearity, which the file writes inside a layer, is a layer here: relu1 to relu3, or tanh1 to tanh3.
"""

from torch import nn

from striate.nets.entry import NetEntry
from striate.nets.modules import Chain

INPUT_SHAPE = (3, 32, 32)


def cuda_convnet_relu(num_classes: int = 10) -> Chain:
    """Build the network with ReLU, 89,578 parameters for ten classes.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Paper: Krizhevsky, Sutskever, Hinton 2012, section 3.1 and Fig. 1, solid line; the layers are those of
        cuda-convnet's "layers-19pct".
    Departures: the paper does not describe the network of Fig. 1, see ``ENTRIES``.
    """
    net = Chain(
        "cuda_convnet_relu",
        INPUT_SHAPE,
        {
            "conv1": nn.Conv2d(3, 32, kernel_size=5, padding=2),
            "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(32, 32, kernel_size=5, padding=2),
            "relu2": nn.ReLU(),
            "pool2": nn.AvgPool2d(3, stride=2, ceil_mode=True),
            "conv3": nn.Conv2d(32, 64, kernel_size=5, padding=2),
            "relu3": nn.ReLU(),
            "pool3": nn.AvgPool2d(3, stride=2, ceil_mode=True),
            "flatten": nn.Flatten(),
            "fc10": nn.Linear(64 * 4 * 4, num_classes),
        },
    )
    _draw(net)
    return net


def cuda_convnet_tanh(num_classes: int = 10) -> Chain:
    """Build the network with tanh in the place of ReLU; nothing else differs.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Paper: Krizhevsky, Sutskever, Hinton 2012, section 3.1 and Fig. 1, dashed line; the layers are those of
        cuda-convnet's "layers-19pct".
    Departures: the paper does not describe the network of Fig. 1, see ``ENTRIES``.
    """
    net = Chain(
        "cuda_convnet_tanh",
        INPUT_SHAPE,
        {
            "conv1": nn.Conv2d(3, 32, kernel_size=5, padding=2),
            "pool1": nn.MaxPool2d(3, stride=2, ceil_mode=True),
            "tanh1": nn.Tanh(),
            "conv2": nn.Conv2d(32, 32, kernel_size=5, padding=2),
            "tanh2": nn.Tanh(),
            "pool2": nn.AvgPool2d(3, stride=2, ceil_mode=True),
            "conv3": nn.Conv2d(32, 64, kernel_size=5, padding=2),
            "tanh3": nn.Tanh(),
            "pool3": nn.AvgPool2d(3, stride=2, ceil_mode=True),
            "flatten": nn.Flatten(),
            "fc10": nn.Linear(64 * 4 * 4, num_classes),
        },
    )
    _draw(net)
    return net


INITIAL_STD = {"conv1": 1e-4, "conv2": 0.01, "conv3": 0.01, "fc10": 0.01}
"""Standard deviation of the weights at the start, as in the file; biases start from zero."""


def _draw(net: Chain) -> None:
    for key, std in INITIAL_STD.items():
        layer = net.get_submodule(key)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)


_PAPER = (
    "Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks."
    " NIPS 2012, Fig. 1; layers after cuda-convnet (2011)"
)
_FIG_1 = (
    "The paper does not describe the four-layer network of its Fig. 1; this is the author's public CIFAR-10"
    ' network with four layers of weights, "layers-19pct" of cuda-convnet.'
)
_START = (
    "Weights start from the file's normal distributions (0.0001 in conv1, 0.01 elsewhere) and biases from"
    " zero; conv1's suits the file's images, pixels of 0 to 255 less their mean, which are some 60 times as"
    " large as images scaled to a standard deviation of 1."
)

ENTRIES = (
    NetEntry(
        name="cuda_convnet_relu",
        title="cuda-convnet, four layers, ReLU (CIFAR)",
        year=2012,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=cuda_convnet_relu,
        recipe="photos",
        published_error=(
            "19 % on CIFAR-10 (test error, in the heading of the layer file; no distorted images);"
            " 25 % training error six times sooner than with tanh (Fig. 1)"
        ),
        departures=(_FIG_1, _START),
        page="docs/nets/cuda_convnet.md",
    ),
    NetEntry(
        name="cuda_convnet_tanh",
        title="cuda-convnet, four layers, tanh (CIFAR)",
        year=2012,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=cuda_convnet_tanh,
        recipe="photos",
        published_error=(
            "not published: Fig. 1 shows only the training error, 25 % after six times as many passes as ReLU"
        ),
        departures=(
            _FIG_1,
            "The file has ReLU; here tanh stands in its three places, and nothing else differs.",
            _START,
        ),
        page="docs/nets/cuda_convnet.md",
    ),
)
