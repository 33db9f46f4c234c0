import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, relu
from torch import nn
from torch.nn import functional

from striate import nets
from striate.core.errors import UsageError

TWO_TOWERS = ("alexnet", "alexnet_caffe", "caffenet")
SMALLEST_PX = {"alexnet": 64, "alexnet_caffe": 67, "caffenet": 67, "alexnet_lecture": 67, "alexnet_owt": 63}


def pool(maps):
    """Largest of each 3x3 window at stride 2; windows that hang over the edge are left out."""
    rows, columns = (range(0, side - 2, 2) for side in maps.shape[1:])
    return np.stack([[maps[:, i : i + 3, j : j + 3].max((1, 2)) for j in columns] for i in rows]).transpose(
        2, 0, 1
    )


def grouped_conv(maps, weight, bias, groups, **arguments):
    parts = zip(*(np.split(array, groups) for array in (maps, weight, bias)), strict=True)
    return np.concatenate([conv(m, w, b, **arguments) for m, w, b in parts])


def norm(maps, alpha, k, towers=1):
    """Section 3.3: ``b_i = a_i / (k + alpha sum_j a_j^2)^0.75`` over maps i - 2 to i + 2 of a tower."""
    out = np.empty_like(maps)
    per_tower = len(maps) // towers
    for i in range(len(maps)):
        first = i // per_tower * per_tower
        window = maps[max(first, i - 2) : min(first + per_tower, i + 3)]
        out[i] = maps[i] / (k + alpha * (window**2).sum(0)) ** 0.75
    return out


def make_loud(net):
    """Weights and biases that keep the signal large, so that constants of normalisation and biases matter."""
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            parameter.normal_(std=20)
        else:
            parameter.normal_(std=(2 / parameter[0].numel()) ** 0.5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "input_px", "norms", "norm_first", "groups", "zeros", "padding"),
    [
        ("alexnet", 96, {"alpha": 1e-4, "k": 2, "towers": 2}, True, 2, 3, 0),
        ("alexnet_caffe", 99, {"alpha": 2e-5, "k": 1}, True, 2, 0, 0),
        ("caffenet", 99, {"alpha": 2e-5, "k": 1}, False, 2, 0, 0),
        ("alexnet_lecture", 99, {"alpha": 1e-4, "k": 2}, False, 1, 0, 0),
        ("alexnet_owt", 96, None, False, 1, 0, 2),
    ],
)
def test_forward_is_that_of_the_paper(name, input_px, norms, norm_first, groups, zeros, padding):
    net = nets.build(name, num_classes=5, input_px=input_px).eval()
    make_loud(net)
    image = torch.randn(1, 3, input_px, input_px) * 100
    state = arrays(net)

    def weights(layer):
        return state[f"{layer}.weight"], state[f"{layer}.bias"]

    def shrink(maps):
        if norms is None:
            return pool(maps)
        return pool(norm(maps, **norms)) if norm_first else norm(pool(maps), **norms)

    maps = np.pad(image[0].double().numpy(), ((0, 0), (0, zeros), (0, zeros)))
    maps = shrink(relu(conv(maps, *weights("conv1"), stride=4, padding=padding)))
    maps = shrink(relu(grouped_conv(maps, *weights("conv2"), groups, padding=2)))
    maps = relu(conv(maps, *weights("conv3"), padding=1))
    maps = relu(grouped_conv(maps, *weights("conv4"), groups, padding=1))
    maps = pool(relu(grouped_conv(maps, *weights("conv5"), groups, padding=1)))
    assert maps.shape == (256, 2, 2)
    features = maps.reshape(-1)
    for layer in ("fc6", "fc7"):
        weight, bias = weights(layer)
        features = relu(weight @ features + bias)
    weight, bias = weights("fc8")
    got = net(image)[0].numpy()
    np.testing.assert_allclose(got, weight @ features + bias, rtol=1e-3, atol=1e-3 * np.abs(got).max())


@pytest.mark.parametrize("name", ["alexnet_caffe", "caffenet"])
def test_normalisation_is_caffes(name):
    """Caffe and PyTorch divide alpha by the number of maps; PyTorch's layer is the oracle."""
    with torch.device("meta"):
        net = nets.build(name)
    maps = torch.randn(1, 12, 4, 4) * 100
    for layer in (net.norm1, net.norm2):
        expected = functional.local_response_norm(maps, size=5, alpha=1e-4, beta=0.75, k=1.0)
        torch.testing.assert_close(layer(maps), expected)


def test_neurons_are_those_that_figure_2_prints():
    """But for conv1: the figure prints 253,440, which is 55 x 48 x 96; its own 55 x 55 x 96 is 290,400."""
    values = {}
    with torch.device("meta"):
        net = nets.build("alexnet").eval()
        for key, layer in net.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(
                    lambda _, __, out, key=key: values.__setitem__(key, out[0].numel())
                )
        net(torch.empty(1, 3, 224, 224))
    assert list(values.values()) == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(values.values()) == 659_272  # "650,000 neurons"


def test_biases_alone_and_weights_alone():
    with torch.device("meta"):
        net = nets.build("alexnet")
    weights = sum(parameter.numel() for key, parameter in net.named_parameters() if key.endswith("weight"))
    assert weights == 60_954_656


# Rows that one unit sees, by hand: start a + i x step, side as printed in the table of the page.
# a: conv2 0 - 2 x 8 = -16; conv3 -16 - 16 = -32; conv4 -48; conv5 -64.
@torch.no_grad()
def test_receptive_fields():
    """One lit row in black images 256 px high; with positive weights a unit answers where it sees the row."""
    seen = {
        "conv1": (10, 40, 50),
        "pool1": (10, 80, 98),
        "conv2": (10, 64, 114),
        "pool2": (5, 64, 130),
        "conv3": (5, 48, 146),
        "conv4": (5, 32, 162),
        "conv5": (6, 32, 194),
        "pool5": (3, 32, 226),
    }
    net = nets.build("alexnet", num_classes=2, input_px=64).eval()
    for key, parameter in net.named_parameters():
        parameter.fill_(0.0 if key.endswith("bias") else 1 / parameter[0].numel())
    layers = net[: [key for key, _ in net.named_children()].index("flatten")]
    rows = sorted({row for _, first, last in seen.values() for row in (first - 1, first, last, last + 1)})
    maps = torch.zeros(len(rows), 3, 256, 64)
    for image, row in zip(maps, rows, strict=True):
        image[:, row] = 1
    got, expected = {}, {}
    for key, layer in layers.named_children():
        maps = layer(maps)
        if key in seen:
            unit, first, last = seen[key]
            got[key] = [row for row, lit in zip(rows, maps[:, 0, unit, 0] > 0, strict=True) if lit]
            expected[key] = [row for row in rows if first <= row <= last]
    assert got == expected
    assert len(got) == len(seen)


@pytest.mark.parametrize(
    ("name", "bias", "fc6_fc7_std"),
    [
        ("alexnet", 1, 0.01),
        ("alexnet_caffe", 0.1, 0.005),
        ("caffenet", 1, 0.005),
        ("alexnet_lecture", 1, 0.01),
    ],
)
def test_initial_weights_and_biases(name, bias, fc6_fc7_std):
    net = nets.build(name, input_px=SMALLEST_PX[name])
    biases, spreads = {}, {}
    for key, layer in net.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            (biases[key],) = layer.bias.unique().tolist()
            spreads[key] = layer.weight.std().item()
            assert layer.weight.mean().item() == pytest.approx(0, abs=3e-4)
    expected = {"conv1": 0, "conv2": bias, "conv3": 0, "conv4": bias, "conv5": bias}
    expected |= {"fc6": bias, "fc7": bias, "fc8": 0}
    assert biases == pytest.approx(expected)
    convolutions = dict.fromkeys(["conv1", "conv2", "conv3", "conv4", "conv5"], 0.01)
    expected = convolutions | {"fc6": fc6_fc7_std, "fc7": fc6_fc7_std, "fc8": 0.01}
    assert spreads == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("alexnet", ["flatten", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]),
        ("alexnet_owt", ["flatten", "drop6", "fc6", "relu6", "drop7", "fc7", "relu7", "fc8"]),
    ],
)
def test_dropout_is_after_fc6_and_fc7_or_before_them(name, order):
    with torch.device("meta"):
        net = nets.build(name, dropout=0.25)
    assert [key for key, _ in net.named_children()][-8:] == order
    dropped = {key: layer.p for key, layer in net.named_children() if isinstance(layer, nn.Dropout)}
    assert dropped == {"drop6": 0.25, "drop7": 0.25}


def test_two_tower_networks_share_their_weights():
    with torch.device("meta"):
        shapes = [
            {key: value.shape for key, value in nets.build(name).state_dict().items()} for name in TWO_TOWERS
        ]
    assert shapes[0] == shapes[1] == shapes[2]


@pytest.mark.parametrize(("name", "smallest"), SMALLEST_PX.items())
def test_input_px_is_limited_by_the_last_pooling(name, smallest):
    usual = nets.NETS[name].input_shape[1]
    with torch.device("meta"):
        net = nets.build(name, input_px=smallest)
        assert net.fc6.in_features == 256
        assert net(torch.empty(1, 3, smallest, smallest)).shape == (1, 1000)
        for px in range(smallest, smallest + 40):  # the size that fc6 expects is the size that comes
            assert nets.build(name, num_classes=2, input_px=px)(torch.empty(1, 3, px, px)).shape == (1, 2)
        # pool5 grows by one with every 32 px
        assert nets.build(name, input_px=smallest + 31).fc6.in_features == 256
        assert nets.build(name, input_px=smallest + 32).fc6.in_features == 1024
        for wrong in (smallest - 1, 0, -224):
            with pytest.raises(UsageError) as caught:
                nets.build(name, input_px=wrong)
            message = f"{name} expects input_px of at least {smallest}, got {wrong}: use {usual}, "
            assert str(caught.value).startswith(message)
        with pytest.raises(UsageError, match=rf"{name} expects dropout in \[0, 1\), got 1.0: use 0.5"):
            nets.build(name, dropout=1.0)


@pytest.mark.parametrize(
    ("alias", "name"), [("bvlc_alexnet", "alexnet_caffe"), ("bvlc_reference_caffenet", "caffenet")]
)
def test_caffes_own_names_are_found(alias, name):
    assert nets.find(alias).name == name


@pytest.mark.peer
def test_alexnet_owt_gives_torchvisions_logits_with_its_weights(torchvision_models):
    theirs = torchvision_models.alexnet(weights=None).eval()
    with torch.device("meta"):
        ours = nets.build("alexnet_owt").eval()
    tensors = list(theirs.state_dict().values())
    assert [t.shape for t in ours.state_dict().values()] == [t.shape for t in tensors]
    ours.load_state_dict(dict(zip(ours.state_dict(), tensors, strict=True)), assign=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.peer
def test_alexnet_owt_starts_as_torchvisions(torchvision_models):
    torch.manual_seed(1404)
    theirs = torchvision_models.alexnet(weights=None).state_dict()
    torch.manual_seed(1404)
    ours = nets.build("alexnet_owt").state_dict()
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs.values(), strict=True))
