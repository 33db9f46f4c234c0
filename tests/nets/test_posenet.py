import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate import nets
from striate.core.errors import InputSizeError, UsageError
from striate.nets.modules import Chain
from striate.nets.posenet import PosENet, position_targets

VGG_TAPS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
RESNET_TAPS = ("conv2_3", "conv3_3", "conv4_3")


def counting_stack(depth, *, padding=1, side_px=8):
    """The lecture's stack: each layer adds one to the pixel on the left, ``out(x) = in(x - 1) + 1``."""
    layers = {}
    for number in range(1, depth + 1):
        conv = nn.Conv2d(1, 1, 3, padding=padding)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
            conv.bias.fill_(1.0)
        layers[f"conv{number}"] = conv
    return Chain("counting", (1, side_px, side_px), layers)


def num_hooks(net):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules())


@pytest.mark.parametrize("depth", [1, 3, 7])
@pytest.mark.parametrize("level", [0.0, 1.0, None])
@torch.no_grad()
def test_zero_padding_counts_columns_whatever_the_image_shows(depth, level):
    images = torch.rand(2, 1, 8, 8) if level is None else torch.full((2, 1, 8, 8), level)
    maps = PosENet(counting_stack(depth), [f"conv{depth}"], out_px=8).features(images)
    assert maps.shape == (2, 1, 8, 8)
    for column in range(depth):
        assert maps[..., column].unique().tolist() == [column + 1]
    # the other columns are the image, moved to the right and brighter
    torch.testing.assert_close(maps[..., depth:], images[..., : 8 - depth] + depth)


@pytest.mark.parametrize(
    ("kernel_px", "num_layers", "padding", "side"),
    [
        (1, 1, 0, 28),
        (3, 1, 0, 26),
        (7, 1, 0, 22),
        (3, 2, 0, 24),
        (3, 3, 0, 22),
        (3, 1, 1, 28),
        (3, 1, 2, 30),
    ],
)
@torch.no_grad()
def test_sides_of_the_map(kernel_px, num_layers, padding, side):
    probe = PosENet(
        nets.build("resnet20"), RESNET_TAPS, kernel_px=kernel_px, num_layers=num_layers, padding=padding
    ).eval()
    maps = probe(torch.randn(2, 3, 32, 32))
    assert maps.shape == (2, 1, side, side)
    assert probe.output_px == side
    assert 0 < maps.min() < maps.max() < 1
    assert probe.input_shape == (3, 32, 32)


def test_five_taps_of_vgg16_give_1472_channels():
    with torch.device("meta"):
        probe = PosENet(nets.build("vgg16"), VGG_TAPS)
        assert probe.readout.conv1.weight.shape == (1, 64 + 128 + 256 + 512 + 512, 3, 3)
        assert probe(torch.empty(2, 3, 224, 224)).shape == (2, 1, 26, 26)
    trainable = [parameter.numel() for parameter in probe.parameters() if parameter.requires_grad]
    assert sum(trainable) == 1_472 * 9 + 2


@torch.no_grad()
def test_features_are_the_taps_in_their_order():
    backbone = nets.build("resnet20").eval()
    images = torch.randn(2, 3, 32, 32)
    names = [key for key, _ in backbone.named_children()]
    expected = [backbone[: names.index(tap) + 1](images) for tap in ("conv3_2", "conv3_1")]
    got = PosENet(backbone, ["conv3_2", "conv3_1"], out_px=16).features(images)
    torch.testing.assert_close(got, torch.cat(expected, dim=1))
    inner = PosENet(backbone, ["conv3_2.bn1"], out_px=16).features(images)
    assert inner.min() < 0 < inner.max()


@torch.no_grad()
def test_resizing_by_hand():
    column_values = torch.tensor([[0.0, 4.0], [0.0, 4.0]])[None, None]
    # half a pixel in from the edge the value stays, between two centres it is a quarter and three quarters
    grown = PosENet(None, image_channels=1, out_px=4).features(column_values)
    assert grown[0, 0].tolist() == [[0.0, 1.0, 3.0, 4.0]] * 4
    wide = torch.tensor([0.0, 2.0, 6.0, 8.0, 1.0, 3.0, 5.0, 5.0]).expand(1, 1, 8, 8)
    # 8 to 2: the centres of the halves lie between columns 1 and 2, 5 and 6; no blur
    shrunk = PosENet(None, image_channels=1, out_px=2, kernel_px=1).features(wide)
    assert shrunk[0, 0].tolist() == [[4.0, 4.0]] * 2


@torch.no_grad()
def test_readout_is_convolution_normalisation_sigmoid():
    probe = PosENet(None, image_channels=2, out_px=3).eval()
    probe.readout.conv1.weight.normal_()
    probe.readout.bn1.running_mean.fill_(0.5)
    probe.readout.bn1.running_var.fill_(4.0)
    probe.readout.bn1.weight.fill_(3.0)
    probe.readout.bn1.bias.fill_(-1.0)
    image = torch.randn(1, 2, 3, 3)
    total = (probe.readout.conv1.weight[0] * image[0]).sum().item()
    normalised = 3 * (total - 0.5) / math.sqrt(4 + 1e-5) - 1
    assert probe(image).item() == pytest.approx(1 / (1 + math.exp(-normalised)), rel=1e-5)


def test_readout_starts_from_xavier_s_uniform_distribution():
    probe = PosENet(None, image_channels=400, kernel_px=3)
    weight = probe.readout.conv1.weight.detach()
    limit = math.sqrt(6 / (400 * 9 + 1 * 9))  # fan-in plus fan-out
    assert 0.98 * limit < weight.abs().max() <= limit


def test_learning_reaches_the_readout_only():
    backbone = nets.build("resnet20").train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    hooks_before = num_hooks(backbone)
    probe = PosENet(backbone, RESNET_TAPS, num_layers=2).train()
    assert probe.training
    assert probe.readout.training
    assert not any(module.training for module in backbone.modules())
    optimizer = torch.optim.SGD(probe.parameters(), lr=0.1)
    images = torch.randn(4, 3, 32, 32, requires_grad=True)
    target = position_targets("H", probe.output_px, probe.output_px)
    first = probe.readout.conv1.weight.detach().clone()
    for _ in range(2):
        optimizer.zero_grad()
        functional.mse_loss(probe(images), target.expand(4, 1, -1, -1)).backward()
        optimizer.step()
    assert images.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in backbone.parameters())
    assert all(parameter.grad.any() for parameter in probe.readout.parameters())
    assert not torch.equal(probe.readout.conv1.weight, first)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert num_hooks(backbone) == hooks_before == 0


@torch.no_grad()
def test_no_hook_is_left_after_an_error():
    backbone = nets.build("resnet20")
    probe = PosENet(backbone, RESNET_TAPS)
    with pytest.raises(InputSizeError, match="resnet20 expects images of 3x32x32"):
        probe(torch.randn(1, 3, 64, 64))
    handle = backbone.conv4_2.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probe(torch.randn(1, 3, 32, 32))
    handle.remove()
    assert num_hooks(backbone) == 0
    with pytest.raises(UsageError, match="got 'fc', which does not: tap it earlier"):
        PosENet(backbone, ["conv2_1", "fc"])
    assert num_hooks(backbone) == 0
    assert probe(torch.randn(1, 3, 32, 32)).shape == (1, 1, 26, 26)


@torch.no_grad()
def test_backbone_runs_no_further_than_the_last_tap():
    backbone = nets.build("resnet20")
    probe = PosENet(backbone, ["conv2_3", "conv3_3"])
    ran = []
    handles = [
        module.register_forward_hook(lambda _, __, ___, key=key: ran.append(key))
        for key, module in backbone.named_children()
    ]
    probe(torch.randn(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    assert ran == ["conv1", "bn1", "relu1", "conv2_1", "conv2_2", "conv2_3", "conv3_1", "conv3_2", "conv3_3"]


@torch.no_grad()
def test_layers_in_place_behind_a_tap_do_not_change_what_is_read():
    backbone = Chain("inplace", (1, 4, 4), {"conv": nn.Conv2d(1, 3, 1), "relu": nn.ReLU(inplace=True)})
    images = torch.randn(2, 1, 4, 4)
    expected = backbone.conv(images)
    assert expected.min() < 0
    got = PosENet(backbone, ["conv", "relu"], out_px=4).features(images)
    torch.testing.assert_close(got, torch.cat([expected, expected.clamp(min=0)], dim=1))


def trained_correlation(probe, images, target):
    """Correlation of the map with the target, after a short training on one image."""
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.1)
    wanted = target[None, None].expand(len(images), 1, -1, -1)
    for _ in range(60):
        optimizer.zero_grad()
        functional.mse_loss(probe.train()(images), wanted).backward()
        optimizer.step()
    got = probe.eval()(images).detach()[0, 0]
    assert got.shape == target.shape
    return (
        torch.corrcoef(torch.stack([got.flatten(), target.flatten()]))[0, 1].item()
        if got.std() > 1e-6
        else None
    )


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_position_is_read_from_a_blank_image_through_padding_and_from_nothing_else(level):
    blank = torch.full((2, 1, 8, 8), level)
    target = position_targets("H", 6, 6)
    padded = PosENet(counting_stack(7), ["conv7"], out_px=8)
    assert trained_correlation(padded, blank, target) > 0.95
    unpadded = PosENet(counting_stack(2, padding=0), ["conv2"], out_px=8)
    assert trained_correlation(unpadded, blank, target) is None  # the same value everywhere
    alone = PosENet(None, image_channels=1, out_px=8)
    assert trained_correlation(alone, blank, target) is None
    if level:  # zeros around the read-out give positions away themselves, but not around a black image
        padded_readout = PosENet(None, image_channels=1, out_px=8, padding=1)
        assert trained_correlation(padded_readout, blank, position_targets("H", 8, 8)) > 0.3


def test_linear_targets_by_hand():
    assert position_targets("H", 2, 5).tolist() == [[0, 0.25, 0.5, 0.75, 1]] * 2
    assert position_targets("V", 3, 2).tolist() == [[0, 0], [0.5, 0.5], [1, 1]]


@pytest.mark.parametrize("kind", ["H", "V"])
def test_an_answer_of_one_half_has_the_error_that_the_paper_prints(kind):
    """Table 1: a read-out that sees no position has a mean absolute error of .251 on 224x224 px."""
    error = (position_targets(kind, 224, 224) - 0.5).abs().mean().item()
    assert round(error, 3) == 0.251


def test_gaussian_target_by_hand():
    # 3x5 px: distances from the centre in halves of a side, rows 0 and 1/1.5, columns 0, 1/2.5, 2/2.5
    down, across = math.exp(-((1 / 1.5) ** 2) / 2), [1.0, math.exp(-(0.4**2) / 2), math.exp(-(0.8**2) / 2)]
    lowest = down * across[2]
    stretched = [[(row * column - lowest) / (1 - lowest) for column in across] for row in (1.0, down)]
    got = position_targets("G", 3, 5)
    torch.testing.assert_close(got[1:, 2:], torch.tensor(stretched))
    torch.testing.assert_close(got, got.flip(0))
    torch.testing.assert_close(got, got.flip(1))
    assert (got[1, 2], got[0, 0]) == (1, 0)
    assert position_targets("G", 2, 2).unique().tolist() == [1]


def test_striped_targets_by_hand():
    # 11 px: a quarter period a pixel, two and a half periods in all
    sine = [0, 1, 0, -1, 0, 1, 0, -1, 0, 1, 0]
    expected = torch.tensor(sine, dtype=torch.float32).expand(3, 11)
    torch.testing.assert_close(position_targets("HS", 3, 11), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(position_targets("VS", 11, 3), expected.T, atol=1e-5, rtol=0)


def test_a_wrong_target_is_refused():
    with pytest.raises(UsageError, match="expected H, V, G, HS or VS, got 'D'"):
        position_targets("D", 8, 8)
    with pytest.raises(UsageError, match="at least 2x2 px, got 1x8"):
        position_targets("H", 1, 8)


class Shared(nn.Module):
    """One module used twice, as in-place networks of other libraries have it."""

    input_shape = (1, 4, 4)

    def __init__(self):
        super().__init__()
        self.relu, self.unused = nn.ReLU(), nn.ReLU()

    def forward(self, images):
        return self.relu(self.relu(images))


@pytest.mark.parametrize(
    ("backbone", "taps", "arguments", "message"),
    [
        ("resnet20", ["conv2_4"], {}, r"modules of the backbone, got 'conv2_4': did you mean conv2_"),
        ("resnet20", ["conv2_1", "conv2_1"], {}, "different names .* got 'conv2_1' twice"),
        ("resnet20", [], {}, "a backbone with taps, or None without, got 0 taps with a backbone"),
        (None, ["conv1"], {}, "got 1 taps without a backbone"),
        (None, [], {"kernel_px": 0}, "kernel_px of at least 1, got 0"),
        (None, [], {"num_layers": 0}, "num_layers of at least 1, got 0"),
        (None, [], {"padding": -1}, "padding of at least 0, got -1"),
        (Shared(), ["relu"], {}, "uses once, got 'relu', which is used 2 times"),
        (Shared(), ["unused"], {}, "uses once, got 'unused', which is used 0 times"),
        (nn.Conv2d(3, 3, 3), ["weight"], {}, "a backbone with input_shape"),
    ],
)
def test_wrong_arguments_are_refused(backbone, taps, arguments, message):
    backbone = nets.build(backbone) if isinstance(backbone, str) else backbone
    with pytest.raises(UsageError, match=message):
        PosENet(backbone, taps, **arguments)


def test_a_kernel_larger_than_the_features_is_refused():
    with pytest.raises(InputSizeError, match="7x7 window"):
        PosENet(None, kernel_px=7, out_px=4)
    with pytest.raises(InputSizeError, match="images of 1 channels, got 2x3x8x8: convert them"):
        PosENet(None, image_channels=1)(torch.zeros(2, 3, 8, 8))
