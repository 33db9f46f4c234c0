"""The record of a source, and how the paths of its files become classes and splits."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.core.text import printable as printable
from striate.data.file_format import image_format

SPLIT_NAMES: Final[tuple[str, str, str]] = ("train", "val", "test")
"""Names of the splits, in the order of their numbers 0, 1, 2."""

NO_SPLIT: Final = -1
"""Stands in ``Source.splits`` for an image whose source names no split."""

MAX_FILE_BYTES: Final = 256 * 2**20
"""The largest encoded image that is read (256 MiB)."""

_SPLIT_NUMBERS = {
    "train": 0,
    "training": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "test": 2,
    "testing": 2,
}
_IMAGE_EXTENSIONS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
    }
    | {
        ".avif",
        ".jp2",
        ".j2k",
        ".j2c",
        ".jpf",
        ".jpx",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".pfm",
        ".tga",
        ".icb",
    }
    | {".vda", ".vst", ".ico", ".qoi", ".pcx", ".sgi"}
    # pictures that striate can't read: they are quarantined with a remedy rather than left out unseen
    | {".heic", ".heif", ".jxl", ".svg", ".psd"}
)
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})

Fetch = Callable[[int], "bytes | NDArray[np.uint8]"]


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled images, listed but not yet read.

    Attributes:
        name: what the user typed, for messages.
        files: each image's name inside the source: unique, printable, in a fixed order.
        labels: int64 ``[n]`` class indices, or float32 ``[n, k]`` in {0, 1} for multi-label data.
        classes: the ``k`` class names, in the order of the labels.
        splits: int8 ``[n]``: 0 train, 1 val, 2 test, or -1 where the source names no split.
        fetch: takes an index and returns the encoded file, or its pixels (``H x W`` or ``H x W x 3`` uint8)
            where the source stores pixels. May be called from many threads at once.
        notes: things worth telling the user, one line each: files left out, attribution.
    """

    name: str
    files: Sequence[str]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    splits: NDArray[np.int8]
    fetch: Fetch
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry any number of labels."""
        return self.labels.ndim == 2


def split_number(name: str) -> int | None:
    """Return 0, 1 or 2 for a name of a split (``train``, ``Valid``, ``validation``, ``TEST``), else None."""
    return _SPLIT_NUMBERS.get(name.lower())


def unique_names(names: Iterable[str]) -> list[str]:
    """Make names printable, and number those that then read the same."""
    seen: set[str] = set()
    result = []
    for name in map(printable, names):
        candidate, count = name, 1
        while candidate in seen:
            count += 1
            candidate = f"{name} ({count})"
        seen.add(candidate)
        result.append(candidate)
    return result


def counted(number: int, what: str) -> str:
    """Write a count with its noun: ``1 image``, ``2,000 images``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def arrange(
    name: str,
    paths: Sequence[str],
    *,
    head: Callable[[int], bytes],
    fetch: Callable[[int], bytes],
    in_archive: bool = False,
    notes: Sequence[str] = (),
) -> Source:
    """Make a source of files that lie in class folders, with or without split folders above them.

    A top folder that holds everything (``hymenoptera_data/train/...``) is passed over. Folders inside a class
    folder belong to that class. Hidden files and files that are no images are left out and counted in the
    notes; a file with the extension of an image is always kept, so that a damaged one is found later.

    Args:
        name: the source, for messages.
        paths: each file's path inside the source, with ``/`` between its parts.
        head: takes an index into ``paths`` and returns the first bytes of that file (64 are enough).
        fetch: takes an index into ``paths`` and returns the whole file.
        in_archive: whether a single top folder may be passed over even if its folders are classes.
        notes: notes to begin with.

    Returns:
        The source, its files sorted by path.

    Raises:
        DataError: there are no images, no class folders, one class only, or a mix of the two layouts.
    """
    kept, all_notes = _images_among(paths, head)
    all_notes = [*notes, *all_notes]
    if not kept:
        left_out = f" ({'; '.join(all_notes)})" if all_notes else ""
        raise DataError(
            f"{name}: expected images in one folder for each class, got no images{left_out}:"
            " check the path, or list the files in a CSV manifest"
        )
    kept.sort(key=lambda at: paths[at])
    trees = _without_top([tuple(paths[at].split("/")) for at in kept], in_archive)
    places = _places(name, trees)
    loose = sum(place is None for place in places)
    if loose:
        all_notes.append(f"{counted(loose, 'image')} outside the class folders left out")
    chosen = [(at, place) for at, place in zip(kept, places, strict=True) if place is not None]
    classes = sorted({place[1] for _, place in chosen})
    if len(classes) < 2:
        raise DataError(_too_few_classes(name, classes, len(kept)))
    number = {one: index for index, one in enumerate(classes)}
    origin = [at for at, _ in chosen]
    return Source(
        name=name,
        files=unique_names(paths[at] for at in origin),
        labels=np.array([number[place[1]] for _, place in chosen], np.int64),
        classes=tuple(unique_names(classes)),
        splits=np.array([place[0] for _, place in chosen], np.int8),
        fetch=lambda index: fetch(origin[index]),
        notes=tuple(all_notes),
    )


def _images_among(paths: Sequence[str], head: Callable[[int], bytes]) -> tuple[list[int], list[str]]:
    """Pick the files that are or claim to be images, and count the others in notes."""
    kept = []
    hidden = 0
    others: Counter[str] = Counter()
    for at, path in enumerate(paths):
        parts = path.split("/")
        if any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in parts):
            hidden += 1
            continue
        extension = os.path.splitext(parts[-1])[1].lower()
        if extension in _IMAGE_EXTENSIONS or image_format(head(at), parts[-1]) is not None:
            kept.append(at)
        else:
            others[printable(extension) or "no extension"] += 1
    notes = []
    if others:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(5))
        more = ", ..." if len(others) > 5 else ""
        notes.append(f"{counted(others.total(), 'file')} left out that are no images ({kinds}{more})")
    if hidden:
        notes.append(f"{counted(hidden, 'hidden file')} left out")
    return kept, notes


def _without_top(trees: list[tuple[str, ...]], in_archive: bool) -> list[tuple[str, ...]]:
    """Pass over top folders that hold everything and are neither a split nor a class."""
    while True:
        tops = {tree[0] for tree in trees}
        if len(tops) != 1 or split_number(next(iter(tops))) is not None or min(map(len, trees)) < 3:
            return trees
        below = {tree[1] for tree in trees}
        splits_below = any(split_number(one) is not None for one in below)
        if not splits_below and not (in_archive and len(below) > 1):
            return trees
        trees = [tree[1:] for tree in trees]


def _places(name: str, trees: list[tuple[str, ...]]) -> list[tuple[int, str] | None]:
    """Return each image's split number and class, None for one that lies outside the class folders."""
    tops = {tree[0] for tree in trees if len(tree) > 1}
    splits = {top for top in tops if split_number(top) is not None}
    others = tops - splits
    holds_classes = any(len(tree) > 2 and tree[0] in splits for tree in trees)
    if holds_classes and others:
        raise DataError(
            f"{name}: expected either split folders or class folders at the top, got both"
            f" ({_few(splits)}; {_few(others)}): move the others away, or rename the class"
            f" {printable(min(splits))!r}"
        )
    if holds_classes:
        return [
            (_SPLIT_NUMBERS[tree[0].lower()], tree[1]) if len(tree) > 2 and tree[0] in splits else None
            for tree in trees
        ]
    if splits and not others:
        raise DataError(
            f"{name}: expected class folders inside {_few(splits)}, got images:"
            " move them into folders named after their classes, or list them in a CSV manifest"
        )
    return [(NO_SPLIT, tree[0]) if len(tree) > 1 else None for tree in trees]


def _few(names: Iterable[str]) -> str:
    ordered = [printable(one) for one in sorted(names)]
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def _too_few_classes(name: str, classes: list[str], images: int) -> str:
    if not classes:
        return (
            f"{name}: expected one folder for each class, got {counted(images, 'image')} and no folders:"
            " move them into folders named after their classes, or list them in a CSV manifest"
        )
    only = printable(classes[0])
    return (
        f"{name}: expected at least two classes, got one ({only}): add a folder for another class,"
        f" or name the folder {only} itself if its folders are the classes"
    )


def has_image_extension(name: str) -> bool:
    """Tell whether a file's name ends like an image's."""
    return os.path.splitext(name)[1].lower() in _IMAGE_EXTENSIONS
