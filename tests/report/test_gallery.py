import re

import pytest
import torch
from torch import nn

from striate.anatomy import trace
from striate.core.errors import DataError, UsageError
from striate.look.stream import TensorImages
from striate.nets import build
from striate.report import gallery as gallery_file
from striate.report.gallery import convolutions, make_gallery, render


def made(net, images, **changes):
    settings = {
        "input_shape": tuple(images.shape[1:]),
        "title": "a <net>",
        "data": "random images",
        "classes": ("cat", "dog & co", "bird"),
        "k": 4,
        "units": 2,
        **changes,
    }
    return make_gallery(net, TensorImages(images=images), **settings)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def net():
    layers = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.Linear(4 * 36, 3),
    ]
    return nn.Sequential(*layers)


@pytest.fixture
def images():
    return torch.randn(12, 3, 12, 12)


def test_every_convolution_is_shown_with_some_units(net, images):
    found = made(net, images)
    assert [layer.name for layer in found.layers] == ["0", "4"]
    assert [layer.read_at for layer in found.layers] == ["2", "4"]
    assert [len(layer.cards) for layer in found.layers] == [2, 2]
    assert found.layers[0].filters is not None
    assert found.layers[1].filters is None
    assert "6 filters of 3x3" in found.layers[0].about
    assert "receptive field 3 px" in found.layers[0].about
    assert (found.num_images, found.k, found.num_layers) == (12, 4, 2)
    assert len(found.occlusion) == 3
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())


def test_there_are_examples_where_units_share_their_strongest_image(images):
    images[7] += 100.0
    convolution = nn.Conv2d(3, 4, 1)
    nn.init.ones_(convolution.weight)
    net = nn.Sequential(convolution, nn.Flatten(), nn.Linear(4 * 144, 3))
    names = [example.name for example in made(net, images).occlusion]
    assert names[0] == "7"
    assert len(set(names)) == 3


def test_the_page_needs_nothing_else_and_escapes_names(net, images):
    page = render(made(net, images))
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")>\s]+)', page)
    assert addresses
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    targets = {address[1:] for address in addresses if address.startswith("#")}
    assert targets <= set(re.findall(r'id="([^"]+)"', page))
    assert "a &lt;net&gt;" in page
    assert "<net>" not in page
    assert "<script" not in page
    assert "Occlusion" in page


def test_without_classes_or_examples_there_is_no_occlusion(net, images):
    assert made(net, images, classes=()).occlusion == ()
    page = render(made(net, images, examples=0))
    assert 'id="occlusion"' not in page


def test_networks_that_the_deconvnet_refuses_are_shown_by_the_gradient(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 3))
    found = made(net, images, classes=())
    assert [layer.rule for layer in found.layers] == ["gradient", "gradient"]
    assert "because the deconvnet does not support this network" in render(found)


def test_layers_may_be_named(net, images):
    assert [layer.name for layer in made(net, images, layers=["4"]).layers] == ["4"]
    with pytest.raises(UsageError, match="convolutions out of 0, 4, got 6"):
        made(net, images, layers=["6"])
    with pytest.raises(UsageError, match="which has none"):
        made(nn.Sequential(nn.Flatten(), nn.Linear(432, 2)), images)


def test_a_page_that_grew_too_large_is_refused(net, images, monkeypatch):
    monkeypatch.setattr(gallery_file, "_LARGEST_BYTES", 1000)
    with pytest.raises(DataError, match="fewer units a layer"):
        render(made(net, images))


def test_convolutions_are_read_behind_their_relu():
    with torch.device("meta"):
        alexnet, resnet = build("alexnet"), build("resnet20")
    assert list(convolutions(alexnet, trace(alexnet)).items()) == [
        ("conv1", "relu1"),
        ("conv2", "relu2"),
        ("conv3", "relu3"),
        ("conv4", "relu4"),
        ("conv5", "relu5"),
    ]
    ends = convolutions(resnet, trace(resnet))
    assert len(ends) == 19
    assert ends["conv2_1.conv1"] == "conv2_1.relu1"
    assert ends["conv2_1.conv2"] == "conv2_1.bn2"  # the ReLU comes after the addition


@pytest.mark.parametrize("multi_label", [False, True])
def test_examples_give_probabilities_as_the_bundle_means_them(net, images, multi_label):
    found = made(net, images, multi_label=multi_label, temperature=3.0)
    with torch.no_grad():
        scores = net.eval()(images) / 3
    odds = scores.exp()
    expected = odds / (1 + odds) if multi_label else odds / odds.sum(1, keepdim=True)
    names = ["cat", "dog & co", "bird"]
    assert len(found.occlusion) == 3
    for example in found.occlusion:
        number = int(re.search(r"\d+", example.name)[0])
        chosen = int(scores[number].argmax())
        assert example.target == names[chosen]
        assert example.probability == pytest.approx(float(expected[number, chosen]), rel=1e-4)
