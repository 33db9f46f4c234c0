import numpy as np
import pytest
import torch
from torch import nn

from striate.core.errors import DataError, UsageError
from striate.look.segment import activation_quantile, segment
from striate.look.stream import TensorImages


@pytest.fixture
def pixels_net():
    """Its unit is the pixel itself."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    net[0].weight.data.fill_(1)
    return net


def test_a_map_of_the_images_size_is_cut_as_it_is(pixels_net):
    images = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]], [[[-1.0, -2.0], [-3.0, -4.0]]]])
    found = segment(pixels_net, images, "0", unit=0, share=0.4)
    assert torch.equal(found.maps, images[:, 0])
    assert found.masks.tolist() == [[[False, False], [True, True]], [[False, False], [False, False]]]
    torch.testing.assert_close(found.thresholds, torch.tensor([1.6, -0.4]))
    fixed = segment(pixels_net, images, "0", unit=0, threshold=0.5)
    assert fixed.masks[0].tolist() == [[False, True], [True, True]]
    below = segment(pixels_net, images, "0", unit=0, threshold=-3.5)
    assert not below.masks[1].any()  # what is not above 0 does not fire


def test_values_stand_on_the_centres_of_their_fields():
    """Windows of 3 at stride 2 without padding on 9 pixels: centres at 1, 3, 5 and 7."""
    net = nn.Sequential(nn.AvgPool2d(3, 2))
    column = torch.arange(9.0)
    images = column.expand(1, 1, 9, 9).clone()
    found = segment(net, images, "0", unit=0)
    assert found.anchored
    assert found.activations[0, 0].tolist() == [1, 3, 5, 7]
    # A linear ramp is given back exactly between the outermost centres, and held for half a step.
    assert found.maps[0, 4].tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 7]
    net = nn.Sequential(nn.AvgPool2d(5))
    images = torch.arange(12.0).expand(1, 1, 12, 12).clone()
    found = segment(net, images, "0", unit=0)  # centres 2 and 7; the last two pixels are no unit's
    assert found.maps[0, 0, :10].tolist() == [2, 2, 2, 3, 4, 5, 6, 7, 7, 7]
    assert found.maps[0, 0, 10:].isnan().all()
    assert not found.masks[0, :, 10:].any()


def test_batch_size_changes_nothing():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    images = torch.randn(7, 3, 10, 10)
    one, other = (segment(net, images, "2", unit=3, batch_images=size) for size in (1, 7))
    torch.testing.assert_close(one.maps, other.maps)
    streams = [TensorImages(images=images, batch_images=size) for size in (1, 3)]
    values = [activation_quantile(net, stream, "2", unit=3, top=0.1) for stream in streams]
    assert values[0] == pytest.approx(values[1], rel=2e-3)


@pytest.mark.parametrize("top", [0.005, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("scale", [1.0, 1e-5, -30.0])
def test_the_quantile_is_numpys_to_one_part_in_a_thousand(pixels_net, top, scale):
    images = scale * torch.randn(50, 1, 20, 20).exp() * torch.where(torch.rand(50, 1, 20, 20) < 0.3, -1, 1)
    found = activation_quantile(pixels_net, TensorImages(images=images), "0", unit=0, top=top)
    exact = np.quantile(images.numpy(), 1 - top, method="inverted_cdf")
    assert found == pytest.approx(float(exact), rel=2e-3)
    assert (images > found).float().mean() <= top


def test_the_quantile_of_a_unit_that_is_mostly_silent_is_zero(pixels_net):
    images = torch.zeros(10, 1, 20, 20)
    images[0, 0, 0, 0] = 5
    found = activation_quantile(pixels_net, TensorImages(images=images), "0", unit=0)
    assert found == pytest.approx(0, abs=1e-30)
    assert segment(pixels_net, images, "0", unit=0, threshold=found).masks.sum() == 1


def test_bad_requests_are_refused(pixels_net):
    images = torch.randn(2, 1, 4, 4)
    with pytest.raises(UsageError, match="from 0 to 0, got 1"):
        segment(pixels_net, images, "0", unit=1)
    with pytest.raises(UsageError, match="between 0 and 1"):
        segment(pixels_net, images, "0", unit=0, share=1.0)
    with pytest.raises(UsageError, match="a layer with maps"):
        segment(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), images, "1", unit=0)
    with pytest.raises(UsageError, match="between 0 and 1"):
        activation_quantile(pixels_net, TensorImages(images=images), "0", unit=0, top=0)
    with pytest.raises(DataError, match="none that can be read"):
        activation_quantile(pixels_net, TensorImages(images=images[:0]), "0", unit=0)
    assert not any(module._forward_hooks for module in pixels_net.modules())
    assert pixels_net.training
