"""Parameters, MACs and receptive fields as published: torchvision's metadata, the papers, arithmetic by hand.

Parameters and MACs were read in torchvision's weight metadata (``num_params``, ``_ops``) or summed by hand
from the papers' tables of layers; nothing here was made by striate.
"""

from functools import cache

import pytest
import torch

from striate.anatomy import Anatomy, trace
from striate.nets import build


@cache
def traced(name: str) -> Anatomy:
    with torch.device("meta"):
        return trace(build(name))


def rows_of(name: str, layer: str) -> tuple[int, int | None]:
    """Size and jump of a layer's receptive field; rows and columns are alike in these networks."""
    field = traced(name)[layer].field
    assert field is not None
    assert field.rows == field.columns
    return field.rows.size_px, field.rows.jump_px


def before_the_global_pool(name: str) -> str:
    """Name of the last layer that still is a map of the image."""
    pool = [layer for layer in traced(name) if layer.role == "pool"][-1]
    (source,) = pool.inputs
    return source


# torchvision 0.28: num_params to the unit; _ops in 10^9 multiply-accumulates, rounded to three decimals.
@pytest.mark.parametrize(
    ("name", "parameters", "giga_macs"),
    [
        ("alexnet_owt", 61_100_840, "0.714"),
        ("vgg11", 132_863_336, "7.609"),
        ("vgg11_bn", 132_868_840, "7.609"),
        ("vgg13", 133_047_848, "11.308"),
        ("vgg13_bn", 133_053_736, "11.308"),
        ("vgg16", 138_357_544, "15.470"),
        ("vgg16_bn", 138_365_992, "15.470"),
        ("vgg19", 143_667_240, "19.632"),
        ("vgg19_bn", 143_678_248, "19.632"),
        ("googlenet_tv", 6_624_904, "1.498"),
        ("resnet18", 11_689_512, "1.814"),
        ("resnet34", 21_797_672, "3.664"),
        ("resnet50_v1_5", 25_557_032, "4.089"),
        ("resnet101_v1_5", 44_549_160, "7.801"),
        ("resnet152_v1_5", 60_192_808, "11.514"),
    ],
)
def test_torchvision_metadata(name: str, parameters: int, giga_macs: str) -> None:
    anatomy = traced(name)
    assert anatomy.parameters == parameters
    assert f"{anatomy.macs / 1e9:.3f}" == giga_macs


# MACs to the unit where the design or a hand sum states them.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("alexnet_owt", 714_188_480),
        ("alexnet", 724_406_816),
        ("resnet50", 3_857_973_248),
        ("resnet50_v1_5", 4_089_184_256),
        ("lenet_caffe", 2_293_000),
        ("inception_naive", 854_196_224 + 28 * 28 * 27 * 256 + 6720),  # with its stem and classifier
    ],
)
def test_macs_to_the_unit(name: str, macs: int) -> None:
    assert traced(name).macs == macs


# Parameters to the unit, MACs as rounded in the papers' and the authors' tables and in hand sums.
@pytest.mark.parametrize(
    ("name", "parameters", "macs", "unit"),
    [
        ("lenet5_rbf", 60_000, None, 1),  # LeCun et al. 1998, sum over section II.B
        ("lenet5_modern", 61_706, "416520", 1),
        ("lenet_caffe", 431_080, "2.293", 1e6),
        ("alexnet_caffe", 60_965_224, "724.4", 1e6),
        ("caffenet", 60_965_224, "724.4", 1e6),
        ("alexnet_lecture", 62_378_344, "1135.3", 1e6),
        ("zfnet", 62_357_608, "1.168", 1e9),
        ("zfnet_wide", 107_627_624, "2.477", 1e9),
        ("nin_cifar10", 966_986, "222.5", 1e6),
        ("nin_imagenet", 7_595_176, "1.100", 1e9),
        ("vgg_a_lrn", 132_863_336, "7.609", 1e9),
        ("vgg_c", 133_638_952, "11.771", 1e9),
        ("googlenet", 6_998_552, "1582.7", 1e6),
        ("cuda_convnet_relu", 89_578, None, 1),
        ("resnet50", 25_557_032, "3.858", 1e9),
        ("resnet101", 44_549_160, "7.570", 1e9),
        ("resnet152", 60_192_808, "11.282", 1e9),
        ("plain18", 11_515_688, None, 1),
        ("plain34", 21_623_848, None, 1),
        ("resnet18_a", 11_515_688, None, 1),
        ("resnet34_a", 21_623_848, None, 1),
        ("resnet34_c", 22_716_840, None, 1),
        ("resnet152_c", 107_335_720, None, 1),
        ("resnet20", 269_722, "40.55", 1e6),
        ("resnet32", 464_154, "68.86", 1e6),
        ("resnet44", 658_586, "97.17", 1e6),
        ("resnet56", 853_018, "125.49", 1e6),
        ("resnet110", 1_727_962, "252.89", 1e6),
    ],
)
def test_papers_and_hand_sums(name: str, parameters: int, macs: str | None, unit: float) -> None:
    anatomy = traced(name)
    assert anatomy.parameters == parameters
    if macs is not None:
        decimals = len(macs.partition(".")[2])
        assert f"{anatomy.macs / unit:.{decimals}f}" == macs


# He et al. 2015, Table 1 and section 4.1, print multiply-adds in 10^9; option A and the paper's stride.
@pytest.mark.parametrize(
    ("name", "printed"),
    [("resnet18", 1.8), ("resnet34", 3.6), ("resnet50", 3.8), ("resnet101", 7.6), ("resnet152", 11.3)],
)
def test_resnet_paper_counts_macs(name: str, printed: float) -> None:
    assert traced(name).macs / 1e9 == pytest.approx(printed, abs=0.07)


# Szegedy et al. 2014, Table 1: widths; biases and MACs (in 10^6) by hand.
@pytest.mark.parametrize(
    ("module", "depth", "parameters", "mega_macs"),
    [
        ("3a", 256, 163_696, 128.0),
        ("3b", 480, 388_736, 304.3),
        ("4a", 512, 376_176, 73.6),
        ("4b", 512, 449_160, 87.9),
        ("4c", 512, 510_104, 99.9),
        ("4d", 528, 605_376, 118.5),
        ("4e", 832, 868_352, 170.0),
        ("5a", 832, 1_043_456, 51.1),
        ("5b", 1024, 1_444_080, 70.7),
    ],
)
def test_inception_modules(module: str, depth: int, parameters: int, mega_macs: float) -> None:
    layers = [layer for layer in traced("googlenet") if layer.name.startswith(f"inception_{module}.")]
    side = {"3": 28, "4": 14, "5": 7}[module[0]]
    assert layers[-1].output == (depth, side, side)
    assert sum(layer.parameters for layer in layers) == parameters
    assert sum(layer.macs for layer in layers) / 1e6 == pytest.approx(mega_macs, abs=0.05)


# LeCun et al. 1998, section II.B; fields by hand.
@pytest.mark.parametrize(
    ("layer", "output", "parameters", "field"),
    [
        ("C1", (6, 28, 28), 156, (5, 1)),
        ("S2", (6, 14, 14), 12, (6, 2)),
        ("C3", (16, 10, 10), 1_516, (14, 2)),
        ("S4", (16, 5, 5), 32, (16, 4)),
        ("C5", (120, 1, 1), 48_120, (32, 4)),
    ],
)
def test_lenet5(layer: str, output: tuple[int, ...], parameters: int, field: tuple[int, int]) -> None:
    row = traced("lenet5")[layer]
    assert row.output == output
    assert row.parameters == parameters
    assert rows_of("lenet5", layer) == field


def test_lenet5_fully_connected() -> None:
    assert traced("lenet5_rbf")["F6"].parameters == 10_164
    assert traced("lenet5_rbf")["output"].parameters == 0  # 840 fixed values of the digit codes


ALEXNET_FIELDS = {
    "conv1": (11, 4),
    "pool1": (19, 8),
    "conv2": (51, 8),
    "pool2": (67, 16),
    "conv3": (99, 16),
    "conv4": (131, 16),
    "conv5": (163, 16),
    "pool5": (195, 32),
}


@pytest.mark.parametrize("name", ["alexnet", "alexnet_caffe", "caffenet", "alexnet_lecture", "alexnet_owt"])
def test_alexnet_fields(name: str) -> None:
    assert {layer: rows_of(name, layer) for layer in ALEXNET_FIELDS} == ALEXNET_FIELDS


# Krizhevsky et al. 2012, sections 3.2 to 3.5: two groups in conv2, conv4 and conv5.
@pytest.mark.parametrize(
    ("layer", "parameters", "macs"),
    [
        ("conv1", 34_944, 105_415_200),
        ("conv2", 307_456, 223_948_800),
        ("conv3", 885_120, 149_520_384),
        ("conv4", 663_936, 112_140_288),
        ("conv5", 442_624, 74_760_192),
        ("fc6", 37_752_832, 37_748_736),
        ("fc7", 16_781_312, 16_777_216),
        ("fc8", 4_097_000, 4_096_000),
    ],
)
def test_alexnet_costs(layer: str, parameters: int, macs: int) -> None:
    row = traced("alexnet")[layer]
    assert (row.parameters, row.macs) == (parameters, macs)


def test_alexnet_neurons() -> None:
    """The paper's Fig. 2 counts 253,440 for conv1, which is 55 * 48 * 96; the layer has 55 * 55 * 96."""
    anatomy = traced("alexnet")
    neurons = [anatomy[f"conv{i}"].values for i in range(1, 6)] + [
        anatomy[f"fc{i}"].values for i in (6, 7, 8)
    ]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(neurons) == 659_272  # "650,000 neurons" in the abstract


@pytest.mark.parametrize("name", ["zfnet", "zfnet_wide"])
def test_zfnet_fields(name: str) -> None:
    """Zeiler and Fergus 2013, Fig. 3: stride 2 in conv1 and conv2 and in each pool."""
    layers = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
    assert [rows_of(name, layer)[0] for layer in layers] == [7, 11, 27, 43, 75, 107, 139, 171]
    assert rows_of(name, "pool5")[1] == 32


@pytest.mark.parametrize(
    ("layer", "output", "parameters"),
    [
        ("conv1", (96, 110, 110), 14_208),
        ("pool1", (96, 55, 55), 0),
        ("conv2", (256, 26, 26), 614_656),
        ("pool2", (256, 13, 13), 0),
        ("conv3", (384, 13, 13), 885_120),
        ("conv4", (384, 13, 13), 1_327_488),
        ("conv5", (256, 13, 13), 884_992),
        ("pool5", (256, 6, 6), 0),
        ("fc6", (4096,), 37_752_832),
        ("fc7", (4096,), 16_781_312),
        ("fc8", (1000,), 4_097_000),
    ],
)
def test_zfnet_layers(layer: str, output: tuple[int, ...], parameters: int) -> None:
    row = traced("zfnet")[layer]
    assert (row.output, row.parameters) == (output, parameters)


def test_vgg16_fields() -> None:
    assert rows_of("vgg16", "conv5_3") == (196, 16)
    assert rows_of("vgg16", "pool5") == (212, 32)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 435),
        ("resnet34", 899),
        ("resnet50_v1_5", 427),
        ("resnet101_v1_5", 971),
        ("resnet152_v1_5", 1451),
        ("resnet50", 483),
        ("resnet101", 1027),
        ("resnet152", 1507),
    ],
)
def test_resnet_fields(name: str, size: int) -> None:
    assert rows_of(name, before_the_global_pool(name)) == (size, 32)


def test_googlenet_fields() -> None:
    """torchvision's form has 3x3 windows where the paper has 5x5 ones, and a 2x2 pool4."""
    assert rows_of("googlenet", before_the_global_pool("googlenet")) == (715, 32)
    assert rows_of("googlenet_tv", before_the_global_pool("googlenet_tv")) == (379, 32)
