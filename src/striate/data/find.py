"""Finding the images of files, folders and archives, whatever their classes."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from striate.core.errors import BrokenImageError, UsageError
from striate.data.archives import is_archive, open_archive
from striate.data.folders import read_head, read_image_file
from striate.data.source import is_image_name, printable
from striate.data.walk import is_hidden, walk_files


@dataclass(frozen=True, slots=True)
class Item:
    """An image that may be read: its name and how to get its bytes."""

    file: str
    read: Callable[[], bytes]


def find_images(paths: Iterable[str | Path]) -> Iterator[Item]:
    """Find the images of files, folders (with all below them) and archives, in the order given.

    A file that is named is always tried. Inside folders and archives those are taken that ``open_source``
    takes: with an image's extension, or with the first bytes of an image.

    Raises:
        UsageError: a path does not exist.
        DataError: an archive is damaged or hostile.
    """
    found = [Path(path) for path in paths]
    for path in found:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; expected an image, a folder or an archive")
    return _find_images(found)


def _find_images(paths: Sequence[Path]) -> Iterator[Item]:
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path)
        elif is_archive(path):
            yield from _in_archive(path)
        else:
            yield _file(str(path))


def _in_archive(path: Path) -> Iterator[Item]:
    archive = open_archive(path, name=str(path))
    for index, name in enumerate(archive.names):
        parts = name.split("/")
        if any(map(is_hidden, parts)):
            continue
        if is_image_name(parts[-1], partial(archive.read, index, 64)):
            yield Item(printable(f"{path}/{name}"), partial(archive.read, index, None))


def _in_folder(folder: Path) -> Iterator[Item]:
    closed: list[Item] = []
    for inside in walk_files(folder, unreadable=lambda at, error: closed.append(_unreadable(error))):
        yield from closed
        closed.clear()
        path = os.path.join(folder, inside)
        if is_image_name(os.path.basename(inside), partial(read_head, path)):
            yield _file(path)
    yield from closed


def _unreadable(error: OSError) -> Item:
    name = printable(str(error.filename))

    def read() -> bytes:
        raise BrokenImageError(name, f"this folder can't be read: {error.strerror or error}")

    return Item(name, read)


def _file(path: str) -> Item:
    name = printable(path)
    return Item(name, lambda: read_image_file(path, name))
