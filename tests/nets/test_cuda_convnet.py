import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, relu
from torch import nn

from striate import nets


def pool_rounding_up(maps, reduce):
    """3x3 windows at every second pixel; the last one hangs over the edge and has the pixels inside."""
    channels, side, _ = maps.shape
    out = np.empty((channels, side // 2, side // 2))
    for i in range(side // 2):
        for j in range(side // 2):
            out[:, i, j] = reduce(maps[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], axis=(1, 2))
    return out


@pytest.mark.parametrize(
    ("name", "nonlinearity"), [("cuda_convnet_relu", relu), ("cuda_convnet_tanh", np.tanh)]
)
@torch.no_grad()
def test_forward_is_that_of_the_layer_file(name, nonlinearity):
    net = nets.build(name).eval()
    for parameter in net.parameters():
        parameter.normal_(std=0.1)
    image = torch.randn(1, 3, 32, 32)
    state = arrays(net)
    maps = conv(image[0].double().numpy(), state["conv1.weight"], state["conv1.bias"], padding=2)
    maps = nonlinearity(pool_rounding_up(maps, np.max))
    for number in (2, 3):
        maps = conv(maps, state[f"conv{number}.weight"], state[f"conv{number}.bias"], padding=2)
        maps = pool_rounding_up(nonlinearity(maps), np.mean)
    assert maps.shape == (64, 4, 4)
    expected = state["fc10.weight"] @ maps.ravel() + state["fc10.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-4, atol=1e-4)


def test_twins_differ_in_the_nonlinearity_only():
    relus, tanhs = nets.build("cuda_convnet_relu"), nets.build("cuda_convnet_tanh")
    tanhs.load_state_dict(relus.state_dict())
    kinds = [(type(a), type(b)) for a, b in zip(relus, tanhs, strict=True)]
    assert [pair for pair in kinds if pair[0] is not pair[1]] == [(nn.ReLU, nn.Tanh)] * 3


def test_initial_weights_are_those_of_the_file():
    net = nets.build("cuda_convnet_relu")
    for layer, std in (("conv1", 1e-4), ("conv2", 0.01), ("conv3", 0.01), ("fc10", 0.01)):
        weight = net.get_submodule(layer).weight
        assert weight.std().item() == pytest.approx(std, rel=0.05)
        assert abs(weight.mean().item()) < 0.1 * std
        assert not net.get_submodule(layer).bias.any()
