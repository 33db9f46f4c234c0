"""The data set that a ``striate look`` command goes through: named, labelled or any images, as a stream."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from striate.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from striate.data.preprocess import Preprocessing
    from striate.data.sources import Source
    from striate.look.stream import Listed, ListedImages

DATA_HELP = (
    "Images: a data set's name (digits, cifar10, ...), folders, archives, manifests, files. Repeatable."
)
SPLIT_HELP = "auto, train, val, test or all; auto takes the test part of data that name one."
_SPLITS = ("auto", "train", "val", "test", "all")


class OpenData(NamedTuple):
    """A stream and what to call it on a picture."""

    images: "ListedImages"
    title: str


def open_data(
    words: Sequence[str], preprocessing: "Preprocessing", *, split: str = "auto", batch_images: int = 32
) -> OpenData:
    """Open a data set as a stream: nothing is decoded yet.

    Args:
        words: as ``--data``.
        preprocessing: what the images go through.
        split: ``auto`` takes the test images of a source that names some, else its validation images, else
            all.
        batch_images: images in a forward pass.

    Raises:
        UsageError: there is nothing of that name, or no such split.
        DataError: it can't be read, or the split is empty.
    """
    from striate.look.stream import ListedImages

    if split not in _SPLITS:
        raise UsageError(f"expected --split out of {', '.join(_SPLITS)}, got {split!r}")
    parts = [_open(word, split) for word in words]
    counts = [part[1] for part in parts]
    total = None if None in counts else sum(count for count in counts if count is not None)

    def listing() -> Iterator["Listed"]:
        for start, _, _ in parts:
            yield from start()

    images = ListedImages(
        listing=listing, preprocessing=preprocessing, total=total, batch_images=batch_images
    )
    return OpenData(images, ", ".join(part[2] for part in parts))


_Part = tuple[Callable[[], "Iterable[Listed]"], int | None, str]


def _open(word: str, split: str) -> _Part:
    from striate.data.sources import open_source

    path = Path(word).expanduser()
    if path.is_file() and path.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        from striate.data.archives import is_archive

        if not is_archive(path):
            return _walk(path, split)
    try:
        source = open_source(word)
    except DataError:
        if path.is_dir() or path.is_file():  # images without classes
            return _walk(path, split)
        raise
    return _labelled(word, source, split)


def _labelled(word: str, source: "Source", split: str) -> _Part:
    import numpy as np

    from striate.data.dataset import fetch_image
    from striate.data.source import SPLIT_NAMES
    from striate.look.stream import Listed

    named = set(np.unique(source.splits).tolist())
    chosen = split
    if split == "auto":
        chosen = next((name for name in ("test", "val") if SPLIT_NAMES.index(name) in named), "all")
    if chosen == "all":
        members = np.arange(len(source.files))
    else:
        members = np.flatnonzero(source.splits == SPLIT_NAMES.index(chosen))
    if not len(members):
        raise DataError(f"{word}: expected images of its {chosen} part, got none: leave --split out")

    def opener(index: int) -> "Callable[[int | None], Image.Image]":
        return lambda side: fetch_image(source, index, side)

    def listing() -> Iterator[Listed]:
        for index in members.tolist():
            yield Listed(source.files[index], opener(index))

    part = f"all {len(members):,} images" if chosen == "all" else f"{len(members):,} {chosen} images"
    return listing, len(members), f"{Path(word).name} ({part})"


def _walk(path: Path, split: str) -> _Part:
    from striate.data.decode import decode
    from striate.data.find import Item, find_images
    from striate.look.stream import Listed

    if split not in ("auto", "all"):
        raise UsageError(f"expected {path} to have a {split} part, got images without one: leave --split out")
    find_images([path])

    def opener(item: Item) -> "Callable[[int | None], Image.Image]":
        return lambda side: decode(item.read(), file=item.file, min_side_px=side)

    def listing() -> Iterator[Listed]:
        for item in find_images([path]):
            yield Listed(item.file, opener(item))

    return listing, None, path.name


def unit_numbers(words: Sequence[str], count: int, layer: str) -> list[int]:
    """Read ``--units``: numbers and ranges, such as ``0,5,10-19``.

    Raises:
        UsageError: anything else, or a unit that is not there.
    """
    numbers: list[int] = []
    for word in ",".join(words).split(","):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"expected --units as numbers and ranges, such as 0,5,10-19, got {word!r}")
        numbers += range(int(first), int(last or first) + 1)
    if wrong := [number for number in numbers if number >= count]:
        raise UsageError(f"expected units 0 to {count - 1} of {layer}, got {wrong[0]}")
    return list(dict.fromkeys(numbers))
