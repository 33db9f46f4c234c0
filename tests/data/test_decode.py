"""Decoding: pictures made here, whose right answer is known by construction or by hand."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import striate.data.decode as decode_module
import striate.data.pixels as pixels_module
from striate.core.errors import BrokenImageError
from striate.data.decode import decode, decode_sized
from striate.data.file_format import image_format

# A picture without any symmetry: each orientation of it is a different one.
ARROW = np.zeros((24, 40, 3), np.uint8)
ARROW[:8, :16] = (250, 10, 10)
ARROW[16:, :8] = (10, 250, 10)
ARROW[8:16, 24:] = (10, 10, 250)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(data: bytes, file: str = "x.png", **options: int) -> np.ndarray:
    return np.asarray(decode(data, file=file, **options))


def png(width: int, height: int, depth: int, colour: int, body: bytes, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, chunk by chunk."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


# -- Orientation ---------------------------------------------------------------------------------------------


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Place stored pixels by TIFF 6.0, tag 274: 6, say, has row 0 at the right and column 0 at the top."""
    height, width = upright.shape[:2]
    place_of = {  # upright row and column of the stored pixel (r, c)
        1: lambda r, c: (r, c),
        2: lambda r, c: (r, width - 1 - c),
        3: lambda r, c: (height - 1 - r, width - 1 - c),
        4: lambda r, c: (height - 1 - r, c),
        5: lambda r, c: (c, r),
        6: lambda r, c: (c, width - 1 - r),
        7: lambda r, c: (height - 1 - c, width - 1 - r),
        8: lambda r, c: (height - 1 - c, r),
    }[orientation]
    shape = (height, width, 3) if orientation < 5 else (width, height, 3)
    out = np.zeros(shape, np.uint8)
    for r in range(shape[0]):
        for c in range(shape[1]):
            out[r, c] = upright[place_of(r, c)]
    return out


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_every_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(kind, {})
    data = encode(Image.fromarray(stored(ARROW, orientation)), kind, exif=exif, **options)
    got = decode_sized(data, file="x")
    assert (got.full_height_px, got.full_width_px) == (24, 40)
    assert np.abs(got.pixels.astype(int) - ARROW).mean() < (4 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", b"Exif\0\0"])
def test_a_damaged_exif_block_means_upright(exif: bytes) -> None:
    data = encode(Image.fromarray(ARROW), "JPEG", exif=exif, quality=95, subsampling=0)
    assert np.abs(pixels(data).astype(int) - ARROW).mean() < 4


# -- Colour and depth ----------------------------------------------------------------------------------------


def test_sixteen_bit_grey_is_divided_not_clipped() -> None:
    values = np.arange(0, 65536, 257, dtype=np.uint32)  # 0, 257, ..., 65535 are exactly 0, 1, ..., 255
    grey = values.reshape(16, 16).astype(np.uint16)
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(pixels(encode(Image.fromarray(grey), kind)), expected)
    portable = b"P5 16 16 65535\n" + grey.astype(">u2").tobytes()
    np.testing.assert_array_equal(pixels(portable), expected)


def test_sixteen_bit_rounding_by_hand() -> None:
    # 128/257 = 0.498 -> 0, 129/257 = 0.502 -> 1, 65406/257 = 254.498 -> 254, 65407/257 = 254.502 -> 255
    grey = np.array([[128, 129, 65406, 65407]], np.uint16)
    assert pixels(encode(Image.fromarray(grey), "PNG")).tolist() == [[0, 1, 254, 255]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.4, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, 0.0, 3.0], [0, 64, 255]),
        ([70000.0, 80000.0, 90000.0], [0, 128, 255]),
        ([-5.0, -5.0, -5.0], [0, 0, 0]),
    ],
)
def test_float_grey_by_the_documented_rule(values: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([values], np.float32))
    assert pixels(encode(image, "TIFF")).tolist() == [expected]


def test_float_grey_with_a_hole_is_broken() -> None:
    data = encode(Image.fromarray(np.array([[0.0, np.nan]], np.float32)), "TIFF")
    with pytest.raises(BrokenImageError, match="not finite"):
        decode(data, file="x.tif")


def test_transparency_is_laid_over_white() -> None:
    rgba = np.array([[[100, 0, 200, 0], [100, 0, 200, 255], [100, 0, 200, 102]]], np.uint8)
    # 0.4 of the colour and 0.6 of white: 0.4 * 100 + 153 = 193, 153, 0.4 * 200 + 153 = 233
    expected = [[[255, 255, 255], [100, 0, 200], [193, 153, 233]]]
    assert pixels(encode(Image.fromarray(rgba), "PNG")).tolist() == expected
    assert pixels(encode(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)).tolist() == expected


def test_grey_with_alpha_stays_grey() -> None:
    body = b"\0" + bytes([100, 0, 100, 255, 100, 102])  # one row of (grey, alpha)
    image = decode(png(3, 1, 8, 4, body), file="x.png")
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[255, 100, 193]]


def test_one_colour_marked_transparent() -> None:
    trns = b"tRNS" + bytes([0, 1, 0, 2, 0, 3])
    extra = struct.pack(">I", 6) + trns + struct.pack(">I", zlib.crc32(trns))
    body = b"\0" + bytes([1, 2, 3, 9, 8, 7])
    assert pixels(png(2, 1, 8, 2, body, extra)).tolist() == [[[255, 255, 255], [9, 8, 7]]]


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert pixels(encode(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(encode(image, "GIF")).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(encode(image, "PNG", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    # one alpha a palette entry makes Pillow warn when it converts
    assert pixels(encode(image, "PNG", transparency=b"\x00\xff")).tolist() == [
        [[255, 255, 255], [40, 50, 60]]
    ]


def test_two_valued_images_are_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    for kind in ("PNG", "TIFF", "BMP"):
        assert pixels(encode(image, kind)).tolist() == [[255, 0]]


def test_cmyk_is_ink_not_light() -> None:
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:, :, 0] = 255  # full cyan: no red light
    image = Image.merge("CMYK", [Image.fromarray(ink[..., k]) for k in range(4)])
    for kind in ("JPEG", "TIFF"):
        red, green, blue = pixels(encode(image, kind)).reshape(-1, 3).mean(0)
        assert red < 5
        assert green > 250
        assert blue > 250


def test_lab_neutrals_are_grey() -> None:
    # L* = 50 is 18.42 % luminance (CIE 1976); sRGB writes it as 1.055 * 0.1842**(1/2.4) - 0.055 = 0.466 = 119
    image = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (128, 128, 128)])  # 128 = neutral
    values = pixels(encode(image, "TIFF"))
    assert np.abs(values.astype(int) - 119).max() <= 2


def test_a_colour_profile_is_applied_and_a_broken_one_ignored() -> None:
    # A linear-light profile: 128 of 255 is 50.2 % light, which sRGB writes as 188.
    picture = Image.new("RGB", (4, 4), (128, 128, 128))
    linear = linear_profile()
    assert np.abs(pixels(encode(picture, "PNG", icc_profile=linear)).astype(int) - 188).max() <= 1
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, linear[:300], b"no profile at all"):
        assert (pixels(encode(picture, "PNG", icc_profile=profile)) == 128).all()


def linear_profile() -> bytes:
    """Turn Pillow's sRGB profile into one with gamma 1 by replacing its tone curves (ICC.1:2010, 10.5)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    for entry in range(count):
        at = 132 + 12 * entry
        tag, offset, _ = struct.unpack_from(">4sII", profile, at)
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">4sII", profile, offset, b"curv", 0, 0)  # no entries: the identity
            struct.pack_into(">I", profile, at + 8, 12)
        if tag == b"desc":
            profile[offset : offset + 4] = b"xxxx"  # its text says sRGB
    return bytes(profile)


def test_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (pixels(data) == [255, 0, 0]).all(), kind


# -- Scaled decoding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"), [(None, 400), (400, 400), (201, 400), (200, 200), (50, 50), (1, 50)]
)
def test_scaled_jpeg_keeps_the_shorter_side(wanted: int | None, expected: int) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 600).astype(np.uint8), (400, 600))
    got = decode_sized(encode(Image.fromarray(ramp), "JPEG"), file="x.jpg", min_side_px=wanted)
    assert min(got.pixels.shape[:2]) == expected
    assert (got.full_height_px, got.full_width_px) == (400, 600)
    row = got.pixels.astype(float).mean((0, 2))
    assert np.abs(row - np.linspace(0, 255, len(row))).max() < 6


def test_the_full_size_of_a_turned_and_scaled_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    got = decode_sized(encode(Image.new("RGB", (600, 400)), "JPEG", exif=exif), file="x.jpg", min_side_px=100)
    assert got.pixels.shape == (150, 100, 3)
    assert (got.full_height_px, got.full_width_px) == (600, 400)


# -- Broken files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "QOI"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_cut_short_is_broken(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    assert decode(data, file=f"x.{kind.lower()}").size == (64, 64)
    with pytest.raises(BrokenImageError) as caught:
        decode(data[: int(len(data) * share)], file=f"x.{kind.lower()}")
    assert "\n" not in str(caught.value)
    assert caught.value.file == f"x.{kind.lower()}"


def test_bombs_are_refused_from_the_header() -> None:
    for side in (9_487, 12_000, 60_000):  # over our limit; over Pillow's warning; over Pillow's limit
        with pytest.raises(BrokenImageError, match="too large to decode safely"):
            decode(png(side, side, 8, 2, b""), file="x.png")
    with pytest.raises(BrokenImageError, match="24 x 10 pixels, the limit is 239"):
        decode(encode(Image.new("L", (24, 10)), "PNG"), file="x.png", max_pixels=239)
    assert decode(encode(Image.new("L", (24, 10)), "PNG"), file="x.png", max_pixels=240).size == (24, 10)


def test_a_picture_between_pillows_warning_and_ours_decodes() -> None:
    # 89.6 million pixels: Pillow warns above 89.5 million, and warnings are errors in these tests
    assert decode(encode(Image.new("1", (9_470, 9_465)), "PNG"), file="x.png").size == (9_470, 9_465)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF is not supported: convert to JPEG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG is not supported"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"%PDF-1.7", "PDF is not supported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript is not supported"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"PK\x03\x04", "zip archive"),
        (b"hello", "not an image that striate reads"),
        (b"\0" * 1000, "not an image that striate reads"),
        (b"\xff\xd8\xff", "damaged"),
        (b"GIF89a" + bytes([0, 0, 0, 0, 0, 0, 0]), "damaged"),
    ],
)
def test_reasons_name_the_remedy(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenImageError, match=reason):
        decode(data, file="x.jpg")


def test_postscript_is_never_run_whatever_the_extension() -> None:
    assert image_format(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "x.eps") is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "PPM", "TGA", "QOI"]), st.data())
def test_damage_gives_a_picture_or_one_line(kind: str, data: st.DataObject) -> None:
    image = Image.fromarray(ARROW)
    content = bytearray(encode(image, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = decode(bytes(content), file=f"x.{kind.lower()}", max_pixels=1_000_000)
    except BrokenImageError as error:
        outcome = str(error)
    else:
        outcome = got.mode
    assert len(outcome.splitlines()) == 1
    assert outcome in ("L", "RGB") or outcome.startswith("x.")


# -- Quiet ---------------------------------------------------------------------------------------------------


def with_corrupt_exif() -> bytes:
    """Return a JPEG whose EXIF block announces five tags and holds a part of one: Pillow warns of it."""
    return encode(Image.fromarray(ARROW), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")


def test_decoding_is_quiet_and_hides_no_warning_of_anyone_else() -> None:
    data = with_corrupt_exif()
    with pytest.warns(UserWarning, match="EXIF"), Image.open(io.BytesIO(data)) as opened:
        opened.getexif()  # or nothing below could fail
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                decode(data, file="x.jpg")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            with pytest.raises(UserWarning, match="mine"):
                warnings.warn("mine", UserWarning, stacklevel=1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures


def test_decoding_stays_quiet_when_filters_are_put_before_its_own() -> None:
    data = with_corrupt_exif()
    decode(data, file="x.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        orientation_read = decode(data, file="x.jpg").size
    assert orientation_read == (40, 24)


def test_memory_of_decoding_is_bounded() -> None:
    flat = io.BytesIO()
    Image.new("RGB", (9_400, 9_400), (200, 30, 40)).save(flat, "WEBP", lossless=True, method=0)
    with pytest.raises(BrokenImageError, match=r"decoding 9400 x 9400 pixels of WEBP takes about 15"):
        decode(flat.getvalue(), file="x.webp")


def test_a_jpeg_larger_than_the_limit_is_taken_at_its_scale() -> None:
    image = Image.new("L", (4_000, 3_000), 77)
    data = encode(image, "JPEG")
    with pytest.raises(BrokenImageError, match="too large"):
        decode(data, file="x.jpg", max_pixels=1_000_000)
    found = decode_sized(data, file="x.jpg", min_side_px=300, max_pixels=1_000_000)
    assert found.pixels.shape == (375, 500, 1)
    assert (found.full_height_px, found.full_width_px) == (3_000, 4_000)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "LA", "1", "L"])
def test_large_images_are_the_same_in_strips(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (40, 30, 4), np.uint8), "RGBA")
    image = colour.convert(mode) if mode != "RGBA" else colour
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = decode_sized(data, file="x").pixels
    monkeypatch.setattr(decode_module, "STRIP_PIXELS", 100)
    monkeypatch.setattr(pixels_module, "STRIP_PIXELS", 100)
    assert np.array_equal(decode_sized(data, file="x").pixels, whole)


def test_threads_take_turns_at_memory() -> None:
    memory = decode_module._Memory(10)
    held, entered = threading.Event(), threading.Event()

    def second() -> None:
        held.wait(10)
        with memory.reserved(8):
            entered.set()

    other = threading.Thread(target=second)
    other.start()
    with memory.reserved(8):
        held.set()
        with memory.reserved(2):  # small ones pass
            assert not entered.is_set()
    other.join(10)
    assert entered.is_set()
