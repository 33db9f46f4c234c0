"""What is made of a notation: a value, its text, the networks of ``striate.nets``, files, and the page."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from notation_texts import CANONICAL, CANONICAL_LAYERS, message
from torch import nn

from striate import nets
from striate.core.errors import UsageError
from striate.nets import notation
from striate.nets.modules import Chain
from striate.nets.notation import (
    EXAMPLES,
    Activation,
    Conv,
    Dropout,
    FullyConnected,
    Norm,
    Notation,
    Pool,
)

SHIPPED = ("alexnet_lecture", "vgg16", "lenet5_modern")


# ---------------------------------------------------------------------- the shipped texts and the builders


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_text_and_builder_have_the_same_keys_and_layers(name):
    text = notation.read(EXAMPLES / f"{name}.net")
    with torch.device("meta"):
        written, built = notation.build(text), nets.build(name)
    assert [(key, value.shape) for key, value in written.state_dict().items()] == [
        (key, value.shape) for key, value in built.state_dict().items()
    ]
    assert notation.notation_of(built) == text
    assert text.name == name


@pytest.mark.parametrize(
    ("name", "parameters", "classes"),
    [("alexnet_lecture", 62_378_344, 1000), ("vgg16", 138_357_544, 1000), ("lenet5_modern", 61_706, 10)],
)
def test_shipped_parameters_are_those_of_the_fact_sheet(name, parameters, classes):
    text = notation.read(EXAMPLES / f"{name}.net")
    assert text.parameters == parameters
    assert text.num_classes == classes


@pytest.mark.parametrize(("name", "px"), [("alexnet_lecture", 67), ("vgg16", 32), ("lenet5_modern", 32)])
@torch.no_grad()
def test_outputs_are_bit_equal_with_the_weights_of_the_builder(name, px):
    small = {} if name == "lenet5_modern" else {"input_px": px}
    built = nets.build(name, num_classes=5, **small).eval()
    text = notation.read(EXAMPLES / f"{name}.net")
    text = replace(text, input_shape=(text.input_shape[0], px, px))
    with torch.device("meta"):
        written = notation.build(text, num_classes=5).eval()
    written.load_state_dict(built.state_dict(), assign=True)
    images = torch.randn(2, text.input_shape[0], px, px)
    assert torch.equal(written(images), built(images))


def test_lecture_ledger_of_vgg16():
    """Input, convolutions, pools and fully connected layers, as the slide adds them up."""
    text = notation.read(EXAMPLES / "vgg16.net")
    values = 224 * 224 * 3
    for layer, volume in zip(text.layers, text.volumes, strict=True):
        if isinstance(layer, Conv | Pool | FullyConnected):
            values += math.prod(volume)
    assert values == 15_237_608


def test_input_line_can_be_replaced():
    text = (EXAMPLES / "lenet5_modern.net").read_text()
    layers = [line.partition("] ")[2] for line in text.splitlines() if line.startswith("[")][1:]
    larger = notation.parse("\n".join(["INPUT 36x36x1", *layers]))
    # 36 -> 32 -> 16 -> 12 -> 6 -> 2: C5 is a convolution, and F6 reads 2x2 of it
    assert larger.volumes[-4] == (120, 2, 2)
    assert larger.parameters == 61_706 + 84 * 120 * 3


# ------------------------------------------------------------------------------------- the value and writing


def test_notation_is_a_value():
    layers = (FullyConnected(label="fc1", units=3),)
    one = Notation(name="a", input_shape=(1, 2, 2), layers=layers)
    assert one == Notation(name="b", input_shape=(1, 2, 2), layers=(FullyConnected(label="fc1", units=3),))
    assert hash(one) == hash(replace(one, name="b"))
    assert one != replace(one, input_shape=(1, 2, 3))
    with pytest.raises(AttributeError):
        one.name = "c"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": ()}, "expected 1 to 1,000 layers"),
        ({"layers": (FullyConnected(label="a", units=3),) * 2}, "expected each label once, got a twice"),
        ({"layers": ("FC 3",)}, "expected records of layers, got 'FC 3'"),
        ({"input_shape": (1, 2)}, "expected an input of three sizes"),
        ({"input_shape": (1, 2, 2.0)}, "expected an input of three sizes"),
        ({"name": ""}, "expected a name of 1 to 100 printable characters"),
        ({"name": "a\nb"}, "expected a name of 1 to 100 printable characters"),
        ({"layers": (Conv(label="a", filters=3, kernel=(5, 5)),)}, "expected a 5x5 window that fits"),
    ],
)
def test_notation_is_refused(change, said):
    valid = {"input_shape": (1, 2, 2), "layers": (FullyConnected(label="fc1", units=3),)}
    with pytest.raises(UsageError, match=said.replace("(", r"\(")):
        Notation(**(valid | change))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (lambda: Conv(label="a.b", filters=3, kernel=(3, 3)), "expected a label of at most 64"),
        (lambda: Conv(label="CONV1", filters=3, kernel=(3, 3)), "expected the label conv1, got CONV1"),
        (lambda: Conv(label="a", filters=True, kernel=(3, 3)), "expected a whole number"),
        (lambda: Conv(label="a", filters=3, kernel=3), "expected height and width as the kernel, got 3"),
        (lambda: Conv(label="a", filters=3, kernel=(3, 3), bias=1), "expected bias to be True or False"),
        (lambda: Pool(label="a", kind="min"), "expected kind to be max or avg, got 'min'"),
        (lambda: Activation(label="a", kind="relu", constant=1.0), "expected no constant for relu"),
        (lambda: Activation(label="a", kind="elu"), "expected the constant of elu to be a number"),
        (lambda: Activation(label="a", kind="elu", constant=math.nan), "expected the constant of elu"),
        (lambda: Norm(label="a", k=0), "expected k above 0"),
        (lambda: Norm(label="a", alpha=10**400), "got a number of more than 20 digits"),
        (lambda: Dropout(label="a", p=-0.1), "to be a number of at least 0, got -0.1"),
    ],
)
def test_record_is_refused(record, said):
    with pytest.raises(UsageError) as caught:
        record()
    assert said in str(caught.value)


def test_canonical_text():
    value = Notation(input_shape=(4, 33, 20), layers=CANONICAL_LAYERS)
    # 33 -> (33+4-5)/2+1 = 17 -> 9 -> 4; 20 -> 20 -> 11 by ceil -> 5
    assert value.volumes[:7] == (
        *((8, 17, 20),) * 3,
        *((8, 9, 11),) * 2,
        (4, 4, 5),
        (4, 1, 1),
    )
    assert notation.write(value) == CANONICAL
    assert notation.parse(CANONICAL) == value


def test_text_with_volumes_is_the_slide():
    text = notation.write(notation.parse("INPUT 8x8x3\nACTIVATION NONE\nCONV 2 3x3\nFC 4"), volumes=True)
    assert text == (
        "[8x8x3] INPUT\nACTIVATION NONE\n[6x6x2] CONV1: 2 3x3 filters at stride 1, pad 0\n"
        "[4] FC1: 4 neurons\n"
    )


# ------------------------------------------------------------------------------------------------- building


def test_build_starts_from_he_and_zero():
    net = notation.build(notation.parse("INPUT 16x16x8\nCONV 64 5x5 pad 2\nFC 100\nFC 10"), num_classes=4)
    assert isinstance(net, Chain)
    assert (net.name, net.input_shape) == ("net", (8, 16, 16))
    assert [key for key, _ in net.named_children()] == ["conv1", "relu1", "flatten", "fc1", "fc1_relu", "fc2"]
    assert net.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (25 * 8)), rel=0.05)
    assert net.fc1.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 256)), rel=0.05)
    assert net.fc2.out_features == 4
    assert not any(bias.any() for key, bias in net.named_parameters() if key.endswith("bias"))


@pytest.mark.parametrize("classes", [0, -1, 1_000_001, 2.5])
def test_build_refuses_a_number_of_classes(classes):
    with pytest.raises(UsageError, match="expected a whole number from 1 to 1,000,000 as units, got"):
        notation.build(notation.parse("INPUT 4x4x1\nFC 3"), num_classes=classes)


def test_build_without_fully_connected_layers():
    text = notation.parse("INPUT 4x4x1\nCONV 10 3x3\nGLOBAL AVG POOL", name="nin")
    assert notation.build(text, num_classes=10)(torch.zeros(2, 1, 4, 4)).shape == (2, 10)
    assert notation.build(text, num_classes=5)(torch.zeros(2, 1, 4, 4)).shape == (2, 5)
    maps = notation.parse("INPUT 4x4x1\nCONV 10 3x3", name="maps")
    for classes in (2, 5):
        with pytest.raises(UsageError) as caught:
            notation.build(maps, num_classes=classes)
        assert str(caught.value) == (
            "maps ends in 40 values and no layer that decides classes: end it with FC 10 or GLOBAL AVG POOL"
        )
    assert notation.build(maps)(torch.zeros(2, 1, 4, 4)).shape == (2, 40)  # a sketch, to look at


def test_sketch_of_the_page_is_refused_with_the_line_of_the_page():
    text = notation.parse("INPUT 32x32x3 > CONV 16 5x5 > POOL 2x2")
    with pytest.raises(UsageError) as caught:
        notation.build(text, num_classes=2)
    assert str(caught.value).startswith("net ends in 3,136 values")  # 16 maps of 14x14
    assert f"```text\n{caught.value}\n```" in PAGE


def test_built_network_is_traced_trained_and_kept_in_channels_last():
    net = notation.build(Notation(input_shape=(4, 33, 20), layers=CANONICAL_LAYERS))
    images = torch.randn(3, 4, 33, 20)
    net(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    net.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(net)(images), net(images))
        maps = net[:6](images.to(memory_format=torch.channels_last))
    assert maps.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_activations_are_those_of_their_formulas():
    text = "INPUT 1x2x1\nTANH\nSIGMOID\nLEAKY RELU 0.1\nELU 2\nSCALED TANH\nRELU"
    net = notation.build(notation.parse(text))
    x = torch.tensor([-0.5, 0.25])
    formulas = (
        lambda a: math.tanh(a),
        lambda a: 1 / (1 + math.exp(-a)),
        lambda a: a if a > 0 else 0.1 * a,
        lambda a: a if a > 0 else 2 * (math.exp(a) - 1),
        lambda a: 1.7159 * math.tanh(2 / 3 * a),
        lambda a: max(a, 0.0),
    )
    for layer, formula in zip(net, formulas, strict=False):
        torch.testing.assert_close(layer(x), torch.tensor([formula(a) for a in x.tolist()]))


# ---------------------------------------------------------------------------------------------- recognising


def test_notation_of_what_was_built():
    value = Notation(input_shape=(4, 33, 20), layers=CANONICAL_LAYERS)
    assert notation.notation_of(notation.build(value)) == value


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "resnet20",
            "resnet20: expected a layer that the notation has words for, got conv2_1: it is a ResidualBlock",
        ),
        ("plain20", "plain20: .* got conv2_1: it is a Sequential: a block of several layers"),
        ("lenet5", "lenet5: .* got S2: it is a Subsampling: a pool with trainable coefficients"),
    ],
)
def test_other_networks_are_refused(name, said):
    with torch.device("meta"), pytest.raises(UsageError, match=said):
        notation.notation_of(nets.build(name))


TWICE = nn.ReLU()


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"a": nn.Conv2d(3, 2, 3, dilation=2)}, "a: its filters are dilated"),
        ({"a": nn.Conv2d(3, 2, 3, padding="same")}, "a: its padding is a word"),
        (
            {"a": nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")},
            "a: its padding is reflect, not zeros",
        ),
        ({"a": nn.Conv2d(4, 2, 3)}, "a: it does not read 3 channels"),
        ({"a": nn.MaxPool2d(2, dilation=2)}, "a: its windows are dilated"),
        ({"a": nn.MaxPool2d(2, return_indices=True)}, "a: it returns the places of the maxima too"),
        ({"a": nn.AvgPool2d(2, divisor_override=1)}, "a: it divides by a number of its own"),
        ({"a": nn.AvgPool2d(3, padding=1, count_include_pad=False)}, "a: it leaves padding out of averages"),
        ({"a": nn.BatchNorm2d(3, eps=1e-3)}, "a: its eps or momentum is not"),
        ({"a": nn.BatchNorm2d(3, affine=False)}, "a: it has no scale or no averages"),
        ({"a": nn.Flatten(), "b": nn.BatchNorm1d(192)}, "b: it has the wrong axes"),
        ({"a": nn.Linear(8, 2)}, "a: it reads maps without nn.Flatten before it"),
        ({"a": nn.Flatten(), "b": nn.Linear(8, 2)}, "b: it does not read 192 values"),
        ({"a": nn.Flatten(), "b": nn.Conv2d(3, 2, 3)}, "b: it reads maps behind nn.Flatten"),
        ({"a": nn.Flatten(2)}, "a: it does not flatten whole images"),
        ({"a": TWICE, "b": TWICE}, "b: it is the same module as an earlier one"),
        ({"a": nn.Dropout2d()}, "a: it is a Dropout2d"),
        ({"a": nn.Conv2d(3, 2, 9)}, "a: expected a 9x9 window that fits the input"),
        ({"in-put": nn.ReLU()}, "in-put: expected a label of at most 64 letters"),
        ({"a": nn.ReLU()}, "x: expected flat scores at the end, got maps"),
    ],
)
def test_layers_without_words_are_refused(layers, said):
    with pytest.raises(UsageError) as caught:
        notation.notation_of(Chain("x", (3, 8, 8), layers))
    assert said in str(caught.value)


def test_only_a_chain_is_recognised():
    with pytest.raises(UsageError, match="expected a Chain, one path of named layers, got a Sequential"):
        notation.notation_of(nn.Sequential(nn.ReLU()))


# ------------------------------------------------------------------------------------------------------ files


def test_read_takes_the_name_from_the_file(tmp_path):
    file = tmp_path / "tiny.net"
    file.write_bytes(b"\xef\xbb\xbfINPUT 8x8x3\r\nFC 3\r\n")
    assert notation.read(file).name == "tiny"
    assert notation.read(str(file)).layers == (FullyConnected(label="fc1", units=3),)
    file.write_text("INPUT 8x8x3\nFC 3 stride 2")
    with pytest.raises(UsageError, match=r"^tiny\.net:2:6: expected a fully connected layer as in FC6"):
        notation.read(file)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"INPUT \xff", "bad.net: expected UTF-8 text, got byte 0xff at place 6"),
        (b"#" * 100_001, "bad.net: expected at most 100,000 bytes, got more"),
        (b"", "bad.net:1:1: expected INPUT before the first layer"),
    ],
)
def test_read_refuses(tmp_path, data, said):
    (tmp_path / "bad.net").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        notation.read(tmp_path / "bad.net")
    assert str(caught.value).startswith(said)


def test_read_refuses_what_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.net", "a\0b.net"):
        with pytest.raises(UsageError, match="expected a file in the notation, got"):
            notation.read(path)


# --------------------------------------------------------------------------------------------------- the page

PAGE = (Path(__file__).parents[2] / "docs" / "notation.md").read_text(encoding="utf-8")


def test_every_text_of_the_page_is_read():
    texts = re.findall(r"```net\n(.*?)```", PAGE, re.DOTALL)
    assert len(texts) == 6
    alexnet, small, line, vgg, copied, pattern = map(notation.parse, texts)
    assert alexnet.parameters == 62_378_344
    assert small == line
    assert [layer.label for layer in vgg.layers] == (
        ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "fc2", "relu2", "fc3"]
    )
    assert copied.layers[2] == Pool(label="pool1", kind="max", kernel=(3, 3))
    assert copied.volumes == ((96, 55, 55), (96, 55, 55), (96, 27, 27), (10,))
    assert pattern.volumes[-1] == (10,)


def test_every_program_of_the_page_runs(capsys):
    programs = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(programs) == 1
    with torch.device("meta"):
        exec(programs[0], {})
    printed = capsys.readouterr().out
    assert "62378344\n" in printed
    assert printed.endswith("\n10\n")


def test_every_error_of_the_page_is_the_one_that_is_printed():
    pairs = re.findall(r"```net refused\n(.*?)```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)
    assert len(pairs) == 4
    for text, printed in pairs:
        assert message(text) == printed
