"""Views of an image against slicing by hand and against torchvision's ten crops."""

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing, to_pixels
from striate.data.views import (
    Canvas,
    choose_canvas,
    five_crops,
    many_crops,
    many_scales,
    mirrored,
    on_canvas,
    single_crop,
    ten_crops,
    whole_image,
)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


def preprocessing(crop: int, resize: int | None = None, **changes: object) -> Preprocessing:
    values: dict[str, object] = {"channels": 3, "height_px": crop, "width_px": crop, "resize_px": resize}
    return Preprocessing(**(values | changes))  # type: ignore[arg-type]


def test_single_and_mirror():
    image, pre = photo(60, 50), preprocessing(32, 40)
    one = single_crop(image, pre)
    assert np.array_equal(one[0], to_pixels(image, pre))
    both = mirrored(one)
    assert both.shape == (2, 32, 32, 3)
    assert np.array_equal(both[0], one[0])
    for column in range(32):
        assert np.array_equal(both[1][:, column], one[0][:, 31 - column])


def test_ten_crops_are_ten_slices_of_the_central_square():
    # 40 px high already, so that nothing is resampled: the square is columns 10 to 50.
    image, pre = photo(60, 40), preprocessing(32, 40)
    square = np.asarray(image)[:, 10:50]
    views = ten_crops(image, pre, choose_canvas(pre))
    slices = [
        square[0:32, 0:32],
        square[0:32, 8:40],
        square[8:40, 0:32],
        square[8:40, 8:40],
        square[4:36, 4:36],
    ]
    assert views.shape == (10, 32, 32, 3)
    for k, expected in enumerate(slices):
        assert np.array_equal(views[k], expected)
        assert np.array_equal(views[5 + k], np.fliplr(expected))


@pytest.mark.peer
def test_ten_crops_are_those_of_torchvision(monkeypatch):
    own = torch.library.register_fake

    def lenient(name, *arguments, **keywords):  # its compiled operators don't load on CPU builds of torch
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return own(name, *arguments, **keywords)

    monkeypatch.setattr(torch.library, "register_fake", lenient)
    transforms = pytest.importorskip("torchvision.transforms")
    image, pre = photo(70, 48), preprocessing(36, 48)
    square = Image.fromarray(on_canvas(image, pre, Canvas(48)))
    theirs = {np.asarray(view).tobytes() for view in transforms.TenCrop(36)(square)}
    ours = {view.tobytes() for view in ten_crops(image, pre, Canvas(48))}
    assert len(ours) == 10
    assert ours == theirs


def test_ten_crops_of_a_small_picture_come_from_a_border_at_the_mean():
    image, pre = photo(32, 32), preprocessing(32, None, mean=(0.5, 0.2, 1.0))
    canvas = choose_canvas(pre)
    assert canvas == Canvas(None, 4)  # 1/8 of 32
    padded = np.empty((40, 40, 3), np.uint8)
    padded[:] = (128, 51, 255)  # rint(127.5) is even
    padded[4:36, 4:36] = np.asarray(image)
    assert np.array_equal(on_canvas(image, pre, canvas), padded)
    views = ten_crops(image, pre, canvas)
    assert np.array_equal(views[0], padded[:32, :32])
    assert np.array_equal(views[4], np.asarray(image))
    assert np.array_equal(views[8], padded[8:, 8:][:, ::-1])


def test_a_border_that_is_there_goes_on_at_its_level():
    digit = Image.fromarray(np.full((28, 28), 200, np.uint8))
    pre = Preprocessing(
        channels=1, height_px=32, width_px=32, resize_px=None, fill=7, mean=(0.5,), std=(1.0,)
    )
    padded = on_canvas(digit, pre, Canvas(None, 4))[:, :, 0]
    expected = np.full((40, 40), 7)
    expected[6:34, 6:34] = 200
    assert np.array_equal(padded, expected)


@pytest.mark.parametrize(
    ("crop", "resize", "canvas"),
    [
        (224, 256, Canvas(256)),  # the bundle's own
        (224, 224, Canvas(256)),  # it leaves no room
        (224, None, Canvas(256)),
        (227, 227, Canvas(259)),  # 227 * 256 / 224 = 259.4
        (112, 112, Canvas(128)),
        (32, 40, Canvas(40)),
        (32, 32, Canvas(None, 4)),
        (28, None, Canvas(None, 4)),  # 3.5, to the even number
        (64, 64, Canvas(None, 8)),
    ],
)
def test_the_canvas(crop, resize, canvas):
    assert choose_canvas(preprocessing(crop, resize)) == canvas


def test_the_users_canvas():
    pre = preprocessing(32, 32)
    assert choose_canvas(pre, side_px=48) == Canvas(48)
    assert choose_canvas(pre, pad_px=2) == Canvas(None, 2)
    with pytest.raises(UsageError, match="expected `canvas` of at least 32 px"):
        choose_canvas(pre, side_px=31)
    with pytest.raises(UsageError, match="got both"):
        choose_canvas(pre, side_px=48, pad_px=2)
    with pytest.raises(UsageError, match="at least 1 px"):
        choose_canvas(pre, pad_px=0)


def test_144_crops_of_224():
    pre = preprocessing(224, 256)
    assert many_scales(pre) == (256, 288, 320, 352)
    assert many_scales(preprocessing(112)) == (128, 144, 160, 176)
    assert many_crops(photo(300, 260), pre, many_scales(pre)).shape == (144, 224, 224, 3)


@pytest.mark.parametrize("tall", [False, True])
def test_one_scale_of_the_144_crops_by_hand(tall):
    # The shorter side has the scale already: nothing is resampled but the whole squares.
    image, pre = photo(20, 33) if tall else photo(33, 20), preprocessing(16, 20)
    pixels = np.asarray(image)
    views = many_crops(image, pre, (20,))
    assert views.shape == (36, 16, 16, 3)
    for number, start in enumerate((0, 6, 13)):  # first, middle (13 / 2 rounded down), last
        square = pixels[start : start + 20] if tall else pixels[:, start : start + 20]
        six = views[6 * number : 6 * number + 6]
        corners = (square[:16, :16], square[:16, 4:], square[4:, :16], square[4:, 4:], square[2:18, 2:18])
        for got, expected in zip(six, corners, strict=False):
            assert np.array_equal(got, expected)
        resized = np.asarray(Image.fromarray(square).resize((16, 16), Image.Resampling.BILINEAR), int)
        assert np.abs(six[5] - resized).max() <= 2  # see test_resizing_is_pillows_but_for_rounding
    assert np.array_equal(views[18:], views[:18, :, ::-1])


def test_five_crops_of_an_oblong_network():
    square = np.arange(8 * 8).reshape(8, 8, 1).astype(np.uint8)
    views = five_crops(square, 4, 6)
    assert views.shape == (5, 4, 6, 1)
    assert views[:, 0, 0, 0].tolist() == [0, 2, 32, 34, 17]


def test_the_whole_image_and_its_mirror():
    image, pre = photo(48, 24), preprocessing(16, 20, colour_order="BGR")
    views = whole_image(image, pre, Canvas(24))
    assert np.array_equal(views[0], np.asarray(image))
    assert np.array_equal(views[1], np.asarray(image)[:, ::-1])
    assert whole_image(image, pre, Canvas(32)).shape == (2, 32, 64, 3)
    assert whole_image(photo(20, 20), preprocessing(20), Canvas(None, 3)).shape == (2, 26, 26, 3)


def test_grey_networks_get_grey_views():
    pre = Preprocessing(channels=1, height_px=16, width_px=16, resize_px=20, mean=(0.5,), std=(1.0,))
    grey = torch.from_numpy(np.asarray(photo(30, 20).convert("L")).copy())
    assert np.array_equal(whole_image(photo(30, 20), pre, Canvas(20))[0, :, :, 0], grey.numpy())
    assert many_crops(photo(30, 20), pre, (18, 20)).shape == (72, 16, 16, 1)
