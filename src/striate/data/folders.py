"""Images in a folder on disk."""

import os
import stat
from pathlib import Path

from striate.core.errors import BrokenImageError, DataError
from striate.core.progress import Progress, silent
from striate.data.source import MAX_FILE_BYTES, Source, arrange, counted, printable
from striate.data.walk import Findings, walk_files


def open_folder(folder: Path, *, name: str, progress: Progress = silent) -> Source:
    """List the images of a folder of class folders (with or without train, val and test folders above them).

    Links are followed as ``data.walk`` says. Nothing is read yet, except the first bytes of files whose
    extension is not that of an image.

    Args:
        folder: an existing folder.
        name: the source, for messages.
        progress: called with the number of files listed.

    Returns:
        The source; its ``fetch`` raises ``BrokenImageError`` for a file that can't be read any more.

    Raises:
        DataError: a folder can't be read, or the layout is not one of class folders.
    """

    def refuse(inside: str, error: OSError) -> None:
        raise DataError(
            f"{name}: expected a readable folder, got {error.strerror or error} at"
            f" {printable(inside) or '.'}: check its permissions"
        ) from error

    found = Findings()
    paths = []
    for path in walk_files(folder, unreadable=refuse, findings=found):
        paths.append(path)
        if len(paths) % 1000 == 0:
            progress("listing files", len(paths), None)
    progress("listing files", len(paths), None)
    paths.sort()
    root = os.fspath(folder)

    def identity(at: int) -> tuple[int, int] | None:
        try:
            status = os.stat(os.path.join(root, paths[at]))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    return arrange(
        name,
        paths,
        head=lambda at: read_head(os.path.join(root, paths[at])),
        fetch=lambda at: read_image_file(os.path.join(root, paths[at]), paths[at]),
        identity=identity,
        empty=found.empty,
        notes=_notes(found),
    )


def _notes(found: Findings) -> list[str]:
    notes = []
    if found.links:
        notes.append(f"{counted(found.links, 'link')} to folders followed")
    if found.loops:
        shown = ", ".join(map(printable, sorted(found.loops)[:3])) + (", ..." if len(found.loops) > 3 else "")
        notes.append(f"{counted(len(found.loops), 'link')} to a folder above left out: {shown}")
    if found.hidden:
        notes.append(f"{counted(found.hidden, 'hidden or system file')} left out")
    return notes


def read_image_file(path: str | Path, shown: str) -> bytes:
    """Read one encoded image.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        BrokenImageError: it can't be read, is no plain file, or is larger than 256 MiB.
    """
    try:
        with open(_open_plain(path), "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise BrokenImageError(printable(shown), f"can't be read: {error.strerror or error}") from error
    except _NotPlainError:
        raise BrokenImageError(printable(shown), "not a plain file, but a pipe or a device") from None
    if len(content) > MAX_FILE_BYTES:
        raise BrokenImageError(printable(shown), "too large: over 256 MiB")
    return content


class _NotPlainError(Exception):
    """A path leads to a pipe, a socket or a device."""


def _open_plain(path: str | Path) -> int:
    """Open a file for reading without waiting for a pipe or device to give something."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _NotPlainError
    return descriptor


def read_head(path: str | Path) -> bytes:
    """Return the first 64 bytes of a plain file, or nothing where it can't be read."""
    try:
        with open(_open_plain(path), "rb") as file:
            return file.read(64)
    except (OSError, _NotPlainError):
        return b""
