import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, relu
from torch import nn

from striate import nets
from striate.core.errors import UsageError

WIDTHS = {"zfnet": (384, 384, 256), "zfnet_wide": (512, 1024, 512)}


def ceil_pool(maps):
    """Largest of each 3x3 window at stride 2, as many windows as it takes to cover the maps."""
    rows, columns = (range(0, side - 1, 2) for side in maps.shape[1:])
    return np.stack([[maps[:, i : i + 3, j : j + 3].max((1, 2)) for j in columns] for i in rows]).transpose(
        2, 0, 1
    )


def norm(maps):
    """AlexNet's section 3.3 with its constants, over all maps."""
    return np.stack(
        [maps[i] / (2 + 1e-4 * (maps[max(0, i - 2) : i + 3] ** 2).sum(0)) ** 0.75 for i in range(len(maps))]
    )


@torch.no_grad()
@pytest.mark.parametrize("name", WIDTHS)
def test_forward_is_that_of_figure_3(name):
    net = nets.build(name, num_classes=5, input_px=96).eval()
    for key, parameter in net.named_parameters():  # loud, so that the constants of normalisation matter
        parameter.normal_(std=20 if key.endswith("bias") else (2 / parameter[0].numel()) ** 0.5)
    image = torch.randn(1, 3, 96, 96) * 100
    state = arrays(net)

    def weights(layer):
        return state[f"{layer}.weight"], state[f"{layer}.bias"]

    # 96 -> 1 + ceil(89/2) = 46: the last window hangs over by one pixel, and sees zeros there
    maps = np.pad(image[0].double().numpy(), ((0, 0), (0, 1), (0, 1)))
    maps = relu(conv(maps, *weights("conv1"), stride=2))
    assert maps.shape == (96, 46, 46)
    maps = norm(ceil_pool(maps))
    assert maps.shape == (96, 23, 23)
    maps = relu(conv(maps, *weights("conv2"), stride=2))
    assert maps.shape == (256, 10, 10)
    maps = norm(ceil_pool(maps))
    assert maps.shape == (256, 5, 5)
    for layer, width in zip(("conv3", "conv4", "conv5"), WIDTHS[name], strict=True):
        maps = relu(conv(maps, *weights(layer), padding=1))
        assert maps.shape == (width, 5, 5)
    features = ceil_pool(maps).reshape(-1)
    assert len(features) == WIDTHS[name][-1] * 4
    for layer in ("fc6", "fc7"):
        weight, bias = weights(layer)
        features = relu(weight @ features + bias)
    weight, bias = weights("fc8")
    got = net(image)[0].numpy()
    np.testing.assert_allclose(got, weight @ features + bias, rtol=1e-3, atol=1e-3 * np.abs(got).max())


# Starts by hand: conv1 and pool1 at 0; conv2 and pool2 0; conv3 0 - 16; conv4 -32; conv5 and pool5 -48.
@torch.no_grad()
def test_receptive_fields():
    """One lit row in black images 224 px high; with positive weights a unit answers where it sees the row."""
    seen = {
        "conv1": (10, 20, 26),
        "pool1": (10, 40, 50),
        "conv2": (10, 80, 106),
        "pool2": (5, 80, 122),
        "conv3": (5, 64, 138),
        "conv4": (5, 48, 154),
        "conv5": (5, 32, 170),
        "pool5": (2, 16, 186),
    }
    net = nets.build("zfnet", num_classes=2, input_px=64).eval()
    for key, parameter in net.named_parameters():
        parameter.fill_(0.0 if key.endswith("bias") else 1 / parameter[0].numel())
    layers = net[: [key for key, _ in net.named_children()].index("flatten")]
    rows = sorted({row for _, first, last in seen.values() for row in (first - 1, first, last, last + 1)})
    maps = torch.zeros(len(rows), 3, 224, 64)
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


def test_initial_weights_spread_by_a_hundredth_and_biases_are_zero():
    net = nets.build("zfnet", input_px=64)
    layers = [layer for layer in net if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == 8
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=3e-4)
        assert not layer.bias.any()


def test_dropout_follows_fc6_and_fc7():
    with torch.device("meta"):
        net = nets.build("zfnet", dropout=0.25)
    order = ["flatten", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"]
    assert [key for key, _ in net.named_children()][-8:] == order
    dropped = {key: layer.p for key, layer in net.named_children() if isinstance(layer, nn.Dropout)}
    assert dropped == {"drop6": 0.25, "drop7": 0.25}


@pytest.mark.parametrize("name", WIDTHS)
def test_input_px_is_limited_by_the_last_pooling(name):
    with torch.device("meta"):
        # 64 -> 30 -> 15 -> 6 -> 3 -> 1
        net = nets.build(name, input_px=64)
        assert net.fc6.in_features == WIDTHS[name][-1]
        assert net(torch.empty(1, 3, 64, 64)).shape == (1, 1000)
        # 65 -> 1 + ceil(58/2) = 30: an odd side needs no zeros and reads none
        assert nets.build(name, input_px=65).conv1(torch.empty(1, 3, 66, 66)).shape[2:] == (30, 30)
        for wrong in (63, 0, -224):
            with pytest.raises(UsageError) as caught:
                nets.build(name, input_px=wrong)
            assert str(caught.value) == (
                f"{name} expects input_px of at least 64, got {wrong}: use 224, the paper's"
            )
        with pytest.raises(UsageError, match=rf"{name} expects dropout in \[0, 1\), got -0.5: use 0.5"):
            nets.build(name, dropout=-0.5)
        for px in range(64, 104):  # the size that fc6 expects is the size that comes
            assert nets.build(name, num_classes=2, input_px=px)(torch.empty(1, 3, px, px)).shape == (1, 2)
