"""Filters: read as a convolution between all channels, drawn about mid grey."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from striate import nets
from striate.core.errors import UsageError
from striate.look.filter_picture import draw_filters
from striate.look.filters import Filters, colours_of, read_filters
from striate.nets.modules import PartialConv2d


def two_towers():
    return nn.Sequential(
        nn.ZeroPad2d(1),
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 3, 1),
        nn.Conv2d(3, 5, 1),
    )


SHAPE = (3, 16, 16)


def test_the_first_layer_is_found_behind_padding_and_sees_the_image():
    net = two_towers()
    found = read_filters(net, input_shape=SHAPE)
    assert (found.layer, found.sees_image, found.size) == ("1", True, "3x3x3")
    assert torch.equal(found.weights, net[1].weight)
    assert (found.towers, found.next_layer) == (2, "4")


def test_the_weights_are_a_copy():
    net = two_towers()
    before = net[1].weight.clone()
    read_filters(net, input_shape=SHAPE).weights.zero_()
    assert torch.equal(net[1].weight, before)


def test_groups_become_a_convolution_between_all_channels():
    net = two_towers()
    found = read_filters(net, "4", input_shape=SHAPE)
    maps = torch.randn(2, 8, 5, 5)
    full = functional.conv2d(maps, found.weights, net[4].bias)
    assert torch.allclose(full, net[4](maps), atol=1e-6)
    links = torch.zeros(6, 8, dtype=torch.bool)
    links[:3, :4] = links[3:, 4:] = True
    assert torch.equal(found.linked, links)
    assert not found.sees_image


def test_three_channels_of_a_deeper_layer_are_no_colours():
    found = read_filters(two_towers(), "7", input_shape=SHAPE)
    assert found.weights.shape == (5, 3, 1, 1)
    assert not found.sees_image


def test_depthwise_groups_are_no_towers():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4))
    assert read_filters(net, input_shape=SHAPE).towers == 1
    assert read_filters(net, "1", input_shape=SHAPE).linked.sum() == 4


def test_c3_of_lenet5_has_the_links_of_table_1():
    # LeCun et al. 1998, Table I, by columns.
    table = ["012", "123", "234", "345", "045", "015", "0123", "1234", "2345", "0345", "0145", "0125", "0134"]
    table += ["1245", "0235", "012345"]
    found = read_filters(nets.build("lenet5"), "C3")
    assert ["".join(str(int(k)) for k in row.nonzero()) for row in found.linked] == table
    assert found.size == "5x5x3 to 6"
    assert bool((found.weights[~found.linked] == 0).all())


def test_fully_connected_units_on_the_image_are_templates():
    net = nets.build("mlp2")
    found = read_filters(net)
    assert (found.layer, tuple(found.weights.shape[1:])) == ("fc1", (1, 28, 28))
    pixel = torch.zeros(1, 1, 28, 28)
    pixel[0, 0, 3, 7] = 1
    answer = net.fc1(net.flatten(pixel)) - net.fc1.bias
    assert torch.allclose(found.weights[:, 0, 3, 7], answer[0], atol=1e-6)
    with pytest.raises(UsageError, match=r"fc2 \(Linear\), which reads no image: try fc1"):
        read_filters(net, "fc2")


def test_layers_without_filters_are_refused_with_those_that_have_some():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.MaxPool2d(2))
    with pytest.raises(UsageError, match=r"got 1 \(MaxPool2d\).*try 0\.0"):
        read_filters(net, "1", input_shape=SHAPE)
    with pytest.raises(UsageError, match=r"got 0 \(Sequential\).*try 0\.0"):
        read_filters(net, "0", input_shape=SHAPE)
    with pytest.raises(UsageError, match="name of a layer"):
        read_filters(net, "conv9", input_shape=SHAPE)


def test_a_network_of_functions_alone_is_refused():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

        def forward(self, images):
            return functional.conv2d(images, self.kernel)

    with pytest.raises(UsageError, match="expected a network with convolutions"):
        read_filters(Functional(), input_shape=SHAPE)


def test_colours_by_hand():
    weights = torch.tensor([[[[2.0, -1.0]], [[0.0, 0.0]], [[1.0, 0.0]]], [[[0.5, 0.0]]] * 3])
    own = colours_of(weights)
    assert own[0, 0].tolist() == [[1.0, 0.5, 0.75], [0.25, 0.5, 0.5]]
    assert own[1, 0].tolist() == [[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]
    assert colours_of(weights, shared=True)[1, 0, 0].tolist() == [0.625] * 3
    assert colours_of(weights, order="BGR")[0, 0, 0].tolist() == [0.75, 0.5, 1.0]
    assert (colours_of(torch.zeros(1, 3, 2, 2)) == 0.5).all()


def filters_of(weights, **values):
    linked = torch.ones(weights.shape[:2], dtype=torch.bool)
    return Filters(**{"layer": "conv", "weights": weights, "linked": linked, "sees_image": False, **values})


def test_the_96_filters_of_alexnet_are_12_by_8_in_two_blocks():
    found = filters_of(torch.randn(96, 3, 11, 11), sees_image=True, towers=2, next_layer="conv2")
    picture = draw_filters(found, network="alexnet, random")
    panel = picture.rows[0][0]
    assert list(panel.rows_named.values()) == [f"#{12 * row}" for row in range(8)]
    assert panel.pixels.shape[1] == 12 * 11 + 11
    assert panel.pixels.shape[0] == 2 * (4 * 11 + 3) + 5  # half a tile between the towers
    assert (panel.pixels[47:52] == 1).all()
    assert np.allclose(panel.pixels[52:63, :11], colours_of(found.weights[48:49])[0])
    assert "conv2 reads their maps apart" in picture.caption


def test_deeper_layers_are_rows_of_filters_and_columns_of_channels():
    weights = torch.randn(30, 40, 3, 3)
    weights[7] *= 9
    weights[21] *= 5
    weights[:, 13] *= 7
    picture = draw_filters(filters_of(weights), network="net", most_filters=2, most_channels=5)
    numbers = picture.numbers
    assert numbers["filters"].tolist() == [7, 21]
    mass = (weights[[7, 21]] ** 2).sum((0, 2, 3)).numpy()
    assert numbers["channels"].tolist() == sorted(np.argsort(-mass)[:5].tolist())
    assert 13 in numbers["channels"]
    assert np.array_equal(numbers["weights"], weights[[7, 21]][:, numbers["channels"]].numpy())
    panel = picture.rows[0][0]
    assert list(panel.rows_named.values()) == ["#7", "#21"]
    assert panel.limits == (-1.0, 1.0)
    column = numbers["channels"].tolist().index(13)
    corner = panel.pixels[0, column * 13]  # tiles of 12 px and a gap of 1
    assert corner == pytest.approx(float(weights[7, 13, 0, 0] / weights[7].abs().max()))
    assert "2 of the largest Euclidean norm" in picture.caption
    assert "5 of 40 channels" in picture.caption


def test_missing_links_are_blank():
    layer = PartialConv2d(3, [[0, 1], [1, 2]], 5)
    net = nn.Sequential(nn.Conv2d(1, 3, 1), layer)
    picture = draw_filters(read_filters(net, "1", input_shape=(1, 8, 8)), network="net", shared=True)
    pixels = picture.rows[0][0].pixels
    # Tiles of 15 px (5 px, three times) and gaps of 1.
    assert np.isnan(pixels[:15, 32:47]).all()
    assert np.isnan(pixels[16:, :15]).all()
    assert not np.isnan(pixels[:15, :15]).any()
    assert picture.rows[0][0].limits[1] == pytest.approx(float(layer.weight.detach().abs().max()))
    assert "Blank: no link" in picture.caption


def test_filters_by_number():
    found = filters_of(torch.randn(20, 3, 3, 3), sees_image=True)
    assert draw_filters(found, network="net", only=[4, 19])["filters"].tolist() == [4, 19]
    with pytest.raises(UsageError, match="filters 0 to 19 of conv, got 20"):
        draw_filters(found, network="net", only=[20])
    with pytest.raises(UsageError, match="at least 1 filter"):
        draw_filters(found, network="net", most_filters=0)


@pytest.mark.parametrize("shape", [(1, 3, 3, 3), (7, 1, 5, 5), (13, 3, 7, 7), (40, 40, 1, 1), (3, 2, 1, 7)])
def test_every_shape_gives_a_picture(shape, tmp_path):
    weights = torch.zeros(shape) if shape[0] == 7 else torch.randn(shape)
    draw_filters(filters_of(weights, sees_image=shape[1] in (1, 3)), network="net").save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
