"""Files that are either whole or absent: written to a temporary name, synced, then renamed."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from striate.core.errors import WriteError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and move it onto ``path`` if the block ends without an error.

    A crash at any moment leaves either the old file or the new one, never a part of one. The temporary name
    starts with a dot and ends in ``.tmp``; a left-over of a killed process is harmless.

    Raises:
        WriteError: the folder can't be made or written to, or the disk is full. The message says what to do
            about the place; what else the caller's user can do (to resume, to run again), the caller adds.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from None
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call ``write`` with an open binary file and put the result at ``path`` atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        write(file)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path`` atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def unwritable(path: Path, error: OSError) -> WriteError:
    """Say that a file can't be written, and what to do about it."""
    remedy = "name another place"
    if error.errno in _FULL:
        remedy = "free some space"
    elif error.errno in _FORBIDDEN:
        remedy = "name a place that you may write to"
    return WriteError(f"can't write {path} ({error.strerror or error}): {remedy}")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; not every file system lets a folder be opened, and none needs to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
