import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy_layers import arrays, batch_norm, conv, relu
from torch import nn

from striate.core.errors import UsageError
from striate.nets.modules import ResidualBlock, ShortcutA
from striate.nets.resnet_cifar import plain, resnet


def stir(net):
    """Give batch normalisation scales, shifts and statistics that differ from the neutral ones."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def test_shortcut_a_by_hand():
    maps = torch.arange(1.0, 26.0).view(1, 1, 5, 5)
    expected = [[1.0, 3.0, 5.0], [11.0, 13.0, 15.0], [21.0, 23.0, 25.0]]
    out = ShortcutA(1, 3, stride=2)(maps)
    assert out[0, 0].tolist() == expected
    assert out.shape == (1, 3, 3, 3)
    assert not out[0, 1:].any()
    assert list(ShortcutA(1, 3, stride=2).parameters()) == []


def block_by_numpy(maps, state, prefix, *, stride, option):
    branch = relu(
        batch_norm(
            conv(maps, state[f"{prefix}conv1.weight"], stride=stride, padding=1), state, f"{prefix}bn1"
        )
    )
    branch = batch_norm(conv(branch, state[f"{prefix}conv2.weight"], padding=1), state, f"{prefix}bn2")
    if option == "B" and stride == 2:
        projected = conv(maps, state[f"{prefix}shortcut.conv.weight"], stride=2)
        branch = branch + batch_norm(projected, state, f"{prefix}shortcut.bn")
    elif option != "plain":
        copied = maps[:, ::stride, ::stride]
        branch[: len(copied)] += copied
    return relu(branch)


@pytest.mark.parametrize(
    ("build", "option"), [(resnet, "A"), (partial(resnet, shortcut="B"), "B"), (plain, "plain")]
)
@torch.no_grad()
def test_forward_is_that_of_section_4_2(build, option):
    net = stir(build(20))
    image = torch.randn(1, 3, 32, 32)
    state = arrays(net)
    maps = relu(batch_norm(conv(image[0].double().numpy(), state["conv1.weight"], padding=1), state, "bn1"))
    for stage in (2, 3, 4):
        for block in (1, 2, 3):
            stride = 2 if stage > 2 and block == 1 else 1
            maps = block_by_numpy(maps, state, f"conv{stage}_{block}.", stride=stride, option=option)
    expected = state["fc.weight"] @ maps.mean(axis=(1, 2)) + state["fc.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "option_a", "option_b"),
    [
        (20, 269_722, 272_474),
        (32, 464_154, 466_906),
        (44, 658_586, 661_338),
        (56, 853_018, 855_770),
        (110, 1_727_962, 1_730_714),
        (1202, 19_421_274, 19_424_026),
    ],
)
def test_parameters_by_shortcut_option(depth, option_a, option_b):
    """Option B adds 16 x 32 + 2 x 32 in conv3_1 and 32 x 64 + 2 x 64 in conv4_1."""
    assert option_b - option_a == 576 + 2_176
    for option, count in (("A", option_a), ("B", option_b)):
        with torch.device("meta"):
            net = resnet(depth, shortcut=option)
        assert sum(parameter.numel() for parameter in net.parameters()) == count


@pytest.mark.parametrize("option", ["C", "a", None])
def test_shortcut_is_a_or_b(option):
    with pytest.raises(UsageError, match=rf"^resnet20 expects shortcut to be A or B, got {option!r}: use A"):
        resnet(20, shortcut=option)


@torch.no_grad()
def test_block_without_a_residual_passes_its_input_on():
    maps = torch.rand(2, 4, 6, 6)  # not negative, as after a ReLU
    same = stir(ResidualBlock(4, 4, stride=1, shortcut="A"))
    grows = stir(ResidualBlock(4, 8, stride=2, shortcut="A"))
    for block in (same, grows):
        nn.init.zeros_(block.bn2.weight)
        nn.init.zeros_(block.bn2.bias)
    assert torch.equal(same(maps), maps)
    out = grows(maps)
    assert torch.equal(out[:, :4], maps[:, :, ::2, ::2])
    assert not out[:, 4:].any()


@torch.no_grad()
def test_network_without_residuals_is_a_subsampled_first_layer():
    net = stir(resnet(44))
    for block in net.modules():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.bn2.weight)
            nn.init.zeros_(block.bn2.bias)
    images = torch.randn(2, 3, 32, 32)
    first = net[:3](images)
    means = first[:, :, ::4, ::4].mean(dim=(2, 3))
    torch.testing.assert_close(net(images), means @ net.fc.weight[:, :16].T + net.fc.bias)


class Nothing(nn.Module):
    def forward(self, maps):
        return torch.zeros(())


@torch.no_grad()
def test_plain_twin_is_the_residual_network_without_its_shortcuts():
    residual, twin = stir(resnet(20)), plain(20).eval()
    twin.load_state_dict(residual.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(twin(images), residual(images), rtol=0.1)
    for block in residual.modules():
        if isinstance(block, ResidualBlock):
            block.shortcut = Nothing()
    torch.testing.assert_close(twin(images), residual(images))


def test_one_shortcut_per_pair_of_layers():
    net = resnet(110)
    shortcuts = [module.shortcut for module in net.modules() if isinstance(module, ResidualBlock)]
    assert len(shortcuts) == 54  # 3n, n = 18 (section 4.2)
    grows = [shortcut for shortcut in shortcuts if isinstance(shortcut, ShortcutA)]
    assert [(shortcut.new_channels, shortcut.stride) for shortcut in grows] == [(16, 2), (32, 2)]


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_name_counts_the_weighted_layers(depth):
    for net in (resnet(depth), plain(depth)):
        assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in net.modules()) == depth


@pytest.mark.parametrize("depth", [2, 18, 21, -4])
def test_depth_must_be_6n_plus_2(depth):
    for build in (resnet, plain):
        with pytest.raises(UsageError, match=rf"6n \+ 2 with n at least 1, got {depth}: use 20"):
            build(depth)


def test_initial_spread_is_he_by_fan_out():
    net = resnet(20)
    for key, fan_out in {"conv2_2.conv1": 9 * 16, "conv4_1.conv1": 9 * 64, "conv4_3.conv2": 9 * 64}.items():
        assert net.get_submodule(key).weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert not net.fc.bias.any()
