"""How the notation is read: forms of layers, names, implied activations, patterns."""

from dataclasses import replace

import pytest
from notation_texts import message

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


def only_layer(line):
    """The first layer of a text whose input takes anything."""
    return notation.parse(f"INPUT 32x32x6\nACTIVATION NONE\n{line}").layers[0]


def labels(text):
    return [layer.label for layer in notation.parse(text).layers]


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
