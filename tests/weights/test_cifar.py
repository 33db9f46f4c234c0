"""CIFAR ResNets as they are published, against a network of plain torch that pads on both sides."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.core.errors import BundleError
from striate.nets import build
from striate.weights.convert import convert_weights
from striate.weights.layouts import cifar, guess
from striate.weights.layouts.layout import translate
from striate.weights.open import open_bundle, open_network
from striate.weights.read import read_weights


class Block(nn.Module):
    """A basic block as the published files have it: shortcut A pads on both sides, B is a projection."""

    def __init__(self, channels_in: int, channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.half = channels // 4 if stride != 1 and option == "A" else 0
        self.shortcut = nn.Sequential()
        if stride != 1 and option == "B":
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.half:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.half, self.half))
        return functional.relu(out + self.shortcut(x))


class Published(nn.Module):
    """The network around the blocks."""

    def __init__(self, depth: int, option: str = "A", last: str = "linear", num_classes: int = 10) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (before, channels) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            rows = [Block(before, channels, 1 if stage == 1 else 2, option)]
            rows += [Block(channels, channels, 1, option) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*rows))
        self.last = last
        setattr(self, last, nn.Linear(64, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return getattr(self, self.last)(x.mean((2, 3)))


def published(depth: int, option: str = "A", last: str = "linear", num_classes: int = 10) -> Published:
    """Make one with every tensor random, batch norm's statistics included."""
    torch.manual_seed(depth)
    net = Published(depth, option, last, num_classes)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def ours(net: Published, depth: int, images: torch.Tensor, **options) -> torch.Tensor:
    state = translate(cifar.layout(f"resnet{depth}", **options), net.state_dict()).state
    arguments = {"shortcut": "B"} if cifar.has_option_b(net.state_dict()) else {}
    made = build(f"resnet{depth}", **arguments).eval()
    made.load_state_dict(state)
    with torch.no_grad():
        return made(images)


@pytest.mark.parametrize("depth", [20, 32, 56, 110])
def test_padding_on_both_sides_gives_torchs_logits(depth: int, images: torch.Tensor) -> None:
    net = published(depth)
    with torch.no_grad():
        expected = net(images)
    found = ours(net, depth, images)
    assert float((found - expected).abs().max()) <= 1e-5 * max(1.0, float(expected.abs().max()))
    wrong = ours(net, depth, images, shortcut="append")  # what renaming alone would do
    assert float((wrong - expected).abs().max()) > 1e-3 * float(expected.abs().max())


def test_projections_need_no_order(images: torch.Tensor) -> None:
    net = published(20, "B")
    with torch.no_grad():
        expected = net(images)
    assert torch.allclose(ours(net, 20, images), expected, atol=1e-5, rtol=1e-5)


def test_what_a_file_does_not_say_is_asked_for(images: torch.Tensor) -> None:
    net = published(20, last="fc")
    with torch.no_grad():
        expected = net(images)
    with pytest.raises(BundleError, match=r"does not say where.*name its last layer `linear`"):
        ours(net, 20, images)
    assert torch.allclose(ours(net, 20, images, shortcut="pad-both"), expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def file(tmp_path):
    """Write a network as the published files are: wrapped, with ``module.`` before every name."""

    def write(net: Published, name: str = "net.th.pth"):
        state = {f"module.{key}": tensor for key, tensor in net.state_dict().items()}
        torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("depth", [20, 32, 56, 110])
def test_a_published_file_is_known_and_becomes_a_bundle(depth, file, images, tmp_path) -> None:
    net = published(depth)
    path = file(net)
    assert guess(read_weights(path)) == (f"resnet{depth}",)
    convert_weights(path, tmp_path / "b.safetensors")
    made, bundle = open_bundle(tmp_path / "b.safetensors")
    opened = open_network(path)
    with torch.no_grad():
        expected, found, direct = net(images), made(images), opened.net(images)
    bound = 1e-5 * max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= bound
    assert torch.equal(found, direct)
    assert bundle.preprocessing.mean == (0.485, 0.456, 0.406)


def test_a_file_that_leaves_the_padding_open_is_refused(file, tmp_path) -> None:
    path = file(published(20, last="fc"))
    with pytest.raises(BundleError, match="does not say where"):
        convert_weights(path, tmp_path / "b.safetensors", net="resnet20")
    assert not (tmp_path / "b.safetensors").exists()


def test_projections_are_asked_for_by_their_argument(file, images, tmp_path) -> None:
    net = published(20, "B", num_classes=10)
    convert_weights(file(net), tmp_path / "b.safetensors", net="resnet20", net_arguments={"shortcut": "B"})
    made, _ = open_bundle(tmp_path / "b.safetensors")
    with torch.no_grad():
        assert torch.allclose(made(images), net(images), atol=1e-5, rtol=1e-5)
