"""What the tests of the notation share: a text in its canonical form, and the message of a refusal."""

import pytest

from striate.core.errors import UsageError
from striate.nets import notation
from striate.nets.notation import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Norm,
    Pool,
)

CANONICAL = """\
INPUT 33x20x4
CONV1: 8 5x3 filters at stride 2x1, pad 2x1, groups 2, no bias
BATCHNORM1
LEAKY RELU1: 0.1
MAX POOL1: 3x3 filters at stride 2, pad 1, ceil
NORM1: size 3, alpha 5e-05, beta 0.75, k 1, towers 2
C2: CONV 4 2x2 filters at stride 2, pad 0, floor
GLOBAL AVG POOL2
head: DROPOUT 0.25
FC3: 5 neurons
SCALED TANH3
output: FC 3 neurons, no bias
"""

CANONICAL_LAYERS = (
    Conv(label="conv1", filters=8, kernel=(5, 3), stride=(2, 1), padding=(2, 1), groups=2, bias=False),
    BatchNorm(label="bn1"),
    Activation(label="relu1", kind="leaky relu", constant=0.1),
    Pool(label="pool1", kind="max", kernel=(3, 3), padding=(1, 1), ceil=True),
    Norm(label="norm1", size=3, alpha=5e-5, k=1.0, towers=2),
    Conv(label="C2", filters=4, kernel=(2, 2), stride=(2, 2)),
    GlobalAvgPool(label="pool2"),
    Dropout(label="head", p=0.25),
    FullyConnected(label="fc3", units=5),
    Activation(label="squash3", kind="scaled tanh"),
    FullyConnected(label="output", units=3, bias=False),
)


def message(text):
    with pytest.raises(UsageError) as caught:
        notation.parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)
