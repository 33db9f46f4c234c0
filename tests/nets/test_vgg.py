import math

import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, max_pool, relu
from torch import nn

from striate import nets

# Table 1, column D
COLUMN_D = [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]]


@torch.no_grad()
def test_forward_is_that_of_column_d():
    net = nets.build("vgg16", num_classes=5, input_px=32).eval()
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            parameter.normal_(std=0.1)
    image = torch.randn(1, 3, 32, 32)
    state = arrays(net)
    maps = image[0].double().numpy()
    for block, widths in enumerate(COLUMN_D, start=1):
        for layer, width in enumerate(widths, start=1):
            name = f"conv{block}_{layer}"
            maps = relu(conv(maps, state[f"{name}.weight"], state[f"{name}.bias"], padding=1))
            assert len(maps) == width
        maps = max_pool(maps)
    features = maps.reshape(-1)
    for name in ("fc6", "fc7"):
        features = relu(state[f"{name}.weight"] @ features + state[f"{name}.bias"])
    expected = state["fc8.weight"] @ features + state["fc8.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-3, atol=1e-4)


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
