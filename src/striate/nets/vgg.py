"""VGG-16: configuration D of "Very deep convolutional networks for large-scale image recognition".

Layer names follow the published model files: conv1_1 to conv5_3, pool1 to pool5, fc6, fc7, fc8.
"""

from torch import nn

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.parts import Chain


def vgg16(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build VGG-16 (configuration D): thirteen 3x3 convolutions and three fully connected layers.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, a positive multiple of 32; the paper's is 224. ``fc6``
            reads ``512 (input_px/32)^2`` values, so weights of one size do not fit another.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Simonyan and Zisserman, arXiv 1409.1556v6, section 2.1 and Table 1, column D.
    Departures: He's initialisation in place of pre-trained configuration A, and other image sizes than 224.
    """
    if input_px < 32 or input_px % 32:
        raise UsageError(
            f"vgg16 expects input_px to be a positive multiple of 32, got {input_px}: use 224, the paper's"
        )
    if not 0 <= dropout < 1:
        raise UsageError(f"vgg16 expects dropout in [0, 1), got {dropout}: use 0.5, the paper's")
    pool5_px = input_px // 32
    net = Chain(
        "vgg16",
        (3, input_px, input_px),
        {
            "conv1_1": _conv3x3(3, 64),
            "relu1_1": nn.ReLU(),
            "conv1_2": _conv3x3(64, 64),
            "relu1_2": nn.ReLU(),
            "pool1": nn.MaxPool2d(2, stride=2),
            "conv2_1": _conv3x3(64, 128),
            "relu2_1": nn.ReLU(),
            "conv2_2": _conv3x3(128, 128),
            "relu2_2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2, stride=2),
            "conv3_1": _conv3x3(128, 256),
            "relu3_1": nn.ReLU(),
            "conv3_2": _conv3x3(256, 256),
            "relu3_2": nn.ReLU(),
            "conv3_3": _conv3x3(256, 256),
            "relu3_3": nn.ReLU(),
            "pool3": nn.MaxPool2d(2, stride=2),
            "conv4_1": _conv3x3(256, 512),
            "relu4_1": nn.ReLU(),
            "conv4_2": _conv3x3(512, 512),
            "relu4_2": nn.ReLU(),
            "conv4_3": _conv3x3(512, 512),
            "relu4_3": nn.ReLU(),
            "pool4": nn.MaxPool2d(2, stride=2),
            "conv5_1": _conv3x3(512, 512),
            "relu5_1": nn.ReLU(),
            "conv5_2": _conv3x3(512, 512),
            "relu5_2": nn.ReLU(),
            "conv5_3": _conv3x3(512, 512),
            "relu5_3": nn.ReLU(),
            "pool5": nn.MaxPool2d(2, stride=2),
            "flatten": nn.Flatten(),
            "fc6": nn.Linear(512 * pool5_px**2, 4096),
            "relu6": nn.ReLU(),
            "drop6": nn.Dropout(dropout),
            "fc7": nn.Linear(4096, 4096),
            "relu7": nn.ReLU(),
            "drop7": nn.Dropout(dropout),
            "fc8": nn.Linear(4096, num_classes),
        },
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


def _conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


ENTRIES = (
    NetEntry(
        name="vgg16",
        title="VGG-16 (configuration D)",
        year=2014,
        paper=(
            "Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition."
            " arXiv 1409.1556, ICLR 2015"
        ),
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=vgg16,
        recipe="vgg16",
        published_error=(
            "27.0 % top-1, 8.8 % top-5 on ILSVRC-2012 (validation; trained at S=256, dense at Q=256);"
            " 24.4/7.2 % at best (scale jitter, three scales, dense and 50 crops a scale)"
        ),
        departures=(
            "Weights start from He's normal distribution (fan-in) and biases from zero; the paper starts from"
            " a trained configuration A, and found later that Glorot and Bengio's distribution suffices.",
            "Image sizes other than 224 px are allowed with input_px, a multiple of 32; fc6 then changes its"
            " size.",
        ),
        page="docs/nets/vgg16.md",
    ),
)
