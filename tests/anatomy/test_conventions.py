"""The rules of other tools against the tools themselves, and against figures of the fact sheet."""

import warnings

import pytest
import torch
from torch import nn

from striate import nets
from striate.anatomy import conventions, trace
from striate.anatomy.conventions import PRINTED

SMALL = [
    "mlp2",
    "lenet5",
    "lenet5_rbf",
    "lenet5_modern",
    "cuda_convnet_relu",
    "convnetjs_cifar",
    "nin_cifar10",
]
LARGE = ["resnet20", "alexnet", "googlenet", "googlenet_tv", "resnet18"]


def reported(name):
    with torch.device("meta"):
        record = trace(nets.build(name))
    return {one.tool: (one.parameters, one.cost) for one in conventions(record, name)}


def build(name):
    net = nets.build(name).eval()
    return net, torch.zeros(1, *net.input_shape)


@pytest.fixture(scope="module")
def ptflops():
    """ptflops, which imports torchvision; its compiled operators don't load on CPU builds of torch."""
    own = torch.library.register_fake

    def lenient(name, *arguments, **keywords):
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return own(name, *arguments, **keywords)

    torch.library.register_fake = lenient
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return pytest.importorskip("ptflops")
    finally:
        torch.library.register_fake = own


@pytest.mark.peer
@pytest.mark.parametrize("name", SMALL + LARGE)
def test_fvcore(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fvcore = pytest.importorskip("fvcore.nn")
        net, images = build(name)
        found = fvcore.FlopCountAnalysis(net, images)
        found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        assert reported(name)["fvcore"] == (fvcore.parameter_count(net)[""], found.total())


@pytest.mark.peer
@pytest.mark.parametrize("name", SMALL + LARGE)
def test_torchinfo(name):
    torchinfo = pytest.importorskip("torchinfo")
    net, images = build(name)
    found = torchinfo.summary(net, input_data=images, verbose=0)
    assert reported(name)["torchinfo"] == (found.total_params, found.total_mult_adds)


@pytest.mark.peer
@pytest.mark.parametrize("name", SMALL + LARGE)
@pytest.mark.parametrize(("tool", "backend"), [("ptflops", "pytorch"), ("ptflops, backend aten", "aten")])
def test_ptflops(ptflops, name, tool, backend):
    net, images = build(name)
    macs, parameters = ptflops.get_model_complexity_info(
        net, tuple(images.shape[1:]), as_strings=False, print_per_layer_stat=False, backend=backend
    )
    assert reported(name)[tool] == (parameters, macs)


class Functional(nn.Module):
    """Normalisation of groups and layers, adaptive pooling, and functional calls."""

    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.plain = nn.BatchNorm2d(8, affine=False)
        self.leaky = nn.LeakyReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.layer = nn.LayerNorm(32)
        self.fc = nn.Linear(32, 4, bias=False)

    def forward(self, images):
        maps = nn.functional.relu(self.plain(self.group(self.conv(images))))
        maps = nn.functional.max_pool2d(self.leaky(maps), 2)
        return nn.functional.softmax(self.fc(self.layer(self.pool(maps).flatten(1))), dim=1)


def functional():
    net = Functional().eval()
    return {one.tool: one.cost for one in conventions(trace(net))}, net, torch.zeros(1, 3, 16, 16)


@pytest.mark.peer
def test_other_layers_in_fvcore():
    costs, net, images = functional()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fvcore = pytest.importorskip("fvcore.nn")
        found = fvcore.FlopCountAnalysis(net, images).unsupported_ops_warnings(False)
        assert costs["fvcore"] == found.total()


@pytest.mark.peer
def test_other_layers_in_torchinfo():
    torchinfo = pytest.importorskip("torchinfo")
    costs, net, images = functional()
    assert costs["torchinfo"] == torchinfo.summary(net, input_data=images, verbose=0).total_mult_adds


@pytest.mark.peer
@pytest.mark.parametrize(("tool", "backend"), [("ptflops", "pytorch"), ("ptflops, backend aten", "aten")])
def test_other_layers_in_ptflops(ptflops, tool, backend):
    costs, net, _ = functional()
    macs, _ = ptflops.get_model_complexity_info(
        net, (3, 16, 16), as_strings=False, print_per_layer_stat=False, backend=backend
    )
    assert costs[tool] == macs


@pytest.mark.parametrize("name", [*SMALL, "resnet20", "resnet18"])
def test_torchs_own_counter(name):
    from torch.utils.flop_counter import FlopCounterMode

    net, images = build(name)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(images)
    assert reported(name)["torch FlopCounterMode"] == (None, counter.get_total_flops())


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "giga"),
    [  # torchvision's published num_params and _ops (fact sheet, sections C.3, F.1, H.1)
        ("alexnet_owt", 61_100_840, 714_188_480, "0.714"),
        ("vgg11", 132_863_336, 7_609_090_048, "7.609"),
        ("vgg16", 138_357_544, 15_470_264_320, "15.470"),
        ("resnet50_v1_5", 25_557_032, 4_089_184_256, "4.089"),
    ],
)
def test_torchvisions_published_figures(name, parameters, macs, giga):
    found = reported(name)
    assert found["striate"] == (parameters, macs)
    assert found["torchvision"] == (parameters, giga)


def test_resnet50_by_hand():
    found = reported("resnet50")
    assert found["striate"] == (25_557_032, 3_857_973_248)
    # 2 FLOP for each of the 10,587,136 values that its 53 batch normalisations give:
    # conv1 802,816; stages: see He et al. 2015, Table 1, and the shortcuts.
    first = 64 * 112**2
    stages = sum(
        blocks * (2 * width + 4 * width) * side**2 + 4 * width * side**2
        for blocks, width, side in ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))
    )
    assert found["fvcore"] == (25_557_032, 3_857_973_248 + 2 * (first + stages))
    assert found["the paper"] == (None, "3.8 x 10^9")


def test_printed_figures_belong_to_networks():
    assert set(PRINTED) <= set(nets.NETS)


def test_only_timm_is_unverified():
    with torch.device("meta"):
        record = trace(nets.build("lenet5"))
    found = conventions(record)
    assert [one.tool for one in found if one.verified is False] == ["timm"]
    assert "the paper" not in {one.tool for one in found}
