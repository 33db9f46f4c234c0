import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing, centre, normalise, resize, resize_shorter, to_pixels


def spec(**changes):
    base = {"channels": 3, "height_px": 4, "width_px": 4, "resize_px": None}
    return Preprocessing(**{**base, **changes})


def test_normalise_by_hand_and_channels_last():
    pixels = torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)
    pre = spec(mean=(0.5, 0.1, 0.2), std=(0.25, 0.5, 0.4))
    out = normalise(pixels, pre)
    assert out.shape == (1, 3, 1, 1)
    np.testing.assert_allclose(out.flatten(), [-2.0, 0.2, 2.0], atol=1e-6)
    large = normalise(torch.zeros(2, 5, 6, 3, dtype=torch.uint8), pre)
    assert large.is_contiguous(memory_format=torch.channels_last)


def test_normalise_bgr_keeps_each_channels_own_mean():
    pixels = torch.tensor([[[[255, 0, 0]]]], dtype=torch.uint8)
    out = normalise(pixels, spec(mean=(0.0, 0.5, 0.25), std=(1.0, 0.5, 0.25), colour_order="BGR"))
    np.testing.assert_allclose(out.flatten(), [-1.0, -1.0, 1.0], atol=1e-6)


def test_unit_and_u8_agree():
    pixels = torch.randint(
        0, 256, (2, 3, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pre = spec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    np.testing.assert_allclose(normalise(pixels, pre), normalise(pixels.float() / 255, pre), atol=2e-6)


def test_lenet_levels():
    # LeCun et al. 1998, sec. II.B: background -0.1, foreground 1.175.
    pre = spec(channels=1, mean=(0.1 / 1.275,), std=(1 / 1.275,))
    out = normalise(torch.tensor([[[[0], [255]]]], dtype=torch.uint8), pre)
    np.testing.assert_allclose(out.flatten(), [-0.1, 1.175], atol=1e-6)


def test_mnist_goes_into_the_middle_of_32():
    image = Image.fromarray(np.full((28, 28), 7, np.uint8))
    out = to_pixels(image, spec(channels=1, height_px=32, width_px=32, mean=(0.0,), std=(1.0,)))
    expected = np.zeros((32, 32, 1), np.uint8)
    expected[2:30, 2:30] = 7
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("size", [(5, 3), (3, 5), (9, 9), (4, 4)])
def test_centre_keeps_the_centre(size):
    pixels = np.arange(size[0] * size[1], dtype=np.uint8).reshape(*size, 1)
    out = centre(pixels, 3, 3, fill=200)
    top, left = (size[0] - 3) // 2, (size[1] - 3) // 2
    assert np.array_equal(out, pixels[top : top + 3, left : left + 3])


def test_centre_pads_and_crops_at_once():
    out = centre(np.full((2, 6, 1), 9, np.uint8), 4, 4, fill=1)[:, :, 0]
    assert out.tolist() == [[1] * 4, [9] * 4, [9] * 4, [1] * 4]


@pytest.mark.parametrize(
    ("size", "expected"), [((500, 375), (85, 64)), ((375, 500), (64, 85)), ((10, 10), (64, 64))]
)
def test_shorter_side(size, expected):
    found = resize_shorter(np.full((size[1], size[0], 3), 7, np.uint8), 64, "bilinear")
    assert found.shape == (expected[1], expected[0], 3)
    assert (found == 7).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((375, 500), (256, 341)),
        ((61, 40), (97, 33)),
        ((9, 7), (40, 31)),
        ((1, 5), (3, 2)),
        ((300, 2), (4, 1)),
    ],
)
def test_resizing_is_pillows_but_for_rounding(interpolation, channels, size, wanted):
    rows, columns = np.mgrid[: size[0], : size[1]]
    levels = (
        np.random.default_rng(0).integers(-60, 60, (*size, channels)) + ((rows + columns) % 256)[:, :, None]
    )
    pixels = np.clip(levels, 0, 255).astype(np.uint8)
    pixels.flags.writeable = False  # as Pillow's arrays are
    kept = pixels.copy()
    found = resize(pixels, *wanted, interpolation)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    filters = {
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
        "lanczos": Image.Resampling.LANCZOS,
        "nearest": Image.Resampling.NEAREST,
    }
    expected = np.asarray(image.resize(wanted[::-1], filters[interpolation]), int).reshape(*wanted, channels)
    off = np.abs(found - expected)
    assert found.dtype == np.uint8
    assert off.max() <= (2 if interpolation in ("bilinear", "bicubic") else 0)
    assert off.sum() <= max(3, 0.02 * off.size)
    assert np.array_equal(pixels, kept)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_of_photographs_hardly_a_level_differs(interpolation):
    for photo in load_sample_images().images:  # two photographs that come with scikit-learn
        found = resize(photo, 256, 384, interpolation)
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        off = np.abs(
            found - np.asarray(Image.fromarray(photo).resize((384, 256), filters[interpolation]), int)
        )
        assert off.max() <= 2
        assert (off > 0).mean() < 1 / 200


def test_what_has_the_size_is_returned_as_it_is():
    pixels = np.zeros((4, 6, 3), np.uint8)
    assert resize(pixels, 4, 6, "bicubic") is pixels


def test_a_part_of_an_image_is_resized_like_a_copy_of_it():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)
    part = pixels[3:33, 5:45][:, ::-1]
    assert np.array_equal(resize(part, 12, 16, "bilinear"), resize(part.copy(), 12, 16, "bilinear"))


def test_grey_weights_are_rec_601():
    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    pre = spec(channels=1, height_px=1, width_px=3, mean=(0.0,), std=(1.0,))
    np.testing.assert_allclose(to_pixels(image, pre).flatten(), [76, 150, 29], atol=1)


def test_json_round_trip_and_refusals():
    pre = spec(mean=(0.1, 0.2, 0.3), interpolation="bicubic", resize_px=8)
    assert Preprocessing.from_json(pre.to_json()) == pre
    with pytest.raises(UsageError, match="unknown fields: colour"):
        Preprocessing.from_json({**pre.to_json(), "colour": 1})
    with pytest.raises(UsageError, match="incomplete"):
        Preprocessing.from_json({"channels": 3})
    with pytest.raises(UsageError, match="3 means"):
        spec(mean=(0.0,))


def test_larger_images_are_resized_even_where_small_ones_keep_their_pixels():
    pre = spec(channels=1, mean=(0.0,), std=(1.0,))
    image = Image.fromarray(np.kron(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((10, 10), np.uint8)))
    assert np.array_equal(
        to_pixels(image.resize((4, 4), Image.Resampling.BOX), pre)[:, :, 0].ravel(), range(16)
    )
    shrunk = to_pixels(image, pre)[:, :, 0]
    assert shrunk.shape == (4, 4)
    np.testing.assert_allclose(shrunk.ravel(), range(16), atol=1)


def test_an_endless_strip_costs_no_more_than_its_middle():
    strip = np.full((1, 300_000, 1), 9, np.uint8)
    strip[:, 149_995:150_005] = 200
    assert resize_shorter(strip, 32, "bilinear").shape == (32, 512, 1)
    pre = spec(channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.0,), std=(1.0,))
    assert (
        to_pixels(strip, pre) == 200
    ).mean() > 0.6  # the ten middle pixels, 32 px wide each, fill the crop


@pytest.mark.parametrize("wrong", [{"height_px": "x"}, {"resize_px": -3}, {"width_px": 0}, {"fill": -1}])
def test_sizes_are_whole_numbers(wrong):
    with pytest.raises(UsageError, match="expected a whole number of pixels"):
        spec(**wrong)
