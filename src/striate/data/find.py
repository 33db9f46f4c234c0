"""Finding the images of files, folders and archives, whatever their classes."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from striate.core.errors import BrokenImageError, UsageError
from striate.data.archives import is_archive, open_archive
from striate.data.folders import read_image_file
from striate.data.source import has_image_extension, printable


@dataclass(frozen=True, slots=True)
class Item:
    """An image that may be read: its name and how to get its bytes."""

    file: str
    read: Callable[[], bytes]


def find_images(paths: Iterable[str | Path]) -> Iterator[Item]:
    """Find the images of files, folders (with all below them) and archives, in the order given.

    A file that is named is always tried; inside folders and archives only files with an image's extension
    are.

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
        if has_image_extension(name):
            yield Item(printable(f"{path}/{name}"), partial(archive.read, index, None))


def _in_folder(folder: Path) -> Iterator[Item]:
    """Walk a folder one directory at a time, so that a deep tree is never listed whole.

    Pipes and devices are left out: to read one could take for ever. A folder that can't be read is an image
    that can't be read.
    """
    closed: list[OSError] = []
    for inside, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(inside, name)
            plain = has_image_extension(name) and not name.startswith(".")
            if plain and (os.path.isfile(path) or not os.path.exists(path)):  # a link to nothing is reported
                yield _file(path)
        yield from map(_unreadable, closed)
        closed.clear()
    yield from map(_unreadable, closed)


def _unreadable(error: OSError) -> Item:
    name = printable(str(error.filename))

    def read() -> bytes:
        raise BrokenImageError(name, f"this folder can't be read: {error.strerror or error}")

    return Item(name, read)


def _file(path: str) -> Item:
    name = printable(path)
    return Item(name, lambda: read_image_file(path, name))
