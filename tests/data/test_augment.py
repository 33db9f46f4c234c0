from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.augment import Augmentation, RandomArea, draw_area, random_crop, resized_crop, shift_colours
from striate.data.preprocess import Preprocessing

MANY = np.arange(4000)


def position_canvas(count, side):
    """Images whose pixel (r, c) holds (r, c, 0), so that a crop shows where it was cut."""
    rows, columns = np.mgrid[:side, :side].astype(np.uint8)
    image = np.stack([rows + 1, columns + 1, np.zeros_like(rows)], 2)
    return np.repeat(image[None], count, 0)


def test_crops_cover_every_place_evenly_and_half_are_mirrored():
    augmentation = Augmentation(crop_pad_px=1, flip=True)
    out = random_crop(
        position_canvas(len(MANY), 4), (4, 4), augmentation, np.array([9, 9, 9], np.uint8), 0, 0, MANY
    )
    inner = out[:, 1:3, 1:3, :2].astype(int)
    mirrored = inner[:, 0, 0, 1] > inner[:, 0, 1, 1]
    assert 0.46 < mirrored.mean() < 0.54
    upright = np.where(mirrored[:, None, None, None], out[:, :, ::-1], out)
    top, left = 2 - upright[:, 1, 1, 0].astype(int), 2 - upright[:, 1, 1, 1].astype(int)
    counts = np.zeros((3, 3))
    np.add.at(counts, (top + 1, left + 1), 1)
    assert counts.sum() == len(MANY)
    assert counts.min() > 0.8 * len(MANY) / 9
    shifted_down = upright[(top == 1)]
    assert (shifted_down[:, 0] == 9).all()  # the border shows the fill


def test_edge_fill_repeats_the_nearest_pixel():
    canvas = np.array([[[[10], [20]], [[30], [40]]]], np.uint8)
    augmentation = Augmentation(crop_pad_px=3, crop_fill="edge")
    seen = {
        tuple(
            random_crop(
                canvas, (2, 2), augmentation, np.zeros(1, np.uint8), 0, epoch, np.array([0])
            ).flatten()
        )
        for epoch in range(300)
    }
    assert (10, 10, 10, 10) in seen
    assert (10, 20, 30, 40) in seen
    assert set().union(*seen) == {10, 20, 30, 40}


def test_an_image_changes_with_the_epoch_and_not_with_its_neighbours():
    augmentation = Augmentation(crop_pad_px=4, flip=True)
    canvas, fill = position_canvas(64, 16), np.zeros(3, np.uint8)
    whole = random_crop(canvas, (16, 16), augmentation, fill, 5, 2, np.arange(64))
    alone = random_crop(canvas[:1], (16, 16), augmentation, fill, 5, 2, np.array([37]))
    assert np.array_equal(whole[37], alone[0])
    other = random_crop(canvas, (16, 16), augmentation, fill, 5, 3, np.arange(64))
    assert (whole != other).any((1, 2, 3)).mean() > 0.9


def test_random_area_stays_inside_and_keeps_its_fraction():
    fractions, ratios = [], []
    for index in range(500):
        left, top, right, bottom = draw_area((0.08, 1.0), 0, 0, index).box(200, 150)
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 150
        fractions.append((right - left) * (bottom - top) / (200 * 150))
        ratios.append((right - left) / (bottom - top))
    assert 0.07 < min(fractions) < 0.15
    assert max(fractions) > 0.8
    assert 0.74 < min(ratios) < 0.85
    assert 1.2 < max(ratios) < 1.35


def test_random_area_that_never_fits_takes_the_central_square():
    hopeless = RandomArea(np.array([[1.0, 4 / 3, 0.0, 0.0]] * 10))
    assert hopeless.box(100, 10) == (45, 0, 55, 10)


def test_resized_crop_of_the_whole_image_is_a_plain_resize():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8))
    pre = Preprocessing(channels=3, height_px=10, width_px=10, resize_px=10)
    out = resized_crop(image, RandomArea(np.array([[1.0, 1.0, 0.0, 0.0]])), pre, mirrored=True)
    expected = np.asarray(image.resize((10, 10), Image.Resampling.BILINEAR))[:, ::-1]
    assert np.array_equal(out, expected)


def test_colour_shift_is_one_shift_an_image_along_the_principal_directions():
    unit = torch.full((3000, 2, 2, 3), 0.5)
    # Columns: 0.3 along red, 0.2 along (green + blue) / sqrt 2, nothing along the third.
    principal = np.array([[0.3, 0, 0], [0, 0.2 / 2**0.5, 0], [0, 0.2 / 2**0.5, 0]])
    augmentation = Augmentation(colour_pca_std=0.1)
    out = shift_colours(unit.clone(), augmentation, principal, 0, 0, np.arange(3000)).numpy() - 0.5
    assert np.ptp(out, axis=(1, 2)).max() == 0  # the same for every pixel of an image
    shifts = out[:, 0, 0]
    assert shifts[:, 0].std() == pytest.approx(0.03, rel=0.05)
    np.testing.assert_allclose(shifts[:, 1], shifts[:, 2], atol=1e-7)
    assert shifts[:, 1].std() == pytest.approx(0.02 / 2**0.5, rel=0.05)
    assert abs(np.corrcoef(shifts[:, 0], shifts[:, 1])[0, 1]) < 0.06


def test_jitter_by_hand():
    unit = torch.tensor([[[[0.2, 0.4, 0.6]], [[0.6, 0.4, 0.2]]]])
    zero = Augmentation()
    assert torch.equal(shift_colours(unit.clone(), zero, None, 0, 0, np.array([0])), unit)
    bright = shift_colours(unit.clone(), replace(zero, brightness=0.5), None, 0, 0, np.array([0]))
    factor = (bright / unit).flatten()
    np.testing.assert_allclose(factor, factor[0].item() * np.ones(6), rtol=1e-5)
    assert 0.5 <= factor[0] <= 1.5
    grey = torch.full((1, 2, 2, 3), 0.3)
    for still in (
        replace(zero, saturation=0.9),
        replace(zero, contrast=0.9),
    ):  # a grey image has nothing to change
        np.testing.assert_allclose(
            shift_colours(grey.clone(), still, None, 0, 0, np.array([0])), grey, atol=1e-6
        )
