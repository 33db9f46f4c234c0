import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.weights.protobuf import FIXED32, LENGTH, VARINT, Field, WireError, fields


def only(content: bytes) -> Field:
    (found,) = fields(memoryview(content))
    return found


def test_values_worked_out_by_hand():
    assert only(b"\x08\x96\x01")[:3] == (1, VARINT, 150)  # the example of the format's documentation
    assert only(b"\x12\x07testing").text() == "testing"
    assert only(b"\x08" + b"\xff" * 9 + b"\x01").integer() == -1
    assert only(b"\xa2\x06\x00").number == 100
    assert only(b"\x22\x06\x03\x8e\x02\x9e\xa7\x05").integers().tolist() == [3, 270, 86942]


def test_packed_and_unpacked_numbers_are_the_same():
    values = np.array([1.5, -2.0, 3.25], "<f4")
    packed = only(b"\x2a\x0c" + values.tobytes())
    unpacked = only(b"".join(b"\x2d" + one.tobytes() for one in values))
    assert (packed.wire, unpacked.wire) == (LENGTH, FIXED32)
    assert packed.numbers("<f4").tolist() == unpacked.numbers("<f4").tolist() == [1.5, -2.0, 3.25]


def test_a_run_ends_where_another_field_begins():
    found = list(fields(memoryview(b"\x2d\0\0\0\0" * 5000 + b"\x08\x01" + b"\x2d\0\0\x80\x3f")))
    assert [one.number for one in found] == [5, 1, 5]
    assert len(found[0].numbers("<f4")) == 5000
    assert found[2].numbers("<f4").tolist() == [1.0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x08", "cut off"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "more than 10 bytes"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "over 64 bits"),
        (b"\x2a\x05abc", "declares 5 bytes where 3"),
        (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "where 0 are left"),
        (b"\x2d\0\0", "cut off"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x00\x00", "field number 0"),
    ],
)
def test_what_is_no_message(content, words):
    with pytest.raises(WireError, match=words):
        list(fields(memoryview(content)))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_packed_integers(values):
    packed = b""
    for one in values:
        while one >= 0x80:
            packed += bytes([one & 0x7F | 0x80])
            one >>= 7
        packed += bytes([one])
    found = Field(1, LENGTH, memoryview(packed)).integers()
    assert found.view(np.uint64).tolist() == values
