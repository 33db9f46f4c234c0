import math

import numpy as np
import pytest
import torch
from numpy_layers import arrays, batch_norm, conv, max_pool, relu
from torch import nn

from striate import nets
from striate.core.errors import UsageError
from striate.nets import vgg

# Table 1: the printed "conv3-64" is (3, 64) here, with a layer of "LRN" where the table has one.
COLUMNS = {
    "vgg_a_lrn": [
        [(3, 64), "LRN"],
        [(3, 128)],
        [(3, 256), (3, 256)],
        [(3, 512), (3, 512)],
        [(3, 512), (3, 512)],
    ],
    "vgg_c": [
        [(3, 64), (3, 64)],
        [(3, 128), (3, 128)],
        [(3, 256), (3, 256), (1, 256)],
        [(3, 512), (3, 512), (1, 512)],
        [(3, 512), (3, 512), (1, 512)],
    ],
    "vgg16": [
        [(3, 64), (3, 64)],
        [(3, 128), (3, 128)],
        [(3, 256), (3, 256), (3, 256)],
        [(3, 512), (3, 512), (3, 512)],
        [(3, 512), (3, 512), (3, 512)],
    ],
}
COLUMNS["vgg_c_bn"] = COLUMNS["vgg_c"]


def lrn(maps):
    """``b_i = a_i / (2 + 1e-4 sum a_j^2)^0.75``, j from i - 2 to i + 2, as AlexNet's paper prints it."""
    squares = np.pad(maps**2, ((2, 2), (0, 0), (0, 0)))
    sums = np.stack([squares[i : i + 5].sum(axis=0) for i in range(len(maps))])
    return maps / (2 + 1e-4 * sums) ** 0.75


def shake(net):
    """Draw biases and statistics: with those of a fresh network, mistakes would not show."""
    for key, value in net.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif key.endswith(("bias", "running_mean")):
            value.normal_(std=0.1)
        elif key.startswith("bn") and key.endswith("weight"):
            value.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("name", COLUMNS)
@torch.no_grad()
def test_forward_is_that_of_table_1(name):
    net = shake(nets.build(name, num_classes=5, input_px=32)).eval()
    if name == "vgg_a_lrn":
        net.conv1_1.weight.mul_(100)  # so that the sum of squares counts beside k = 2
    image = torch.randn(1, 3, 32, 32)
    state = arrays(net)
    maps = image[0].double().numpy()
    for block, layers in enumerate(COLUMNS[name], start=1):
        for index, layer in enumerate(layers, start=1):
            if layer == "LRN":
                maps = lrn(maps)
                continue
            kernel_px, width = layer
            conv_name = f"conv{block}_{index}"
            assert state[f"{conv_name}.weight"].shape[2:] == (kernel_px, kernel_px)
            padding = 1 if kernel_px == 3 else 0
            maps = conv(maps, state[f"{conv_name}.weight"], state[f"{conv_name}.bias"], padding=padding)
            if name.endswith("_bn"):
                maps = batch_norm(maps, state, f"bn{block}_{index}")
            maps = relu(maps)
            assert len(maps) == width
        maps = max_pool(maps)
    features = maps.reshape(-1)
    for fc in ("fc6", "fc7"):
        features = relu(state[f"{fc}.weight"] @ features + state[f"{fc}.bias"])
    expected = state["fc8.weight"] @ features + state["fc8.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-3, atol=1e-3 * abs(expected).max())


@torch.no_grad()
def test_without_padding_it_computes_the_middle_of_the_padded_network():
    """Unit 3 of pool5 sees rows and columns 6 to 217 of 224, and no border on its way."""
    with torch.device("meta"):
        net, padded = nets.build("vgg16_nopad", input_px=212), nets.build("vgg16")
    net, padded = (whole[: list(dict(whole.named_children())).index("flatten")] for whole in (net, padded))
    net.to_empty(device="cpu").eval()
    for parameter in net.parameters():
        parameter.normal_(std=math.sqrt(2 / parameter[0].numel()) if parameter.dim() > 1 else 0.1)
    padded.to_empty(device="cpu").eval().load_state_dict(net.state_dict())
    images = torch.randn(1, 3, 224, 224)
    middle = padded(images)[:, :, 3:4, 3:4]
    torch.testing.assert_close(net(images[:, :, 6:218, 6:218]), middle, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("input_px", "pool5_values"), [(212, 512), (243, 512), (244, 2048), (276, 4608)])
def test_sizes_without_padding(input_px, pool5_values):
    # 244: 242 240 120; 118 116 58; 56 54 52 26; 24 22 20 10; 8 6 4 2. 276 is 32 more: 3 px.
    with torch.device("meta"):
        net = nets.build("vgg16_nopad", input_px=input_px)
        assert net.fc6.in_features == pool5_values
        assert net(torch.empty(1, 3, input_px, input_px)).shape == (1, 1000)


@pytest.mark.parametrize("input_px", [211, 32, 0, -1])
def test_too_small_without_padding(input_px):
    with pytest.raises(UsageError, match=rf"vgg16_nopad expects .* at least 212, got {input_px}: use 224"):
        nets.build("vgg16_nopad", input_px=input_px)


@pytest.mark.parametrize(
    "name", [name for name in nets.NETS if name.startswith("vgg") and "nopad" not in name]
)
def test_wrong_sizes_name_the_network(name):
    with pytest.raises(
        UsageError, match=rf"{name} expects input_px to be a positive multiple of 32, got 100"
    ):
        nets.build(name, input_px=100)


def test_unknown_column():
    with pytest.raises(UsageError, match=r"expected a column .* got 'F': use A, B, C, D, E"):
        vgg.vgg("F")


@pytest.mark.parametrize(
    ("letter", "name"), [("vgg_a", "vgg11"), ("vgg_b", "vgg13"), ("vgg_d", "vgg16"), ("vgg_e", "vgg19")]
)
def test_letters_of_table_1_are_other_names(letter, name):
    assert nets.find(letter).name == name


@pytest.mark.peer
@pytest.mark.parametrize("name", [f"vgg{depth}{bn}" for depth in (11, 13, 16, 19) for bn in ("", "_bn")])
@torch.no_grad()
def test_torchvision_gives_the_same_logits_with_the_same_weights(name, torchvision_models):
    with torch.device("meta"):
        theirs, ours = getattr(torchvision_models, name)(weights=None), nets.build(name)
    for net in (theirs, ours):
        net.to_empty(device="cpu").eval()
    for layer in ours.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.normal_(std=math.sqrt(2 / layer.weight[0].numel()))
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    shake(ours)
    state = ours.state_dict()
    assert [value.shape for value in theirs.state_dict().values()] == [
        value.shape for value in state.values()
    ]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), state.values(), strict=True)))
    images = torch.randn(1, 3, 224, 224)
    expected = theirs(images)
    assert (ours(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_lecture_ledger_of_values():
    """The lectures' memory table: input, convolutions, pools and fully connected layers, once each."""
    values = {"input": 3 * 224 * 224}
    with torch.device("meta"):
        net = nets.build("vgg16").eval()
        for key, layer in net.named_children():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.Linear):
                layer.register_forward_hook(
                    lambda _, __, out, key=key: values.__setitem__(key, out[0].numel())
                )
        net(torch.empty(1, 3, 224, 224))
    assert sum(values.values()) == 15_237_608


def test_biases_alone_and_weights_alone():
    with torch.device("meta"):
        net = nets.build("vgg16")
    biases = sum(parameter.numel() for key, parameter in net.named_parameters() if key.endswith("bias"))
    assert biases == 13_416
    assert sum(parameter.numel() for parameter in net.parameters()) - biases == 138_344_128


def test_dropout_zeroes_half_of_fc6_and_fc7_in_training_only():
    net = nets.build("vgg16", input_px=32)
    dropped = [key for key, module in net.named_children() if isinstance(module, nn.Dropout)]
    assert dropped == ["drop6", "drop7"]
    for key in dropped:
        layer = net.get_submodule(key)
        out = layer.train()(torch.ones(10_000))
        assert out.unique().tolist() == [0.0, 2.0]  # what stays is doubled
        assert (out == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
        assert torch.equal(layer.eval()(torch.ones(8)), torch.ones(8))
    names = [key for key, _ in net.named_children()]
    assert names[names.index("fc6") : names.index("fc8")] == [
        "fc6",
        "relu6",
        "drop6",
        "fc7",
        "relu7",
        "drop7",
    ]
    assert nets.build("vgg16", input_px=32, dropout=0.1).drop6.p == 0.1


def test_initial_spread_is_he_by_fan_in():
    net = nets.build("vgg16", input_px=64)
    for key, fan_in in {"conv1_2": 9 * 64, "conv5_3": 9 * 512, "fc6": 512 * 4, "fc7": 4096}.items():
        layer = net.get_submodule(key)
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
        assert not layer.bias.any()


@torch.no_grad()
def test_receptive_field_of_pool5_is_212_at_stride_32():
    """One lit row in black images. Unit 3 of the 7 starts at pixel -90 + 3 x 32 = 6 and ends at 6 + 211."""
    net = nets.build("vgg16", num_classes=2, input_px=32).eval()
    for key, parameter in net.named_parameters():
        parameter.fill_(0.0 if key.endswith("bias") else 1 / parameter[0].numel())
    layers = net[: [key for key, _ in net.named_children()].index("flatten")]
    rows = [5, 6, 217, 218]
    lit = torch.zeros(len(rows), 3, 224, 224)
    for image, row in zip(lit, rows, strict=True):
        image[:, row] = 1
    assert (layers(lit)[:, 0, 3, 3] > 0).tolist() == [False, True, True, False]


def test_batch_normalisation_leaves_the_other_layers_as_they_are():
    with torch.device("meta"):
        plain, normed = nets.build("vgg16"), nets.build("vgg16_bn")
    names = [key for key, _ in normed.named_children()]
    assert [key for key in names if not key.startswith("bn")] == [key for key, _ in plain.named_children()]
    for key in names:
        if key.startswith("bn"):
            at = names.index(key)
            assert names[at - 1 : at + 2] == [f"conv{key[2:]}", key, f"relu{key[2:]}"]
            assert normed.get_submodule(f"conv{key[2:]}").bias is not None
