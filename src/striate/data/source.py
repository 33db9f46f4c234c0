"""The record of a source, and how the paths of its files become classes and splits."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.core.text import printable as printable
from striate.data.file_format import image_format
from striate.data.walk import is_hidden

SPLIT_NAMES: Final[tuple[str, str, str]] = ("train", "val", "test")
"""Names of the splits, in the order of their numbers 0, 1, 2."""

NO_SPLIT: Final = -1
"""In ``Source.splits``: the source names no split for this image."""

MAX_FILE_BYTES: Final = 256 * 2**20
"""The largest encoded image that is read (256 MiB)."""

_SPLIT_WORDS = {
    "train": 0,
    "training": 0,
    "trn": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "dev": 1,
    "eval": 1,
    "evaluation": 1,
    "test": 2,
    "testing": 2,
    "tst": 2,
    "holdout": 2,
}
_SPLIT_NAME = re.compile(  # training_set, seg_train, "Test Images", trainset
    r"(?:(?:seg|data|dataset|img|images?|photos?|pics?|set|my)[\W_]*)?"
    rf"(?P<split>{'|'.join(sorted(_SPLIT_WORDS, key=len, reverse=True))})"
    r"(?:[\W_]*(?:set|split|data|dataset|img|images?|imgs|photos?|pics?|folder|files))*[\W_]*",
    re.IGNORECASE,
)
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
    # formats that striate can't read: quarantined with a remedy rather than left out unseen
    | {".heic", ".heif", ".jxl", ".svg", ".psd"}
)
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
        notes: what to know, one line each: files left out, what was understood, attribution.
        problems: what is likely misunderstood and would make results meaningless, one line each.
    """

    name: str
    files: Sequence[str]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    splits: NDArray[np.int8]
    fetch: Fetch
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry any number of labels."""
        return self.labels.ndim == 2


def split_number(name: str) -> int | None:
    """Return 0, 1 or 2 for a name of a split (``train``, ``Valid``, ``TEST``), else None."""
    return _SPLIT_WORDS.get(name.lower())


def likely_split(name: str) -> int | None:
    """Return 0, 1 or 2 for a folder named like a split (``training_set``, ``seg_test``), else None."""
    found = _SPLIT_NAME.fullmatch(name.strip())
    return None if found is None else _SPLIT_WORDS[found["split"].lower()]


def normal(name: str) -> str:
    """Return a name in Unicode's normal form C, in which striate compares names.

    A Mac writes an accent as a letter of its own, others write both as one: the same name in other bytes.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


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
    identity: Callable[[int], Hashable | None] = lambda at: None,
    in_archive: bool = False,
    empty: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Source:
    """Make a source of files that lie in class folders, with or without split folders above them.

    A top folder that holds everything (``hymenoptera_data/train/...``) is passed over. Folders inside a class
    folder belong to that class. Folders at the top are splits where they are called ``train``, ``val`` and
    ``test``, or where they are named like splits (``training_set``, ``seg_test``) and hold folders of the
    same names. Hidden files and files that are no images are left out and counted in the notes; a file with
    the extension of an image is always kept, so that a damaged one is found later.

    Args:
        name: the source, for messages.
        paths: each file's path inside the source, with ``/`` between its parts.
        head: takes an index into ``paths`` and returns the first bytes of that file (64 are enough).
        fetch: takes an index into ``paths`` and returns the whole file.
        identity: takes an index into ``paths`` and returns what is equal for two links to one file.
        in_archive: whether a single top folder may be passed over even if its folders are classes.
        empty: folders without anything in them.
        notes: notes to begin with.

    Returns:
        The source, its files sorted by path, classes in Unicode's normal form C.

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
    splits, understood = _splits_at_top(trees)
    if splits:
        trees = _without_doubled(trees, splits)
        all_notes += understood
    places = _places(name, trees, splits, lambda turn: identity(kept[turn]))
    loose = [turn for turn, place in enumerate(places) if place is None]
    if loose:
        tops = {trees[turn][0] for turn in loose if splits and len(trees[turn]) > 1} - set(splits)
        inside = f" ({_few(tops)})" if tops else ""
        all_notes.append(f"{counted(len(loose), 'image')} outside the class folders left out{inside}")
    chosen = [(at, place) for at, place in zip(kept, places, strict=True) if place is not None]
    classes = sorted({place[1] for _, place in chosen})
    if empty:
        all_notes.append(f"{counted(len(empty), 'empty folder')}: {_few(empty)}")
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
        problems=() if splits else _alike_classes(trees),
    )


def is_image_name(name: str, head: Callable[[], bytes]) -> bool:
    """Say whether a file is or claims to be an image, by its extension or else by its first bytes."""
    return has_image_extension(name) or image_format(head(), name) is not None


def _images_among(paths: Sequence[str], head: Callable[[int], bytes]) -> tuple[list[int], list[str]]:
    """Pick the files that are or claim to be images, and count the others in notes."""
    kept = []
    hidden = 0
    others: Counter[str] = Counter()
    for at, path in enumerate(paths):
        parts = path.split("/")
        if any(map(is_hidden, parts)):
            hidden += 1
        elif is_image_name(parts[-1], lambda at=at: head(at)):  # type: ignore[misc]
            kept.append(at)
        else:
            others[printable(os.path.splitext(parts[-1])[1].lower()) or "no extension"] += 1
    notes = []
    if others:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(5))
        more = ", ..." if len(others) > 5 else ""
        notes.append(f"{counted(others.total(), 'file')} left out that are no images ({kinds}{more})")
    if hidden:
        notes.append(f"{counted(hidden, 'hidden or system file')} left out")
    return kept, notes


def _without_top(trees: list[tuple[str, ...]], in_archive: bool) -> list[tuple[str, ...]]:
    """Pass over top folders that hold everything and are neither a split nor a class."""
    while True:
        tops = {tree[0] for tree in trees}
        if len(tops) != 1 or split_number(next(iter(tops))) is not None or min(map(len, trees)) < 3:
            return trees
        below = {tree[1] for tree in trees}
        inside = [tree[1:] for tree in trees]
        if not _splits_at_top(inside)[0] and not (in_archive and len(below) > 1):
            return trees
        trees = inside


def _splits_at_top(trees: list[tuple[str, ...]]) -> tuple[dict[str, int], list[str]]:
    """Return the top folders that are splits, with their numbers, and what to say about it."""
    tops = {tree[0] for tree in trees if len(tree) > 1}
    likely = {
        top: number for top in tops if (number := likely_split(top)) is not None and _folders_in(trees, top)
    }
    if len(set(likely.values())) > 1 and _share_folders(trees, likely):
        named = sorted(top for top in likely if split_number(top) is None)
        words = ", ".join(f"{printable(top)} as {SPLIT_NAMES[likely[top]]}" for top in named)
        return likely, [f"folders read as splits: {words}"] if named else []
    exact = {top: number for top in likely if (number := split_number(top)) is not None}
    return exact, []


def _folders_in(trees: list[tuple[str, ...]], top: str) -> set[str]:
    """List the folders in a top folder, passing over one that only repeats its name or holds all."""
    inside = [tree[1:] for tree in trees if tree[0] == top and len(tree) > 2]
    names = {tree[0] for tree in inside}
    if len(names) == 1 and all(len(tree) > 2 for tree in inside):
        names = {tree[1] for tree in inside}
    return names


def _share_folders(trees: list[tuple[str, ...]], tops: Iterable[str]) -> bool:
    """Say whether top folders hold folders of the same names: at least half of the smallest one's."""
    sets = [_folders_in(trees, top) for top in tops]
    common = set.intersection(*sets)
    return bool(common) and 2 * len(common) >= min(map(len, sets))


def _without_doubled(trees: list[tuple[str, ...]], splits: dict[str, int]) -> list[tuple[str, ...]]:
    """Pass over a lone folder between a split and its classes (``seg_train/seg_train/forest``)."""
    doubled = set()
    for top in splits:
        inside = [tree for tree in trees if tree[0] == top]
        if len({tree[1] for tree in inside}) == 1 and all(len(tree) > 3 for tree in inside):
            doubled.add(top)
    return [(tree[0], *tree[2:]) if tree[0] in doubled else tree for tree in trees]


def _alike_classes(trees: list[tuple[str, ...]]) -> tuple[str, ...]:
    """Doubt classes that all hold folders of the same names: they look like splits under other names."""
    tops = sorted({tree[0] for tree in trees if len(tree) > 1})
    if not 2 <= len(tops) <= 20 or any(len(tree) < 3 for tree in trees):
        return ()
    sets = [_folders_in(trees, top) for top in tops]
    if len(sets[0]) < 2 or any(one != sets[0] for one in sets):
        return ()
    return (
        f"the classes {_few(tops)} hold the same folders ({_few(sets[0])}): if they are splits, name them"
        " train, val and test; if the folders in them are the classes, list the files in a CSV manifest",
    )


def _places(
    name: str,
    trees: list[tuple[str, ...]],
    splits: dict[str, int],
    identity: Callable[[int], Hashable | None],
) -> list[tuple[int, str] | None]:
    """Return each image's split number and class, None for one that lies outside the class folders."""
    tops = {tree[0] for tree in trees if len(tree) > 1}
    if not splits:
        named = {top for top in tops if split_number(top) is not None}
        if named and named == tops:
            raise DataError(
                f"{name}: expected class folders inside {_few(named)}, got images:"
                " move them into folders named after their classes, or list them in a CSV manifest"
            )
        return [(NO_SPLIT, normal(tree[0])) if len(tree) > 1 else None for tree in trees]
    classes = {tree[1] for tree in trees if len(tree) > 2 and tree[0] in splits}
    others = {
        top for top in tops - set(splits) if len(folders := _folders_in(trees, top)) > 1 or folders & classes
    }
    if others:  # a pool that the splits are links into holds nothing new
        used = {identity(turn) for turn, tree in enumerate(trees) if tree[0] in splits} - {None}
        new = {tree[0] for turn, tree in enumerate(trees) if tree[0] in others and identity(turn) not in used}
        if new:
            raise DataError(
                f"{name}: expected either split folders or class folders at the top, got both"
                f" ({_few(splits)}; {_few(new)}): move the others away, or rename the class"
                f" {printable(min(splits))!r}"
            )
    return [
        (splits[tree[0]], normal(tree[1])) if len(tree) > 2 and tree[0] in splits else None for tree in trees
    ]


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
