import math

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy_layers import arrays, batch_norm, conv, relu
from torch import nn

from striate import nets
from striate.core.errors import UsageError
from striate.nets.modules import ResidualBlock, ShortcutA
from striate.nets.resnet import Bottleneck, plain, resnet, resnet_v1_5

# arXiv 1512.03385, Table 1: blocks in conv2_x to conv5_x
TABLE_1 = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def stir(net):
    """Give batch normalisation scales, shifts and statistics that differ from the neutral ones."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.0)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def shortcut_by_numpy(maps, state, prefix, *, out_channels, stride, option):
    if option == "C" or (option == "B" and (stride > 1 or len(maps) != out_channels)):
        return batch_norm(
            conv(maps, state[f"{prefix}shortcut.conv.weight"], stride=stride), state, f"{prefix}shortcut.bn"
        )
    shortcut = np.zeros((out_channels, *maps[0, ::stride, ::stride].shape))
    if option != "plain":
        shortcut[: len(maps)] = maps[:, ::stride, ::stride]
    return shortcut


def block_by_numpy(maps, state, prefix, *, strides, option):
    """One block; ``strides`` of its convolutions, two of 3x3 or 1x1, 3x3, 1x1."""
    branch = maps
    for index, stride in enumerate(strides, start=1):
        weight = state[f"{prefix}conv{index}.weight"]
        padding = 1 if len(strides) == 2 or index == 2 else 0
        branch = conv(branch, weight, stride=stride, padding=padding)
        branch = batch_norm(branch, state, f"{prefix}bn{index}")
        if index < len(strides):
            branch = relu(branch)
    return relu(
        branch
        + shortcut_by_numpy(
            maps, state, prefix, out_channels=len(branch), stride=math.prod(strides), option=option
        )
    )


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize("strides", [(1, 1, 1), (2, 1, 1), (1, 2, 1)])
@pytest.mark.parametrize("in_channels", [6, 12])
@torch.no_grad()
def test_bottleneck_is_that_of_figure_5(option, strides, in_channels):
    block = stir(
        Bottleneck(in_channels, 3, 12, stride_1x1=strides[0], stride_3x3=strides[1], shortcut=option)
    )
    maps = torch.randn(1, in_channels, 7, 9)
    expected = block_by_numpy(maps[0].double().numpy(), arrays(block), "", strides=strides, option=option)
    np.testing.assert_allclose(block(maps)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["A", "B", "C"])
@pytest.mark.parametrize(("in_channels", "stride"), [(6, 1), (6, 2), (3, 2)])
@torch.no_grad()
def test_block_of_two_layers_is_that_of_figure_5(option, in_channels, stride):
    block = stir(ResidualBlock(in_channels, 6, stride=stride, shortcut=option))
    maps = torch.randn(1, in_channels, 7, 9)
    expected = block_by_numpy(maps[0].double().numpy(), arrays(block), "", strides=(stride, 1), option=option)
    np.testing.assert_allclose(block(maps)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def network_by_numpy(image, state, depth, *, option, strided):
    maps = relu(batch_norm(conv(image, state["conv1.weight"], stride=2, padding=3), state, "bn1"))
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))  # after a ReLU, zero is no more than the window's largest
    maps = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(3, 4))
    for stage, count in enumerate(TABLE_1[depth], start=2):
        for index in range(1, count + 1):
            strides = [1] * (2 if depth < 50 else 3)
            if stage > 2 and index == 1:
                strides[strided] = 2
            maps = block_by_numpy(maps, state, f"conv{stage}_{index}.", strides=strides, option=option)
    return state["fc.weight"] @ maps.mean(axis=(1, 2)) + state["fc.bias"]


@pytest.mark.parametrize(
    ("name", "depth", "option", "strided"),
    [
        ("plain18", 18, "plain", 0),
        ("resnet18_a", 18, "A", 0),
        ("resnet18", 18, "B", 0),
        ("resnet18_c", 18, "C", 0),
        ("resnet50", 50, "B", 0),
        ("resnet50_v1_5", 50, "B", 1),
    ],
)
@torch.no_grad()
def test_forward_is_that_of_table_1(name, depth, option, strided):
    net = stir(nets.build(name, num_classes=5, input_px=64))
    image = torch.randn(1, 3, 64, 64)
    expected = network_by_numpy(image[0].double().numpy(), arrays(net), depth, option=option, strided=strided)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(net(image)[0].numpy() / scale, expected / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "half"),
    [
        ("resnet18", 217),
        ("resnet34", 449),
        ("resnet50", 241),
        ("resnet50_v1_5", 213),
        ("resnet101", 513),
        ("resnet152", 753),
        ("resnet101_v1_5", 485),
        ("resnet152_v1_5", 725),
    ],
)
@torch.no_grad()
def test_receptive_field_by_hand(name, half):
    """One lit row in black images, one pixel wide. Unit i sees row 32 i and ``half`` more on each side.

    By hand, to the left of unit 0: conv1 3 pixels, pool1 one step of 2, then one step for each 3x3
    convolution, the steps being 4, 8, 16 and 32 in the four stages; a strided convolution counts the step
    before it. 34 layers: 5 + 6 x 4 + (4 + 7 x 8) + (8 + 11 x 16) + (16 + 5 x 32) = 449, so 899 in all. 50
    layers: 5 + 3 x 4 + 4 x 8 + 6 x 16 + 3 x 32 = 241; with the stride in the 3x3, 4 + 8 + 16 less. 101: 17 x
    16 more. 152: another 4 x 8 + 13 x 16.
    """
    with torch.device("meta"):
        net = nets.build(name, num_classes=2)
    layers = net[: [key for key, _ in net.named_children()].index("avgpool")]
    layers = layers.to_empty(device="cpu").eval()
    for module in layers.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.in_channels)
    unit, height = 24, 1536
    rows = [32 * unit + row for row in (-half - 1, -half, half, half + 1)]
    lit = torch.zeros(len(rows), 3, height, 1)
    for image, row in zip(lit, rows, strict=True):
        image[:, row] = 1
    answers = layers(lit)[:, 0, unit, 0]
    assert answers.isfinite().all()
    assert (answers > 0).tolist() == [False, True, True, False]


def strided_convolutions(net):
    """Block and name of the convolutions of stride 2 in the blocks, shortcuts aside."""
    return [
        key.split(".")
        for key, module in net.named_modules()
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2) and "shortcut" not in key and "." in key
    ]


def test_stride_is_in_the_first_1x1_or_in_the_3x3():
    with torch.device("meta"):
        for depth in (50, 101, 152):
            for build, layer in ((resnet, "conv1"), (resnet_v1_5, "conv2")):
                expected = [["conv3_1", layer], ["conv4_1", layer], ["conv5_1", layer]]
                assert strided_convolutions(build(depth)) == expected


def kinds_of_shortcut(net):
    kinds = {"identity": 0, "zeros": 0, "projection": 0}
    for module in net.modules():
        if isinstance(module, ResidualBlock | Bottleneck):
            kind = {nn.Identity: "identity", ShortcutA: "zeros"}.get(type(module.shortcut), "projection")
            kinds[kind] += 1
    return kinds


def test_shortcuts_are_those_of_section_4_1():
    with torch.device("meta"):
        assert kinds_of_shortcut(resnet(34, shortcut="A")) == {"identity": 13, "zeros": 3, "projection": 0}
        assert kinds_of_shortcut(resnet(34)) == {"identity": 13, "zeros": 0, "projection": 3}
        # "thirteen extra projection shortcuts"
        assert kinds_of_shortcut(resnet(34, shortcut="C")) == {"identity": 0, "zeros": 0, "projection": 16}
        assert kinds_of_shortcut(resnet(50)) == {"identity": 12, "zeros": 0, "projection": 4}
        assert kinds_of_shortcut(resnet_v1_5(50, shortcut="A")) == {
            "identity": 12,
            "zeros": 4,
            "projection": 0,
        }


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_name_counts_the_weighted_layers(depth):
    built = [resnet, plain] if depth < 50 else [resnet, resnet_v1_5]
    for build in built:
        with torch.device("meta"):
            net = build(depth)
        weighted = [
            key
            for key, module in net.named_modules()
            if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in key
        ]
        assert len(weighted) == depth


def test_parameters_by_shortcut_option_of_the_form_of_public_weights():
    """The stride's place changes no parameter: the counts are those of the paper's form."""
    with torch.device("meta"):
        for option, count in {"A": 22_780_456, "B": 25_557_032, "C": 40_128_552}.items():
            net = resnet_v1_5(50, shortcut=option)
            assert sum(parameter.numel() for parameter in net.parameters()) == count


@torch.no_grad()
def test_weights_of_one_size_fit_another():
    small, large = stir(resnet(18, 5, input_px=32)), resnet(18, 5, input_px=96).eval()
    large.load_state_dict(small.state_dict())
    assert large.avgpool.kernel_size == 3
    assert large(torch.randn(2, 3, 96, 96)).shape == (2, 5)


@torch.no_grad()
def test_plain_twin_takes_the_residual_networks_weights():
    residual = stir(resnet(18, 5, shortcut="A", input_px=32))
    twin = plain(18, 5, input_px=32).eval()
    twin.load_state_dict(residual.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(twin(images), residual(images), rtol=0.1)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (resnet, {"depth": 20}, "resnet expects a depth of 18, 34, 50, 101 or 152, got 20: see"),
        (resnet_v1_5, {"depth": 34}, "resnet_v1_5 expects a depth of 50, 101 or 152, got 34: see"),
        (plain, {"depth": 50}, "plain expects a depth of 18 or 34, got 50: see"),
        (resnet, {"depth": 50, "shortcut": "D"}, "resnet50 expects shortcut to be A, B or C, got 'D': use B"),
        (resnet_v1_5, {"depth": 50, "shortcut": 1}, "resnet50_v1_5 expects shortcut to be .* got 1: use B"),
        (resnet, {"depth": 18, "shortcut": ["A"]}, r"resnet18 expects shortcut .* got \['A'\]: use B"),
        (resnet, {"depth": 18, "input_px": 100}, "resnet18 expects input_px .* multiple of 32, got 100: use"),
        (plain, {"depth": 18, "input_px": 0}, "plain18 expects input_px .* multiple of 32, got 0: use 224"),
        (resnet, {"depth": 18, "input_px": 64.0}, "resnet18 expects input_px .* got 64.0: use 224"),
        (resnet, {"depth": 18, "shortcut": "A", "input_px": "64"}, "resnet18_a expects input_px .* '64'"),
    ],
)
def test_wrong_arguments_are_usage_errors(build, arguments, message):
    with pytest.raises(UsageError, match=f"^{message}"), torch.device("meta"):
        build(**arguments)


def test_initial_spread_is_he_by_fan_out():
    net = resnet(50, 10, input_px=32)
    fan_outs = {
        "conv1": 49 * 64,
        "conv2_1.conv1": 64,
        "conv4_1.conv2": 9 * 256,
        "conv5_3.conv3": 2048,
        "conv3_1.shortcut.conv": 512,
    }
    for key, fan_out in fan_outs.items():
        assert net.get_submodule(key).weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert not net.fc.bias.any()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()


def torchvisions_key(ours):
    """The name that torchvision gives to the tensor ``ours``."""
    block, _, rest = ours.partition(".")
    if not block.startswith("conv") or "_" not in block:
        return ours
    stage, index = map(int, block.removeprefix("conv").split("_"))
    rest = rest.replace("shortcut.conv", "downsample.0").replace("shortcut.bn", "downsample.1")
    return f"layer{stage - 1}.{index - 1}.{rest}"


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "input_px"),
    [
        ("resnet18", 224),
        ("resnet34", 64),
        ("resnet50_v1_5", 224),
        ("resnet101_v1_5", 64),
        ("resnet152_v1_5", 64),
    ],
)
def test_gives_torchvisions_logits_with_its_weights(torchvision_models, name, input_px):
    build_theirs = getattr(torchvision_models, name.removesuffix("_v1_5"))
    theirs = stir(build_theirs(weights=None, num_classes=10))
    ours = nets.build(name, num_classes=10, input_px=input_px).eval()
    state = theirs.state_dict()
    mapped = {key: state.pop(torchvisions_key(key)) for key in ours.state_dict()}
    assert not state
    ours.load_state_dict(mapped)
    images = torch.randn(1, 3, input_px, input_px)
    with torch.inference_mode():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert expected.std() > 0


@pytest.mark.peer
def test_papers_stride_is_not_that_of_public_weights(torchvision_models):
    """The same tensors fit, but the network computes something else: the two must not be mixed up."""
    theirs = stir(torchvision_models.resnet50(weights=None, num_classes=10))
    ours = resnet(50, 10, input_px=64).eval()
    state = theirs.state_dict()
    ours.load_state_dict({key: state[torchvisions_key(key)] for key in ours.state_dict()})
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(ours(images), theirs(images), rtol=0.01)
