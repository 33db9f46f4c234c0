"""Where a command may write: refused before anything is read or computed."""

import os
from collections.abc import Iterable
from pathlib import Path

from striate.core.errors import UsageError, WriteError


def check_writable(
    target: Path, suffixes: tuple[str, ...], force: bool, *, sources: Iterable[Path] = ()
) -> None:
    """Refuse a file to write that is of another kind, in the way, or where nothing may be written.

    Args:
        target: the file to write.
        suffixes: endings that it may have.
        force: whether a file that is there may be replaced.
        sources: files that are read, which it must not be.

    Raises:
        UsageError: a folder, another ending, one of the sources, or there already without ``force``.
        WriteError: the folder may not be written to.
    """
    try:
        if target.is_dir():
            raise UsageError(f"expected a file to write, got the folder {target}: name a file in it")
        if target.suffix not in suffixes:
            known = target.suffix[1:].isalpha()  # an ending to replace; that of net-v1.2 is part of the name
            other = target.with_suffix(suffixes[0]) if known else target.with_name(target.name + suffixes[0])
            raise UsageError(
                f"expected a file ending in {' or '.join(suffixes)}, got {target.name}: write {other}"
            )
        folder = next(one for one in target.parents if one.exists())
        if not folder.is_dir():
            raise UsageError(f"expected a folder to write in, got the file {folder}: name another folder")
        if not os.access(folder, os.W_OK):
            raise WriteError(f"can't write {target}: name a folder that you may write to, {folder} is none")
        if not target.exists():
            return
        if not target.is_file():
            raise UsageError(f"expected a file to write, got {target}, a device or pipe: name another")
        for source in sources:
            if source.exists() and target.samefile(source):
                raise UsageError(
                    f"expected another file to write than {source}, got that one: name a new file"
                )
    except OSError as error:
        raise WriteError(f"can't write {target} ({error.strerror or error}): name another file") from None
    if not force:
        raise UsageError(f"{target} is there already: name a new file, or replace it with `force`")
