import re

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy_layers import arrays, conv, relu
from torch import nn
from torch.nn import functional

from striate import nets
from striate.core.errors import UsageError
from striate.nets.googlenet import AveragePoolTo4x4, Inception

# Table 1: in; 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool proj
WIDTHS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def max_pool(maps, *, stride, padding):
    """Largest of each 3x3 window; the last may hang over the right and the lower edge (ceil mode)."""
    count = -(-(maps.shape[1] + 2 * padding - 3) // stride) + 1
    after = (count - 1) * stride + 3 - maps.shape[1] - padding
    edges = (padding, max(after, padding))
    padded = np.pad(maps, ((0, 0), edges, edges), constant_values=-np.inf)
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return windows[:, :count, :count].max(axis=(3, 4))


def response_norm(maps):
    """Caffe's across-channel normalisation: size 5, alpha 1e-4 over the size, beta 0.75, k 1."""
    out = np.empty_like(maps)
    for i in range(len(maps)):
        energy = (maps[max(0, i - 2) : i + 3] ** 2).sum(axis=0)
        out[i] = maps[i] / (1 + 1e-4 / 5 * energy) ** 0.75
    return out


def inception(maps, state, prefix):
    """Four branches; order of the outputs: 1x1, 3x3, 5x5, pool projection."""

    def layer(x, name, padding=0):
        return relu(conv(x, state[f"{prefix}{name}.weight"], state[f"{prefix}{name}.bias"], padding=padding))

    return np.concatenate(
        [
            layer(maps, "conv1x1"),
            layer(layer(maps, "reduce3x3"), "conv3x3", padding=1),
            layer(layer(maps, "reduce5x5"), "conv5x5", padding=2),
            layer(max_pool(maps, stride=1, padding=1), "proj"),
        ]
    )


def auxiliary(maps, state, prefix):
    """Average of 5x5 windows at stride 3, 1x1 convolution, two fully connected layers; no dropout."""
    pooled = sliding_window_view(maps, (5, 5), axis=(1, 2))[:, ::3, ::3].mean(axis=(3, 4))
    features = relu(conv(pooled, state[f"{prefix}.conv.weight"], state[f"{prefix}.conv.bias"])).reshape(-1)
    features = relu(state[f"{prefix}.fc1.weight"] @ features + state[f"{prefix}.fc1.bias"])
    return state[f"{prefix}.fc2.weight"] @ features + state[f"{prefix}.fc2.bias"]


def with_random_biases(net):
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return net


def without_dropout(net):
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


@torch.no_grad()
def test_inception_module_joins_its_branches_in_the_published_order():
    module = with_random_biases(Inception(5, 4, 3, 6, 2, 3, 2))
    maps = torch.randn(1, 5, 7, 7)
    expected = inception(maps[0].double().numpy(), arrays(module), "")
    assert len(expected) == 4 + 6 + 3 + 2
    np.testing.assert_allclose(module(maps)[0].numpy(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_forward_in_training_is_that_of_table_1_and_section_5():
    net = with_random_biases(without_dropout(nets.build("googlenet", num_classes=5, input_px=96))).train()
    image = torch.randn(1, 3, 96, 96)
    state = arrays(net)
    maps = image[0].double().numpy()
    maps = relu(conv(maps, state["conv1.weight"], state["conv1.bias"], stride=2, padding=3))
    maps = response_norm(max_pool(maps, stride=2, padding=0))
    maps = relu(conv(maps, state["conv2_reduce.weight"], state["conv2_reduce.bias"]))
    maps = response_norm(relu(conv(maps, state["conv2.weight"], state["conv2.bias"], padding=1)))
    maps = max_pool(maps, stride=2, padding=0)
    expected = []
    for name, widths in WIDTHS.items():
        if name in ("4a", "5a"):
            maps = max_pool(maps, stride=2, padding=0)
        assert len(maps) == widths[0]
        maps = inception(maps, state, f"inception_{name}.")
        assert len(maps) == widths[1] + widths[3] + widths[5] + widths[6]
        if name in ("4a", "4d"):
            expected.append(auxiliary(maps, state, f"aux{len(expected) + 1}"))
    assert maps.shape == (1024, 3, 3)
    expected.insert(0, state["fc.weight"] @ maps.mean(axis=(1, 2)) + state["fc.bias"])
    got = net(image)
    assert isinstance(got, tuple)
    for scores, values in zip(got, expected, strict=True):
        np.testing.assert_allclose(scores[0].numpy(), values, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(net.eval()(image)[0].numpy(), expected[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "parameters"), [("googlenet", 13_378_280), ("googlenet_tv", 13_004_888)])
def test_parameters_with_the_auxiliary_classifiers(name, parameters):
    with torch.device("meta"):
        net = nets.build(name)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert net.training_only == ("aux1", "aux2")
    assert net.auxiliary_weight == 0.3


@pytest.mark.parametrize("name", ["googlenet", "googlenet_tv"])
def test_auxiliary_classifiers_run_in_training_only(name):
    ran = []
    with torch.device("meta"):
        net = nets.build(name, num_classes=7, input_px=96)
        for key in net.training_only:
            net.get_submodule(key).register_forward_hook(lambda *_, key=key: ran.append(key))
        images = torch.empty(2, 3, 96, 96)
        assert [scores.shape for scores in net.train()(images)] == [(2, 7), (2, 7), (2, 7)]
        assert ran == ["aux1", "aux2"]
        assert net.eval()(images).shape == (2, 7)
        assert ran == ["aux1", "aux2"]
        bare = nets.build(name, num_classes=7, input_px=32, auxiliaries=False)
        assert bare.training_only == ()
        assert not [key for key, _ in bare.named_modules() if "aux" in key]
        assert bare.train()(torch.empty(2, 3, 32, 32)).shape == (2, 7)


@torch.no_grad()
def test_a_network_without_auxiliary_classifiers_gives_the_same_scores():
    whole = nets.build("googlenet", num_classes=5, input_px=96).eval()
    bare = nets.build("googlenet", num_classes=5, input_px=96, auxiliaries=False).eval()
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith("aux")}
    bare.load_state_dict(state)
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(bare(images), whole(images))


@pytest.mark.parametrize(
    ("name", "input_px", "least_row", "last_row"),
    [
        # Left edge of unit 0 of 5b: -3 - 4 - 2 x 16 - 5 x 32 - 2 x 64 = -327; unit 11 starts 352 px on and
        # is 715 px wide.
        ("googlenet", 768, 25, 739),
        # With 3x3 in place of 5x5 -3 - 4 - 2 x 8 - 5 x 16 - 2 x 32 = -167; unit 6 starts 192 px on and is
        # 379 px wide (pool4 is 2x2).
        ("googlenet_tv", 448, 25, 403),
    ],
)
@torch.no_grad()
def test_receptive_field_of_5b_is_715_or_379_at_stride_32(name, input_px, least_row, last_row):
    """One lit row in black strips of 32 px; positive weights, no biases."""
    net = nets.build(name, num_classes=2, input_px=32, auxiliaries=False).eval()
    for key, parameter in net.named_parameters():
        if parameter.dim() == 4:
            parameter.fill_(1 / parameter[0].numel())
        elif key.endswith("bias"):
            parameter.zero_()
    maps = torch.zeros(4, 3, input_px, 32)
    for image, row in zip(maps, (least_row - 1, least_row, last_row, last_row + 1), strict=True):
        image[:, row] = 1
    for key, layer in net.named_children():
        if key == "avgpool":
            break
        maps = layer(maps)
    assert maps.shape[2:] == (input_px // 32, 1)
    unit = (least_row + {"googlenet": 327, "googlenet_tv": 167}[name]) // 32
    assert (maps[:, :, unit, 0] > 0).any(1).tolist() == [False, True, True, False]


def test_pool_to_4x4_by_hand():
    """A ramp along the rows: windows 0-3, 3-6, 7-10 and 10-13 of 14 px have the means 1.5, 4.5, 8.5, 11.5."""
    ramp = torch.arange(14.0)[:, None] + torch.arange(14.0) * 100
    got = AveragePoolTo4x4(14)(ramp[None, None])[0, 0]
    means = torch.tensor([1.5, 4.5, 8.5, 11.5])
    torch.testing.assert_close(got, means[:, None] + means * 100)


@pytest.mark.parametrize("side_px", [4, 6, 8, 10, 12, 14, 16, 18, 28])
def test_pool_to_4x4_is_adaptive_pooling_for_even_sides(side_px):
    maps = torch.randn(2, 3, side_px, side_px).contiguous(memory_format=torch.channels_last)
    got = AveragePoolTo4x4(side_px)(maps)
    torch.testing.assert_close(got, functional.adaptive_avg_pool2d(maps, 4))
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_dropout_is_04_on_the_features_and_07_in_the_auxiliary_classifiers():
    with torch.device("meta"):
        rates = {
            name: {key: m.p for key, m in nets.build(name).named_modules() if isinstance(m, nn.Dropout)}
            for name in ("googlenet", "googlenet_tv")
        }
        other = nets.build("googlenet", dropout=0.1)
    assert rates["googlenet"] == {"aux1.drop": 0.7, "aux2.drop": 0.7, "drop": 0.4}
    assert rates["googlenet_tv"] == {"aux1.drop": 0.7, "aux2.drop": 0.7, "drop": 0.2}
    assert (other.drop.p, other.aux1.drop.p) == (0.1, 0.7)


def test_initial_spread():
    published = nets.build("googlenet", input_px=96)
    for key, std in {
        "conv1": (2 / 147) ** 0.5,
        "conv2": (2 / 576) ** 0.5,
        "inception_5b.conv3x3": (2 / 1728) ** 0.5,
        "aux1.fc1": (2 / 128) ** 0.5,
        "aux2.fc2": 0.01,
        "fc": 0.01,
    }.items():
        layer = published.get_submodule(key)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
        assert not layer.bias.any()
    rebuilt = nets.build("googlenet_tv", input_px=96)
    for key in ("conv1", "inception_3a.conv5x5", "aux1.fc1", "fc"):
        assert rebuilt.get_submodule(key).weight.std().item() == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_px": 100}, "a multiple of 32, at least 96 with auxiliary classifiers, got 100: use 224"),
        ({"input_px": 64}, "a multiple of 32, at least 96 with auxiliary classifiers, got 64: use 224"),
        (
            {"input_px": 0, "auxiliaries": False},
            "a multiple of 32, at least 32 without auxiliary classifiers, got 0: use 224",
        ),
        ({"dropout": 1.0}, "dropout in [0, 1), got 1.0: use 0."),
        ({"auxiliaries": "no"}, "auxiliaries to be true or false, got 'no': write false"),
    ],
)
@pytest.mark.parametrize("name", ["googlenet", "googlenet_tv"])
def test_wrong_arguments_are_usage_errors(name, arguments, message):
    with pytest.raises(UsageError, match=rf"{name} expects .*{re.escape(message)}"), torch.device("meta"):
        nets.build(name, **arguments)


@torch.no_grad()
def test_naive_module_passes_its_input_pooled_and_the_bottleneck_projects_it():
    maps = torch.randn(1, 256, 5, 5)
    pooled = max_pool(maps[0].double().numpy(), stride=1, padding=1)
    naive = nets.build("inception_naive").inception
    got = naive(maps)[0].numpy()
    assert len(got) == 128 + 192 + 96 + 256
    np.testing.assert_allclose(got[-256:], pooled, rtol=1e-6)
    assert (got[:-256] >= 0).all()
    module = with_random_biases(nets.build("inception_bottleneck").inception)
    state = {key.partition(".")[2]: value for key, value in arrays(module).items()}
    expected = inception(maps[0].double().numpy(), state, "")
    assert len(expected) == 128 + 192 + 96 + 64
    np.testing.assert_allclose(module(maps)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_lecture_modules_multiply_as_often_as_the_lectures_say():
    """MACs of the module alone: output positions times weights of each convolution."""
    products = {}
    with torch.device("meta"):
        for name in ("inception_naive", "inception_bottleneck"):
            module = nets.build(name).inception
            products[name] = [
                28 * 28 * layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d)
            ]
    assert products["inception_naive"] == [25_690_112, 346_816_512, 481_689_600]
    assert sum(products["inception_naive"]) == 854_196_224
    assert products["inception_bottleneck"] == [
        25_690_112,
        12_845_056,
        86_704_128,
        12_845_056,
        120_422_400,
        12_845_056,
    ]
    assert sum(products["inception_bottleneck"]) == 271_351_808


# Names of torchvision's state_dict, from ours.
STEM = {
    "conv1": "conv1.conv",
    "bn1": "conv1.bn",
    "conv2_reduce": "conv2.conv",
    "bn2_reduce": "conv2.bn",
    "conv2": "conv3.conv",
    "bn2": "conv3.bn",
}
MODULE = {
    "conv1x1": "branch1.conv",
    "bn1x1": "branch1.bn",
    "reduce3x3": "branch2.0.conv",
    "bn3x3_reduce": "branch2.0.bn",
    "conv3x3": "branch2.1.conv",
    "bn3x3": "branch2.1.bn",
    "reduce5x5": "branch3.0.conv",
    "bn5x5_reduce": "branch3.0.bn",
    "conv5x5": "branch3.1.conv",
    "bn5x5": "branch3.1.bn",
    "proj": "branch4.1.conv",
    "bn_proj": "branch4.1.bn",
}
HEAD = {"conv": "conv.conv", "bn": "conv.bn", "fc1": "fc1", "fc2": "fc2"}


def torchvisions_name(key):
    layer, _, rest = key.partition(".")
    if layer in STEM:
        return f"{STEM[layer]}.{rest}"
    if layer == "fc":
        return key
    inner, _, tensor = rest.rpartition(".")
    if layer in ("aux1", "aux2"):
        return f"{layer}.{HEAD[inner]}.{tensor}"
    return f"{layer.replace('_', '')}.{MODULE[inner]}.{tensor}"


@pytest.mark.peer
@torch.no_grad()
def test_tv_form_gives_torchvisions_outputs_with_its_weights(torchvision_models):
    theirs = torchvision_models.GoogLeNet(
        num_classes=20, aux_logits=True, transform_input=False, init_weights=False
    )
    for key, value in theirs.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            nn.init.normal_(value, std=0.1)
        elif "running_var" in key or value.dim() == 1:
            nn.init.uniform_(value, 0.5, 1.5)
    theirs = without_dropout(theirs).double()
    ours = without_dropout(nets.build("googlenet_tv", num_classes=20)).double()
    state = theirs.state_dict()
    ours.load_state_dict({key: state[torchvisions_name(key)] for key in ours.state_dict()})
    assert len(ours.state_dict()) == len(state)
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images), rtol=1e-5, atol=0)
    expected = theirs.train()(images)
    scores, first, second = ours.train()(images)
    torch.testing.assert_close(scores, expected.logits, rtol=1e-5, atol=0)
    torch.testing.assert_close(first, expected.aux_logits1, rtol=1e-5, atol=0)
    torch.testing.assert_close(second, expected.aux_logits2, rtol=1e-5, atol=0)
