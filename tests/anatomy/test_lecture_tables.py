"""The tables of the lectures, cell by cell, and what is exact where they are not.

Lectures: seed 000 (Akhavan, Lecture 11, 2018), 001 (Advanced Vision Seminar, 2015), 002 (CPSC 532S,
Lecture 6), 003 (Oh, Computer Vision, 2022/23), 004 (Erdem, Lecture 13, 2016). ``docs/lectures.md`` has the
same for readers; its rows are numbered as the tests of the second half.
"""

import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.anatomy import Anatomy, Layer, trace
from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError
from striate.nets import build


@cache
def traced(name: str) -> Anatomy:
    with torch.device("meta"):
        return trace(build(name))


def one_layer(module: nn.Module, height: int, width: int, depth: int) -> Layer:
    """Trace one layer on a volume that is written as the lectures do: height, width, depth."""
    return trace(nn.Sequential(module), (depth, height, width))["0"]


def volume(layer: Layer) -> str:
    """Write an output as the lectures do: [27x27x96], [4096]."""
    if len(layer.output) == 1:
        return f"[{layer.output[0]}]"
    depth, height, width = layer.output
    return f"[{height}x{width}x{depth}]"


def depth_of(anatomy: Anatomy) -> int:
    """Count the layers with weights on the longest way from the image to the scores."""
    depths: dict[str, int] = {}
    for layer in anatomy:
        below = max((depths[source] for source in layer.inputs), default=0)
        depths[layer.name] = below + (layer.role in ("conv", "fc"))
    return depths[anatomy.outputs[0]]


def convolutions(anatomy: Anatomy) -> list[Layer]:
    return [layer for layer in anatomy if layer.role == "conv"]


# --- Sizes of one layer (seeds 003 and 004) ---


@pytest.mark.parametrize(
    ("input_px", "kernel_px", "stride", "padding", "output_px"),
    [
        (7, 3, 1, 0, 5),
        (7, 3, 2, 0, 3),
        (7, 3, 1, 1, 7),
        (32, 5, 1, 2, 32),
        (32, 5, 1, 0, 28),
        (28, 5, 1, 0, 24),
        (4, 3, 1, 0, 2),
        (5, 3, 2, 1, 3),
        (227, 11, 4, 0, 55),
        (55, 3, 2, 0, 27),
    ],
)
def test_output_size_examples(
    input_px: int, kernel_px: int, stride: int, padding: int, output_px: int
) -> None:
    size = output_size(input_px, kernel_px, stride=stride, padding=padding)
    assert size.size == output_px
    assert size.fits
    conv = nn.Conv2d(1, 1, kernel_px, stride=stride, padding=padding)
    assert one_layer(conv, input_px, input_px, 1).output == (1, output_px, output_px)


@pytest.mark.parametrize(("kernel_px", "padding"), [(3, 1), (5, 2), (7, 3)])
def test_padding_that_keeps_the_size(kernel_px: int, padding: int) -> None:
    for input_px in (7, 32, 224):
        assert output_size(input_px, kernel_px, padding=padding).size == input_px


@pytest.mark.parametrize(
    ("conv", "size", "result"),
    [
        (nn.Conv2d(3, 6, 5), (32, 32, 3), "[28x28x6]"),
        (nn.Conv2d(6, 10, 5), (28, 28, 6), "[24x24x10]"),
        (nn.Conv2d(3, 10, 5, padding=2), (32, 32, 3), "[32x32x10]"),
        (nn.Conv2d(3, 5, 5), (32, 32, 3), "[28x28x5]"),
        (nn.Conv2d(64, 32, 1), (56, 56, 64), "[56x56x32]"),
    ],
)
def test_volumes_of_one_convolution(conv: nn.Conv2d, size: tuple[int, int, int], result: str) -> None:
    assert volume(one_layer(conv, *size)) == result


def test_ten_filters_have_760_parameters() -> None:
    """Each filter has 5*5*3 + 1 = 76; 76 * 10 = 760 (003, 004 slide 92)."""
    layer = one_layer(nn.Conv2d(3, 10, 5, padding=2), 32, 32, 3)
    assert layer.im2col is not None
    assert layer.im2col.weights == (10, 75)  # a 75-dimensional dot product for each filter
    assert (layer.weights, layer.biases, layer.parameters) == (750, 10, 760)


def test_one_by_one_filter_is_a_64_dimensional_dot_product() -> None:
    layer = one_layer(nn.Conv2d(64, 32, 1), 56, 56, 64)
    assert layer.im2col is not None
    assert layer.im2col.weights == (32, 64)


def test_fully_connected_layer_reads_3072_numbers() -> None:
    """A 32x32x3 image stretched to 3072 x 1 (003)."""
    anatomy = trace(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), (3, 32, 32))
    assert volume(anatomy["0"]) == "[3072]"
    assert anatomy["1"].weights == 30_720


def test_max_pooling_halves_the_slice() -> None:
    """2x2 filters at stride 2 turn 4x4 into 2x2: 6 8 / 3 4 (004 slide 110)."""
    pool = nn.MaxPool2d(2)
    assert one_layer(pool, 4, 4, 1).output == (1, 2, 2)
    numbers = torch.tensor([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]]).float()
    assert pool(numbers[None]).tolist() == [[[6, 8], [3, 4]]]


def test_two_5x5_filters_see_9x9() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 5), nn.Conv2d(1, 1, 5))
    field = trace(net, (1, 20, 20))["1"].field
    assert field is not None
    assert (field.rows.size_px, field.columns.size_px) == (9, 9)


@pytest.mark.parametrize("channels", [1, 64, 512])
def test_three_3x3_against_one_7x7(channels: int) -> None:
    """Same field of 7; 27 C^2 weights against 49 C^2 (003)."""
    small = trace(
        nn.Sequential(*(nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(3))),
        (channels, 28, 28),
    )
    large = trace(nn.Sequential(nn.Conv2d(channels, channels, 7, padding=3, bias=False)), (channels, 28, 28))
    assert small["2"].field == large["0"].field
    assert small["2"].field is not None
    assert small["2"].field.rows.size_px == 7
    assert small.parameters == 27 * channels**2
    assert large.parameters == 49 * channels**2


# --- im2col (seed 003) ---


def test_im2col_of_alexnets_conv1() -> None:
    layer = traced("alexnet_lecture")["conv1"]
    assert layer.im2col is not None
    assert layer.im2col.columns == (363, 3025)  # X_col; 11*11*3 by 55*55
    assert layer.im2col.weights == (96, 363)  # W_row
    rows, taps = layer.im2col.weights
    assert (rows, layer.im2col.columns[1]) == (96, 3025)  # b_col and O
    assert layer.output == (96, 55, 55)
    assert layer.macs == 96 * 363 * 3025
    assert taps == 363


# --- AlexNet (seeds 000, 002, 003) ---

ALEXNET = """
[227x227x3] INPUT
[55x55x96] CONV1: 96 11x11 filters at stride 4, pad 0
[27x27x96] MAX POOL1: 3x3 filters at stride 2
[27x27x96] NORM1: Normalization layer
[27x27x256] CONV2: 256 5x5 filters at stride 1, pad 2
[13x13x256] MAX POOL2: 3x3 filters at stride 2
[13x13x256] NORM2: Normalization layer
[13x13x384] CONV3: 384 3x3 filters at stride 1, pad 1
[13x13x384] CONV4: 384 3x3 filters at stride 1, pad 1
[13x13x256] CONV5: 256 3x3 filters at stride 1, pad 1
[6x6x256] MAX POOL3: 3x3 filters at stride 2
[4096] FC6: 4096 neurons
[4096] FC7: 4096 neurons
[1000] FC8: 1000 neurons (class scores)
"""


def alexnet_line(layer: Layer) -> str:
    """Write a row of the record in the lectures' words."""
    depth = layer.output[0]
    name = {"pool5": "MAX POOL3"}.get(layer.name, layer.name.upper().replace("POOL", "MAX POOL"))
    if layer.role == "input":
        return f"{volume(layer)} INPUT"
    if layer.role == "norm":
        return f"{volume(layer)} {name}: Normalization layer"
    if layer.role == "fc":
        return f"{volume(layer)} {name}: {depth} neurons" + (" (class scores)" if name == "FC8" else "")
    assert layer.window is not None
    (kernel, _), (stride, _), (padding, _) = layer.window.kernel, layer.window.stride, layer.window.padding
    count = f"{depth} " if layer.role == "conv" else ""
    pad = f", pad {padding}" if layer.role == "conv" else ""
    return f"{volume(layer)} {name}: {count}{kernel}x{kernel} filters at stride {stride}{pad}"


def test_alexnet_table() -> None:
    rows = [layer for layer in traced("alexnet_lecture") if layer.role not in ("activation", "view")]
    assert [alexnet_line(layer) for layer in rows] == ALEXNET.strip().splitlines()


def test_alexnet_first_layers() -> None:
    anatomy = traced("alexnet_lecture")
    assert anatomy["conv1"].weights == 11 * 11 * 3 * 96
    assert anatomy["pool1"].parameters == 0
    assert volume(anatomy["flatten"]) == "[9216]"  # 000 slide 19


def test_alexnet_has_eight_layers_and_60_million_parameters() -> None:
    """001 and 003: 8 layers; 004 slide 18: 7 hidden layers, 60M parameters."""
    for name in ("alexnet", "alexnet_lecture"):
        assert depth_of(traced(name)) == 8
    assert traced("alexnet").parameters == 60_965_224


# --- LeNet-5 (seeds 000 slide 17 and 002) ---


def test_lenet_table() -> None:
    """CONV 5x5 stride 1, POOL 2x2 stride 2, twice, then 120, 84 and 10."""
    anatomy = traced("lenet5_modern")
    rows = [layer for layer in anatomy if layer.role in ("conv", "pool", "fc")]
    volumes = ["[28x28x6]", "[14x14x6]", "[10x10x16]", "[5x5x16]", "[1x1x120]", "[84]", "[10]"]
    assert [volume(layer) for layer in rows] == volumes
    windows = [layer.window for layer in rows[:4] if layer.window is not None]
    assert [(window.kernel[0], window.stride[0]) for window in windows] == [(5, 1), (2, 2)] * 2


# --- VGG-16 (seeds 002 and 003; 000 slide 30 has the totals) ---

VGG16 = """
INPUT: [224x224x3] memory: 224*224*3=150K params: 0
CONV3-64: [224x224x64] memory: 224*224*64=3.2M params: (3*3*3)*64 = 1,728
CONV3-64: [224x224x64] memory: 224*224*64=3.2M params: (3*3*64)*64 = 36,864
POOL2: [112x112x64] memory: 112*112*64=800K params: 0
CONV3-128: [112x112x128] memory: 112*112*128=1.6M params: (3*3*64)*128 = 73,728
CONV3-128: [112x112x128] memory: 112*112*128=1.6M params: (3*3*128)*128 = 147,456
POOL2: [56x56x128] memory: 56*56*128=400K params: 0
CONV3-256: [56x56x256] memory: 56*56*256=800K params: (3*3*128)*256 = 294,912
CONV3-256: [56x56x256] memory: 56*56*256=800K params: (3*3*256)*256 = 589,824
CONV3-256: [56x56x256] memory: 56*56*256=800K params: (3*3*256)*256 = 589,824
POOL2: [28x28x256] memory: 28*28*256=200K params: 0
CONV3-512: [28x28x512] memory: 28*28*512=400K params: (3*3*256)*512 = 1,179,648
CONV3-512: [28x28x512] memory: 28*28*512=400K params: (3*3*512)*512 = 2,359,296
CONV3-512: [28x28x512] memory: 28*28*512=400K params: (3*3*512)*512 = 2,359,296
POOL2: [14x14x512] memory: 14*14*512=100K params: 0
CONV3-512: [14x14x512] memory: 14*14*512=100K params: (3*3*512)*512 = 2,359,296
CONV3-512: [14x14x512] memory: 14*14*512=100K params: (3*3*512)*512 = 2,359,296
CONV3-512: [14x14x512] memory: 14*14*512=100K params: (3*3*512)*512 = 2,359,296
POOL2: [7x7x512] memory: 7*7*512=25K params: 0
FC: [1x1x4096] memory: 4096 params: 7*7*512*4096 = 102,760,448
FC: [1x1x4096] memory: 4096 params: 4096*4096 = 16,777,216
FC: [1x1x1000] memory: 1000 params: 4096*1000 = 4,096,000
"""


def product(text: str) -> int:
    """Multiply out (3*3*64)*64."""
    return math.prod(int(factor) for factor in text.replace("(", "").replace(")", "").split("*"))


def lecture_rows(name: str) -> list[Layer]:
    """The rows of the lectures' ledger: input, convolutions (with their ReLU), pools, fully connected."""
    return [layer for layer in traced(name) if layer.role in ("input", "conv", "pool", "fc")]


@pytest.mark.parametrize("number", range(22))
def test_vgg16_table(number: int) -> None:
    line, layer = VGG16.strip().splitlines()[number], lecture_rows("vgg16")[number]
    title, rest = line.split(": ", 1)
    size, rest = rest.split(" memory: ")
    memory, parameters = rest.split(" params: ")
    assert size == (f"[1x1x{layer.output[0]}]" if layer.role == "fc" else volume(layer))
    kind = {"input": "INPUT", "fc": "FC", "pool": "POOL2", "conv": f"CONV3-{layer.output[0]}"}[layer.role]
    assert title == kind
    if layer.window is not None:
        assert layer.window.kernel == ((3, 3) if layer.role == "conv" else (2, 2))
    factors, _, rounded = memory.partition("=")
    assert layer.values == product(factors)
    if rounded:  # to two or three digits: 150,528 is printed 150K
        printed = float(rounded[:-1]) * {"K": 1e3, "M": 1e6}[rounded[-1]]
        assert layer.values == pytest.approx(printed, rel=0.01)
    factors, _, count = parameters.partition(" = ")
    assert layer.weights == product(factors) == int((count or "0").replace(",", ""))


def test_vgg16_table_is_whole() -> None:
    assert len(lecture_rows("vgg16")) == len(VGG16.strip().splitlines()) == 22


def test_vgg_depths() -> None:
    """16 to 19 layers (003)."""
    assert (depth_of(traced("vgg16")), depth_of(traced("vgg19"))) == (16, 19)


# --- Inception (seed 000 slides 37 and 38: module 3a; seed 002: the naive module and its bottleneck) ---


@pytest.mark.parametrize(
    ("layer", "result"),
    [
        ("pool2", "[28x28x192]"),
        ("conv1x1", "[28x28x64]"),
        ("reduce3x3", "[28x28x96]"),
        ("conv3x3", "[28x28x128]"),
        ("reduce5x5", "[28x28x16]"),
        ("conv5x5", "[28x28x32]"),
        ("pool", "[28x28x192]"),
        ("proj", "[28x28x32]"),
        ("cat", "[28x28x256]"),
    ],
)
def test_inception_module_sizes(layer: str, result: str) -> None:
    name = layer if layer == "pool2" else f"inception_3a.{layer}"
    assert volume(traced("googlenet")[name]) == result


@pytest.mark.parametrize(
    ("layer", "result", "macs"),
    [
        ("branch1x1.conv1x1", "[28x28x128]", 25_690_112),
        ("branch3x3.conv3x3", "[28x28x192]", 346_816_512),
        ("branch5x5.conv5x5", "[28x28x96]", 481_689_600),
        ("pool", "[28x28x256]", 0),
        ("cat", "[28x28x672]", 0),
    ],
)
def test_naive_inception_module(layer: str, result: str, macs: int) -> None:
    row = traced("inception_naive")[f"inception.{layer}"]
    assert (volume(row), row.macs) == (result, macs)


@pytest.mark.parametrize(
    ("layer", "result", "macs"),
    [
        ("branch1x1.conv1x1", "[28x28x128]", 25_690_112),
        ("branch3x3.reduce3x3", "[28x28x64]", 12_845_056),
        ("branch3x3.conv3x3", "[28x28x192]", 86_704_128),
        ("branch5x5.reduce5x5", "[28x28x64]", 12_845_056),
        ("branch5x5.conv5x5", "[28x28x96]", 120_422_400),
        ("branch_pool.proj", "[28x28x64]", 12_845_056),
        ("cat", "[28x28x480]", 0),
    ],
)
def test_inception_module_with_bottlenecks(layer: str, result: str, macs: int) -> None:
    row = traced("inception_bottleneck")[f"inception.{layer}"]
    assert (volume(row), row.macs) == (result, macs)


def module_macs(name: str) -> int:
    return sum(layer.macs for layer in traced(name) if layer.name.startswith("inception."))


def test_5x5_convolution_with_and_without_its_bottleneck() -> None:
    """28x28x192 to 28x28x32: 120.4 M directly, 12.4 M over 16 maps (the example of slide 38's module)."""
    direct = one_layer(nn.Conv2d(192, 32, 5, padding=2), 28, 28, 192).macs
    google = traced("googlenet")
    over = google["inception_3a.reduce5x5"].macs + google["inception_3a.conv5x5"].macs
    assert (direct, over) == (120_422_400, 12_443_648)
    assert f"{direct / over:.1f}" == "9.7"


def test_googlenet_has_22_layers() -> None:
    """Seeds 001 and 002."""
    assert depth_of(traced("googlenet")) == 22


# --- ResNet (seed 000 slides 46 and 47) ---


def test_resnet_is_only_56x56_after_two_layers() -> None:
    anatomy = traced("resnet34")
    assert anatomy.input_shape == (3, 224, 224)
    assert anatomy["pool1"].output[1:] == (56, 56)


# --- Where the lectures are wrong, or count by another rule: both numbers and the reason ---
# Numbered as in docs/lectures.md.


def test_02_lenet5_has_60000_parameters_not_61706() -> None:
    """The network that 000 and 002 draw has full C3, plain pooling, a softmax layer; the paper's has not."""
    assert traced("lenet5_modern").parameters == 61_706
    assert traced("lenet5_rbf").parameters == 60_000
    assert (traced("lenet5_modern")["C3"].parameters, traced("lenet5_rbf")["C3"].parameters) == (2416, 1516)
    assert (traced("lenet5_modern")["S2"].parameters, traced("lenet5_rbf")["S2"].parameters) == (0, 12)
    assert (traced("lenet5_modern")["output"].parameters, traced("lenet5_rbf")["output"].parameters) == (
        850,
        0,
    )


def test_03_alexnet_has_60_million_parameters_not_60000() -> None:
    """001 lost a factor of 1000; 60,000 is LeNet-5's count."""
    lecture = 60_000
    assert traced("alexnet").parameters == 60_965_224
    assert round(traced("alexnet").parameters / lecture) == 1016
    assert traced("lenet5_rbf").parameters == lecture


def test_05_order_of_pooling_and_normalisation() -> None:
    """000 to 003 say CONV, POOL, NORM, which is CaffeNet's order; the paper's is CONV, NORM, POOL."""
    for name, order in (
        ("alexnet", ["norm1", "pool1", "norm2", "pool2"]),
        ("alexnet_lecture", ["pool1", "norm1", "pool2", "norm2"]),
        ("caffenet", ["pool1", "norm1", "pool2", "norm2"]),
    ):
        assert [layer.name for layer in traced(name) if layer.role in ("norm", "pool")][:4] == order


def test_06_an_input_of_224_does_not_fit_one_of_227_does() -> None:
    """The paper prints 224. Without zeros (224 - 11)/4 + 1 = 54.25; the author's program rounds up to 55."""
    assert output_size(227, 11, stride=4).size == 55
    assert output_size(227, 11, stride=4).fits
    paper = output_size(224, 11, stride=4)
    assert (paper.size, paper.fits, paper.lost_px) == (54, False, 1)
    assert traced("alexnet_lecture").input_shape == (3, 227, 227)
    for name in ("alexnet", "alexnet_owt"):  # zeros at two edges; two zeros at every edge
        assert traced(name).input_shape == (3, 224, 224)
        assert traced(name)["conv1"].output[1:] == (55, 55)


def test_07_alexnet_with_and_without_its_two_groups() -> None:
    """000, 002 and 003 leave the groups out; 001's conv2 kernels of 5x5x96 are 5x5x48 in the paper."""
    lecture, paper = traced("alexnet_lecture"), traced("alexnet")
    assert (lecture.parameters, paper.parameters) == (62_378_344, 60_965_224)
    assert (lecture.macs, paper.macs) == (1_135_256_096, 724_406_816)
    for layer, groups in (("conv1", 1), ("conv2", 2), ("conv3", 1), ("conv4", 2), ("conv5", 2)):
        window, without = paper[layer].window, lecture[layer].window
        assert window is not None
        assert without is not None
        assert (window.groups, without.groups) == (groups, 1)
    assert lecture["conv2"].weights == 256 * 5 * 5 * 96
    assert paper["conv2"].weights == 256 * 5 * 5 * 48


def test_08_conv1_has_34944_parameters_with_its_biases() -> None:
    """35K is (11*11*3)*96 = 34,848, rounded, without biases."""
    layer = traced("alexnet_lecture")["conv1"]
    assert (layer.weights, layer.parameters) == (34_848, 34_944)
    assert round(layer.weights / 1000) == round(layer.parameters / 1000) == 35


def test_10_pool1_has_3x3_windows_at_stride_2() -> None:
    """A slide of 002 repeats conv1's "96 11 x 11 filters applied at stride 4"; its own 27x27 says no."""
    as_printed = output_size(55, 11, stride=4).size
    pool = traced("alexnet_lecture")["pool1"]
    assert as_printed == 12
    assert pool.window is not None
    assert (pool.window.kernel, pool.window.stride) == ((3, 3), (2, 2))
    assert volume(pool) == "[27x27x96]"


def test_13_layers_3_to_5_have_no_pooling_or_normalisation_between() -> None:
    """001 calls them similar to layers 1 and 2."""
    roles = [layer.role for layer in traced("alexnet") if layer.role not in ("activation", "view", "other")]
    assert roles[:7] == ["input", "conv", "norm", "pool", "conv", "norm", "pool"]
    assert roles[7:] == ["conv", "conv", "conv", "pool", "fc", "fc", "fc"]


def test_17_zfnet_keeps_alexnets_widths() -> None:
    """000 and 002 print 512, 1024, 512: a variant in the paper's Tables 2 and 3, 1.7 times the parameters."""
    widths = [[traced(name)[f"conv{i}"].output[0] for i in (3, 4, 5)] for name in ("zfnet", "zfnet_wide")]
    assert widths == [[384, 384, 256], [512, 1024, 512]]
    assert (traced("zfnet").parameters, traced("zfnet_wide").parameters) == (62_357_608, 107_627_624)
    assert (traced("zfnet").macs, traced("zfnet_wide").macs) == (1_168_032_896, 2_476_704_896)


def test_19_zfnet_changes_conv2_too() -> None:
    """000 and 002 list conv1 only: conv2 also has stride 2, and nothing is grouped."""
    windows = {name: traced(name)["conv2"].window for name in ("alexnet", "zfnet")}
    assert windows["alexnet"] is not None
    assert windows["zfnet"] is not None
    assert (windows["alexnet"].stride, windows["alexnet"].groups) == ((1, 1), 2)
    assert (windows["zfnet"].stride, windows["zfnet"].groups) == ((2, 2), 1)
    first = traced("zfnet")["conv1"].window
    assert first is not None
    assert (first.kernel, first.stride) == ((7, 7), (2, 2))


def test_20_vgg16_takes_61_megabytes_not_93_or_96() -> None:
    """The rows sum to 15.2M (003); 000 and 002 print 24M below the same rows."""
    values = sum(layer.values for layer in lecture_rows("vgg16"))
    assert values == 15_237_608
    assert f"{values * 4 / 1e6:.2f}" == "60.95"  # MB; 003's "61MB"
    assert f"{values * 4 / 2**20:.2f}" == "58.13"  # MiB
    lecture = 24_000_000
    assert lecture * 4 / 1e6 == 96  # 002
    assert f"{lecture * 4 / 2**20:.1f}" == "91.6"  # so 000's "93 MB" is not MiB either
    # No other way to count gives 24M: ReLUs apart, or VGG-19.
    with_relus = sum(layer.values for layer in traced("vgg16") if layer.role != "view")
    assert f"{with_relus / 1e6:.1f}" == "28.8"
    assert f"{sum(layer.values for layer in lecture_rows('vgg19')) / 1e6:.1f}" == "16.5"


def test_21_vgg16_has_138_million_parameters_with_and_without_biases() -> None:
    """000, 002 and 003: 138M, not counting biases."""
    anatomy = traced("vgg16")
    assert (anatomy.weights, anatomy.biases, anatomy.parameters) == (138_344_128, 13_416, 138_357_544)
    assert round(anatomy.weights / 1e6) == round(anatomy.parameters / 1e6) == 138


def test_24_vgg_has_three_or_four_convolutions_of_256() -> None:
    """The drawings of 002 have two 256 boxes in both: 12 and 14 convolutions in all."""
    drawn = {"vgg16": [2, 2, 2, 3, 3], "vgg19": [2, 2, 2, 4, 4]}
    true = {"vgg16": [2, 2, 3, 3, 3], "vgg19": [2, 2, 4, 4, 4]}
    for name in drawn:
        blocks = [
            sum(layer.name.startswith(f"conv{block}_") for layer in convolutions(traced(name)))
            for block in range(1, 6)
        ]
        assert blocks == true[name]
    assert [sum(drawn[name]) for name in drawn] == [12, 14]
    assert [len(convolutions(traced(name))) for name in drawn] == [13, 16]


def test_25_the_transfer_figure_is_configuration_b() -> None:
    """002 calls it VGG: pairs of 64, 128, 256, 512 and 512, then 4096, 4096, 1000: striate's vgg13."""
    drawn = [64, 64, 128, 128, 256, 256, 512, 512, 512, 512, 4096, 4096, 1000]
    rows = [layer.output[0] for layer in traced("vgg13") if layer.role in ("conv", "fc")]
    assert rows == drawn
    assert len(rows) != len([layer for layer in traced("vgg16") if layer.role in ("conv", "fc")])


def test_26_googlenet_has_7_million_parameters_8_7_times_fewer_than_alexnet() -> None:
    """000 and 002: 5 million, 12 times fewer, twice the compute."""
    google, alex = traced("googlenet"), traced("alexnet")
    assert google.parameters == 6_998_552
    assert google.parameters + google.idle_parameters == 13_378_280  # with the auxiliary classifiers
    assert f"{alex.parameters / google.parameters:.1f}" == "8.7"
    assert f"{alex.parameters / 5e6:.1f}" == "12.2"  # what "12X less" was made of
    assert f"{google.macs / alex.macs:.1f}" == "2.2"


def test_27_googlenet_has_a_fully_connected_layer() -> None:
    """000 and 002: no FC layers. One is left, of 1,025,000 parameters; each auxiliary classifier has two."""
    layers = [layer for layer in traced("googlenet") if layer.role == "fc"]
    assert [(layer.output, layer.parameters) for layer in layers] == [((1000,), 1_025_000)]
    with torch.device("meta"):
        modules = [module for module in build("googlenet").modules() if isinstance(module, nn.Linear)]
    assert len(modules) == 1 + 2 * 2
    alexnets = sum(layer.parameters for layer in traced("alexnet") if layer.role == "fc")
    assert f"{alexnets / traced('alexnet').parameters:.1%}" == "96.2%"


def test_29_the_bottlenecks_save_68_percent() -> None:
    """002: about 60 %. The usual sum of 358M counts the 3x3 convolution twice."""
    naive, bottleneck = module_macs("inception_naive"), module_macs("inception_bottleneck")
    assert (naive, bottleneck) == (854_196_224, 271_351_808)
    assert f"{1 - bottleneck / naive:.1%}" == "68.2%"
    twice = bottleneck + traced("inception_bottleneck")["inception.branch3x3.conv3x3"].macs
    assert twice == 358_055_936
    assert f"{1 - twice / naive:.1%}" == "58.1%"


def test_31_resnet152_is_8_times_as_deep_as_vgg19_and_cheaper() -> None:
    """000: faster than a VGGNet, even though it has 8x more layers: right."""
    depths = [depth_of(traced(name)) for name in ("resnet152", "vgg19")]
    assert depths == [152, 19]
    assert depths[0] / depths[1] == 8.0
    giga = [f"{traced(name).macs / 1e9:.1f}" for name in ("resnet152", "vgg16", "vgg19")]
    assert giga == ["11.3", "15.5", "19.6"]


def test_32_a_window_that_does_not_fit_is_a_matter_of_convention() -> None:
    """003 and 004: 7x7, 3x3 at stride 3 "cannot" be applied: (7 - 3)/3 + 1 = 2.33."""
    assert f"{(7 - 3) / 3 + 1:.2f}" == "2.33"
    rounded_down = output_size(7, 3, stride=3)
    assert (rounded_down.size, rounded_down.fits, rounded_down.lost_px) == (2, False, 1)
    assert one_layer(nn.Conv2d(1, 1, 3, stride=3), 7, 7, 1).output == (1, 2, 2)
    assert output_size(7, 3, stride=3, ceil_mode=True).size == 3  # Caffe's pools
    assert one_layer(nn.MaxPool2d(3, stride=3, ceil_mode=True), 7, 7, 1).output == (1, 3, 3)


def test_a_window_larger_than_its_input_is_refused() -> None:
    with pytest.raises(InputSizeError, match="expected an input of at least 11 px"):
        output_size(7, 11)


def test_the_page_has_every_row() -> None:
    """docs/lectures.md lists all 38 places, and each test of the second half is for one of them."""
    page = (Path(__file__).parents[2] / "docs" / "lectures.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[0]) for row in rows] == list(range(1, 39))
    assert {len(row) for row in rows} == {5}
    tested = {int(found[1]) for name in globals() if (found := re.match(r"test_(\d\d)_", name))}
    assert tested >= {2, 3, 7, 8, 10, 17, 20, 21, 24, 26, 27, 29, 31, 32}
    for row in rows:
        assert int(row[0]) not in tested or "striate" in row[4], row[0]
