"""What is in a source, and what about it would harm training: the record behind ``striate data``."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from striate.core.progress import Progress, silent
from striate.data.scan import Broken, Scan, scan
from striate.data.source import NO_SPLIT, SPLIT_NAMES, Source, counted
from striate.data.sources import open_source
from striate.data.split import content_groups

MAX_LISTED: Final = 100
"""The most file names that a list of an ``Inspection`` holds; counts are always complete."""

_LARGE_IMBALANCE = 10.0
_ALMOST_ALL = 0.95
_FEW_IMAGES = 10  # of a class: too few to learn and to measure anything
_UNUSED_RANGE = 4  # 16-bit files that stay below a quarter of their range hold values of fewer bits
_SENSORS = (1023, 4095, 16383)  # the largest values of 10, 12 and 14 bits
_MANY_REPEATED = 0.5  # of all images
_SAME_KIND = {".jpeg": ".jpg", ".jpe": ".jpg", ".tiff": ".tif"}


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How many usable images a class has, by split (``none``: the source names no split)."""

    name: str
    train: int
    val: int
    test: int
    none: int

    @property
    def total(self) -> int:
        """Images of the class in all splits."""
        return self.train + self.val + self.test + self.none


@dataclass(frozen=True, slots=True)
class SameContent:
    """Files with the same bytes.

    Attributes:
        files: their names, in the source's order.
        classes: the classes that they carry, each once.
        splits: the splits that they are in, each once.
    """

    files: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SideRange:
    """Smallest, median and largest of a measure in pixels."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a source.

    Attributes:
        name: the source.
        num_images: how many images it lists, broken ones included.
        multi_label: whether an image may carry several labels.
        classes: counts of usable images, in the order of the labels.
        imbalance: images of the largest class over images of the smallest one that has any; 1.0 is even.
        height_px: range of heights at full size.
        width_px: range of widths at full size.
        common_sizes: the five most common (height, width) and their counts.
        num_sizes: how many different sizes there are.
        num_grey: one-channel images.
        num_colour: three-channel images.
        levels: smallest and largest value of grey with more than 8 bits, or None where there is none.
        extensions: number of files by extension, most common first; empty where the source stores pixels.
        broken: files that can't be decoded, at most ``MAX_LISTED``.
        num_broken: how many there are.
        num_repeated: images whose content another image before them has too.
        across_splits: contents that are in more than one named split, at most ``MAX_LISTED``.
        num_across_splits: how many such contents there are.
        conflicting: contents with different labels, at most ``MAX_LISTED``.
        num_conflicting: how many such contents there are.
        single_image_classes: classes with one usable image.
        notes: what the source says of itself, and oddities that do no harm.
        problems: what would harm training or make its measurement wrong, one line each; empty if nothing.
    """

    name: str
    num_images: int
    multi_label: bool
    classes: tuple[ClassCount, ...]
    imbalance: float
    height_px: SideRange
    width_px: SideRange
    common_sizes: tuple[tuple[int, int, int], ...]
    num_sizes: int
    num_grey: int
    num_colour: int
    levels: tuple[float, float] | None
    extensions: tuple[tuple[str, int], ...]
    broken: tuple[Broken, ...]
    num_broken: int
    num_repeated: int
    across_splits: tuple[SameContent, ...]
    num_across_splits: int
    conflicting: tuple[SameContent, ...]
    num_conflicting: int
    single_image_classes: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def to_json(self) -> str:
        """Write the record as one JSON object, in ASCII."""
        return json.dumps(asdict(self), indent=1)


def inspect_data(data: str | Path | Sequence[str | Path], *, progress: Progress = silent) -> Inspection:
    """Read labelled images and describe them.

    Args:
        data: as ``open_source`` takes it.
        progress: listener.

    Raises:
        UsageError: nothing of that name.
        DataError: it can't be read.
    """
    source = open_source(data, progress=progress)
    return inspect(source, scan(source, progress=progress))


def inspect(source: Source, scan: Scan) -> Inspection:
    """Describe a source that was scanned.

    Args:
        source: the images.
        scan: what ``scan(source)`` found.

    Returns:
        The record. Contents are compared byte by byte: the same photo saved in two different ways counts as
        two contents.
    """
    good = scan.good
    counts = _class_counts(source, good)
    totals = [one.total for one in counts if one.total]
    sizes = scan.sizes_px[good]
    size_counts = Counter(map(tuple, sizes.tolist()))
    repeated = _repeated_contents(source, scan.digests, good)
    across = [same for same in repeated if len(same.splits) > 1]
    conflicting = [same for same in repeated if len(same.classes) > 1]
    extensions = _extensions(source)
    imbalance = max(totals) / min(totals) if totals else 1.0
    singles = tuple(one.name for one in counts if one.total == 1)
    return Inspection(
        name=source.name,
        num_images=len(source),
        multi_label=source.multi_label,
        classes=counts,
        imbalance=imbalance,
        height_px=_range(sizes[:, 0]),
        width_px=_range(sizes[:, 1]),
        common_sizes=tuple(
            (height, width, count)
            for (height, width), count in sorted(size_counts.items(), key=lambda item: (-item[1], item[0]))[
                :5
            ]
        ),
        num_sizes=len(size_counts),
        num_grey=int(np.count_nonzero(scan.grey & good)),
        num_colour=int(np.count_nonzero(~scan.grey & good)),
        levels=_levels(scan),
        extensions=extensions,
        broken=scan.broken[:MAX_LISTED],
        num_broken=len(scan.broken),
        num_repeated=sum(len(same.files) - 1 for same in repeated),
        across_splits=tuple(across[:MAX_LISTED]),
        num_across_splits=len(across),
        conflicting=tuple(conflicting[:MAX_LISTED]),
        num_conflicting=len(conflicting),
        single_image_classes=singles,
        notes=(*source.notes, *_oddities(source, extensions, singles)),
        problems=(*source.problems, *_problems(scan, counts, across, conflicting, repeated, imbalance)),
    )


def _levels(scan: Scan) -> tuple[float, float] | None:
    if np.isnan(scan.levels).all():
        return None
    return float(np.nanmin(scan.levels[:, 0])), float(np.nanmax(scan.levels[:, 1]))


def _class_counts(source: Source, good: NDArray[np.bool_]) -> tuple[ClassCount, ...]:
    table = np.zeros((4, len(source.classes)), np.int64)
    for row, split in enumerate((0, 1, 2, NO_SPLIT)):
        labels = source.labels[good & (source.splits == split)]
        if source.multi_label:
            table[row] = labels.sum(axis=0)
        else:
            table[row] = np.bincount(labels, minlength=len(source.classes))
    return tuple(
        ClassCount(name, *(int(count) for count in table[:, column]))
        for column, name in enumerate(source.classes)
    )


def _repeated_contents(
    source: Source, digests: NDArray[np.uint8], good: NDArray[np.bool_]
) -> list[SameContent]:
    """List the contents that several usable images share, in the order of their first image."""
    usable = np.flatnonzero(good)
    group, num_groups = content_groups(digests[usable])
    shared = np.bincount(group, minlength=num_groups) > 1
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in zip(usable[shared[group]].tolist(), group[shared[group]].tolist(), strict=True):
        members[number].append(index)
    return [
        SameContent(
            files=tuple(source.files[index] for index in indices),
            classes=tuple(dict.fromkeys(_label_names(source, index) for index in indices)),
            splits=tuple(
                name
                for number, name in enumerate(SPLIT_NAMES)
                if number in {int(source.splits[i]) for i in indices}
            ),
        )
        for indices in members.values()
    ]


def _label_names(source: Source, index: int) -> str:
    label = source.labels[index]
    if source.multi_label:
        return "|".join(source.classes[place] for place in np.flatnonzero(label)) or "(no label)"
    return source.classes[int(label)]


def _extensions(source: Source) -> tuple[tuple[str, int], ...]:
    found = Counter(os.path.splitext(file)[1].lower() for file in source.files)
    return tuple((extension, count) for extension, count in found.most_common() if extension)


def _kind(file: str) -> str:
    """Return a file's extension, one for each format."""
    extension = os.path.splitext(file)[1].lower()
    return _SAME_KIND.get(extension, extension)


def _range(values: NDArray[np.int32]) -> SideRange:
    if not len(values):
        return SideRange(0, 0, 0)
    return SideRange(int(values.min()), int(np.median(values)), int(values.max()))


def _oddities(source: Source, extensions: tuple[tuple[str, int], ...], singles: tuple[str, ...]) -> list[str]:
    """Say what does no harm by itself but deserves a look."""
    found = []
    kinds: Counter[str] = Counter()
    for extension, count in extensions:
        kinds[_SAME_KIND.get(extension, extension)] += count
    common, most = kinds.most_common(1)[0] if kinds else ("", 0)
    if most >= _ALMOST_ALL * len(source):
        for kind, count in kinds.most_common()[1:]:
            first = next(file for file in source.files if _kind(file) == kind)
            found.append(f"{counted(count, f'{kind} file')} among {common} ones, e.g. {first}: look at it")
    if singles:
        found.append(
            f"{counted(len(singles), 'class').replace('classs', 'classes')} with one image: {_few(singles)}"
        )
    return found


def _problems(
    scan: Scan,
    counts: tuple[ClassCount, ...],
    across: list[SameContent],
    conflicting: list[SameContent],
    repeated: list[SameContent],
    imbalance: float,
) -> list[str]:
    found = []
    if scan.broken:
        first = scan.broken[0]
        found.append(
            f"{counted(len(scan.broken), 'image')} can't be decoded, e.g. {first.file} ({first.reason}):"
            " repair or remove, they are left out of training"
        )
    if across:
        found.append(
            f"{counted(len(across), 'content')} in several splits, e.g. {' = '.join(across[0].files[:2])}:"
            " scores on them say nothing, remove them from one split"
        )
    if conflicting:
        found.append(
            f"{counted(len(conflicting), 'content')} with different labels, e.g."
            f" {' = '.join(conflicting[0].files[:2])} ({', '.join(conflicting[0].classes)}): decide for one"
        )
    empty = [one.name for one in counts if one.total == 0]
    if empty:
        found.append(f"no usable image in {_few(empty)}: add images, or remove the class")
    split_named = any(one.train or one.val or one.test for one in counts)
    untrained = [one.name for one in counts if one.total and split_named and not one.train + one.none]
    if untrained and len(untrained) + len(empty) < len(counts):
        found.append(f"no training image in {_few(untrained)}: no network can learn it, add some")
    small = [one.name for one in counts if 0 < one.total < _FEW_IMAGES]
    if small:
        found.append(
            f"fewer than {_FEW_IMAGES} images in {_few(small)}: too few to learn from and to measure on"
        )
    if imbalance >= _LARGE_IMBALANCE:
        found.append(
            f"the largest class has {imbalance:.0f} times the images of the smallest: weigh them"
            " (`class_weights=balanced`), or add images"
        )
    copies = sum(len(same.files) - 1 for same in repeated)
    num_good = int(scan.good.sum())
    if num_good and copies >= _MANY_REPEATED * num_good:
        found.append(
            f"{copies:,} of {num_good:,} images repeat another one: only {num_good - copies:,} are different"
        )
    levels = _levels(scan)
    if levels is not None and levels[0] >= 0 and 255 < levels[1] < 65536 / _UNUSED_RANGE:
        deep = int((~np.isnan(scan.levels[:, 0])).sum())
        found.append(
            f"{counted(deep, 'image')} of more than 8 bits use only the values {levels[0]:.0f} to"
            f" {levels[1]:.0f}, which become {levels[0] / 257:.0f} to {levels[1] / 257:.0f} of 255: say their"
            f" range (`levels=0:{next(top for top in _SENSORS if top >= levels[1])}`)"
        )
    tiny = int(((scan.sizes_px.min(axis=1) <= 2) & scan.good).sum())
    if tiny:
        found.append(f"{counted(tiny, 'image')} of 2 pixels or less on a side: remove, they show nothing")
    flat = int((scan.flat & scan.good & np.isnan(scan.levels[:, 0])).sum()) - tiny
    if flat > 0:
        found.append(f"{counted(flat, 'image')} of one level (black or blank): remove, they show nothing")
    return found


def _few(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
