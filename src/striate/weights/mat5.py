"""MATLAB's MAT-file, level 5 (what ``save`` writes with ``-v6`` and ``-v7``), read without trust.

SciPy reads these files too, but its reader descends as deep as the file says and ends the whole process on
a deeply nested one (seen with SciPy 1.17.1). Here depth, counts and sizes have limits, and each is checked
before memory is taken. Arrays of uncompressed files are views of the mapped file.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from striate.core.errors import BundleError
from striate.core.text import short
from striate.weights.weight_file import damaged, refusal, values_in

MAX_UNPACKED_BYTES: Final = 4 * 2**30
"""The most bytes that the compressed variables of a file may hold together."""

MAX_RATIO: Final = 200
"""The most bytes that one byte of a compressed file may become; weights stay under 1.2."""

MAX_DEPTH: Final = 24
MAX_NODES: Final = 1_000_000
_FREE_BYTES = 2**20  # small files do no harm, whatever their ratio
_CHUNK_BYTES = 2**20
_MAX_CHARACTERS = 2**24

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS: Final = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMERIC_CLASSES = range(6, 16)
_OTHER_CLASSES: Final = {3: "object", 5: "sparse array", 16: "function handle", 17: "object"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell array, its values in MATLAB's order (first index fastest)."""

    values: list["Value"]


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct array, one row of fields per element in MATLAB's order."""

    rows: list[dict[str, "Value"]]


@dataclass(frozen=True, slots=True)
class Ignored:
    """A value that is passed over: an object, a function handle, a sparse or complex array."""

    what: str


Value: TypeAlias = npt.NDArray[np.generic] | str | Cell | Struct | Ignored


class _MatError(ValueError):
    """Bytes that are no MAT-file, with the reason in a few words."""


def is_mat5(head: bytes) -> bool:
    """Say whether the first 128 bytes of a file are the header of a level 5 MAT-file."""
    return len(head) >= 128 and head[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def read_mat5(path: Path, content: memoryview) -> dict[str, Value]:
    """Read every variable of a MAT-file.

    Args:
        path: the file, for messages.
        content: its bytes.

    Returns:
        Variables by name. Numeric arrays have MATLAB's shape and the number format in which they are stored.

    Raises:
        BundleError: the file is damaged, hostile, or too large.
    """
    try:
        return _Reader(content).variables()
    except _MatError as error:
        raise damaged(path, kind="MATLAB", reason=str(error)) from None


def refuse_hdf5(path: Path) -> BundleError:
    """Make the error for MATLAB 7.3 files, which are HDF5 inside."""
    return refusal(
        path,
        expected="a MATLAB file of version 5 to 7.2",
        got="version 7.3 (HDF5)",
        remedy="in MATLAB or Octave load it and save it again with -v7 (or -v6)",
    )


class _Reader:
    def __init__(self, content: memoryview) -> None:
        self.content = content
        self.order = "<" if bytes(content[126:128]) == b"IM" else ">"
        self.nodes = 0
        self.unpacked_left = min(MAX_UNPACKED_BYTES, MAX_RATIO * len(content) + _FREE_BYTES)

    def variables(self) -> dict[str, Value]:
        result: dict[str, Value] = {}
        at = 128
        while at < len(self.content):
            kind, data, at = self.element(self.content, at)
            if kind == _COMPRESSED:
                kind, data, _ = self.element(self.unpack(data), 0)
            if kind != _MATRIX:
                raise _MatError(f"an element of type {kind} where a variable was expected")
            name, value = self.matrix(data, 0)
            if name in result:
                raise _MatError(f"two variables named {short(name)}")
            if name:  # the nameless one is MATLAB's own store for objects
                result[name] = value
        return result

    def word(self, data: memoryview, at: int) -> int:
        return int.from_bytes(data[at : at + 4], "little" if self.order == "<" else "big")

    def element(self, data: memoryview, at: int) -> tuple[int, memoryview, int]:
        """Return type, bytes and end of the element at a place; elements start at multiples of 8 bytes."""
        if len(data) - at < 8:
            raise _MatError("cut off between two elements")
        first = self.word(data, at)
        if first >> 16:
            kind, size, start, end = first & 0xFFFF, first >> 16, at + 4, at + 8
            if size > 4:
                raise _MatError("a short element of more than 4 bytes")
        else:
            kind, size, start = first, self.word(data, at + 4), at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if size > len(data) - start:
            raise _MatError(f"an element declares {size:,} bytes where {len(data) - start:,} are left")
        return kind, data[start : start + size], min(end, len(data))

    def unpack(self, packed: memoryview) -> memoryview:
        """Inflate one variable, which says in its first 8 bytes how long it is."""
        inflate = zlib.decompressobj()
        result = bytearray()
        wanted, at, rest = 8, 0, b""
        try:
            while not inflate.eof and (rest or at < len(packed)):
                if not rest:
                    rest = bytes(packed[at : at + _CHUNK_BYTES])
                    at += _CHUNK_BYTES
                result += inflate.decompress(rest, max(1, min(wanted - len(result), 16 * _CHUNK_BYTES)))
                rest = inflate.unconsumed_tail
                if wanted == 8 == len(result):
                    wanted = 8 + self.word(memoryview(bytes(result)), 4)
                    if wanted > self.unpacked_left:
                        raise _MatError(f"a compressed variable that declares {wanted:,} bytes")
                    self.unpacked_left -= wanted
                if len(result) > wanted:
                    raise _MatError("compressed data longer than it declares")
        except zlib.error as error:
            raise _MatError(f"compressed data that can't be unpacked ({error})") from None
        if len(result) < wanted or not inflate.eof:
            raise _MatError("compressed data that is cut off")
        return memoryview(result)

    def matrix(self, data: memoryview, depth: int) -> tuple[str, Value]:
        """Read the inside of a miMATRIX element."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _MatError(f"more than {MAX_NODES:,} values")
        if depth > MAX_DEPTH:
            raise _MatError(f"values nested more than {MAX_DEPTH} deep")
        if len(data) == 0:
            return "", np.zeros((0, 0))
        _, flags, at = self.element(data, 0)
        if len(flags) != 8:
            raise _MatError("array flags of the wrong size")
        word = self.word(flags, 0)
        kind, is_complex = word & 0xFF, bool(word & 0x800)
        shape: list[int] = []
        if kind != 17:
            _, sizes, at = self.element(data, at)
            shape = [int(one) for one in self.numbers(5, sizes)]
        _, letters, at = self.element(data, at)
        name = bytes(letters[:256]).decode("utf-8", "backslashreplace")
        count = values_in(shape)
        if count is None or len(shape) > 16:
            raise _MatError("an impossible shape")
        if kind == _CELL:
            return name, Cell([one for (one,) in self.children(data, at, count, 1, depth)])
        if kind == _STRUCT:
            return name, self.struct(data, at, count, depth)
        if kind == _CHAR:
            return name, self.characters(data, at, shape)
        if kind in _NUMERIC_CLASSES:
            if is_complex:
                return name, Ignored("complex array")
            stored, values, _ = self.element(data, at)
            numbers = self.numbers(stored, values)
            if len(numbers) != count:
                raise _MatError(f"an array of {count:,} values where {len(numbers):,} are there")
            return name, numbers.reshape(shape, order="F")
        return name, Ignored(_OTHER_CLASSES.get(kind, f"value of class {kind}"))

    def numbers(self, stored: int, data: memoryview) -> npt.NDArray[np.generic]:
        if stored not in _NUMBERS:
            raise _MatError(f"numbers of type {stored}")
        dtype = np.dtype(self.order + _NUMBERS[stored])
        if len(data) % dtype.itemsize:
            raise _MatError("an array that ends inside a number")
        return np.frombuffer(data, dtype)

    def children(self, data: memoryview, at: int, count: int, width: int, depth: int) -> list[list[Value]]:
        """Read ``count`` rows of ``width`` nested matrices."""
        if count * width * 8 > len(data) - at:
            raise _MatError(f"{count * width:,} values declared where there is no room for them")
        rows: list[list[Value]] = []
        for _ in range(count if width else 0):
            row: list[Value] = []
            for _ in range(width):
                kind, inner, at = self.element(data, at)
                if kind != _MATRIX:
                    raise _MatError(f"an element of type {kind} inside a cell or struct")
                row.append(self.matrix(inner, depth + 1)[1])
            rows.append(row)
        return rows

    def struct(self, data: memoryview, at: int, count: int, depth: int) -> Struct:
        _, size, at = self.element(data, at)
        _, letters, at = self.element(data, at)
        length = self.word(size, 0)
        if len(size) != 4 or not 1 <= length <= 256 or len(letters) % length:
            raise _MatError("a struct with impossible field names")
        raw = bytes(letters)
        names = [
            raw[start : start + length].split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
            for start in range(0, len(raw), length)
        ]
        rows = self.children(data, at, count, len(names), depth)
        return Struct([dict(zip(names, row, strict=True)) for row in rows])

    def characters(self, data: memoryview, at: int, shape: list[int]) -> str:
        kind, raw, _ = self.element(data, at)
        if len(raw) > _MAX_CHARACTERS:
            raise _MatError(f"a text of {len(raw):,} bytes")
        wide = "le" if self.order == "<" else "be"
        codec = {1: "latin-1", 2: "latin-1", 4: f"utf-16-{wide}", 16: "utf-8", 17: f"utf-16-{wide}"}
        codec[18] = f"utf-32-{wide}"
        if kind not in codec:
            raise _MatError(f"a text of type {kind}")
        text = bytes(raw).decode(codec[kind], "replace")
        if len(shape) == 2 and shape[0] > 1 and len(text) == shape[0] * shape[1]:
            return "\n".join(text[row :: shape[0]].rstrip() for row in range(shape[0]))
        return text
