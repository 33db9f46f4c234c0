"""One walk through folders for every command: which files there are, in a fixed order, links included.

The rules: names that begin with a dot and folders of systems (``@eaDir``, ``$RECYCLE.BIN``) are left out.
A link to a folder is a place of its own under its own name, whatever else leads to the same folder; only a
link that leads back to a folder above itself is cut. A link that leads nowhere is listed, so that it is
reported when it is read; pipes and devices are not.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from striate.core.errors import DataError

MAX_FOLDERS: Final = 1_000_000
"""The most folders that a walk enters: links that lead to each other can multiply without end."""

_SYSTEM_NAMES = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "picasa.ini",
        "__macosx",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "found.000",
    }
)


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is hidden, or one that an operating system or a NAS keeps for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


@dataclass(slots=True)
class Findings:
    """What a walk met beside files.

    Attributes:
        hidden: hidden files and folders left out.
        loops: links cut because they lead back to a folder above themselves.
        links: links to folders that were followed.
        empty: folders without any file or folder in them.
    """

    hidden: int = 0
    loops: list[str] = field(default_factory=list)
    links: int = 0
    empty: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ancestry:
    """A folder's identity and those of the folders above it."""

    identity: tuple[int, int]
    parent: "_Ancestry | None"

    def holds(self, identity: tuple[int, int]) -> bool:
        one: _Ancestry | None = self
        while one is not None:
            if one.identity == identity:
                return True
            one = one.parent
        return False


def walk_files(
    folder: str | Path, *, unreadable: Callable[[str, OSError], None], findings: Findings | None = None
) -> Iterator[str]:
    """Yield the files below a folder, as paths relative to it with ``/`` between their parts.

    The files of a folder come before those of the folders in it; both are sorted by name, so that the order
    is the same on every file system. A deep or large tree is never listed whole.

    Args:
        folder: an existing folder.
        unreadable: called with the relative path and the error of a folder that can't be read.
        findings: is filled with what was met beside files.

    Raises:
        DataError: more than a million folders, as links that lead to each other make them.
    """
    root = os.fspath(folder)
    seen = findings if findings is not None else Findings()
    waiting: list[tuple[str, bool, _Ancestry | None]] = [("", False, None)]
    entered = 0
    while waiting:
        inside, is_link, above = waiting.pop()
        path = os.path.join(root, inside)
        files: list[str] = []
        folders: list[tuple[str, bool]] = []
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            if is_link and above is not None and above.holds(identity):
                seen.loops.append(inside)
                continue
            seen.links += is_link
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_hidden(entry.name):
                        seen.hidden += 1
                    elif entry.is_dir():
                        folders.append((entry.name, entry.is_symlink()))
                    elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                        files.append(entry.name)
        except OSError as error:
            unreadable(inside, error)
            continue
        entered += 1
        if entered > MAX_FOLDERS:
            raise DataError(
                f"{root}: expected at most {MAX_FOLDERS:,} folders, got more: links in it may lead to each"
                " other"
            )
        if not files and not folders and inside:
            seen.empty.append(inside)
        prefix = f"{inside}/" if inside else ""
        for name in sorted(files):
            yield prefix + name
        ancestry = _Ancestry(identity, above)
        waiting += [(prefix + name, link, ancestry) for name, link in sorted(folders, reverse=True)]
