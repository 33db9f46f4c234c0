import pytest
import torch
from torch import nn

from striate.core.errors import UsageError
from striate.look.receptive import empirical_field, interpolation
from striate.nets import build


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def brute_force(net, image, unit, place, occluder_px, stride_px, low, high, generator):
    """The discrepancy of every occluder, one forward pass each: a list of (top, left, change)."""
    channels, height, width = image.shape
    tops = sorted({*range(0, height - occluder_px + 1, stride_px), height - occluder_px})
    lefts = sorted({*range(0, width - occluder_px + 1, stride_px), width - occluder_px})
    noise = torch.rand(len(tops) * len(lefts), channels, occluder_px, occluder_px, generator=generator)
    found = []
    with torch.no_grad():
        whole = net(image[None])[0, unit][place]
        for number, (top, left) in enumerate((top, left) for top in tops for left in lefts):
            covered = image.clone()
            for channel in range(channels):
                span = high[channel] - low[channel]
                covered[channel, top : top + occluder_px, left : left + occluder_px] = (
                    low[channel] + span * noise[number, channel]
                )
            found.append((top, left, float((net(covered[None])[0, unit][place] - whole).abs())))
    return found


@pytest.fixture
def net():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3, padding=1)
    )


@pytest.fixture
def images():
    return torch.randn(3, 2, 16, 14)


def test_maps_equal_brute_force(net, images):
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 0.5])
    places = [(0, 0), (3, 2), (7, 6)]
    found = empirical_field(
        net,
        images,
        "3",
        unit=1,
        at=places,
        generator=seeded(),
        occluder_px=3,
        stride_px=3,
        low=low,
        high=high,
    )
    generator = seeded()
    with torch.no_grad():
        maps = net(images)
    for number, place in enumerate(places):
        assert float(found.values[number]) == pytest.approx(float(maps[number, 1][place]))
        one = found.maps[number]
        for top, left, change in brute_force(net, images[number], 1, place, 3, 3, low, high, generator):
            assert float(one[top + 1, left + 1]) == pytest.approx(change, abs=1e-6)
        assert one[0].isnan().all()  # no occluder of 3 px can be centred on the border
        assert one[:, -1].isnan().all()
        assert not one[1:-1, 1:-1].isnan().any()


@pytest.mark.parametrize("name", ["lenet5_modern", "resnet20"])
def test_the_field_of_random_weights_lies_inside_the_theoretical_one(name):
    """Occluders of 1 px everywhere: what lies outside the box that arithmetic gives changes nothing."""
    net = build(name).eval()
    layer = {"lenet5_modern": "S2", "resnet20": "conv2_1"}[name]
    images = torch.randn(2, *net.input_shape)
    found = empirical_field(
        net, images, layer, unit=2, generator=seeded(), occluder_px=1, stride_px=1, everywhere=True
    )
    top, left, bottom, right = found.theoretical
    size = {"lenet5_modern": 6, "resnet20": 7}[name]  # 5 + 1; 3 + 2 + 2
    assert (bottom - top + 1, right - left + 1) == (size, size)
    inside = torch.zeros_like(found.mean, dtype=torch.bool)
    inside[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    assert (found.mean[inside].nan_to_num(0) > 0).any()
    outside = found.mean[~inside].nan_to_num(0)
    assert outside.max() < 1e-5 * found.mean[inside].nan_to_num(0).max()  # rounding
    for share in (0.01, 0.5, 0.99):
        assert not (found.inside(share) & ~inside).any()
        assert 0 < found.size_px(share) <= size


def test_leaving_out_what_the_unit_cannot_see_changes_nothing(net, images):
    settings = {"unit": 0, "occluder_px": 4, "stride_px": 3}
    some = empirical_field(net, images, "3", generator=seeded(), **settings)
    every = empirical_field(net, images, "3", generator=seeded(), everywhere=True, **settings)
    torch.testing.assert_close(some.maps, every.maps, equal_nan=True, rtol=0, atol=1e-6)
    assert some.places == every.places


def test_batch_size_changes_nothing(net, images):
    one = empirical_field(net, images, "3", unit=0, generator=seeded(), occluder_px=3, batch_images=1)
    other = empirical_field(net, images, "3", unit=0, generator=seeded(), occluder_px=3, batch_images=50)
    torch.testing.assert_close(one.mean, other.mean, equal_nan=True)


def test_the_mean_is_taken_around_the_units_own_places():
    """A unit that reads one pixel: wherever it stands, the field is that pixel, in the middle."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    net[0].weight.data.fill_(2)
    images = torch.zeros(2, 1, 9, 9)
    images[0, 0, 1, 7] = images[1, 0, 6, 2] = 1
    found = empirical_field(
        net,
        images,
        "0",
        unit=0,
        generator=seeded(),
        occluder_px=1,
        stride_px=1,
        low=torch.zeros(1),
        high=torch.zeros(1),
    )
    assert found.places == ((1, 7), (6, 2))
    assert found.centres == ((1, 7), (6, 2))
    assert found.mean.shape == (3, 3)  # 1 // 2 + 1 on each side
    wanted = torch.zeros(3, 3)
    wanted[1, 1] = 2  # the activation 2 goes to 0
    assert torch.equal(found.mean, wanted)
    assert found.theoretical == (1, 1, 1, 1)
    assert found.size_px() == 1


def test_pixels_outside_an_image_are_averaged_over_the_others():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False))
    net[0].weight.data.fill_(1)
    images = torch.zeros(2, 1, 8, 8)
    found = empirical_field(
        net,
        images,
        "0",
        unit=0,
        at=[(0, 0), (4, 4)],
        generator=seeded(),
        occluder_px=1,
        stride_px=1,
        low=torch.ones(1),
        high=torch.ones(1),
    )
    assert found.theoretical == (1, 1, 3, 3)
    wanted = torch.zeros(5, 5)
    wanted[1:4, 1:4] = 1  # the corner's unit lacks the row and the column that only the other image has
    torch.testing.assert_close(found.mean, wanted)


def test_interpolation_by_hand():
    wanted = [[1, 0], [1, 0], [0.5, 0.5], [0, 1], [0, 1]]
    assert interpolation([1, 3], 5).tolist() == wanted
    assert interpolation([2.0], 3).tolist() == [[1], [1], [1]]


def test_bad_requests_are_refused(net, images):
    def call(layer="3", **changes):
        settings = {"unit": 0, "generator": seeded(), "occluder_px": 3, **changes}
        return empirical_field(net, images, layer, **settings)

    with pytest.raises(UsageError, match="occluders of 1 to 14 px"):
        call(occluder_px=15)
    with pytest.raises(UsageError, match="from 0 to 2, got 3"):
        call(unit=3)
    with pytest.raises(UsageError, match="maps of 8 x 7"):
        call(at=[(8, 0)] * 3)
    with pytest.raises(UsageError, match="did you mean"):
        call("4")
    with pytest.raises(UsageError, match="between 0 and 1"):
        call().size_px(1)
    assert not any(module._forward_hooks for module in net.modules())
    assert net.training
