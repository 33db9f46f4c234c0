"""Grey of every depth, from TIFFs that are packed here bit by bit after the specification (TIFF 6.0)."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import BrokenImageError
from striate.data.decode import decode_sized
from striate.data.inspect import inspect
from striate.data.scan import scan
from striate.data.sources import open_source


def packed(values: np.ndarray, bits: int) -> bytes:
    """Pack rows of whole numbers, the highest bit first, each row from a new byte on."""
    out = bytearray()
    for row in values.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        out += int(text, 2).to_bytes(len(text) // 8, "big")
    return bytes(out)


def tiff(
    data: bytes, bits: int, *, kind: int = 1, white_is_zero: bool = False, largest: int | None = None
) -> bytes:
    """Write an 8 x 8 grey TIFF of one strip, little-endian."""
    tags = [
        *((256, 4, 8), (257, 4, 8), (258, 3, bits), (259, 3, 1), (262, 3, 0 if white_is_zero else 1)),
        *((273, 4, 8), (277, 3, 1), (278, 4, 8), (279, 4, len(data))),
        *([] if largest is None else [(281, 3, largest)]),
        (339, 3, kind),
    ]
    data += b"\0" * (len(data) % 2)
    entries = b"".join(
        struct.pack("<HHII", tag, form, 1, value)
        if form == 4
        else struct.pack("<HHIHxx", tag, form, 1, value)
        for tag, form, value in tags
    )
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def ramp(bits: int) -> np.ndarray:
    return np.linspace(0, 2**bits - 1, 64).round().astype(np.uint64).reshape(8, 8)


@pytest.mark.parametrize("bits", range(1, 33))
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_every_depth_is_right_or_refused(bits: int, white_is_zero: bool) -> None:
    values = ramp(bits)
    data = values.astype(f"<u{bits // 8}").tobytes() if bits in (8, 16, 32) else packed(values, bits)
    file = tiff(data, bits, white_is_zero=white_is_zero)
    expected = np.floor(values.astype(float) * 255 / (2**bits - 1) + 0.5)
    if white_is_zero:
        expected = 255 - expected
    try:
        found = decode_sized(file, file="x.tif").pixels
    except BrokenImageError as error:
        assert bits not in (1, 2, 4, 8, 16)
        assert error.reason.startswith(f"TIFF of {bits}-bit unsigned samples")  # noqa: PT017
    else:
        assert found.shape == (8, 8, 1)
        assert np.array_equal(found[:, :, 0], expected)


@pytest.mark.parametrize(
    ("dtype", "kind", "word"), [("<i1", 2, "signed"), ("<f2", 3, "float"), ("<f8", 3, "float")]
)
def test_what_can_not_be_told_is_refused(dtype: str, kind: int, word: str) -> None:
    values = np.arange(64).reshape(8, 8).astype(dtype)
    with pytest.raises(BrokenImageError, match=rf"TIFF of .*{word}.*convert it to 8 or 16 bits"):
        decode_sized(tiff(values.tobytes(), 8 * values.itemsize, kind=kind), file="x.tif")


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_floats(white_is_zero: bool) -> None:
    values = np.linspace(0, 1, 64, dtype="<f4").reshape(8, 8)
    found = decode_sized(tiff(values.tobytes(), 32, kind=3, white_is_zero=white_is_zero), file="x.tif").pixels
    expected = np.floor(values.astype(float) * 255 + 0.5)
    assert np.abs(found[:, :, 0] - (255 - expected if white_is_zero else expected)).max() <= 1
    with pytest.raises(BrokenImageError, match="not finite"):
        decode_sized(tiff(np.full((8, 8), np.nan, "<f4").tobytes(), 32, kind=3), file="x.tif")


def test_the_range_that_a_file_or_its_user_states() -> None:
    values = np.linspace(0, 1023, 64).round().astype("<u2").reshape(8, 8)
    expected = np.floor(values.astype(float) * 255 / 1023 + 0.5)
    stated = decode_sized(tiff(values.tobytes(), 16, largest=1023), file="x.tif")
    assert np.array_equal(stated.pixels[:, :, 0], expected)
    assert stated.levels == (0, 1023)
    plain = tiff(values.tobytes(), 16)
    assert decode_sized(plain, file="x.tif").pixels.max() == 4
    given = decode_sized(plain, file="x.tif", levels=(0, 1023)).pixels[:, :, 0]
    assert np.array_equal(given, expected)
    window = decode_sized(plain, file="x.tif", levels=(300, 600)).pixels
    assert (int(window.min()), int(window.max())) == (0, 255)


def test_unused_range_is_a_problem_of_the_data(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(10):
            out = io.BytesIO()
            Image.fromarray(rng.integers(900, 1150, (8, 8)).astype(np.uint16)).save(out, "PNG")
            (tmp_path / name / f"{index}.png").write_bytes(out.getvalue())
    source = open_source(tmp_path)
    found = inspect(source, scan(source))
    assert found.levels is not None
    assert 900 <= found.levels[0] < found.levels[1] < 1150
    assert len(found.problems) == 1
    assert "20 images of more than 8 bits use only the values 9" in found.problems[0]
    assert "`levels=0:4095`" in found.problems[0]
