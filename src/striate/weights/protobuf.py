"""The wire format of protocol buffers: numbered fields, read without a schema and without trust.

A message is a row of fields; each is a varint ``number << 3 | wire type`` and a value. Whoever calls knows
which fields are messages and opens them one level at a time, so nesting is as deep as the calling code goes
and no deeper. Nothing is allocated before its length was checked against the bytes that are there. The
format is described in the documentation of protocol buffers, "Encoding".
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5

MAX_FIELDS: Final = 1_000_000
"""The most fields in a file, nested ones included; a run of equal fixed-size fields counts once."""

MAX_PACKED_VARINT_BYTES: Final = 2**24
"""The most bytes of packed varints in one field; each byte may become a value of eight bytes."""

_MOST_VARINT_BYTES = 10
_WIDTH = {FIXED32: 4, FIXED64: 8}
_RUN_BLOCK = 4096


class WireError(ValueError):
    """Bytes that are no message, with the reason in a few words."""


class Field(NamedTuple):
    """One field of a message.

    Attributes:
        number: of the field in its message's schema.
        wire: ``VARINT``, ``LENGTH``, ``FIXED32`` or ``FIXED64``.
        value: an integer for ``VARINT``, else bytes; for fixed sizes, those of a whole run of fields.
        seen: how many fields of the file were read so far, one number shared by all of them.
    """

    number: int
    wire: int
    value: int | memoryview
    seen: list[int] | None = None

    def fields(self) -> "Iterator[Field]":
        """Go through the fields of a nested message, as ``fields`` does."""
        return fields(self.message(), self.seen)

    def integer(self) -> int:
        """Return a varint as a signed 64-bit integer."""
        if not isinstance(self.value, int):
            raise WireError(f"field {self.number} is no integer")
        return self.value - 2**64 if self.value >= 2**63 else self.value

    def message(self) -> memoryview:
        """Return the bytes of a nested message, a string or a byte string."""
        if self.wire != LENGTH or isinstance(self.value, int):
            raise WireError(f"field {self.number} is no message")
        return self.value

    def text(self) -> str:
        """Return a string; bytes that are not UTF-8 become escapes."""
        return bytes(self.message()).decode("utf-8", "backslashreplace")

    def numbers(self, dtype: str) -> npt.NDArray[np.generic]:
        """View fixed-size numbers, packed or not, without copying packed ones.

        Args:
            dtype: little-endian NumPy format of 4 or 8 bytes, such as ``"<f4"``.
        """
        width = np.dtype(dtype).itemsize
        if isinstance(self.value, int) or (self.wire != LENGTH and _WIDTH[self.wire] != width):
            raise WireError(f"field {self.number} holds no {width}-byte numbers")
        if len(self.value) % width:
            raise WireError(f"field {self.number} ends inside a number")
        return np.frombuffer(self.value, dtype)

    def integers(self) -> npt.NDArray[np.int64]:
        """Return integers, packed or not."""
        if isinstance(self.value, int):
            return np.array([self.integer()], np.int64)
        return _unpack_varints(self.message())


def fields(message: memoryview, seen: list[int] | None = None) -> Iterator[Field]:
    """Go through the fields of a message in their order.

    Args:
        message: its bytes.
        seen: as ``Field.seen``; None for a file's outermost message.

    Raises:
        WireError: a field is cut off, of an unknown kind, or there are too many.
    """
    at, end = 0, len(message)
    seen = [0] if seen is None else seen
    while at < end:
        seen[0] += 1
        if seen[0] > MAX_FIELDS:
            raise WireError(f"more than {MAX_FIELDS:,} fields")
        start = at
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number < 2**29:
            raise WireError(f"field number {number}")
        if wire == VARINT:
            value, at = _varint(message, at)
            yield Field(number, wire, value, seen)
        elif wire == LENGTH:
            length, at = _varint(message, at)
            if length > end - at:
                raise WireError(f"field {number} declares {length:,} bytes where {end - at:,} are left")
            yield Field(number, wire, message[at : at + length], seen)
            at += length
        elif wire in _WIDTH:
            width = _WIDTH[wire]
            if width > end - at:
                raise WireError(f"field {number} is cut off")
            if at - start == 1:
                run, at = _fixed_run(message, start, width)
                yield Field(number, wire, run, seen)
            else:
                yield Field(number, wire, message[at : at + width], seen)
                at += width
        else:
            raise WireError(f"field {number} has wire type {wire}")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_MOST_VARINT_BYTES):
        if at >= len(message):
            raise WireError("cut off inside a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            if value >= 2**64:
                raise WireError("a number over 64 bits")
            return value, at
    raise WireError(f"a number of more than {_MOST_VARINT_BYTES} bytes")


def _fixed_run(message: memoryview, start: int, width: int) -> tuple[memoryview, int]:
    """Gather the values of neighbouring fields that have the same one-byte tag and the same size."""
    step = width + 1
    rows = np.frombuffer(message[start : start + (len(message) - start) // step * step], np.uint8)
    rows = rows.reshape(-1, step)
    tag, length = rows[0, 0], 0
    while length < len(rows):
        differs = np.flatnonzero(rows[length : length + _RUN_BLOCK, 0] != tag)
        if len(differs):
            length += int(differs[0])
            break
        length = min(length + _RUN_BLOCK, len(rows))
    values = np.ascontiguousarray(rows[:length, 1:]).reshape(-1)
    return memoryview(values.data), start + length * step


def _unpack_varints(packed: memoryview) -> npt.NDArray[np.int64]:
    if len(packed) > MAX_PACKED_VARINT_BYTES:
        raise WireError(f"{len(packed):,} bytes of packed integers, over {MAX_PACKED_VARINT_BYTES:,}")
    raw = np.frombuffer(packed, np.uint8)
    last = raw < 0x80
    if len(raw) == 0:
        return np.zeros(0, np.int64)
    if not last[-1]:
        raise WireError("cut off inside a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MOST_VARINT_BYTES:
        raise WireError(f"a number of more than {_MOST_VARINT_BYTES} bytes")
    place = np.arange(len(raw)) - np.repeat(starts, lengths)
    parts = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(parts, starts).view(np.int64)
