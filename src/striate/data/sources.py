"""Opening a source of labelled images: a name, a folder, an archive, a manifest, or several of these."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.archives import is_archive, open_archive_source
from striate.data.folders import open_folder
from striate.data.manifest import is_manifest, open_manifest
from striate.data.named import NAMES, open_named
from striate.data.source import Source, printable
from striate.data.unite import unite

__all__ = ["Source", "open_source"]


def open_source(
    where: str | Path | Sequence[str | Path], *, download: bool = True, progress: Progress = silent
) -> Source:
    """Open labelled images.

    Args:
        where: one of

            - a name: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, ``cifar100``. It goes before a
              folder of the same name; write ``./mnist`` for the folder;
            - a folder, ``.tar`` (also ``.gz``, ``.bz2``, ``.xz``) or ``.zip`` of class folders, with or
              without ``train``, ``val`` and ``test`` above them;
            - a ``.csv``, ``.tsv`` or ``.jsonl`` manifest (see ``open_manifest``);
            - a sequence of these, united; each keeps its splits.
        download: fetch a named set that is not on this machine.
        progress: called while listing, unpacking and downloading.

    Returns:
        The source. Images are not decoded yet (see ``scan``).

    Raises:
        UsageError: there is nothing of that name.
        DataError: it can't be read, or there are no images in classes.
    """
    if not isinstance(where, str | Path):
        if not where:
            raise UsageError(
                "expected at least one data source, got none: name a folder, an archive or a data set"
            )
        return unite([open_source(one, download=download, progress=progress) for one in where])
    if isinstance(where, str) and where.lower() in NAMES:
        return open_named(where.lower(), download_missing=download, progress=progress)
    path = Path(where).expanduser()
    name = printable(str(where))
    if path.is_dir():
        return open_folder(path, name=name, progress=progress)
    if path.is_file():
        if is_manifest(path):
            return open_manifest(path, name=name, progress=progress)
        if is_archive(path):
            return open_archive_source(path, name=name, progress=progress)
        raise DataError(
            f"{name}: expected a folder, a .tar, .tar.gz or .zip archive, or a .csv or .jsonl manifest,"
            f" got a file {'of another kind' if not path.suffix else printable(path.suffix)}:"
            " put images into class folders"
        )
    near = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else "check the path"
    raise UsageError(
        f"{name}: expected a folder, archive, manifest or one of {', '.join(NAMES)}, got nothing: {hint}"
    )
