"""Feature maps: the values that a layer gives, sorted, with what their units see."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate import nets
from striate.anatomy import trace
from striate.core.errors import UsageError
from striate.look.maps import feature_maps, main_layers, maps_of_image, peak, strengths

SHAPE = (3, 20, 20)


def in_place():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(inplace=True)
    )


class Reused(nn.Module):
    """One ReLU and one pool, used twice; adds in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, images):
        maps = self.pool(self.relu(self.conv1(images)))
        second = self.conv2(maps)
        second += maps
        return self.pool(self.relu(second))


def hooks_of(net):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


def test_an_operation_in_place_does_not_change_the_maps_before_it():
    net, images = in_place(), torch.randn(2, *SHAPE)
    maps = feature_maps(net, images, ["0", "1"])
    by_hand = functional.conv2d(images, net[0].weight, net[0].bias)
    assert torch.allclose(maps["0"], by_hand, atol=1e-6)
    assert bool((maps["0"] < 0).any())
    assert torch.equal(maps["1"], maps["0"].relu())


def test_of_a_module_used_twice_the_last_use_counts_and_its_field():
    net, image = Reused(), torch.randn(1, *SHAPE)
    with torch.no_grad():
        first = functional.max_pool2d(functional.conv2d(image, net.conv1.weight, net.conv1.bias).relu(), 2)
        second = functional.conv2d(first, net.conv2.weight, net.conv2.bias, padding=1)
        last = functional.max_pool2d((second + first).relu(), 2)
    conv2, pool = maps_of_image(net, image, ["conv2", "pool"])
    assert torch.allclose(conv2.maps, second[0], atol=1e-6)
    assert torch.allclose(pool.maps, last[0], atol=1e-6)
    assert (conv2.num_uses, pool.num_uses) == (1, 2)
    # conv 3 (3, jump 1), pool (4, jump 2), conv 3 (8, jump 2), pool (10, jump 4).
    assert (pool.field.rows.size_px, pool.field.rows.jump_px) == (10, 4)


def test_an_operation_with_the_name_of_a_module_is_not_that_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.relu = nn.ReLU()

        def forward(self, images):
            return functional.relu(self.conv2(self.relu(self.conv1(images))))

    (found,) = maps_of_image(Net(), torch.randn(1, *SHAPE), ["relu"])
    assert found.num_uses == 1
    assert found.field.rows.size_px == 3


def test_a_block_used_twice():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())

        def forward(self, images):
            return self.block(self.block(images))

    net, image = Net(), torch.randn(1, *SHAPE)
    (found,) = maps_of_image(net, image, ["block"])
    assert found.num_uses == 2
    assert found.field.rows.size_px == 5
    assert torch.allclose(found.maps, net.block(net.block(image))[0].detach(), atol=1e-6)


def test_maps_do_not_depend_on_the_batch_size():
    net, images = in_place(), torch.randn(7, *SHAPE)
    told = []
    all_at_once = feature_maps(net, images, ["2", "4"])
    by_threes = feature_maps(
        net, images, ["2", "4"], batch_images=3, progress=lambda *words: told.append(words[1:3])
    )
    for layer, maps in all_at_once.items():
        assert torch.allclose(maps, by_threes[layer], atol=1e-6)
    assert told == [(3, 7), (6, 7), (7, 7)]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("fc", "fc, which gives 5 values an image without rows and columns"),
        ("conv9", "expected the name of a layer"),
        ("unused", "is not used at test time"),
    ],
)
def test_what_gives_no_maps_is_refused_and_nothing_stays_behind(layer, words):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc, self.unused = nn.Conv2d(3, 4, 20), nn.Linear(4, 5), nn.Conv2d(3, 3, 3)

        def forward(self, images):
            return self.fc(self.conv(images).flatten(1))

    net = Net().train()
    with pytest.raises(UsageError, match=words):
        feature_maps(net, torch.randn(2, *SHAPE), ["conv", layer])
    assert hooks_of(net) == 0
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_broken_weights_are_named():
    net = in_place()
    with torch.no_grad():
        net[0].weight[0] = torch.nan
    with pytest.raises(UsageError, match="NaN or infinity in 0"):
        feature_maps(net, torch.randn(1, *SHAPE), ["0"])
    with pytest.raises(UsageError, match="one image"):
        maps_of_image(net, torch.randn(2, *SHAPE), ["0"])
    with pytest.raises(UsageError, match="expected images"):
        feature_maps(net, torch.randn(0, *SHAPE), ["0"])


def test_strength_and_peak_by_hand():
    maps = torch.tensor([[[1.0, 5.0], [5.0, -9.0]], [[2.0, 2.0], [2.0, 2.0]]])
    assert strengths(maps).tolist() == [5.0, 2.0]
    assert strengths(maps, "mean").tolist() == [0.5, 2.0]
    assert peak(maps[0]) == (0, 1)
    with pytest.raises(UsageError, match="max or mean"):
        strengths(maps, "sum")


def test_order_and_dead_maps():
    net = in_place()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.copy_(torch.tensor([-1.0, 3.0, 2.0, 3.0]))
    (found,) = maps_of_image(net, torch.randn(1, *SHAPE), ["1"])
    assert found.order.tolist() == [1, 3, 2, 0]
    assert found.num_dead == 1
    assert found.unit() == (1, 0, 0)
    assert found.unit(2, 4, 5) == (2, 4, 5)
    with pytest.raises(UsageError, match="a map of 1 from 0 to 3, got 4"):
        found.unit(4)
    with pytest.raises(UsageError, match="rows 0 to 17 and columns 0 to 17, got 18,0"):
        found.unit(0, 18, 0)


@pytest.mark.parametrize("place", [(0, 0), (3, 2), (4, 4)])
def test_the_box_is_where_the_gradient_is(place):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=2), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 2, 3, padding=1)
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    images = torch.rand(1, *SHAPE, requires_grad=True)
    net(images)[0, 1][place].backward()
    rows, columns = images.grad[0].sum(0).nonzero(as_tuple=True)
    seen = (int(rows.min()), int(columns.min()), int(rows.max()), int(columns.max()))
    (found,) = maps_of_image(net, images.detach(), ["3"])
    assert found.box(*place) == seen


def test_the_main_layers_of_the_networks():
    def of(name, most=9):
        with torch.device("meta"):
            net = nets.build(name)
        return main_layers(net, trace(net), most=most)

    assert of("lenet5") == ["C1_squash", "S2_squash", "C3_squash", "S4_squash"]
    assert of("lenet5_modern") == ["C1_relu", "S2", "C3_relu", "S4"]
    assert of("alexnet") == ["relu1", "pool1", "relu2", "pool2", "relu3", "relu4", "relu5", "pool5"]
    assert of("vgg16") == ["relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3", "pool5"]
    assert of("resnet50")[:3] == ["relu1", "pool1", "conv2_3"]
    assert of("resnet50")[-1] == "conv5_3"
    assert of("resnet50", most=5) == ["relu1", "conv2_3", "conv3_4", "conv4_6", "conv5_3"]
    assert "inception_5b" in of("googlenet")
    assert not any(layer.startswith("aux") for layer in of("googlenet"))
    with pytest.raises(UsageError, match="whose layers give maps, got mlp1"):
        of("mlp1")


def test_the_main_layers_of_a_users_own_network():
    nested = nn.Sequential(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), in_place_tail())
    )
    assert main_layers(nested, trace(nested, SHAPE)) == ["0.0.2", "0.1"]
    reused = Reused()
    assert main_layers(reused, trace(reused, SHAPE)) == ["conv1", "relu", "pool"]


def in_place_tail():
    return nn.MaxPool2d(2)
