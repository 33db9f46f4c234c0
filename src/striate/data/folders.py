"""Images in a folder on disk."""

import os
from pathlib import Path

from striate.core.errors import BrokenImageError, DataError
from striate.core.progress import Progress, silent
from striate.data.source import MAX_FILE_BYTES, Source, arrange, printable


def open_folder(folder: Path, *, name: str, progress: Progress = silent) -> Source:
    """List the images of a folder of class folders (with or without train, val and test folders above them).

    Links are followed, each folder once. Nothing is read yet, except the first bytes of files whose extension
    is not that of an image.

    Args:
        folder: an existing folder.
        name: the source, for messages.
        progress: called with the number of files listed.

    Returns:
        The source; its ``fetch`` raises ``BrokenImageError`` for a file that can't be read any more.

    Raises:
        DataError: a folder can't be read, or the layout is not one of class folders.
    """
    paths = list_files(folder, name=name, progress=progress)
    root = os.fspath(folder)
    return arrange(
        name,
        paths,
        head=lambda at: _head(os.path.join(root, paths[at])),
        fetch=lambda at: read_image_file(os.path.join(root, paths[at]), paths[at]),
    )


def list_files(folder: Path, *, name: str, progress: Progress = silent) -> list[str]:
    """List every file below a folder, as paths relative to it with ``/`` between their parts, sorted.

    A link that leads nowhere is listed, so that it is reported when it is read; a pipe or a device is not.

    Raises:
        DataError: a folder can't be read.
    """
    found: list[str] = []
    visited: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        path = os.path.join(folder, inside)
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in entries:
                    below = f"{inside}/{entry.name}" if inside else entry.name
                    if entry.is_dir():
                        waiting.append(below)
                    elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                        found.append(below)
        except OSError as error:
            raise DataError(
                f"{name}: expected a readable folder, got {error.strerror or error} at"
                f" {printable(inside) or '.'}: check its permissions"
            ) from error
        progress("listing files", len(found), None)
    found.sort()
    return found


def read_image_file(path: str | Path, shown: str) -> bytes:
    """Read one encoded image.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        BrokenImageError: it can't be read, or is larger than 256 MiB.
    """
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise BrokenImageError(printable(shown), "too large: over 256 MiB")
            return file.read()
    except OSError as error:
        raise BrokenImageError(printable(shown), f"can't be read: {error.strerror or error}") from error


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(64)
    except OSError:
        return b""
