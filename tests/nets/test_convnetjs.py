import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, max_pool, relu

from striate import nets


@torch.no_grad()
def test_forward_is_three_times_convolution_relu_pool():
    net = nets.build("convnetjs_cifar").eval()
    image = torch.randn(1, 3, 32, 32)
    state = arrays(net)
    maps = image[0].double().numpy()
    for number in (1, 2, 3):
        maps = conv(maps, state[f"conv{number}.weight"], state[f"conv{number}.bias"], padding=2)
        maps = max_pool(relu(maps))
    assert maps.shape == (20, 4, 4)
    expected = state["fc10.weight"] @ maps.ravel() + state["fc10.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_are_convnetjs_s():
    net = nets.build("convnetjs_cifar")
    for layer, fan_in, bias in (
        ("conv1", 75, 0.1),
        ("conv2", 400, 0.1),
        ("conv3", 500, 0.1),
        ("fc10", 320, 0.0),
    ):
        module = net.get_submodule(layer)
        assert module.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
        assert module.bias.unique().tolist() == pytest.approx([bias])
