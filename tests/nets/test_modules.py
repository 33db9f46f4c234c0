import numpy as np
import pytest
import torch
from torch import nn

from striate import nets
from striate.core.errors import InputSizeError, UsageError
from striate.nets.modules import LocalResponseNorm, PartialConv2d, ScaledTanh, Subsampling, check_input


def test_scaled_tanh_goes_through_plus_and_minus_one():
    got = ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 100.0]))
    # 1.7159 tanh(2/3) = 0.99999...; far out it meets 1.7159
    np.testing.assert_allclose(got.numpy(), [-1.0, 0.0, 1.0, 1.7159], atol=2e-5)


@torch.no_grad()
def test_subsampling_by_hand():
    layer = Subsampling(2)
    layer.coefficient.copy_(torch.tensor([0.5, -1.0]))
    layer.bias.copy_(torch.tensor([1.0, 0.25]))
    maps = torch.tensor(
        [
            [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]],
            [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.5]],
        ]
    )
    # sums: 14, 22; 2, 0.5
    assert layer(maps[None])[0].tolist() == [[[8.0, 12.0]], [[-1.75, -0.25]]]


@torch.no_grad()
def test_partial_convolution_by_hand():
    layer = PartialConv2d(3, [[2], [0, 1]], kernel_px=2)
    layer.weight.copy_(
        torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 10.0]]])
    )
    layer.bias.copy_(torch.tensor([0.5, -1.0]))
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]], [[1.0, 1.0], [2.0, 2.0]]])
    # map 0 reads input 2: 1 + 2 + 6 + 8 + 0.5; map 1 reads inputs 0 and 1: 1 x 1 + 10 x 8 - 1
    assert layer(maps[None])[0].flatten().tolist() == [17.5, 80.0]


def test_partial_convolution_keeps_only_the_links_and_trains_them():
    layer = PartialConv2d(3, [[2], [0, 1]], kernel_px=2)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 3 * 4 + 2
    assert list(layer.state_dict()) == ["weight", "bias"]
    torch.autograd.gradcheck(layer.double(), torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True))
    before = layer.dense_weight().detach().clone()
    layer(torch.randn(4, 3, 5, 5, dtype=torch.float64)).square().sum().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter -= 0.1 * parameter.grad
    moved = (layer.dense_weight() != before).flatten(2).any(2)
    assert moved.tolist() == [[False, False, True], [True, True, False]]


@pytest.mark.parametrize("links", [[[0], []], [[0, 0]], [[3]], [[-1]]])
def test_partial_convolution_refuses_a_wrong_table(links):
    with pytest.raises(UsageError, match=r"expected output map . to read different maps of 0 to 2"):
        PartialConv2d(3, links, kernel_px=2)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 3, 32, 32), "lenet5 expects images of 1x32x32, got 3x32x32: convert them to grey (1 channel)"),
        ((8, 1, 28, 28), "lenet5 expects images of 1x32x32, got 1x28x28: resize or pad them to 32x32 px"),
        (
            (8, 3, 28, 28),
            "lenet5 expects images of 1x32x32, got 3x28x28: convert them to grey (1 channel)"
            " and resize or pad them to 32x32 px",
        ),
        (
            (1, 32, 32),
            "lenet5 expects images of 1x32x32, got a tensor of 3 axes, 1x32x32: pass a batch of N images,"
            " images[None] for one image",
        ),
        (
            (32, 32),
            "lenet5 expects images of 1x32x32, got a tensor of 2 axes, 32x32: pass a batch of N images",
        ),
    ],
)
def test_input_check_says_expected_got_and_remedy(shape, message):
    with pytest.raises(InputSizeError) as caught:
        check_input(torch.empty(shape), (1, 32, 32), "lenet5")
    assert str(caught.value) == message


def test_input_check_accepts_any_number_of_images():
    for count in (0, 1, 5):
        check_input(torch.empty(count, 1, 32, 32), (1, 32, 32), "lenet5")


def test_a_slice_is_a_plain_sequence_of_the_same_layers():
    net = nets.build("vgg16", input_px=32)
    features = net[:5]
    assert type(features) is nn.Sequential
    assert [key for key, _ in features.named_children()] == [
        "conv1_1",
        "relu1_1",
        "conv1_2",
        "relu1_2",
        "pool1",
    ]
    assert features[0] is net.conv1_1
    assert net[-1] is net.fc8
    assert features(torch.zeros(1, 3, 20, 24)).shape == (1, 64, 10, 12)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["lenet5_rbf", "resnet20"])
def test_networks_can_be_recorded_by_jit_trace_and_export(name):
    net = nets.build(name).eval()
    images = torch.randn(2, *net.input_shape)
    more = torch.randn(5, *net.input_shape)
    with torch.no_grad():
        expected = net(more)
        torch.testing.assert_close(torch.jit.trace(net, images)(more), expected)
        exported = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
        torch.testing.assert_close(exported.module()(more), expected)


@pytest.mark.parametrize("towers", [1, 2])
@torch.no_grad()
def test_local_response_norm_is_the_formula_of_section_3_3(towers):
    maps = torch.randn(2, 12, 3, 4) * 20
    got = LocalResponseNorm(size=5, alpha=1e-4, k=2, towers=towers)(maps)
    expected = torch.empty_like(maps)
    per_tower = 12 // towers
    for i in range(12):
        first = i // per_tower * per_tower
        window = maps[:, max(first, i - 2) : min(first + per_tower, i + 3)]
        expected[:, i] = maps[:, i] / (2 + 1e-4 * (window**2).sum(1)) ** 0.75
    torch.testing.assert_close(got, expected)


def test_local_response_norm_refuses_an_even_window():
    with pytest.raises(UsageError, match="got 4"):
        LocalResponseNorm(size=4, alpha=1e-4, k=2)
