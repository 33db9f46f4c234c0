"""AlexNet: "ImageNet classification with deep convolutional neural networks", and four networks after it.

Layer names: conv1 to conv5, relu1 to relu5, norm1, norm2, pool1, pool2, pool5, fc6, relu6, drop6, fc7, relu7,
drop7, fc8. ``pad1`` holds the zeros that the author's program adds without a word.
"""

from torch import nn

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain, LocalResponseNorm

BIASED = ("conv2", "conv4", "conv5", "fc6", "fc7")
"""The layers whose biases do not start from zero, so that their ReLUs see positive inputs at first."""


def alexnet(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build AlexNet as published: two towers of convolutions (as groups), normalisation before pooling.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 64; the paper's is 224. ``fc6`` reads what
            is left at pool5, so weights of one size do not fit another.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Krizhevsky, Sutskever, Hinton 2012, sections 3 to 5 and Fig. 2.
    Departures: zeros that make 224 px fit, normalisation within each tower, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("alexnet", input_px, zeros_px=3, usual="224, the paper's")
    _check_dropout("alexnet", dropout)
    net = Chain(
        "alexnet",
        (3, input_px, input_px),
        {
            "pad1": nn.ZeroPad2d((0, 3, 0, 3)),
            "conv1": nn.Conv2d(3, 96, kernel_size=11, stride=4),
            "relu1": nn.ReLU(),
            "norm1": _paper_norm(towers=2),
            "pool1": _pool(),
            "conv2": nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2),
            "relu2": nn.ReLU(),
            "norm2": _paper_norm(towers=2),
            "pool2": _pool(),
            **_conv3_to_pool5(groups=2),
            **_fc6_to_fc8(256 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net, bias=1)
    return net


def alexnet_caffe(num_classes: int = 1000, *, input_px: int = 227, dropout: float = 0.5) -> Chain:
    """Build Caffe's replica of AlexNet, ``bvlc_alexnet``: 227 px images, small biases, Caffe's normalisation.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 67; Caffe's is 227.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Krizhevsky, Sutskever, Hinton 2012; Caffe, models/bvlc_alexnet/train_val.prototxt.
    Departures: those of Caffe, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("alexnet_caffe", input_px, zeros_px=0, usual="227, Caffe's")
    _check_dropout("alexnet_caffe", dropout)
    net = Chain(
        "alexnet_caffe",
        (3, input_px, input_px),
        {
            "conv1": nn.Conv2d(3, 96, kernel_size=11, stride=4),
            "relu1": nn.ReLU(),
            "norm1": _caffe_norm(),
            "pool1": _pool(),
            "conv2": nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2),
            "relu2": nn.ReLU(),
            "norm2": _caffe_norm(),
            "pool2": _pool(),
            **_conv3_to_pool5(groups=2),
            **_fc6_to_fc8(256 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net, bias=0.1, fc6_fc7_std=0.005)
    return net


def caffenet(num_classes: int = 1000, *, input_px: int = 227, dropout: float = 0.5) -> Chain:
    """Build CaffeNet, ``bvlc_reference_caffenet``: AlexNet that pools first and normalises the smaller maps.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 67; Caffe's is 227.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Jia et al. 2014; Caffe, models/bvlc_reference_caffenet/train_val.prototxt.
    Departures: those of Caffe from AlexNet, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("caffenet", input_px, zeros_px=0, usual="227, Caffe's")
    _check_dropout("caffenet", dropout)
    net = Chain(
        "caffenet",
        (3, input_px, input_px),
        {
            "conv1": nn.Conv2d(3, 96, kernel_size=11, stride=4),
            "relu1": nn.ReLU(),
            "pool1": _pool(),
            "norm1": _caffe_norm(),
            "conv2": nn.Conv2d(96, 256, kernel_size=5, padding=2, groups=2),
            "relu2": nn.ReLU(),
            "pool2": _pool(),
            "norm2": _caffe_norm(),
            **_conv3_to_pool5(groups=2),
            **_fc6_to_fc8(256 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net, bias=1, fc6_fc7_std=0.005)
    return net


def alexnet_lecture(num_classes: int = 1000, *, input_px: int = 227, dropout: float = 0.5) -> Chain:
    """Build the AlexNet of lectures: one tower, every map reads every map, pooling before normalisation.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 67; the lectures' is 227.
        dropout: fraction of fc6 and fc7 outputs zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: the "full (simplified) AlexNet architecture" of lectures, after Krizhevsky et al. 2012.
    Departures: those of the lectures, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("alexnet_lecture", input_px, zeros_px=0, usual="227, the lectures'")
    _check_dropout("alexnet_lecture", dropout)
    net = Chain(
        "alexnet_lecture",
        (3, input_px, input_px),
        {
            "conv1": nn.Conv2d(3, 96, kernel_size=11, stride=4),
            "relu1": nn.ReLU(),
            "pool1": _pool(),
            "norm1": _paper_norm(towers=1),
            "conv2": nn.Conv2d(96, 256, kernel_size=5, padding=2),
            "relu2": nn.ReLU(),
            "pool2": _pool(),
            "norm2": _paper_norm(towers=1),
            **_conv3_to_pool5(groups=1),
            **_fc6_to_fc8(256 * pool5_px**2, num_classes, dropout),
        },
    )
    _draw_gaussian(net, bias=1)
    return net


def alexnet_owt(num_classes: int = 1000, *, input_px: int = 224, dropout: float = 0.5) -> Chain:
    """Build the one-tower AlexNet of "One weird trick", in the form that torchvision distributes.

    Args:
        num_classes: number of output units.
        input_px: side of the square images in pixels, at least 63; torchvision's is 224.
        dropout: fraction of fc6 and fc7 *inputs* zeroed in training, in [0, 1).

    Returns:
        A network from ``N x 3 x input_px x input_px`` images to ``N x num_classes`` logits.

    Raises:
        UsageError: ``input_px`` or ``dropout`` is out of range.

    Paper: Krizhevsky, arXiv 1404.5997; torchvision, models/alexnet.py.
    Departures: no response normalisation, as in torchvision, see ``ENTRIES``.
    """
    pool5_px = _pool5_px("alexnet_owt", input_px, zeros_px=4, usual="224, torchvision's")
    _check_dropout("alexnet_owt", dropout)
    return Chain(
        "alexnet_owt",
        (3, input_px, input_px),
        {
            "conv1": nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            "relu1": nn.ReLU(),
            "pool1": _pool(),
            "conv2": nn.Conv2d(64, 192, kernel_size=5, padding=2),
            "relu2": nn.ReLU(),
            "pool2": _pool(),
            "conv3": nn.Conv2d(192, 384, kernel_size=3, padding=1),
            "relu3": nn.ReLU(),
            "conv4": nn.Conv2d(384, 256, kernel_size=3, padding=1),
            "relu4": nn.ReLU(),
            "conv5": nn.Conv2d(256, 256, kernel_size=3, padding=1),
            "relu5": nn.ReLU(),
            "pool5": _pool(),
            "flatten": nn.Flatten(),
            "drop6": nn.Dropout(dropout),
            "fc6": nn.Linear(256 * pool5_px**2, 4096),
            "relu6": nn.ReLU(),
            "drop7": nn.Dropout(dropout),
            "fc7": nn.Linear(4096, 4096),
            "relu7": nn.ReLU(),
            "fc8": nn.Linear(4096, num_classes),
        },
    )


def _conv3_to_pool5(*, groups: int) -> dict[str, nn.Module]:
    """The upper convolutions; conv3 reads all maps, so ``groups`` divides only conv4 and conv5."""
    return {
        "conv3": nn.Conv2d(256, 384, kernel_size=3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(384, 384, kernel_size=3, padding=1, groups=groups),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(384, 256, kernel_size=3, padding=1, groups=groups),
        "relu5": nn.ReLU(),
        "pool5": _pool(),
    }


def _fc6_to_fc8(num_features: int, num_classes: int, dropout: float) -> dict[str, nn.Module]:
    return {
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(num_features, 4096),
        "relu6": nn.ReLU(),
        "drop6": nn.Dropout(dropout),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(),
        "drop7": nn.Dropout(dropout),
        "fc8": nn.Linear(4096, num_classes),
    }


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2)


def _paper_norm(*, towers: int) -> LocalResponseNorm:
    return LocalResponseNorm(size=5, alpha=1e-4, beta=0.75, k=2, towers=towers)


def _caffe_norm() -> LocalResponseNorm:
    return LocalResponseNorm(size=5, alpha=1e-4 / 5, beta=0.75, k=1)


def _pool5_px(name: str, input_px: int, *, zeros_px: int, usual: str) -> int:
    """Side of pool5's maps; ``zeros_px`` zeros widen the image before conv1."""
    try:
        side = output_size(input_px + zeros_px, 11, stride=4).size
        for _ in ("pool1", "pool2", "pool5"):  # conv2 to conv5 keep the size
            side = output_size(side, 3, stride=2).size
    except InputSizeError:
        smallest = 67 - zeros_px  # 67 -> 15 (conv1) -> 7 -> 3 -> 1
        raise UsageError(
            f"{name} expects input_px of at least {smallest}, got {input_px}: use {usual}"
        ) from None
    return side


def _check_dropout(name: str, dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise UsageError(f"{name} expects dropout in [0, 1), got {dropout}: use 0.5, the paper's")


def _draw_gaussian(net: Chain, *, bias: float, fc6_fc7_std: float = 0.01) -> None:
    """Draw weights from N(0, 0.01^2); set biases to ``bias`` in the layers of ``BIASED``, else to 0."""
    for name, layer in net.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=fc6_fc7_std if name in ("fc6", "fc7") else 0.01)
            nn.init.constant_(layer.bias, bias if name in BIASED else 0.0)


_KRIZHEVSKY = (
    "Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks."
    " NIPS 2012"
)
_INVERTED_DROPOUT = (
    "Dropout multiplies the outputs that stay by 1/(1 - dropout) in training; the paper leaves them and"
    " halves all outputs at test time."
)

_CAFFE_CHOICES = (
    "Normalisation is Caffe's: k is 1, alpha is 1e-4 divided by the 5 maps of a window, and windows cross the"
    " border between the two groups of maps.",
    "Caffe's pooling rounds up, which changes nothing at 227 px; these pools round down at every size.",
)


def _other_sizes(usual_px: int, smallest_px: int) -> str:
    return (
        f"Image sizes other than {usual_px} px are allowed with input_px, {smallest_px} or more; fc6 then"
        " changes its size, and windows that would hang over an edge are left out."
    )


ENTRIES = (
    NetEntry(
        name="alexnet",
        title="AlexNet (two towers, 2012)",
        year=2012,
        paper=_KRIZHEVSKY,
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=alexnet,
        recipe="alexnet",
        published_error=(
            "40.7 % top-1, 18.2 % top-5 on ILSVRC-2012 (validation; one network, ten crops); 37.5/17.0 on the"
            " ILSVRC-2010 test images"
        ),
        departures=(
            "conv1 does not fit 224 px (it would have 54.25 positions): pad1 adds three rows of zeros at the"
            " bottom and three columns at the right, as the author's program does, and conv1 gets the paper's"
            " 55.",
            "Each half of the maps is normalised by itself, as on the two GPUs of the author's program;"
            " section 3.3 taken literally, where N counts all maps of a layer, also mixes the two maps on"
            " either side of the middle.",
            "alpha = 1e-4 multiplies the sum of squares, as printed in section 3.3; the author's program"
            " divides it by 5 first.",
            _INVERTED_DROPOUT,
            _other_sizes(224, 64),
        ),
        page="docs/nets/alexnet.md",
    ),
    NetEntry(
        name="alexnet_caffe",
        title="AlexNet (Caffe's replica)",
        year=2014,
        paper=f"{_KRIZHEVSKY}; as Caffe's models/bvlc_alexnet",
        input_shape=(3, 227, 227),
        num_classes=1000,
        build=alexnet_caffe,
        recipe="alexnet",
        published_error=(
            "42.9 % top-1, 19.8 % top-5 on ILSVRC-2012 (validation; centre crop, Caffe's weights, trained"
            " without colour shift)"
        ),
        departures=(
            "As Caffe, and unlike the paper: images of 227 px that fit conv1 exactly, biases of 0.1 for 1,"
            " and weights of fc6 and fc7 from N(0, 0.005^2) for N(0, 0.01^2).",
            *_CAFFE_CHOICES,
            _other_sizes(227, 67),
        ),
        page="docs/nets/alexnet.md",
        aliases=("bvlc_alexnet",),
    ),
    NetEntry(
        name="caffenet",
        title="CaffeNet",
        year=2014,
        paper=(
            "Jia et al.: Caffe: convolutional architecture for fast feature embedding. arXiv 1408.5093, ACM"
            " Multimedia 2014; as Caffe's models/bvlc_reference_caffenet"
        ),
        input_shape=(3, 227, 227),
        num_classes=1000,
        build=caffenet,
        recipe="alexnet",
        published_error=(
            "42.6 % top-1, 19.6 % top-5 on ILSVRC-2012 (validation; centre crop, Caffe's weights, trained"
            " without colour shift)"
        ),
        departures=(
            "As CaffeNet, and unlike AlexNet's paper: pooling before normalisation, images of 227 px, and"
            " weights of fc6 and fc7 from N(0, 0.005^2) for N(0, 0.01^2).",
            *_CAFFE_CHOICES,
            _other_sizes(227, 67),
        ),
        page="docs/nets/alexnet.md",
        aliases=("bvlc_reference_caffenet",),
    ),
    NetEntry(
        name="alexnet_lecture",
        title="AlexNet (simplified, as lectured)",
        year=2012,
        paper=f"{_KRIZHEVSKY}; as lectures draw it",
        input_shape=(3, 227, 227),
        num_classes=1000,
        build=alexnet_lecture,
        recipe="alexnet",
        published_error="not published: lectures quote the errors of the two-tower network",
        departures=(
            "As the lectures, and unlike the paper: one tower without groups, images of 227 px, and pooling"
            " before normalisation.",
            "The lectures give no constants of normalisation and no starting weights: these are the paper's"
            " (size 5, alpha 1e-4, beta 0.75, k 2; N(0, 0.01^2), biases of 1 in conv2, conv4, conv5, fc6 and"
            " fc7), with windows over all maps.",
            _INVERTED_DROPOUT,
            _other_sizes(227, 67),
        ),
        page="docs/nets/alexnet.md",
    ),
    NetEntry(
        name="alexnet_owt",
        title="AlexNet (one tower, torchvision's)",
        year=2014,
        paper=(
            "Krizhevsky: One weird trick for parallelizing convolutional neural networks. arXiv 1404.5997; as"
            " torchvision's models/alexnet.py"
        ),
        input_shape=(3, 224, 224),
        num_classes=1000,
        build=alexnet_owt,
        recipe="alexnet",
        published_error=(
            "43.5 % top-1, 20.9 % top-5 on ILSVRC-2012 (validation; centre crop, torchvision's weights)"
        ),
        departures=(
            "As torchvision, and unlike the author's program: no response normalisation, dropout on the"
            " inputs of fc6 and fc7, and starting weights from PyTorch's uniform distribution.",
            "conv4 has 256 maps, as in torchvision and in the author's program; the paper's footnote says"
            " 384, which contradicts its count of parameters.",
            "The scores are logits of one softmax; the paper ends in 1000 independent logistic units.",
            "torchvision's adaptive average pooling to 6x6 is left out: it changes nothing at 224 px.",
            _other_sizes(224, 63),
        ),
        page="docs/nets/alexnet.md",
    ),
)
