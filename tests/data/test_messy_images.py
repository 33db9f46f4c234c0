"""Odd and damaged files from the test suites of imaging libraries (skipped where they are absent)."""

import csv
import io
import tarfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from striate.core.errors import BrokenImageError
from striate.data.decode import decode

ARCHIVE = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "messy-images.tar"
pytestmark = pytest.mark.skipif(not ARCHIVE.exists(), reason="../shared/data/messy-images.tar is not there")


@cache
def files() -> dict[str, bytes]:
    with tarfile.open(ARCHIVE) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar if one.isfile()}  # type: ignore[union-attr]


def picture(file: str, **options: int) -> np.ndarray:
    return np.asarray(decode(files()[file], file=file, **options)).astype(int)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).mean())


def test_damaged_tiffs_write_nothing_to_the_error_stream(capfd: pytest.CaptureFixture[str]) -> None:
    for file in ("tiff/crash-1185209cf7655b5aed8ae5e77784dfdd18ab59e9.tif", "tiff/crash-2020-10-test.tif"):
        with pytest.raises(BrokenImageError):
            picture(file)
    assert capfd.readouterr().err == ""


def test_every_file_decodes_or_is_quarantined_as_the_manifest_says() -> None:
    rows = list(csv.DictReader(io.StringIO(files()["manifest.csv"].decode())))
    assert len(rows) == 101
    decoded: set[str] = set()
    reasons: list[str] = []
    for row in rows:
        try:
            image = decode(files()[row["file"]], file=row["file"])
        except BrokenImageError as error:
            reasons.append(error.reason)
        else:
            assert image.mode in ("L", "RGB")
            decoded.add(row["file"])
    assert all(reason.isprintable() and len(reason) < 130 for reason in reasons)
    assert decoded == {row["file"] for row in rows if row["pixels_load"] == "True"}


@pytest.mark.parametrize("orientation", [0, *range(2, 9)])
def test_all_orientations_show_the_same_landscape(orientation: int) -> None:
    upright = picture("exif-rotated/Landscape_1.jpg")
    turned = picture(f"exif-rotated/Landscape_{orientation}.jpg")
    assert distance(upright, turned) < 5  # each was compressed anew and carries its own numeral
    assert distance(upright, turned[:, ::-1]) > 30


def test_orientation_tags_outside_jpeg() -> None:
    hopper = picture("other/hopper.ppm")
    assert distance(hopper, picture("exif-rotated/hopper_orientation_6.webp")) < 8
    assert picture("exif-rotated/g4_orientation_6.tif").shape == (88, 590)


@pytest.mark.parametrize(
    ("file", "most"),
    [
        ("tiff/hopper_bigtiff.tif", 2),
        ("tiff/hopper_lzma.tif", 2),
        ("other/hopper.qoi", 2),
        ("tiff/hopper.Lab.tif", 3),
        ("gif/hopper.gif", 5),
        ("webp/hopper.webp", 6),
        ("other/hopper.avif", 6),
        ("odd-jpeg/hopper_16bit_qtables.jpg", 14),
    ],
)
def test_one_portrait_in_many_formats(file: str, most: float) -> None:
    plain = files()["other/hopper.ppm"]  # P6, 128 x 128: its pixels are its last bytes
    hopper = np.frombuffer(plain[-128 * 128 * 3 :], np.uint8).reshape(128, 128, 3).astype(int)
    assert distance(picture(file), hopper) < most


@pytest.mark.parametrize(("file", "most"), [("odd-jpeg/hopper_gray.jpg", 2), ("other/hopper_16bit.pgm", 2)])
def test_grey_portraits_have_the_luma_of_the_colour_one(file: str, most: float) -> None:
    luma = picture("other/hopper.ppm") @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert distance(picture(file), luma) < most


def test_an_xyb_jpeg_looks_like_the_same_photo_in_a_palette_png() -> None:
    assert distance(picture("odd-jpeg/sample-xyb.jpg"), picture("png/indexed.png")) < 7


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    raw = files()["other/hopper_16bit.pgm"]
    values = np.frombuffer(raw[-128 * 128 * 2 :], ">u2").reshape(128, 128).astype(int)
    assert np.abs(picture("other/hopper_16bit.pgm") - (values >> 8)).max() <= 1


def test_cmyk_jpeg_and_tiff_agree_and_are_red_on_black() -> None:
    jpeg, tiff = picture("odd-jpeg/pil_sample_cmyk.jpg"), picture("tiff/tiff_strip_cmyk_jpeg.tif")
    assert distance(jpeg, tiff) < 3
    assert np.median(jpeg) < 10
    letters = jpeg[jpeg.sum(-1) > 200]
    assert (letters[:, 0] > 150).mean() > 0.9
    assert (letters[:, 1:] < 120).mean() > 0.9


def test_transparent_dice_lie_on_white_in_gif_and_webp() -> None:
    gif, webp = picture("gif/transparent.gif"), picture("webp/transparent.webp")
    for corner in (gif[0, 0], webp[0, 0]):
        assert corner.tolist() == [255, 255, 255]
    assert distance(gif, webp) < 6


def test_scaled_decoding_shows_the_same_picture() -> None:
    full, small = (
        picture("exif-rotated/Landscape_6.jpg"),
        picture("exif-rotated/Landscape_6.jpg", min_side_px=300),
    )
    assert small.shape == (300, 450, 3)
    blocks = full.reshape(300, 4, 450, 4, 3).mean((1, 3))
    assert distance(blocks, small) < 4
