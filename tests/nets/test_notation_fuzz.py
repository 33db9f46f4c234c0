"""Hostile and random texts, and random networks: one line of error at most, and reading undoes writing."""

import re

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from striate.core.errors import UsageError
from striate.nets import notation
from striate.nets.notation import (
    EXAMPLES,
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Norm,
    Notation,
    Pool,
)

SHIPPED = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.glob("*.net"))]
PLACE = re.compile(r"net:[0-9]+:[0-9]+: ")
SCRAPS = st.sampled_from(
    [
        *(
            "INPUT",
            "32x32x3",
            "[32x32x3]",
            "CONV",
            "CONV1:",
            "CONV3-64",
            "16 5x5",
            "C1:",
            "pad 2",
            "pad same",
        ),
        *(
            "stride",
            "s2",
            "/2",
            "no bias",
            "groups 2",
            "floor",
            "ceil",
            "of [3x3x3]",
            "(words)",
            "with CONV 8,16",
            "Output:",
            "Output volume",
            "AlexNet architecture:",
            "-5",
            "3.5x3",
            "1e3",
        ),
        *("MAX POOL", "POOL2", "3x3 stride 2", "GLOBAL AVG POOL", "NORM1", "size 5", "BN", "RELU", "ELU"),
        *(
            "LEAKY RELU 0.1",
            "ACTIVATION NONE",
            "DROPOUT 0.5",
            "FLATTEN",
            "FC",
            "FC6:",
            "4096 neurons",
            "TOTAL",
        ),
        *("SOFTMAX 10", "[(CONV-RELU)*2-POOL]*2-SOFTMAX", "N=2", "*N", "params:", "(3*3*3)*64 = 1,728"),
        *(
            "memory:",
            "1e999",
            "99999999999",
            "0",
            "1",
            "(",
            ")",
            "[",
            "]",
            "-",
            "->",
            ">",
            ":",
            "=",
            "?",
            "#",
        ),
    ]
)
HOSTILE = [
    "INPUT 9x9x1\n" + "RELU>" * 19_000,
    "[(CONV" * 16_000,
    "INPUT 3x3x3\n[" + "(CONV)*0-" * 11_000 + "CONV]*1000 with CONV 3",
    "INPUT 3x3x3\n" + "[" * 8 + "CONV" + "]*999999" * 8 + " with CONV 3",
    "INPUT 3x3x3\n[CONV]*2 with CONV " + "1," * 49_000,
    "1 " * 49_000,
    "1x" * 49_000,
    "]" + " " * 90_000 + "]",
    "memory " * 14_000,
    "INPUT 3x3x1\nFC 1 params:" + "9" * 90_000,
    "INPUT 3x3x1\nFC " + "9" * 90_000,
    "INPUT 3x3x1\nCONV" + "9" * 90_000 + "-3",
    "INPUT 3x3x1\n" + "a" * 90_000 + ": FC 3",
    "INPUT 3x3x1\n" + "FC 1\n" * 16_000,
    ">" * 99_000,
    "a layer:\n" * 11_000,
    "Output " * 14_000,
    "INPUT 3x3x1\nFC 2\nOutput" + " " * 90_000,
    "INPUT 3x3x1\nFC 2\n" + "params: 9\n" * 9_900,
    "INPUT 3x3x1\nFC 2\n" + "Output [1]\n" * 8_000,
    "INPUT 3x3x1\nFC 2" + "x2" * 45_000 + ".5",
    "INPUT 100000x100000x100000\nFC 1000000",
    "INPUT 100000x99999x1\nCONV 1000000 100000x99999",
]


def check_message(message):
    assert message.isprintable()
    assert PLACE.match(message)
    assert len(PLACE.findall(message)) == 1
    assert len(message) < 500


def check(text):
    """Parse: a value that can be written and read again, or one line that names a place."""
    try:
        value = notation.parse(text)
    except UsageError as error:
        check_message(str(error))
        return
    assert notation.parse(notation.write(value)) == value
    assert notation.parse(notation.write(value, volumes=True)) == value


@given(st.text(max_size=200))
@example("INPUT 8x8x3\nFC \ud800")
@example("INPUT 8x8x3\nFC ٣")
@example("INPUT 8x8x3\nFC ²")
@example("\x00")
@settings(max_examples=200, deadline=None)
def test_any_text(text):
    check(text)


@given(st.booleans(), st.lists(st.tuples(SCRAPS, st.sampled_from([" ", "", "\n", " > ", ", "])), max_size=20))
@settings(max_examples=300, deadline=None)
def test_any_scraps(begun, scraps):
    check(("INPUT 32x32x3\n" if begun else "") + "".join(scrap + joint for scrap, joint in scraps))


@given(
    st.sampled_from(SHIPPED),
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 20), SCRAPS | st.text(max_size=3)), max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_changed_texts(text, changes):
    for start, length, scrap in changes:
        text = text[:start] + scrap + text[start + length :]
    check(text)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_text_is_refused(number):
    with pytest.raises(UsageError) as caught:
        notation.parse(HOSTILE[number])
    check_message(str(caught.value))


LABELS = st.one_of(
    st.none(),
    st.sampled_from(
        ["C1", "fc6", "conv1", "pool1", "relu1", "drop6", "norm1", "bn1", "conv3_2", "Block", "gap"]
    ),
    st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True),
)
SIDES = st.integers(1, 4)
PAIRS = st.tuples(SIDES, SIDES)
PADS = st.tuples(st.integers(0, 3), st.integers(0, 3))
REALS = st.floats(0, 10, allow_nan=False) | st.integers(0, 9)


@st.composite
def networks(draw):
    """A valid network: layers whose windows fit in the input and whose groups divide the channels."""
    layers = []
    taken = set()
    channels = draw(st.sampled_from([1, 2, 3, 4]))
    shape = (channels, draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    for number in range(draw(st.integers(1, 8))):
        label = draw(LABELS)
        label = f"layer{number}" if label is None or label in taken else label
        taken.add(label)
        try:
            layer = draw_layer(draw, label)
            Notation(input_shape=shape, layers=(*layers, layer))
        except UsageError:
            continue  # a label that is taken by Chain, a window that is too large, ...
        layers.append(layer)
    assume(layers)
    return Notation(name=draw(st.sampled_from(["net", "a b", "é"])), input_shape=shape, layers=tuple(layers))


def draw_layer(draw, label):
    match draw(st.integers(0, 9)):
        case 0 | 1:
            return Conv(
                label=label,
                filters=draw(st.sampled_from([1, 2, 4, 6])),
                kernel=draw(PAIRS),
                stride=draw(PAIRS),
                padding=draw(PADS),
                groups=draw(st.sampled_from([1, 1, 2])),
                bias=draw(st.booleans()),
            )
        case 2 | 3:
            return Pool(
                label=label,
                kind=draw(st.sampled_from(["max", "avg"])),
                kernel=draw(PAIRS),
                stride=draw(PAIRS),
                padding=draw(PADS),
                ceil=draw(st.booleans()),
            )
        case 4:
            return GlobalAvgPool(label=label)
        case 5:
            return Norm(
                label=label,
                size=draw(st.sampled_from([1, 3, 5])),
                alpha=draw(REALS),
                beta=draw(REALS),
                k=draw(st.floats(1e-300, 10)),
                towers=draw(st.sampled_from([1, 2])),
            )
        case 6:
            return BatchNorm(label=label)
        case 7:
            kind = draw(st.sampled_from(["relu", "leaky relu", "elu", "tanh", "sigmoid", "scaled tanh"]))
            constant = draw(REALS) if kind in ("leaky relu", "elu") else None
            return Activation(label=label, kind=kind, constant=constant)
        case 8:
            return Dropout(label=label, p=draw(st.floats(0, 1, exclude_max=True)))
        case _:
            return FullyConnected(label=label, units=draw(st.integers(1, 9)), bias=draw(st.booleans()))


@given(networks())
@settings(max_examples=300, deadline=None)
def test_reading_undoes_writing(value):
    assert notation.parse(notation.write(value)) == value
    assert notation.parse(notation.write(value, volumes=True)) == value


@given(networks())
@settings(max_examples=100, deadline=None)
def test_volumes_and_counts_are_those_of_the_network(value):
    """PyTorch's own shapes and parameters are the oracle of the arithmetic."""
    net = notation.build(value).eval()
    assert sum(parameter.numel() for parameter in net.parameters()) == value.parameters
    shapes = {}
    for name, module in net.named_children():
        module.register_forward_hook(
            lambda _, __, out, name=name: shapes.__setitem__(name, tuple(out.shape[1:]))
        )
    with torch.no_grad():
        scores = net(torch.zeros(1, *value.input_shape))
    assert scores.shape == (1, value.num_classes)
    assert [shapes[layer.label] for layer in value.layers] == list(value.volumes)
    assert sum(isinstance(module, nn.Flatten) for module in net) == 1


@given(networks())
@settings(max_examples=100, deadline=None)
def test_network_is_recognised(value):
    """An average pool over the whole map reads back as a global one; everything else is equal."""
    with torch.device("meta"):
        again = notation.notation_of(notation.build(value))
    inputs = (value.input_shape, *value.volumes)
    for layer, recognised, volume in zip(value.layers, again.layers, inputs, strict=False):
        if isinstance(layer, Pool) and (layer.kind, layer.kernel, layer.padding) == (
            "avg",
            volume[1:],
            (0, 0),
        ):
            assert recognised == GlobalAvgPool(label=layer.label)
        else:
            assert recognised == layer
