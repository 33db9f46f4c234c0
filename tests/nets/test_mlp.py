import numpy as np
import pytest
import torch
from numpy_layers import arrays
from torch import nn

from striate import nets
from striate.core.errors import UsageError

# The lectures' functions of one number: sigmoid, tanh, max(0, x), max(0.1 x, x), alpha (e^x - 1) below zero.
ACTIVATIONS = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": lambda x: (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x)),
    "relu": lambda x: np.maximum(0, x),
    "leaky_relu": lambda x: np.maximum(0.1 * x, x),
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["mlp2", "mlp3"])
@torch.no_grad()
def test_forward_is_the_lectures_formula(name, activation):
    net = nets.build(name, activation=activation, input_px=5, channels=2, hidden_units=7, num_classes=3)
    for key, parameter in net.named_parameters():
        if key.endswith("bias"):
            parameter.normal_()
    state, g = arrays(net), ACTIVATIONS[activation]
    image = torch.randn(1, 2, 5, 5)
    values = g(state["fc1.weight"] @ image.double().numpy().ravel() + state["fc1.bias"])
    values = state["fc2.weight"] @ values + state["fc2.bias"]
    if name == "mlp3":
        values = state["fc3.weight"] @ g(values) + state["fc3.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), values, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_one_layer_is_a_weighted_sum_of_the_pixels():
    net = nets.build("mlp1", input_px=2, num_classes=2)
    net.fc1.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 0.0, 1.0]]))
    net.fc1.bias.copy_(torch.tensor([0.5, -0.5]))
    # pixels 1, 0, 2, -1, row by row: 1 + 6 - 4 + 0.5 and -1 - 0.5
    assert net(torch.tensor([[[[1.0, 0.0], [2.0, -1.0]]]]))[0].tolist() == [3.5, -1.5]


@torch.no_grad()
def test_hidden_layers_without_an_activation_would_be_one_layer():
    """What an activation is for: with it, the network is no linear map."""
    net = nets.build("mlp3", input_px=4).double()
    a, b = torch.randn(2, 1, 1, 4, 4, dtype=torch.float64) * 5
    zero = net(torch.zeros_like(a))
    assert (net(a) + net(b) - net(a + b) - zero).abs().max() > 1e-3
    net.act1, net.act2 = nn.Identity(), nn.Identity()
    zero = net(torch.zeros_like(a))
    torch.testing.assert_close(net(a) + net(b), net(a + b) + zero)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_initial_weights_keep_the_size_of_the_signal(activation):
    net = nets.build("mlp3", activation=activation)
    # Glorot, uniform: variance 2 / (fan-in + fan-out). He, normal: variance 2 / fan-in.
    he = activation in ("relu", "leaky_relu", "elu")
    for layer, fan_in, fan_out, hidden in (
        ("fc1", 784, 100, True),
        ("fc2", 100, 100, True),
        ("fc3", 100, 10, False),
    ):
        variance = 2 / fan_in if he and hidden else 2 / (fan_in + fan_out)
        weight = net.get_submodule(layer).weight
        assert weight.var().item() == pytest.approx(variance, rel=0.1)
        assert (weight.abs().max() > (3 * variance) ** 0.5) == (he and hidden)  # a uniform one ends there
        assert not net.get_submodule(layer).bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mlp1", "input_px": 0}, "mlp1 expects input_px to be at least 1, got 0: use 28"),
        ({"name": "mlp2", "hidden_units": 0}, "mlp2 expects hidden_units to be at least 1, got 0: use 100"),
        ({"name": "mlp3", "channels": -1}, "mlp3 expects channels to be at least 1, got -1: use 1"),
        (
            {"name": "mlp2", "activation": "swish"},
            "one of sigmoid, tanh, relu, leaky_relu, elu, got 'swish': use sigmoid",
        ),
        ({"name": "mlp1", "activation": "tanh"}, "mlp1 expects input_px, channels, got activation"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        nets.build(**arguments)
