"""LeNet-5: as printed in 1998 with a linear output, with its RBF output, as lectured today, and as in Caffe.

Layer names are the paper's: C1, S2, C3, S4, C5, F6, output. Those of Caffe's network are Caffe's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.errors import UsageError
from striate.nets.entry import NetEntry
from striate.nets.modules import Chain, PartialConv2d, RbfOutput, ScaledTanh, Subsampling, draw_lecun

INPUT_SHAPE = (1, 32, 32)

C3_LINKS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (0, 4, 5),
    (0, 1, 5),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (0, 3, 4, 5),
    (0, 1, 4, 5),
    (0, 1, 2, 5),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)
"""The S2 maps that each C3 map reads (LeCun et al. 1998, Table I): 60 links of 96."""

DIGIT_ROWS = (
    "3E 00 1C 36 63 63 63 63 36 1C 00 00",
    "0C 1C 3C 0C 0C 0C 0C 0C 0C 3F 00 00",
    "3E 00 3E 63 43 06 1C 30 60 7F 00 00",
    "7F 03 06 0C 1E 03 03 03 63 3E 00 00",
    "3E 00 00 33 33 73 63 63 67 3F 03 03",
    "3E 00 7F 60 60 3C 1E 03 63 3E 00 00",
    "1E 30 60 60 7E 73 63 63 73 3E 00 00",
    "7F 03 03 06 0C 0C 18 18 18 18 00 00",
    "3E 63 63 63 3E 63 63 63 63 3E 00 00",
    "3E 67 63 63 67 3F 03 03 06 3C 00 00",
)
"""The drawn digits 0 to 9, 7 pixels wide and 12 high: one hexadecimal number a row, highest bit first."""


def digit_codes() -> Tensor:
    """Return the target codes of the RBF output, ``10 x 84``: +1 on the stroke of the digit, -1 elsewhere.

    Paper: LeCun et al. 1998, Fig. 3: stylised 7x12 characters, read row by row.
    Departures: the bits are those of two public re-implementations that agree; they were not checked against
        the printed figure.
    """
    return torch.tensor([_bits(rows) for rows in DIGIT_ROWS])


def _bits(rows: str) -> list[float]:
    return [
        1.0 if int(row, 16) >> column & 1 else -1.0 for row in rows.split() for column in range(6, -1, -1)
    ]


def lenet5(num_classes: int = 10) -> Chain:
    """Build the LeNet-5 of 1998 with a trainable linear output, 60,850 parameters for ten classes.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 1 x 32 x 32`` images (background about -0.1, ink about 1.175, so that mean and
        variance are about 0 and 1) to ``N x num_classes`` logits.

    Paper: LeCun, Bottou, Bengio, Haffner 1998, section II.B, Table I, appendix A.
    Departures: the output is linear, for cross-entropy, in place of RBF units. Biases and the coefficients of
        S2 and S4 start from the range of the weights: the paper gives one range for "the weights".
    """
    output = nn.Linear(84, num_classes)
    draw_lecun(output.weight, output.bias, fan_in=84)
    return _lenet5_1998("lenet5", output)


def lenet5_rbf(num_classes: int = 10) -> Chain:
    """Build the LeNet-5 of 1998 with its RBF output: exactly 60,000 trainable parameters and 840 fixed ones.

    Train it with ``rbf_loss``, not with cross-entropy.

    Args:
        num_classes: must be 10, for the codes are drawings of the ten digits.

    Returns:
        A network from ``N x 1 x 32 x 32`` images to ``N x 10`` scores ``-y_i``, minus the squared distances.

    Raises:
        UsageError: another number of classes.

    Paper: LeCun et al. 1998, section II.B, equation 7, Fig. 3.
    Departures: as ``digit_codes`` and ``RbfOutput``; biases and the coefficients of S2 and S4 start from the
        range of the weights.
    """
    if num_classes != 10:
        raise UsageError(
            f"lenet5_rbf expects num_classes=10, one per drawn digit, got {num_classes}:"
            " use lenet5 for other classes"
        )
    return _lenet5_1998("lenet5_rbf", RbfOutput(digit_codes()))


def _lenet5_1998(name: str, output: nn.Module) -> Chain:
    c1 = nn.Conv2d(1, 6, kernel_size=5)
    c5 = nn.Conv2d(16, 120, kernel_size=5)
    f6 = nn.Linear(120, 84)
    for layer, fan_in in ((c1, 25), (c5, 400), (f6, 120)):
        assert layer.bias is not None
        draw_lecun(layer.weight, layer.bias, fan_in=fan_in)
    return Chain(
        name,
        INPUT_SHAPE,
        {
            "C1": c1,
            "C1_squash": ScaledTanh(),
            "S2": Subsampling(6),
            "S2_squash": ScaledTanh(),
            "C3": PartialConv2d(6, C3_LINKS, kernel_px=5),
            "C3_squash": ScaledTanh(),
            "S4": Subsampling(16),
            "S4_squash": ScaledTanh(),
            "C5": c5,
            "C5_squash": ScaledTanh(),
            "flatten": nn.Flatten(),
            "F6": f6,
            "F6_squash": ScaledTanh(),
            "output": output,
        },
    )


def rbf_loss(scores: Tensor, labels: Tensor, *, j: float = 0.1) -> Tensor:
    """Return the mean of ``y_D + log(exp(-j) + sum_i exp(-y_i))`` over a batch.

    The first term pulls the pattern to the code of its class; the second pushes it away from the others, and
    ``j`` keeps classes that are far already from being pushed further.

    Args:
        scores: ``N x 10``, the ``-y_i`` that ``lenet5_rbf`` returns.
        labels: ``N`` class numbers ``D``, int64.
        j: positive constant; the size of the loss at rest depends on it.

    Returns:
        A scalar.

    Paper: LeCun et al. 1998, equation 9.
    Departures: the paper prints no value of ``j``; public re-implementations use 0.1.
    """
    rubbish = scores.new_full((len(scores), 1), -j)
    return functional.cross_entropy(torch.cat([scores, rubbish], dim=1), labels)


def lenet5_modern(num_classes: int = 10) -> Chain:
    """Build the LeNet-5 of today's lectures, 61,706 parameters for ten classes.

    It has ReLU, plain average pooling and a C3 that reads all maps.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 1 x 32 x 32`` images to ``N x num_classes`` logits.

    Paper: none; the simplification of LeCun et al. 1998 that lectures draw.
    Departures: the lectures draw only convolutions, pools and fully connected layers. Chosen here: ReLU after
        C1, C3, C5 and F6, none after a pool; He's normal initialisation, zero biases.
    """
    net = Chain(
        "lenet5_modern",
        INPUT_SHAPE,
        {
            "C1": nn.Conv2d(1, 6, kernel_size=5),
            "C1_relu": nn.ReLU(),
            "S2": nn.AvgPool2d(2, stride=2),
            "C3": nn.Conv2d(6, 16, kernel_size=5),
            "C3_relu": nn.ReLU(),
            "S4": nn.AvgPool2d(2, stride=2),
            "C5": nn.Conv2d(16, 120, kernel_size=5),
            "C5_relu": nn.ReLU(),
            "flatten": nn.Flatten(),
            "F6": nn.Linear(120, 84),
            "F6_relu": nn.ReLU(),
            "output": nn.Linear(84, num_classes),
        },
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


def lenet_caffe(num_classes: int = 10) -> Chain:
    """Build the LeNet of Caffe's MNIST example, 431,080 parameters for ten classes.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 1 x 28 x 28`` images to ``N x num_classes`` logits.

    Paper: none; ``lenet_train_test.prototxt`` of Caffe's MNIST example, a descendant of LeCun et al. 1998.
    Departures: none from the file, whose images are pixels of 0 to 255 divided by 256.
    """
    net = Chain(
        "lenet_caffe",
        (1, 28, 28),
        {
            "conv1": nn.Conv2d(1, 20, kernel_size=5),
            "pool1": nn.MaxPool2d(2, stride=2),
            "conv2": nn.Conv2d(20, 50, kernel_size=5),
            "pool2": nn.MaxPool2d(2, stride=2),
            "flatten": nn.Flatten(),
            "ip1": nn.Linear(50 * 4 * 4, 500),
            "relu1": nn.ReLU(),
            "ip2": nn.Linear(500, num_classes),
        },
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            limit = (3 / layer.weight[0].numel()) ** 0.5
            nn.init.uniform_(layer.weight, -limit, limit)
            nn.init.zeros_(layer.bias)
    return net


_PAPER = (
    "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition."
    " Proceedings of the IEEE 86(11), 1998"
)
_ERROR_1998 = (
    "0.95 % test error on MNIST (60,000 training images, 20 passes, one pattern per update, diagonal"
    " Levenberg-Marquardt steps); 0.8 % with 540,000 distorted patterns added"
)
_INIT_1998 = (
    "Biases, and the coefficients of S2 and S4, start from the same range as the weights, plus or minus"
    " 2.4 / fan-in: the paper gives the range for the weights and no other."
)

ENTRIES = (
    NetEntry(
        name="lenet5",
        title="LeNet-5 (1998, linear output)",
        year=1998,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=lenet5,
        recipe="lenet5",
        published_error=_ERROR_1998 + "; with the RBF output, for which see lenet5_rbf",
        departures=(
            "The output is ten linear units (850 parameters) trained with cross-entropy; the paper's output"
            " is ten RBF units with fixed codes, which lenet5_rbf has.",
            _INIT_1998,
        ),
        page="docs/nets/lenet5.md",
    ),
    NetEntry(
        name="lenet5_rbf",
        title="LeNet-5 (1998, RBF output)",
        year=1998,
        paper=_PAPER,
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=lenet5_rbf,
        recipe="lenet5_rbf",
        published_error=_ERROR_1998,
        departures=(
            "The 84-bit codes of the ten digits are those of two public re-implementations that agree with"
            " each other; they were not checked against the paper's Fig. 3.",
            "The constant j of equation 9 is 0.1, as in public re-implementations; the paper prints no"
            " value.",
            "The network returns minus the distances of equation 7, so that the largest score wins.",
            _INIT_1998,
        ),
        page="docs/nets/lenet5.md",
        loss=rbf_loss,
    ),
    NetEntry(
        name="lenet5_modern",
        title="LeNet-5 (as lectured)",
        year=1998,
        paper=_PAPER + " (as simplified in lectures)",
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=lenet5_modern,
        recipe="lenet5",
        published_error="not published: a simplification for lectures, in no paper",
        departures=(
            "S2 and S4 are plain average pools without parameters; the paper's have a trainable coefficient"
            " and bias per map and a squashing function.",
            "C3 reads all six maps of S2 with 2,416 parameters; the paper's reads 60 of the 96 pairs with"
            " 1,516.",
            "ReLU follows C1, C3, C5 and F6 in place of the scaled tanh; the lectures draw no non-linearity.",
            "The output is ten linear units trained with cross-entropy, in place of RBF units.",
            "Weights start from He's normal distribution and biases from zero.",
        ),
        page="docs/nets/lenet5.md",
    ),
    NetEntry(
        name="lenet_caffe",
        title="LeNet (Caffe's MNIST example)",
        year=2014,
        paper="Caffe, examples/mnist/lenet_train_test.prototxt, after LeCun et al. 1998",
        input_shape=(1, 28, 28),
        num_classes=10,
        build=lenet_caffe,
        recipe="lenet5",
        published_error="not published: an example of the program Caffe, in no paper",
        departures=(
            "It departs from the paper of 1998 nearly everywhere: 28x28 images, 20 and 50 maps, a full second"
            " convolution, max pooling, no non-linearity but one ReLU after ip1, and a linear output.",
            "Weights start as Caffe's xavier filler draws them, uniform in plus or minus the square root of"
            " 3 / fan-in, and biases from zero.",
        ),
        page="docs/nets/lenet5.md",
    ),
)
