"""The notation against the lectures' slides, hand-written records, and the builders of ``striate.nets``."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from striate import nets
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
from striate.nets.parts import Chain

SHIPPED = ("alexnet_lecture", "vgg16", "lenet5_modern")


def only_layer(line):
    """The first layer of a text whose input takes anything."""
    return notation.parse(f"INPUT 32x32x6\nACTIVATION NONE\n{line}").layers[0]


def labels(text):
    return [layer.label for layer in notation.parse(text).layers]


def message(text):
    with pytest.raises(UsageError) as caught:
        notation.parse(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


# ------------------------------------------------------------------------------------- the form of one layer


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        (
            "CONV1: 96 11x11 filters at stride 4, pad 0 floor",
            Conv(label="conv1", filters=96, kernel=(11, 11), stride=(4, 4)),
        ),
        ("[28x28x16] CONV2: 16 5×5 filters", Conv(label="conv2", filters=16, kernel=(5, 5))),  # noqa: RUF001
        ("CONV 1: 16 5 x 5 filters applied at stride 1", Conv(label="conv1", filters=16, kernel=(5, 5))),
        ("conv 16 5*5 s1 p2", Conv(label="conv1", filters=16, kernel=(5, 5), padding=(2, 2))),
        (
            "CONV: 10 5x5x6 filters with stride 1, pad 2",
            Conv(label="conv1", filters=10, kernel=(5, 5), padding=(2, 2)),
        ),
        ("CONV: 96 filters of [5x5x6]", Conv(label="conv1", filters=96, kernel=(5, 5))),
        ("C1: CONV 6 5x5 filters", Conv(label="C1", filters=6, kernel=(5, 5))),
        ("CONV3_2: 8 3x3", Conv(label="conv3_2", filters=8, kernel=(3, 3))),
        ("Conv1: conv 8 3x3", Conv(label="conv1", filters=8, kernel=(3, 3))),
        ("CONV3-64", Conv(label="conv1_1", filters=64, kernel=(3, 3), padding=(1, 1))),
        ("CONV1-64", Conv(label="conv1_1", filters=64, kernel=(1, 1))),
        ("Conv-64", Conv(label="conv1_1", filters=64, kernel=(3, 3), padding=(1, 1))),
        ("3x3 conv, 64", Conv(label="conv1_1", filters=64, kernel=(3, 3), padding=(1, 1))),
        (
            "7x7 conv, 64, /2 floor",
            Conv(label="conv1_1", filters=64, kernel=(7, 7), stride=(2, 2), padding=(3, 3)),
        ),
        ("CONV3-64: pad 0", Conv(label="conv1_1", filters=64, kernel=(3, 3))),
        (
            "CONV 16 3x5 pad same no bias",
            Conv(label="conv1", filters=16, kernel=(3, 5), padding=(1, 2), bias=False),
        ),
        (
            "CONV 16 3x3 stride 2x1, pad: valid, groups 2, floor",
            Conv(label="conv1", filters=16, kernel=(3, 3), stride=(2, 1), groups=2),
        ),
        ("MAX POOL1: 3x3 filters at stride 2, floor", Pool(label="pool1", kind="max", kernel=(3, 3))),
        ("Max POOL3", Pool(label="pool3", kind="max")),
        ("MAX-POOL 2x2", Pool(label="pool1", kind="max")),
        ("MaxPool", Pool(label="pool1", kind="max")),
        ("POOL2", Pool(label="pool2", kind="max")),
        ("POOL2: [16x16x6] memory: 16*16*6=1.5K params: 0", Pool(label="pool2", kind="max")),
        ("AVG POOL2: 2x2 filters at stride 2", Pool(label="pool2", kind="avg")),
        ("S2: AVERAGE POOL", Pool(label="S2", kind="avg")),
        (
            "POOL 3x3 stride 2 pad 1 ceil",
            Pool(label="pool1", kind="max", kernel=(3, 3), padding=(1, 1), ceil=True),
        ),
        ("GLOBAL AVG POOL", GlobalAvgPool(label="avgpool")),
        ("GAP", GlobalAvgPool(label="avgpool")),
        ("NORM1", Norm(label="norm1", size=5, alpha=1e-4, beta=0.75, k=2)),
        ("[32x32x6] NORM1: Normalization layer", Norm(label="norm1")),
        ("NORM: Normalization layer", Norm(label="norm1")),
        (
            "LRN size 3, alpha 5e-5, beta = 0.5, k: 1, towers 2",
            Norm(label="norm1", size=3, alpha=5e-5, beta=0.5, k=1, towers=2),
        ),
        ("BATCHNORM", BatchNorm(label="input_bn")),
        ("BN2", BatchNorm(label="bn2")),
        ("Batch normalization", BatchNorm(label="input_bn")),
        ("DROPOUT 0.3", Dropout(label="input_drop", p=0.3)),
        ("DROP6: .5", Dropout(label="drop6", p=0.5)),
        ("FC6: 4096", FullyConnected(label="fc6", units=4096)),
        ("[4096] FC6: 4096 neurons", FullyConnected(label="fc6", units=4096)),
        ("FC 6: 4096 neurons", FullyConnected(label="fc6", units=4096)),
        ("FC8: 1000 neurons (class scores)", FullyConnected(label="fc8", units=1000)),
        (
            "FC: [1x1x50] memory: 50 params: 32*32*6*50 = 307,200",
            FullyConnected(label="fc1", units=50),
        ),
        ("FC-100, no bias", FullyConnected(label="fc1", units=100, bias=False)),
        ("Fully connected 84", FullyConnected(label="fc1", units=84)),
        ("SOFTMAX 10", FullyConnected(label="fc1", units=10)),
        ("SOFTMAX1000", FullyConnected(label="fc1", units=1000)),
        ("output: SOFTMAX-10", FullyConnected(label="output", units=10)),
        ("conv 4 3x3 # pad 1", Conv(label="conv1", filters=4, kernel=(3, 3))),
    ],
)
def test_form(line, layer):
    assert only_layer(line) == layer


@pytest.mark.parametrize(
    ("line", "layer"),
    [
        ("RELU", Activation(label="input_relu", kind="relu")),
        ("RELU6", Activation(label="relu6", kind="relu")),
        ("tanh2", Activation(label="tanh2", kind="tanh")),
        ("SIGMOID1_1", Activation(label="sigmoid1_1", kind="sigmoid")),
        ("LEAKY RELU 0.1", Activation(label="input_relu", kind="leaky relu", constant=0.1)),
        ("LeakyReLU1", Activation(label="relu1", kind="leaky relu", constant=0.01)),
        ("x: LEAKY RELU 0", Activation(label="x", kind="leaky relu", constant=0.0)),
        ("ELU", Activation(label="input_elu", kind="elu", constant=1.0)),
        ("SCALED TANH", Activation(label="input_squash", kind="scaled tanh")),
    ],
)
def test_form_of_an_activation(line, layer):
    assert notation.parse(f"INPUT 8x8x3 > {line} > FC 3").layers[0] == layer


@pytest.mark.parametrize(
    "line",
    [
        "INPUT 224x200x3",
        "INPUT: [224x200x3] memory: 224*200*3=134K params: 0",
        "[224x200x3] INPUT",
        "Input: 224 x 200 x 3 images",
        "\ufeffinput 224*200*3  # height x width x channels",
        "\r\n\tINPUT: 224x200x3\r",
        "224x200x3",
    ],
)
def test_input_is_height_width_channels(line):
    assert notation.parse(f"{line}\nFC 2").input_shape == (3, 224, 200)


def test_a_sketch_has_the_layers_of_the_text_alone_and_need_not_fit():
    sketch = notation.sketch("7x7x3 > conv 1 3x3 s3 > maxpool 3x3 s2 > fc 2")
    assert sketch.input_shape == (3, 7, 7)
    assert sketch.layers == (
        Conv(label="conv1", filters=1, kernel=(3, 3), stride=(3, 3)),
        Pool(label="pool1", kind="max", kernel=(3, 3), stride=(2, 2)),
        FullyConnected(label="fc1", units=2),
    )
    with pytest.raises(UsageError, match=r"(?s)^net:1:9: expected a layer, got 'convv'"):
        notation.sketch("7x7x3 > convv 1 3x3")


def test_layers_may_stand_on_one_line():
    one = notation.parse("INPUT 32x32x3 > CONV 16 5x5 pad 2 > RELU > MAX POOL 2x2 stride 2 > SOFTMAX 10")
    lines = notation.parse("INPUT 32x32x3 ->\nCONV 16 5x5 pad 2\n-> RELU\nPOOL → FC 10 → SOFTMAX")
    assert one == lines
    assert one.layers == (
        Conv(label="conv1", filters=16, kernel=(5, 5), padding=(2, 2)),
        Activation(label="relu1"),
        Pool(label="pool1", kind="max"),
        FullyConnected(label="fc1", units=10),
    )
    assert one.volumes == ((16, 32, 32), (16, 32, 32), (16, 16, 16), (10,))
    assert one.parameters == 16 * (5 * 5 * 3 + 1) + 10 * (16 * 16 * 16 + 1)


# ------------------------------------------------------------------------------ names, and what is left out


def test_names_of_vgg_style():
    text = "INPUT 32x32x3\nCONV3-8\nCONV3-8\nPOOL2\nCONV3-16\nPOOL2\nFC-32\nFC-32\nFC-10\nSOFTMAX"
    assert labels(text) == (
        [
            "conv1_1",
            "relu1_1",
            "conv1_2",
            "relu1_2",
            "pool1",
            "conv2_1",
            "relu2_1",
            "pool2",
            "fc3",
            "relu3",
            "fc4",
            "relu4",
            "fc5",
        ]
    )


def test_bare_numbers_of_pools_are_labels_where_they_are_not_all_2():
    assert labels("INPUT 8x8x3\nACTIVATION NONE\nCONV3-8\nPOOL1\nCONV3-8\nPOOL2\nFC 3") == [
        "conv1_1",
        "pool1",
        "conv2_1",
        "pool2",
        "fc3",
    ]


def test_names_without_labels():
    text = "INPUT 8x8x3 > CONV 4 3x3 > DROPOUT > CONV 4 3x3 > BN > RELU > RELU > NORM > FC 4 > RELU > FC 3"
    assert labels(text) == [
        "conv1",
        "drop1",
        "conv2",
        "bn2",
        "relu2",
        "conv2_relu",
        "norm1",
        "fc1",
        "relu1",
        "fc2",
    ]


def test_unlabelled_layers_avoid_the_labels_that_are_written():
    text = "INPUT 8x8x3\nACTIVATION NONE\nCONV 4 3x3\nCONV1: 4 3x3\nCONV 4 1x1\nconv3: FC 3"
    # the first is conv1 by its place, which is taken, so conv2; the third would be conv3, which is taken
    assert labels(text) == ["conv2", "conv1", "conv4", "conv3"]


def test_relu_is_implied_behind_every_layer_but_the_last():
    text = "INPUT 8x8x3\nC1: CONV 4 3x3\nBN\nPOOL\nFC6: 5\nDROPOUT\nFC7: 5\nFC8: 3"
    assert labels(text) == ["C1", "C1_bn", "C1_relu", "pool1", "fc6", "relu6", "drop6", "fc7", "relu7", "fc8"]


def test_without_fully_connected_layers_every_convolution_has_a_relu():
    assert labels("INPUT 8x8x3\nCONV 4 3x3\nCONV 10 1x1\nGLOBAL AVG POOL\nSOFTMAX") == [
        "conv1",
        "relu1",
        "conv2",
        "relu2",
        "avgpool",
    ]


def test_an_activation_that_is_written_switches_the_rule_off():
    assert labels("INPUT 8x8x3\nCONV 4 3x3\nTANH\nCONV 4 3x3\nFC 4\nFC 3") == (
        ["conv1", "tanh1", "conv2", "fc1", "fc2"]
    )


def test_activation_line():
    lines = "INPUT 8x8x3\nCONV 4 3x3\nFC 4\nFC 3"
    assert labels(f"{lines}\nACTIVATION NONE") == ["conv1", "fc1", "fc2"]
    assert labels(f"ACTIVATION: SCALED TANH\n{lines}") == ["conv1", "squash1", "fc1", "fc1_squash", "fc2"]
    leaky = notation.parse(f"{lines}\nactivation leaky relu 0.2").layers[1]
    assert leaky == Activation(label="relu1", kind="leaky relu", constant=0.2)


# -------------------------------------------------------------------------------------------------- patterns

EXPANDED = """
INPUT 32x32x3
CONV1_1: 32 3x3 pad 1
RELU1_1
CONV1_2: 32 3x3 pad 1
RELU1_2
POOL1: 2x2 stride 2
CONV2_1: 64 3x3 pad 1
RELU2_1
CONV2_2: 64 3x3 pad 1
RELU2_2
POOL2: 2x2 stride 2
FC1: 256
RELU1
FC2: 10
"""


@pytest.mark.parametrize(
    "text",
    [
        "INPUT 32x32x3\n[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-SOFTMAX with CONV 3x3 32,64  FC 256  SOFTMAX 10",
        "INPUT 32x32x3\n[(CONV-RELU)*N-POOL]*M-(FC-RELU)*K,SOFTMAX with N=2 M=2, K=1 CONV 32,32,64,64"
        " FC 256 SOFTMAX 10",
        "INPUT 32x32x3 -> [[conv -> relu]*n -> pool]*m -> [fc -> relu]*k -> fc"
        " with n=2 m=2 and k=1 CONV 32, 64 FC 256, 10",
        "[32x32x3] INPUT - [(CONV-RELU)×2-POOL]*2-FC-RELU-1 with CONV 32 64 FC 256 SOFTMAX 10",  # noqa: RUF001
        "INPUT 32x32x3\n[(CONV)*2-POOL]*2-FC-SOFTMAX 10 with CONV 32,64 FC 256",
        "INPUT 32x32x3\n[(CONV-RELU)*2-POOL]*2-(FC-RELU)*1-(FC)*0-SOFTMAX with CONV 32,64 FC 256 SOFTMAX 10",
    ],
)
def test_pattern_is_the_network_written_out(text):
    assert notation.parse(text) == notation.parse(EXPANDED)


def test_pattern_with_other_windows():
    text = "INPUT 35x35x3\n(CONV-POOL)*2-SOFTMAX with CONV 5x5 pad 2 no bias 8 POOL 3x3 stride 2 SOFTMAX 4"
    conv = Conv(label="conv1_1", filters=8, kernel=(5, 5), padding=(2, 2), bias=False)
    pool = Pool(label="pool1", kind="max", kernel=(3, 3))
    assert notation.parse(text).layers == (
        conv,
        Activation(label="relu1_1"),
        pool,
        replace(conv, label="conv2_1"),
        Activation(label="relu2_1"),
        replace(pool, label="pool2"),
        FullyConnected(label="fc1", units=4),
    )


def test_pattern_with_constants_and_a_global_pool():
    pattern = "(CONV-BN-LEAKY RELU-NORM)*1-AVG POOL-DROPOUT-GLOBAL AVG POOL"
    text = f"INPUT 8x8x3\n{pattern} with CONV 4 DROPOUT 0.3 NORM k 1 LEAKY RELU 0.2 POOL 4x4 s4"
    assert notation.parse(text).layers == (
        Conv(label="conv1_1", filters=4, kernel=(3, 3), padding=(1, 1)),
        BatchNorm(label="bn1_1"),
        Activation(label="relu1_1", kind="leaky relu", constant=0.2),
        Norm(label="norm1", k=1),
        Pool(label="pool1", kind="avg", kernel=(4, 4), stride=(4, 4)),
        Dropout(label="drop1_1", p=0.3),
        GlobalAvgPool(label="avgpool"),
    )


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[(CONV-RELU)*N-POOL]*2 with CONV 8", "net:2:14: expected a number for N, got none"),
        ("[(CONV-RELU)*2-POOL?]*2 with CONV 8", "net:2:20: expected a layer that is there or not, got '?'"),
        ("[(CONV-RELU)*2-POOL*2 with CONV 8", "net:2:20: expected - or ], got '*'"),
        ("[(CONV-RELU)*2-POOL with CONV 8", "net:2:21: expected - or ], got the end of the line"),
        ("(CONV-RELU)*2-POOL)*2 with CONV 8", "net:2:19: expected - or the end of the pattern, got ')'"),
        ("[(CONV-RELU)*2-POOL]*3 with CONV 8,9", "net:2:34: expected 1 or 3 or 6 widths of CONV, got 2"),
        ("(FC-RELU)*3 with FC 8,9", "net:2:21: expected 1 or 3 widths of FC, got 2: write one for each FC"),
        ("(CONV-RELU)*2-SOFTMAX 3", "net:2:2: expected the widths of CONV behind `with`, got none"),
        ("(FC-RELU)*2-SOFTMAX with FC 8", "net:2:13: expected the number of classes behind `with`, got none"),
        ("(FC-RELU)*2 with FC 8 CONV 8", "net:2:23: expected kinds of layers that the pattern has, got CONV"),
        ("(FC-RELU)*2 with FC 8 FC 9", "net:2:23: expected FC once behind `with`, got it twice"),
        ("(FC-RELU)*K with K=1 K=2 FC 9", "net:2:22: expected one number for K, got two"),
        ("(SOFTMAX-FC)*2 with FC 8 SOFTMAX 3", "net:2:2: expected SOFTMAX as the last layer, got more"),
        (
            "(FC-RELUX)*2 with FC 8",
            "net:2:5: expected a kind of layer or a bracket, got 'RELUX': did you mean RELU?",
        ),
        ("((((((((((FC))))))))))*2 with FC 8", "net:2:10: expected brackets at most 8 deep, got more"),
        ("(RELU)*1001", "net:2:1: expected a pattern of at most 1,000 layers, got more"),
        ("((RELU)*999999)*999999", "net:2:1: expected a pattern of at most 1,000 layers, got more"),
        ("(RELU)*2.5", "net:2:8: expected a whole number, got '2.5'"),
        ("(CONV-RELU)*2 with CONV [8x8x3] 8", "net:2:25: expected widths behind `with`, got a volume"),
    ],
)
def test_pattern_is_refused(pattern, said):
    assert message(f"INPUT 32x32x3\n{pattern}").startswith(said)


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "net:1:1: expected INPUT before the first layer, got none: write INPUT 32x32x3"),
        ("\n  FC 3", "net:2:3: expected INPUT before the first layer, got a layer"),
        ("INPUT 8x8x3", "net:1:1: expected a layer behind INPUT, got none"),
        ("INPUT 8x8", "net:1:7: expected height x width x channels behind INPUT, got 2 numbers"),
        ("INPUT", "net:1:6: expected height x width x channels behind INPUT, got no numbers"),
        ("INPUT 8x8x0\nFC 3", "net:1:1: expected an input of three sizes"),
        ("INPUT 8x8x3 big\nFC 3", "net:1:13: expected one size behind INPUT, got 'big'"),
        (
            "INPUT 8x8x3\nFC 3\nINPUT 8x8x3",
            "net:3:1: expected one INPUT, got a second one beside that of line 1",
        ),
        ("INPUT 8x8x3\n\n  CONVV 3", "net:3:3: expected a layer, got 'CONVV': did you mean CONV?"),
        ("INPUT 8x8x3\nCONV 3x3", "net:2:1: expected the number of filters, got none"),
        ("INPUT 8x8x3\nCONV 64", "net:2:1: expected the size of the filters, got none"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 colour 2",
            "net:2:12: expected a convolution as in CONV 16 5x5 stride 1 pad 2",
        ),
        ("INPUT 8x8x3\nCONV 4 3x3 stride", "net:2:18: expected a whole number, got the end of the line"),
        ("INPUT 8x8x3\nCONV 4 3x3 stride 2 /2", "net:2:21: expected one stride, got a second one"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 stride 0",
            "net:2:1: expected a whole number from 1 to 100,000 as stride, got 0",
        ),
        (
            "INPUT 8x8x3\nCONV 4 3x3x5",
            "net:2:1: expected filters of depth 3, the channels of the input, got 5",
        ),
        ("INPUT 8x8x3\nCONV 4 4x4 pad same", "net:2:16: expected filters of odd sides"),
        ("INPUT 8x8x3\nCONV 4 2x2 stride 2 ceil", "net:2:21: expected floor for a convolution, got ceil"),
        (
            "INPUT 8x8x3\nCONV 4 3x3 groups 2",
            "net:2:1: expected groups that divide the 3 channels of the input, got 2",
        ),
        (
            "INPUT 8x8x4\nCONV 3 3x3 groups 2",
            "net:2:1: expected a number of filters that 2 groups can share, got 3",
        ),
        (
            "INPUT 8x8x3\nPOOL 3x3",
            "net:2:1: expected the stride of a 3x3 pool, got none: write stride 2 behind it",
        ),
        ("INPUT 8x8x3\nPOOL 2x2 pad 2", "net:2:1: expected a pad of at most half the window, 1, got 2"),
        ("INPUT 8x8x3\nRELU 3", "net:2:6: expected RELU alone, got a number too: leave it out"),
        (
            "INPUT 8x8x3\nFC6",
            "net:2:1: expected a fully connected layer as in FC6: 4096 neurons, got no number",
        ),
        (
            "INPUT 8x8x3\nFC 4,096",
            "net:2:6: expected one number, got 4 and 096: leave one out, and write 4096",
        ),
        (
            "INPUT 8x8x3\nFC 3 > POOL",
            "net:2:8: expected maps before a Pool, got the 3 numbers of a fully connected",
        ),
        ("INPUT 8x8x3\nFLATTEN\nPOOL", "net:3:1: expected FC behind FLATTEN, got a layer of maps"),
        ("INPUT 8x8x3\nSOFTMAX 3\nRELU", "net:3:1: expected nothing behind SOFTMAX of line 2, got more"),
        ("INPUT 8x8x3\nFC 10 > SOFTMAX 10", "net:2:9: expected SOFTMAX alone behind FC 10, got SOFTMAX 10"),
        ("INPUT 8x8x3\nSOFTMAX", "net:1:1: expected a layer behind INPUT, got none"),
        ("INPUT 8x8x3\nDROPOUT 1", "net:2:1: expected a fraction in [0, 1) for a dropout, got 1.0"),
        ("INPUT 8x8x3\nLEAKY RELU 1e999", "net:2:1: expected the constant of leaky relu to be a number"),
        ("INPUT 8x8x3\nNORM size 4", "net:2:1: expected an odd size of the normalisation, got 4"),
        (
            "INPUT 8x8x3\nCONV1: 4 3x3\nCONV1: 4 3x3",
            "net:3:1: expected each label once, got conv1, which is on line 2",
        ),
        ("INPUT 8x8x3\nforward: FC 3", "net:2:10: expected a label that is free, got forward"),
        ("INPUT 8x8x3\nclass: FC 3", "net:2:8: expected a label that is free, got class"),
        ("INPUT 8x8x3\nFC 3 >> FC 3", "net:2:7: expected a layer between two arrows, got nothing"),
        ("INPUT 8x8x3\nFC 3 é", "net:2:6: expected letters, digits or the signs of the notation, got 'é'"),
        ("INPUT 8x8x3\nFC 99999999999999999999", "net:2:4: expected a number of at most 12 digits"),
        (
            "INPUT 8x8x3\nFC 1000001",
            "net:2:4: expected a whole number from 1 to 1,000,000 as units, got 1000001",
        ),
        (
            "INPUT 8x8x3\nRELU\nFC 3\nACTIVATION TANH",
            "net:2:1: expected no activation beside ACTIVATION of line 4",
        ),
        ("INPUT 8x8x3\nACTIVATION SOFT", "net:2:12: expected NONE or an activation, got 'SOFT'"),
        (
            "INPUT 8x8x3\nACTIVATION NONE\nACTIVATION NONE",
            "net:3:1: expected one line ACTIVATION, got a second one",
        ),
        (
            "INPUT 8x8x3\nFC 3 (10 of them)",
            "net:2:7: expected a remark in words and then a closing parenthesis",
        ),
        ("INPUT 8x8x3\nFC: [3x3", "net:2:6: expected a volume such as [55x55x96] or [4096], got '3x3'"),
        (
            "INPUT 32x32x3\nMAX POOL1: 96 11x11 filters applied at stride 4",  # a slip on one lecture's slide
            "net:2:12: expected a pool as in MAX POOL 3x3 stride 2, got a number too: leave it out",
        ),
        (
            "[227x227x3] INPUT\n  [54x54x96] CONV1: 96 11x11 filters at stride 4, pad 0",
            "net:2:3: expected the volume [55x55x96] from (227 - 11)/4 + 1 = 55, got [54x54x96]:"
            " correct the volume, or the layers up to here",
        ),
        ("INPUT 8x8x3\n[4] FC 3", "net:2:1: expected the volume [3], got [4]: correct"),
        ("INPUT 8x8x3\n[1x2x3] FC 3", "net:2:1: expected the volume [3], got [1x2x3]: correct"),
        (
            "INPUT 32x32x3\nCONV3-64: [32x32x64] params: (3*3*3)*64 = 1,729",
            "net:2:30: expected params: (3*3*3)*64 = 1,728 without biases, got 1,729: correct the number",
        ),
        (
            "INPUT 32x32x3\nCONV3-64: params: 1,792",
            "net:2:19: expected params: (3*3*3)*64 = 1,728 without biases, got 1,792, which counts",
        ),
        (
            "INPUT 7x7x512\nFC: [1x1x4096] params: 7*7*512*4095",
            "net:2:24: expected params: 7*7*512*4096 = 102,760,448 without biases, got 7*7*512*4095:",
        ),
        ("INPUT 7x7x512\nFC 3 params: many", "net:2:14: expected a number of weights such as 1,728"),
        (
            "INPUT 1x1x2\nFC 3 params: 7 params: 6",
            "net:2:14: expected params: 1*1*2*3 = 6 without biases, got 7: correct",
        ),
        ("INPUT 8x8x3\nCONV 1e3 3x3", "net:2:6: expected a whole number, got '1e3': write digits alone"),
        ("INPUT 8x8x3\nNORM size 1.5", "net:2:11: expected a whole number, got '1.5': write digits alone"),
        (
            "INPUT 8x8x3\nCONV -5 3x3",
            "net:2:6: expected a whole number from 1 on, got -5: write CONV-64, or the number alone",
        ),
        ("INPUT 8x8x3\nFC -3", "net:2:4: expected a whole number from 1 on, got -3: write FC-64, or the"),
        ("INPUT 8x8x3\nFC -", "net:2:5: expected a whole number, got the end of the line"),
        (
            "INPUT 8x8x3\nCONV 5 3.5x3",
            "net:2:8: expected a size of whole numbers such as 3x3, got '3.5x3': correct it",
        ),
        (
            "INPUT 8x8x3\nCONV 5 3x3.5 pad 1",
            "net:2:8: expected a size of whole numbers such as 3x3, got '3x3.5': correct it",
        ),
        (
            "INPUT 0x9x4\nFC 3",
            "net:1:1: expected an input of three sizes (height x width x channels) from 1 to 100,000,"
            " got 0x9x4: correct the input",
        ),
        (
            "INPUT 32x32x3\nCONV 16 3x3 pad 1 - RELU - POOL - FC 10",
            "net:2:6: expected - or the end of the pattern, got '16': write > between layers that have"
            " numbers, as in CONV 16 3x3 > RELU",
        ),
        (
            "INPUT 32x32x3 - CONV 16 3x3 - FC 10",
            "net:1:15: expected one size behind INPUT, got '-': write > between layers",
        ),
        (
            "INPUT 32x32x3\nCONV 16 3x3 - FC 10",
            "net:2:13: expected a convolution as in CONV 16 5x5 stride 1 pad 2, got '-': write > between",
        ),
    ],
)
def test_text_is_refused_with_its_place(text, said):
    assert message(text).startswith(said)


@pytest.mark.parametrize(
    "remark", ["params: 35K", "params: (11*11*3)*96 = 35K", "Parameters: 34.8K", "memory: 1"]
)
def test_rounded_remarks_pass(remark):
    """34,848 weights."""
    notation.parse(f"INPUT 227x227x3\nCONV1: 96 11x11 stride 4 {remark}")


def test_rounded_remark_that_is_far_off():
    assert "got 45K" in message("INPUT 227x227x3\nCONV1: 96 11x11 stride 4 params: 45K")


def test_one_number_too_many_has_the_comma_in_its_remedy_only_where_there_is_one():
    assert message("INPUT 8x8x3\nFC 3 5") == "net:2:6: expected one number, got 3 and 5: leave one out"
    assert message("INPUT 8x8x3\nFC 4,096").endswith(": leave one out, and write 4096, not 4,096")


# ------------------------------------------------------------------------- lines of slides that are no layers

WRAPPED = """Full (simplified) AlexNet architecture:
Input: 227 x 227 x 3 images
    memory: 227*227*3=155K params: 0
CONV1: 96 11 x 11 filters applied at stride 4
{}
MAX POOL1: 3x3 filters at stride 2
SOFTMAX 10
"""


@pytest.mark.parametrize(
    "lines",
    [
        "Output: 55 x 55 x 96 Parameters: 35K",
        "**Output:** 55x55x96",
        "Output volume [55x55x96]",
        "OUTPUT VOLUME: 55x55x96\nParameters: (11*11*3)*96 = 35K",
        "memory: 55*55*96=290K params: 34,848",
        "memory: 290K\n\nparams: 34,848  # once\nparams: 35K",
        "=> Output volume [55x55x96]",
    ],
)
def test_lines_that_speak_of_the_layer_above(lines):
    plain = "INPUT 227x227x3\nCONV1: 96 11x11 stride 4\nMAX POOL1: 3x3 stride 2\nSOFTMAX 10"
    assert notation.parse(WRAPPED.format(lines)) == notation.parse(plain)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("Output: 54x54x96", "net:5:9: expected the volume [55x55x96] from (227 - 11)/4 + 1 = 55, got [54x"),
        ("Output volume [96x55x55]", "net:5:15: expected the volume [55x55x96] from"),
        ("Output: 55x55x96 Parameters: 45K", "net:5:30: expected params: (11*11*3)*96 = 34,848 without"),
        ("Output: 55x55x96\nOutput: 55x55x69", "net:6:9: expected the volume [55x55x96] from"),
        ("memory: 290K\nparams: 34,944", "net:6:9: expected params: (11*11*3)*96 = 34,848 without biases"),
        ("params: 35K\nparams: 34,849", "net:6:9: expected params: (11*11*3)*96 = 34,848 without biases"),
        ("Output: 55x96", "net:5:9: expected height x width x channels as the output, got '55x96': correct"),
        ("Output volume: 96", "net:5:1: expected a layer, got 'Output'"),
        ("Output volume: what is it?", "net:5:1: expected a layer, got 'Output'"),
        ("Second layer:", "net:5:1: expected a layer, got 'Second'"),
    ],
)
def test_lines_that_speak_of_the_layer_above_are_checked(lines, said):
    assert message(WRAPPED.format(lines)).startswith(said)


def test_lines_that_speak_of_the_scores():
    end = "Output: [10] params: 40"
    assert notation.parse(f"INPUT 1x1x4\nSOFTMAX 10\n{end}").layers == (
        FullyConnected(label="fc1", units=10),
    )
    assert notation.parse("INPUT 1x1x4\nFC 10 params: 40\nSOFTMAX\nOutput: [10] params: 0").num_classes == 10
    said = message("INPUT 1x1x4\nFC 10\nSOFTMAX\nparams: 40")
    assert said.startswith("net:4:9: expected params: 0 for SOFTMAX, which has no weights, got 40")
    assert message("INPUT 1x1x4\nSOFTMAX 10\nparams: 50").startswith(
        "net:3:9: expected params: 1*1*4*10 = 40"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("params: 0", "net:1:1: expected a layer before its remarks, got none: write INPUT 32x32x3 first"),
        ("Output: 3x3x3", "net:1:9: expected a layer above its output, got nothing: leave the output out"),
        ("INPUT 8x8x3\nOutput: 8x8x3", "net:2:9: expected a layer above its output, got INPUT: leave"),
        (
            "INPUT 8x8x3\nparams: 3\nFC 3",
            "net:2:9: expected params: 0 for INPUT, which has no weights, got 3",
        ),
        (
            "INPUT 8x8x3 params: 3\nFC 3",
            "net:1:21: expected params: 0 for INPUT, which has no weights, got 3",
        ),
    ],
)
def test_lines_without_a_layer_above_are_refused(text, said):
    assert message(text).startswith(said)


def test_a_layer_labelled_output_is_a_layer():
    layers = notation.parse("INPUT 4x4x3\nFC 3\nRELU\nOutput: FC 10").layers
    assert layers[-1] == FullyConnected(label="Output", units=10)
    drawn = notation.parse("INPUT 4x4x3\nOutput: 3x3 conv, 64").layers[0]
    assert drawn == Conv(label="Output", filters=64, kernel=(3, 3), padding=(1, 1))


@pytest.mark.parametrize(
    "heading",
    ["Architecture:", "Full (simplified) AlexNet architecture:", "VGG-16, as on the slide:", "LeNet5:"],
)
def test_heading_before_input_is_passed_over(heading):
    text = "INPUT 4x4x3\nFC 3"
    assert notation.parse(f"{heading}\n\n{text}") == notation.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        *("CONV1:", "Max pooling:", "RELU:", "dropout 0.5:", "CONVV 16 3x3:", "CONVV 16:", "[3x3x3] CONVV:"),
        *("Input:", "Output:", "A > B:", "a heading", "x" * 101 + ":", ":"),
    ],
)
def test_no_layer_is_taken_for_a_heading(line):
    message(f"{line}\nINPUT 4x4x3\nFC 3")


@pytest.mark.parametrize("line", ["Architecture:", "CONVV:", "C1:"])
def test_no_heading_stands_behind_input(line):
    assert message(f"INPUT 4x4x3\n{line}\nFC 3").startswith("net:2:1: expected a layer, got")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "CONV 2 3x3 stride 3",
            "net:2:1: (7 - 3)/3 + 1 = 2.33: a 3x3 filter at stride 3 doesn't fit a 7x7 input:"
            " use stride 2 (size 3x3) or pad 1 (size 3x3), or write floor (size 2x2) at the end of the line",
        ),
        (
            "MAX POOL 3x3 stride 3",
            "net:2:1: (7 - 3)/3 + 1 = 2.33: a 3x3 pool at stride 3 doesn't fit a 7x7 input: use stride 2"
            " (size 3x3) or pad 1 (size 3x3), or write floor (size 2x2) or ceil (size 3x3) at the end",
        ),
        (
            "CONV 2 2x2 stride 2",  # no pad helps: 7 + 2P - 2 is odd
            "net:2:1: (7 - 2)/2 + 1 = 3.50: a 2x2 filter at stride 2 doesn't fit a 7x7 input: use stride 1"
            " (size 6x6), or write floor (size 3x3) at the end of the line",
        ),
        (
            "CONV 2 8x8",
            "net:2:1: expected an 8x8 window that fits the input, got a height of 7 px with its padding,"
            " and 7 - 8 is below 0:",
        ),
    ],
)
def test_windows_that_do_not_fit(line, said):
    assert message(f"INPUT 7x7x3\n{line}").startswith(said)


def test_the_224_px_of_the_paper_do_not_fit():
    said = message("INPUT 224x224x3\nCONV1: 96 11x11 filters at stride 4, pad 0")
    assert said.startswith(
        "net:2:1: (224 - 11)/4 + 1 = 54.25: an 11x11 filter at stride 4 doesn't fit a 224x224"
    )


def test_long_strides_do_not_round_the_remainder_away():
    assert "(2001 - 1000)/1000 + 1 = 2.001:" in message("INPUT 2001x2001x3\nPOOL 1000x1000 stride 1000")


def test_axis_that_does_not_fit_is_the_one_shown():
    assert "(8 + 2*1 - 3)/2 + 1 = 4.50: a 3x3 filter" in message("INPUT 7x8x3\nCONV 2 3x3 stride 2 pad 1")


def test_rounding_that_is_written_passes():
    pool = "POOL 3x3 stride 3"
    assert notation.parse(f"INPUT 7x7x3\n{pool} floor").volumes == ((3, 2, 2),)
    assert notation.parse(f"INPUT 7x7x3\n{pool} ceil").volumes == ((3, 3, 3),)
    assert notation.parse("INPUT 7x7x3\nACTIVATION NONE\nCONV 2 3x3 stride 3 floor").volumes == ((2, 2, 2),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("INPUT 8x8x3\n" + "RELU\n" * 1001, "net:1001:1: expected at most 1,000 layers, got 1,001"),
        ("INPUT 8x8x3\n" + "CONV 3 1x1\n" * 600, "net:601:1: expected at most 1,000 layers, got 1,200"),
        ("x" * 100_001, "net:1:1: expected a text of at most 100,000 signs, got 100,001"),
        (
            "INPUT 1000x1000x100\nFC 1000",
            "net:2:1: expected at most 10,000,000,000 parameters in all, got 100,000,001,000",
        ),
        (
            "INPUT 9x9x1\nCONV 1 1x1 pad 50000",
            "net:2:1: expected a height of at most 100,000 px, got 100,009",
        ),
        ("INPUT 9x100001x1\nFC 1", "net:1:1: expected an input of three sizes"),
    ],
)
def test_limits(text, said):
    assert message(text).startswith(said)


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
        ({"name": ""}, "expected a name of 1 to 100 printable signs"),
        ({"name": "a\nb"}, "expected a name of 1 to 100 printable signs"),
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
