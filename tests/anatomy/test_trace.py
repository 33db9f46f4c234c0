"""Reading networks: every way of writing one; costs against PyTorch's own counters."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from striate.anatomy import Anatomy, Axis, trace
from striate.core.errors import InputSizeError, UsageError
from striate.nets import NETS, build
from striate.nets.modules import LocalResponseNorm


class Net(nn.Module):
    """Modules with a forward function of the test's own."""

    def __init__(self, forward: Callable[["Net", Tensor], object], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.forward_of = forward

    def forward(self, images: Tensor) -> object:
        return self.forward_of(self, images)


def names(anatomy: Anatomy) -> list[str]:
    return [layer.name for layer in anatomy]


def rows(anatomy: Anatomy, name: str) -> Axis:
    field = anatomy[name].field
    assert field is not None, anatomy[name].note
    return field.rows


# Ways of writing a network


class Functional(nn.Module):
    """Two branches written with functions only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.zeros(4))
        self.second = nn.Parameter(torch.zeros(4, 4, 5, 5))

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(functional.conv2d(images, self.first, self.bias, padding=1))
        wide = functional.conv2d(maps, self.second, padding=2)
        joined = torch.cat([maps + wide, wide], dim=1)
        return functional.max_pool2d(joined, 2).flatten(1)


def test_functional_calls() -> None:
    anatomy = trace(Functional(), (3, 8, 8))
    assert names(anatomy) == ["input", "conv2d", "relu", "conv2d#2", "add", "cat", "max_pool2d"]
    assert [layer.output for layer in anatomy] == [
        (3, 8, 8),
        (4, 8, 8),
        (4, 8, 8),
        (4, 8, 8),
        (4, 8, 8),
        (8, 8, 8),
        (8, 4, 4),
    ]
    assert [(layer.weights, layer.biases) for layer in anatomy if layer.parameters] == [(108, 4), (400, 0)]
    assert anatomy["conv2d"].macs == 27 * 4 * 64
    assert anatomy["conv2d#2"].macs == 100 * 4 * 64
    assert anatomy["add"].inputs == ("relu", "conv2d#2")
    assert anatomy["cat"].inputs == ("add", "conv2d#2")
    assert anatomy["cat"].role == anatomy["add"].role == "join"
    assert rows(anatomy, "relu") == Axis(3, 1, -1)
    assert rows(anatomy, "cat") == Axis(7, 1, -3)
    assert rows(anatomy, "max_pool2d") == Axis(8, 2, -3)
    assert anatomy.outputs == ("max_pool2d",)
    assert anatomy.idle_parameters == 0


def test_reused_module_has_rows_of_its_own_and_its_parameters_once() -> None:
    net = Net(lambda self, x: self.conv(self.conv(x)), conv=nn.Conv2d(3, 3, 3, padding=1))
    anatomy = trace(net, (3, 6, 6))
    assert names(anatomy) == ["input", "conv", "conv#2"]
    assert [layer.parameters for layer in anatomy] == [0, 84, 0]
    assert anatomy.macs == 2 * 81 * 36
    assert rows(anatomy, "conv#2") == Axis(5, 1, -2)


def test_tied_weights_are_counted_once() -> None:
    encoder, decoder = nn.Linear(16, 16), nn.Linear(16, 16)
    decoder.weight = encoder.weight
    net = nn.Sequential(nn.Flatten(), encoder, decoder)
    anatomy = trace(net, (1, 4, 4))
    assert anatomy.parameters == 256 + 16 + 16 == sum(p.numel() for p in net.parameters())
    assert (anatomy["2"].weights, anatomy["2"].biases) == (0, 16)
    assert anatomy.macs == 512


def test_frozen_parameters_are_not_trainable_ones() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1))
    net[0].requires_grad_(False)
    anatomy = trace(net, (1, 5, 5))
    assert anatomy.parameters == 6
    assert anatomy.idle_parameters == 0


def test_in_place_relus() -> None:
    net = Net(
        lambda self, x: functional.relu_(self.second(self.relu(self.first(x)))),
        first=nn.Conv2d(1, 2, 3),
        relu=nn.ReLU(inplace=True),
        second=nn.Conv2d(2, 2, 3),
    )
    anatomy = trace(net, (1, 8, 8))
    assert names(anatomy) == ["input", "first", "relu", "second", "relu#2"]
    assert [layer.inputs for layer in anatomy] == [(), ("input",), ("first",), ("relu",), ("second",)]
    assert anatomy.outputs == ("relu#2",)


def test_grouped_convolution() -> None:
    """AlexNet's conv2: 2 groups of 48 maps to 128 (fact sheet, C.1)."""
    net = nn.Sequential(nn.Conv2d(96, 256, 5, padding=2, groups=2))
    layer = trace(net, (96, 27, 27))["0"]
    assert (layer.weights, layer.biases, layer.macs) == (307_200, 256, 223_948_800)
    assert layer.im2col is not None
    assert (layer.im2col.columns, layer.im2col.weights, layer.im2col.groups) == ((1200, 729), (128, 1200), 2)
    assert layer.window is not None
    assert layer.window.groups == 2


def test_dilated_convolution_on_an_image_that_is_not_square() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, (3, 5), stride=(1, 2), padding=(2, 0), dilation=(2, 1)))
    layer = trace(net, (1, 9, 21))["0"]
    assert layer.output == (1, 9, 9)
    assert layer.field is not None
    assert (layer.field.rows, layer.field.columns) == (Axis(5, 1, -2), Axis(5, 2, 0))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_even_window_that_keeps_the_size() -> None:
    """Four taps need three zeros: torch lays one before and two after."""
    anatomy = trace(nn.Sequential(nn.Conv2d(1, 1, 4, padding="same")), (1, 8, 8))
    assert anatomy["0"].output == (1, 8, 8)
    assert rows(anatomy, "0") == Axis(4, 1, -1)


def test_transposed_convolution_has_costs_but_no_field() -> None:
    """Each of 3 x 16 inputs meets 5 kernels of 16 taps."""
    layer = trace(nn.Sequential(nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)), (3, 4, 4))["0"]
    assert layer.output == (5, 8, 8)
    assert layer.macs == 3 * 16 * 5 * 16
    assert layer.field is None
    assert "transposed" in layer.note


@pytest.mark.parametrize(
    "norm",
    [
        nn.LocalResponseNorm(5),
        LocalResponseNorm(alpha=1e-4, k=2),
        LocalResponseNorm(alpha=1e-4, k=2, towers=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout2d(),
    ],
    ids=["torch LRN", "LRN", "LRN in towers", "batch norm", "ReLU", "dropout"],
)
def test_units_that_see_their_own_place_only(norm: nn.Module) -> None:
    anatomy = trace(nn.Sequential(nn.Conv2d(1, 6, 3), norm), (1, 9, 9))
    assert len(names(anatomy)) == 3
    assert rows(anatomy, "1") == Axis(3, 1, 0)
    assert anatomy["1"].macs == 0


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(6), nn.GroupNorm(2, 6)], ids=["instance", "group"])
def test_normalisation_over_places_sees_the_whole_image(norm: nn.Module) -> None:
    anatomy = trace(nn.Sequential(nn.Conv2d(1, 6, 3), norm), (1, 9, 9))
    assert rows(anatomy, "1") == Axis(9, None, 0)


@pytest.mark.parametrize("expanded", [False, True])
def test_squeeze_and_excite_sees_the_whole_image(expanded: bool) -> None:
    def forward(self: Net, images: Tensor) -> Tensor:
        maps = self.conv(images)
        gate = torch.sigmoid(self.excite(self.squeeze(maps).flatten(1)))[:, :, None, None]
        return self.after(maps * (gate.expand_as(maps) if expanded else gate))

    net = Net(
        forward,
        conv=nn.Conv2d(3, 4, 3, padding=1),
        squeeze=nn.AdaptiveAvgPool2d(1),
        excite=nn.Linear(4, 4),
        after=nn.Conv2d(4, 4, 3, padding=1),
    )
    anatomy = trace(net, (3, 10, 10))
    assert rows(anatomy, "conv") == Axis(3, 1, -1)
    for name in ("squeeze", "excite", "mul", "after"):
        assert rows(anatomy, name) == Axis(12, None, -1), name
    assert anatomy["excite"].macs == 16
    assert anatomy["mul"].inputs == ("conv", "sigmoid")


def test_reduction_of_one_axis_keeps_the_other() -> None:
    field = trace(Net(lambda self, x: x.mean(dim=2, keepdim=True)), (1, 6, 7))["mean"].field
    assert field is not None
    assert (field.rows, field.columns) == (Axis(6, None, 0), Axis(1, 1, 0))


def test_channel_shuffle_keeps_the_place() -> None:
    def forward(self: Net, images: Tensor) -> Tensor:
        maps = self.grouped(images)
        batch, channels, height, width = maps.shape
        shuffled = maps.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return self.after(shuffled.reshape(batch, channels, height, width))

    net = Net(forward, grouped=nn.Conv2d(2, 4, 3, groups=2), after=nn.Conv2d(4, 4, 3, groups=4, bias=False))
    anatomy = trace(net, (2, 9, 9))
    assert names(anatomy) == ["input", "grouped", "after"]
    assert rows(anatomy, "after") == Axis(5, 1, 0)


def test_values_that_change_places_have_no_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.PixelShuffle(2))
    assert trace(net, (1, 9, 9))["1"].field is None


def test_adaptive_pooling() -> None:
    even = trace(nn.Sequential(nn.AdaptiveAvgPool2d(4)), (1, 8, 8))
    assert rows(even, "0") == Axis(2, 2, 0)
    uneven = trace(nn.Sequential(nn.AdaptiveAvgPool2d(4)), (1, 10, 10))["0"]
    assert uneven.field is None
    assert "adaptive" in uneven.note


def test_unknown_operation_says_so() -> None:
    layer = trace(Net(lambda self, x: functional.interpolate(x, scale_factor=2)), (1, 4, 4)).layers[-1]
    assert layer.output == (1, 8, 8)
    assert layer.field is None
    assert "no rule" in layer.note


def test_fully_connected_layer_sees_all() -> None:
    anatomy = trace(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(50, 3)), (1, 5, 5))
    assert rows(anatomy, "2") == Axis(7, None, -1)
    assert rows(anatomy, "2").covers(5)
    assert anatomy["2"].macs == 150


def test_several_outputs() -> None:
    def forward(self: Net, images: Tensor) -> dict[str, object]:
        maps = self.trunk(images)
        return {"scores": self.head(maps.flatten(1)), "maps": [maps, maps.sum()]}

    net = Net(forward, trunk=nn.Conv2d(1, 2, 3), head=nn.Linear(18, 4))
    anatomy = trace(net, (1, 5, 5))
    assert anatomy.outputs == ("head", "trunk", "sum")
    pair = trace(Net(lambda self, x: (self.a(x), self.b(x)), a=nn.ReLU(), b=nn.Tanh()), (1, 2, 2))
    assert pair.outputs == ("a", "b")
    assert pair["b"].inputs == ("input",)


def test_what_only_training_uses_is_idle() -> None:
    """GoogLeNet's two auxiliary classifiers (fact sheet, G.1)."""
    with torch.device("meta"):
        net = build("googlenet")
    anatomy = trace(net)
    assert anatomy.idle_parameters == 3_188_840 + 3_190_888
    assert anatomy.parameters + anatomy.idle_parameters == 13_378_280


def test_kernel_made_of_fewer_weights_says_so() -> None:
    """LeNet-5's C3: 60 of 96 links of 25 weights (LeCun et al. 1998, Table I)."""
    layer = trace(build("lenet5"))["C3"]
    assert (layer.weights, layer.biases) == (1500, 16)
    assert layer.macs == 150_000  # one for each existing link: 60 links of 25 weights on 100 positions
    assert "2,400 values made of 1,500 weights" in layer.note


def test_name_and_shape_come_from_the_network() -> None:
    with torch.device("meta"):
        net = build("nin_cifar10")
    assert trace(net).name == "nin_cifar10"
    assert trace(net).input_shape == (3, 32, 32)
    assert trace(nn.Sequential(nn.ReLU()), (1, 2, 2)).name == "Sequential"
    assert trace(nn.Sequential(nn.ReLU()), (1, 2, 2), name="mine").name == "mine"


# What is left behind


def hooks_of(net: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


def mixed_modes() -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Dropout(), nn.ReLU())).train()
    net[1].eval()
    return net


def test_nothing_is_left_behind() -> None:
    net = mixed_modes()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    random_state = torch.get_rng_state()
    trace(net, (1, 6, 6))
    assert [module.training for module in net.modules()] == modes
    assert modes[2] is False
    assert hooks_of(net) == 0
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.is_grad_enabled()
    assert torch.empty(1).device.type == "cpu"
    assert net(torch.zeros(2, 1, 6, 6)).device.type == "cpu"


@pytest.mark.parametrize("error", [RuntimeError, KeyError, AssertionError, ZeroDivisionError])
def test_nothing_is_left_behind_after_an_exception(error: type[Exception]) -> None:
    class Broken(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            raise error("no\nuse")

    net = mixed_modes().append(Broken())
    modes = [module.training for module in net.modules()]
    with pytest.raises(UsageError) as caught:
        trace(net, (1, 6, 6))
    assert "\n" not in str(caught.value)
    assert [module.training for module in net.modules()] == modes
    assert hooks_of(net) == 0
    assert torch.is_grad_enabled()
    assert torch.empty(1).device.type == "cpu"


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: x if x.sum() > 0 else -x,
        lambda self, x: x * float(x.max()),
        lambda self, x: x[x > 0],
        lambda self, x: x[:, :, : x.argmax().item()],
    ],
    ids=["if", "float", "mask", "item"],
)
def test_code_that_depends_on_values_is_refused_in_one_line(
    forward: Callable[[Net, Tensor], Tensor],
) -> None:
    with pytest.raises(UsageError) as caught:
        trace(Net(forward), (1, 4, 4), name="mine")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("mine can't be read")


def test_wrong_sizes_are_refused() -> None:
    with torch.device("meta"):
        net = build("vgg11")
    with pytest.raises(InputSizeError, match="3x224x224, got 3x100x100"):
        trace(net, (3, 100, 100))
    with pytest.raises(UsageError, match=r"mine can't be read at 1x2x2.*`input_shape`"):
        trace(nn.Sequential(nn.Conv2d(1, 1, 3)), (1, 2, 2), name="mine")
    with pytest.raises(UsageError, match="expected the size of the input"):
        trace(nn.ReLU())
    with pytest.raises(UsageError, match="channels, height and width"):
        trace(nn.ReLU(), (3, 0, 4))


# Shapes alone


def largest_allocation(action: Callable[[], object]) -> int:
    """Bytes of the largest CPU allocation that torch makes during an action."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        action()
    return max((abs(event.self_cpu_memory_usage) for event in seen.events() or ()), default=0)


def test_weights_on_the_cpu_stay_where_they_are() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 30 * 30, 2000)
    )  # 57.6 MB of weights
    before = {key: (value.data_ptr(), value.device) for key, value in net.state_dict().items()}
    assert largest_allocation(lambda: net[3].weight.clone()) >= 57_600_000
    assert largest_allocation(lambda: trace(net, (3, 32, 32))) < 100_000
    assert {key: (value.data_ptr(), value.device) for key, value in net.state_dict().items()} == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_resnet152_is_read_without_its_weights() -> None:
    with torch.device("meta"):
        net = build("resnet152")
    assert largest_allocation(lambda: trace(net)) < 1_000_000
    assert all(parameter.device.type == "meta" for parameter in net.parameters())
    anatomy = traced("resnet152")
    assert anatomy.parameters == 60_192_808
    assert anatomy["fc"].output == (1000,)


# PyTorch's own counters


@cache
def traced(name: str) -> Anatomy:
    with torch.device("meta"):
        return trace(build(name))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "resnet1202" else ()) for name in NETS],
)
def test_costs_of_every_network_against_torch(name: str) -> None:
    """torch counts 2 FLOP for a multiply-accumulate, in convolutions and matrix products, as striate does."""
    with torch.device("meta"):
        net = build(name).eval()
        images = torch.empty(1, *net.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(images)
    anatomy = traced(name)
    # torch sees the dense kernel that runs for LeNet-5's C3; striate counts its 60 links of 96.
    missing_links = 36 * 25 * 100 if name in ("lenet5", "lenet5_rbf") else 0
    assert 2 * (anatomy.macs + missing_links) == counter.get_total_flops()
    trainable = sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
    assert anatomy.parameters + anatomy.idle_parameters == trainable
    biases = sum(
        parameter.numel()
        for key, parameter in net.named_parameters()
        if key.rpartition(".")[2] == "bias" and key.partition(".")[0] not in getattr(net, "training_only", ())
    )
    assert anatomy.biases == biases


def test_costs_of_everything_else_against_torch() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.grouped = nn.Conv2d(4, 8, 3, groups=4, stride=2, padding=1)
            self.dilated = nn.Conv2d(8, 8, 3, dilation=2, padding=2, bias=False)
            self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
            self.query = nn.Linear(6, 5)
            self.key = nn.Linear(6, 5, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            maps = self.up(self.dilated(self.grouped(images)))
            words = maps.flatten(2).transpose(1, 2)
            return self.query(words) @ self.key(words).transpose(1, 2)

    net = Mixed()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 4, 8, 8))
    anatomy = trace(net, (4, 8, 8))
    assert 2 * anatomy.macs == counter.get_total_flops()
    assert anatomy.parameters == sum(parameter.numel() for parameter in net.parameters())
