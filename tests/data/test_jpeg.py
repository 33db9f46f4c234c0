import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import BrokenImageError
from striate.data import decode as decoding
from striate.data.decode import decode
from striate.data.jpeg import decode_jpeg

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def photo(width=203, height=131, mode="RGB"):
    rows, columns = np.mgrid[:height, :width]
    levels = np.stack([rows * 255 // height, columns * 255 // width, (rows * columns) % 251], 2)
    levels = levels + np.random.default_rng(0).integers(0, 40, levels.shape)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).convert(mode)


def saved(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("min_side_px", [None, 1, 16, 17, 33, 65, 66, 131, 200])
def test_the_pixels_are_pillows(mode, subsampling, progressive, min_side_px):
    data = saved(photo(mode=mode), quality=83, subsampling=subsampling, progressive=progressive)
    found = decode_jpeg(data, Image.open(io.BytesIO(data)), min_side_px)
    expected = Image.open(io.BytesIO(data))
    if min_side_px is not None:
        expected.draft(None, (min_side_px, min_side_px))
    assert found is not None
    assert found.shape[2] == {"RGB": 3, "L": 1}[mode]
    np.testing.assert_array_equal(found, np.asarray(expected).reshape(found.shape))


def test_tags_are_heeded():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(photo(), exif=exif)
    upright = Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_270)
    assert upright.size == (131, 203)
    np.testing.assert_array_equal(np.asarray(decode(data, file="x.jpg")), np.asarray(upright))


@pytest.mark.parametrize("cut", [300, 2000, -200, -3])
def test_what_is_damaged_is_left_to_pillow(cut):
    data = saved(photo())[:cut]
    assert decode_jpeg(data, Image.open(io.BytesIO(saved(photo()))), None) is None
    with pytest.raises(BrokenImageError):
        decode(data[:-40], file="x.jpg")


def test_what_is_no_rgb_or_grey_jpeg_is_left_to_pillow():
    data = saved(photo(mode="CMYK"))
    assert decode_jpeg(data, Image.open(io.BytesIO(data)), None) is None
    buffer = io.BytesIO()
    photo().save(buffer, "png")
    assert decode_jpeg(buffer.getvalue(), Image.open(io.BytesIO(buffer.getvalue())), None) is None


@pytest.mark.parametrize("min_side_px", [None, 60])
def test_odd_files_give_the_same_with_and_without_it(monkeypatch, min_side_px):
    archive = SHARED / "messy-images.tar"
    if not archive.exists():
        pytest.skip("../shared/data/messy-images.tar is not there")
    with tarfile.open(archive) as tar:
        files = {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}
    files = {name: data for name, data in files.items() if data.startswith(b"\xff\xd8\xff")}

    def outcome(name):
        try:
            return np.asarray(decode(files[name], file=name, min_side_px=min_side_px))
        except BrokenImageError as error:
            return error.reason

    fast = {name: outcome(name) for name in files}
    monkeypatch.setattr(decoding, "decode_jpeg", lambda *_: None)
    plain = {name: outcome(name) for name in files}
    assert len(files) > 20
    for name in files:
        np.testing.assert_array_equal(fast[name], plain[name], err_msg=name)
