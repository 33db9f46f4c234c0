"""Images in an archive (tar, compressed tar, zip), read in place: nothing is extracted to a named file.

What an archive may do is bounded: no member may lie outside it (``../x``, ``/x``), links count only where
they lead to a file in the archive, devices are passed over, and sizes and counts have limits. A ``.tar`` is
read by offset. A compressed one is decompressed once into an anonymous temporary file. A ``.zip`` is read
member by member.
"""

import bz2
import gzip
import lzma
import os
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISLNK
from typing import IO, Final, cast

from striate.core.errors import BrokenImageError, DataError
from striate.core.progress import Progress, silent
from striate.data.source import MAX_FILE_BYTES, Source, arrange, counted, printable

MAX_MEMBERS: Final = 5_000_000
"""The most members that an archive may have."""

MAX_TOTAL_BYTES: Final = 64 * 2**30
"""The most bytes that an archive may hold when unpacked (64 GiB)."""

_BOMB_RATIO = 200  # unpacked over packed; a set of photos stays under 1.1, of flat drawings under about 50
_BOMB_FROM_BYTES = 2**30  # small archives do no harm, whatever their ratio
_CHUNK_BYTES = 2**20
_DAMAGED = "damaged archive: copy or download it again"


@dataclass(frozen=True, slots=True)
class Archive:
    """An open archive.

    Attributes:
        names: each regular file's path, with ``/`` between its parts and no ``.`` or empty parts. A link to a
            file in the archive counts as that file under its own name.
        read: takes an index into ``names`` and a number of bytes, and returns that much of the file's
            beginning; None for all of it. May be called from many threads at once.
        identity: takes an index into ``names``; equal for two links to one file.
        empty: folders without anything in them.
        notes: what was passed over.
    """

    names: list[str]
    read: Callable[[int, int | None], bytes]
    identity: Callable[[int], Hashable | None]
    empty: tuple[str, ...]
    notes: tuple[str, ...]


def is_archive(path: Path) -> bool:
    """Tell whether a path has the extension of an archive that ``open_archive`` reads."""
    name = path.name.lower()
    return name.endswith((".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip"))


def open_archive_source(path: Path, *, name: str, progress: Progress = silent) -> Source:
    """List the images of an archive of class folders.

    Args:
        path: an existing archive.
        name: the source, for messages.
        progress: called with the bytes of a compressed tar unpacked so far.

    Raises:
        DataError: the archive is damaged, hostile, too large, or not laid out in class folders.
    """
    archive = open_archive(path, name=name, progress=progress)
    names = archive.names
    return arrange(
        name,
        names,
        head=lambda at: archive.read(at, 64),
        fetch=lambda at: archive.read(at, None),
        identity=archive.identity,
        in_archive=True,
        empty=archive.empty,
        notes=archive.notes,
    )


def open_archive(path: Path, *, name: str, progress: Progress = silent) -> Archive:
    """Open a tar, compressed tar or zip archive, known by its first bytes and not by its extension.

    Raises:
        DataError: the archive is damaged, hostile, or too large.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                return _open_zip(path, name)
            opener = _OPENERS.get(magic[:2]) or _OPENERS.get(magic[:3]) or _OPENERS.get(magic)
            if opener is None:
                return _open_tar(_RandomAccess(file), name)
            packed_bytes = os.fstat(file.fileno()).st_size
            file.seek(0)
            with tempfile.TemporaryFile() as unpacked:
                _unpack(opener, file, unpacked, packed_bytes, name, progress)
                return _open_tar(_RandomAccess(unpacked), name)
    except OSError as error:
        raise DataError(f"{name}: expected a readable archive, got {error.strerror or error}") from error


# -- Compressed tar ------------------------------------------------------------------------------------------

_OPENERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


def _unpack(
    opener: Callable[[IO[bytes]], IO[bytes]],
    packed: IO[bytes],
    unpacked: IO[bytes],
    packed_bytes: int,
    name: str,
    progress: Progress,
) -> None:
    """Decompress one stream, refusing a bomb before it fills the disk."""
    written = 0
    with opener(packed) as stream:
        while True:
            try:
                chunk = stream.read(_CHUNK_BYTES)
            except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
                raise DataError(f"{name}: {_DAMAGED} ({_brief(error)})") from error
            if not chunk:
                break
            written += len(chunk)
            _refuse_bomb(written, packed_bytes, name)
            try:
                unpacked.write(chunk)
            except OSError as error:
                raise DataError(
                    f"{name}: unpacking stopped at {written:,} bytes ({error.strerror}): make room in"
                    f" {tempfile.gettempdir()}, or set TMPDIR to a folder with more"
                ) from error
            progress(f"unpacking {name}", packed.tell(), packed_bytes)
    unpacked.flush()


def _refuse_bomb(unpacked_bytes: int, packed_bytes: int, name: str) -> None:
    if unpacked_bytes > MAX_TOTAL_BYTES:
        raise DataError(
            f"{name}: expected at most 64 GiB when unpacked, got more: unpack it to a folder instead"
        )
    if unpacked_bytes > _BOMB_FROM_BYTES and unpacked_bytes > _BOMB_RATIO * packed_bytes:
        raise DataError(
            f"{name}: unpacks to over {_BOMB_RATIO} times its size, as a decompression bomb does:"
            " if you trust it, unpack it to a folder instead"
        )


class _RandomAccess:
    """A file that many threads read by offset; closed with its last reader."""

    __slots__ = ("__weakref__", "_descriptor", "_lock", "bytes")

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = os.dup(file.fileno())
        self._lock = threading.Lock()
        self.bytes = os.fstat(self._descriptor).st_size
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, offset)
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)


# -- Tar -----------------------------------------------------------------------------------------------------

_BLOCK = 512
_REGULAR = frozenset(b"\x000\x37")  # NUL, "0" and "7" (contiguous)
_LINKS = frozenset(b"12")
_DEVICES = frozenset(b"346")
_MAX_HEADER_EXTENSION = 2**20  # a long name or a pax header


def _open_tar(file: _RandomAccess, name: str) -> Archive:
    places: dict[str, tuple[int, int]] = {}
    links: dict[str, str] = {}
    folders: set[str] = set()
    skipped = {"link": 0, "device": 0, "sparse file": 0}
    repeated = 0
    offset = 0
    long_name: str | None = None
    long_link: str | None = None
    pax: dict[str, str] = {}
    members = 0
    while offset < file.bytes:
        header = file.read(offset, _BLOCK)
        if len(header) < _BLOCK:
            raise DataError(f"{name}: {_DAMAGED} (cut off at byte {offset:,})")
        if header[0] == 0 and not any(header):
            break
        size = _tar_size(header, offset, name)
        kind = header[156]
        start = offset + _BLOCK
        if kind in b"xgLK":
            if size > _MAX_HEADER_EXTENSION:
                raise DataError(f"{name}: {_DAMAGED} (header extension of {size:,} bytes)")
            extension = file.read(start, size)
            if kind == ord("L"):
                long_name = _text(extension.split(b"\0", 1)[0])
            elif kind == ord("K"):
                long_link = _text(extension.split(b"\0", 1)[0])
            elif kind == ord("x"):
                pax = _pax(extension, offset, name)
        else:
            if "size" in pax:
                size = _pax_size(pax["size"], offset, name)
            members += 1
            if members > MAX_MEMBERS:
                raise DataError(
                    f"{name}: expected at most {MAX_MEMBERS:,} members, got more: unpack it first"
                )
            path = pax.get("path") or long_name or _tar_name(header)
            if kind in _LINKS:
                size = 0
                target = pax.get("linkpath") or long_link or _text(header[157:257].split(b"\0", 1)[0])
                inside = _inside(path, name)
                if kind == ord("2"):  # a symbolic link is relative to its own folder
                    target = os.path.normpath(os.path.join(os.path.dirname(inside), target))
                places.pop(inside, None)
                links[inside] = os.path.normpath(target)
            elif kind in _DEVICES:
                size = 0
                skipped["device"] += 1
            elif kind == ord("S") or "GNU.sparse.major" in pax or "GNU.sparse.map" in pax:
                skipped["sparse file"] += 1
                if kind == ord("S") and header[482]:
                    raise DataError(f"{name}: holds a large sparse file, which is not read: unpack it first")
            elif kind in _REGULAR and not path.endswith("/"):
                inside = _inside(path, name)
                repeated += inside in places
                links.pop(inside, None)
                places[inside] = (start, size)
            else:
                folders.add(_inside(path, name, folder=True))
            long_name, long_link, pax = None, None, {}
        if start + size > file.bytes:
            raise DataError(f"{name}: {_DAMAGED} (cut off at byte {file.bytes:,})")
        offset = start + -(-size // _BLOCK) * _BLOCK
    else:
        raise DataError(f"{name}: {_DAMAGED} (cut off at byte {file.bytes:,}, it has no end mark)")
    skipped["link"] = _follow(links, places)
    notes = [f"{counted(count, kind)} in the archive left out" for kind, count in skipped.items() if count]
    if repeated:
        notes.append(f"{counted(repeated, 'member')} left out that a later member of the same name replaces")
    names = list(places)
    spans = list(places.values())

    def read(at: int, size: int | None) -> bytes:
        start, length = spans[at]
        if size is None and length > MAX_FILE_BYTES:
            raise BrokenImageError(printable(names[at]), "too large: over 256 MiB")
        wanted = length if size is None else min(size, length)
        data = file.read(start, wanted)
        if len(data) < wanted:
            raise BrokenImageError(printable(names[at]), "can't be read: the archive became shorter")
        return data

    return Archive(names, read, lambda at: spans[at], _empty_folders(folders, names), tuple(notes))


def _follow(links: dict[str, str], places: dict[str, tuple[int, int]]) -> int:
    """Give links to files in the archive the place of that file; return how many lead nowhere."""
    left = 0
    for path in links:
        target, steps = links[path], 0
        while target in links and steps < 40:
            target, steps = links[target], steps + 1
        if target in places:
            places[path] = places[target]
        else:
            left += 1
    return left


def _empty_folders(folders: Iterable[str], names: Iterable[str]) -> tuple[str, ...]:
    """List the folders with nothing below them."""
    full = {""}
    for name in (*names, *folders):
        parent = name.rpartition("/")[0]
        while parent not in full:
            full.add(parent)
            parent = parent.rpartition("/")[0]
    return tuple(sorted(folder for folder in folders if folder not in full))


def _pax_size(text: str, offset: int, name: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise DataError(f"{name}: {_DAMAGED} (bad size in the pax header at byte {offset:,})")
    return int(text)


def _tar_size(header: bytes, offset: int, name: str) -> int:
    """Check a header's sum and return its member's size in bytes.

    Source: POSIX.1-2017, pax, "ustar Interchange Format"; the base-256 sizes are GNU tar's.
    """
    try:
        expected = int(header[148:156].strip(b" \0") or b"0", 8)
        if header[124] & 0x80:
            size = int.from_bytes(header[125:136], "big")
        else:
            size = int(header[124:136].strip(b" \0") or b"0", 8)
    except ValueError:
        expected, size = -1, 0
    if expected != sum(header) - sum(header[148:156]) + 8 * 32 or size < 0:
        if offset == 0:
            raise DataError(f"{name}: expected a tar or zip archive, got something else: {_DAMAGED}")
        raise DataError(f"{name}: {_DAMAGED} (bad header at byte {offset:,})")
    return size


def _tar_name(header: bytes) -> str:
    path = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    if prefix and header[257:263] == b"ustar\0":
        path = prefix + b"/" + path
    return _text(path)


def _pax(records: bytes, offset: int, name: str) -> dict[str, str]:
    """Read the ``length key=value`` records of a pax header."""
    found = {}
    at = 0
    while at < len(records) and records[at]:
        space = records.find(b" ", at, at + 20)
        length = int(records[at:space]) if space > 0 and records[at:space].isdigit() else 0
        key, equals, value = records[space + 1 : at + length].rstrip(b"\n").partition(b"=")
        if length < 5 or not equals:
            raise DataError(f"{name}: {_DAMAGED} (bad pax header at byte {offset:,})")
        found[_text(key)] = _text(value)
        at += length
    return found


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _inside(path: str, name: str, *, folder: bool = False) -> str:
    """Refuse a member that would lie outside the archive, and drop the empty parts of its path."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    drive = len(path) > 1 and path[1] == ":" and path[0].isalpha()
    if path.startswith("/") or drive or ".." in parts or not (parts or folder):
        raise DataError(
            f"{name}: member {printable(path)!r} would lie outside the archive: don't trust it,"
            " or pack it again with relative paths"
        )
    return "/".join(parts)


# -- Zip -----------------------------------------------------------------------------------------------------


def _open_zip(path: Path, name: str) -> Archive:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeError) as error:
        raise DataError(f"{name}: {_DAMAGED} ({_brief(error)})") from error
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise DataError(
            f"{name}: expected at most {MAX_MEMBERS:,} members, got {len(infos):,}: unpack it first"
        )
    _refuse_bomb(sum(info.file_size for info in infos), path.stat().st_size, name)
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    links = 0
    for info in infos:
        inside = _inside(_zip_name(info).replace("\\", "/"), name, folder=info.is_dir())
        if info.is_dir():
            folders.add(inside)
            continue
        if S_ISLNK(info.external_attr >> 16):
            links += 1
            continue
        if info.flag_bits & 1:
            raise DataError(
                f"{name}: expected an archive without a password, got an encrypted one: unpack it first"
            )
        members[inside] = info
    names = list(members)
    chosen = list(members.values())
    lock = threading.Lock()

    def read(at: int, size: int | None) -> bytes:
        info = chosen[at]
        if size is None and info.file_size > MAX_FILE_BYTES:
            raise BrokenImageError(printable(names[at]), "too large: over 256 MiB")
        try:
            with lock, archive.open(info) as member:
                return member.read(info.file_size if size is None else size)
        except (
            zipfile.BadZipFile,
            zlib.error,
            lzma.LZMAError,
            EOFError,
            OSError,
            NotImplementedError,
        ) as error:
            raise BrokenImageError(
                printable(names[at]), f"damaged in the archive: {_brief(error)}"
            ) from error

    notes = (f"{counted(links, 'link')} in the archive left out",) if links else ()
    return Archive(names, read, lambda at: None, _empty_folders(folders, names), notes)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's path: UTF-8 where it is that, whatever the flag says.

    Info-ZIP on Unix writes UTF-8 without setting bit 11, and may add the name in an extra field (0x7075).
    Other bytes are code page 437, as the format's specification (APPNOTE 6.3.10, appendix D) has it.
    """
    if info.flag_bits & 0x800 or info.filename.isascii():
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    extra = info.extra
    while len(extra) >= 4:
        tag, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if tag == 0x7075 and len(field) > 5 and int.from_bytes(field[1:5], "little") == zlib.crc32(raw):
            raw = field[5:]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return info.filename


def _brief(error: BaseException) -> str:
    text = " ".join(printable(str(error)).split()) or type(error).__name__
    return text if len(text) <= 100 else text[:97] + "..."
