"""What words and values mean for looking: networks in captions, images, classes, units, data sets."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from striate.core.choices import Split
from striate.core.errors import DataError, UsageError
from striate.data.archives import is_archive
from striate.data.dataset import fetch_image
from striate.data.decode import decode
from striate.data.find import Item, find_images
from striate.data.preprocess import Preprocessing, decode_side_px, normalise, to_pixels
from striate.data.source import SPLIT_NAMES, Source
from striate.data.sources import open_source
from striate.look.stream import ImageStream, Listed, ListedImages, TensorImages, in_colour
from striate.weights.open import OpenNetwork, short_name

ImageChoice = str | Path | Image.Image | NDArray[np.uint8] | Tensor
"""What names an image: see ``read_images``."""

DataChoice = str | Path | Tensor | ImageStream | Sequence[str | Path]
"""What names a data set: see ``open_data``."""

_SAMPLES = ("china.jpg", "flower.jpg")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """Images as the network takes them, and as people see them.

    Attributes:
        normed: ``N x C x H x W``, on the CPU.
        shown: the same pixels in 0..1, RGB, ``N x H x W x 3``.
        names: of the files, without folders.
    """

    normed: Tensor
    shown: NDArray[np.float32]
    names: tuple[str, ...]

    @property
    def stem(self) -> str:
        """A short name of the first image, for a file."""
        return Path(self.names[0]).stem


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenData:
    """A data set as a stream, and what to call it on a picture."""

    images: ImageStream
    title: str


def network_name(opened: OpenNetwork) -> str:
    """Return the name of the network that was built: ``vgg16`` for a run of it, too."""
    return short_name(opened.bundle.net).strip("<>")


def title_of(opened: OpenNetwork) -> str:
    """Say in a caption which network it is and where its weights come from."""
    name = network_name(opened)
    if not opened.trained:
        return f"{name}, random weights" + ("" if opened.seed is None else f" (seed {opened.seed})")
    return f"{name}, trained" + ("" if opened.name == name else f" ({opened.name})")


def squashing(opened: OpenNetwork) -> str:
    """Say in a word what turns the network's scores into probabilities."""
    return "sigmoid" if opened.bundle.multi_label else "softmax"


def read_images(images: ImageChoice | Sequence[ImageChoice], preprocessing: Preprocessing) -> Images:
    """Read images.

    Args:
        images: one or several of: a path of a file, or of a folder or archive with all its images;
            ``digits:12``, image 12 of scikit-learn's digits; ``sample:china.jpg``, ``sample:flower.jpg``, its
            photos; a PIL image; a uint8 array ``H x W x 3`` (or ``H x W``); a normed tensor ``C x H x W`` or
            ``N x C x H x W``.
        preprocessing: what all but tensors go through, the same as for predictions.

    Raises:
        UsageError: a path that does not exist, no such sample, or a value of another kind.
        DataError: no image there, or one that can't be decoded.
    """
    choices = list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]
    tensors = [choice for choice in choices if isinstance(choice, Tensor)]
    if tensors:
        if len(tensors) < len(choices):
            raise UsageError("expected normed tensors alone, or none, got both tensors and other images")
        return _from_tensors(tensors, preprocessing)
    found = [one for choice in choices for one in _pixels(choice, preprocessing)]
    if not found:
        raise DataError(f"no images in {', '.join(map(str, choices))}: expected files such as .jpg or .png")
    stacked = np.stack([pixels for _, pixels in found])
    shown: NDArray[np.float32] = stacked.astype(np.float32) / np.float32(255)
    return Images(
        normed=normalise(torch.from_numpy(stacked), preprocessing).contiguous(),
        shown=np.repeat(shown, 3, axis=3) if shown.shape[3] == 1 else shown,
        names=tuple(name for name, _ in found),
    )


def read_image(image: ImageChoice, preprocessing: Preprocessing) -> Images:
    """Read one image, as ``read_images``.

    Raises:
        UsageError: it names several images.
        DataError: it can't be decoded.
    """
    found = read_images(image, preprocessing)
    if len(found.names) != 1:
        what = f"a tensor of {tuple(image.shape)}" if isinstance(image, Tensor) else image
        raise UsageError(f"expected one image, got {len(found.names)} in {what}: name one file")
    return found


def _from_tensors(tensors: Sequence[Tensor], preprocessing: Preprocessing) -> Images:
    whole = torch.cat([one[None] if one.ndim == 3 else one for one in tensors]).detach().cpu()
    if whole.ndim != 4 or not whole.is_floating_point() or whole.shape[1] != preprocessing.channels:
        raise UsageError(
            f"expected a normed tensor N x {preprocessing.channels} x H x W, got {whole.dtype} of"
            f" {tuple(whole.shape)}: pass pixels as a uint8 array H x W x 3"
        )
    names = ("tensor",) if len(whole) == 1 else tuple(f"tensor {n}" for n in range(len(whole)))
    return Images(normed=whole, shown=in_colour(whole, preprocessing), names=names)


def _pixels(choice: object, preprocessing: Preprocessing) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Decode what one value names: each image's name, and its pixels at the network's size."""
    if isinstance(choice, np.ndarray):
        if choice.dtype != np.uint8 or choice.ndim not in (2, 3):
            raise UsageError(f"expected a uint8 array H x W x 3, got {choice.dtype} of {choice.shape}")
        choice = Image.fromarray(choice)
    if isinstance(choice, Image.Image):
        name = Path(getattr(choice, "filename", "") or "image").name
        yield name, to_pixels(choice, preprocessing)
        return
    if not isinstance(choice, str | Path):
        raise UsageError(
            "expected an image as a path, a PIL image, a uint8 array H x W x 3 or a normed tensor, got"
            f" {type(choice).__name__}"
        )
    kind, colon, name = str(choice).partition(":")
    if colon and kind in ("digits", "sample") and not Path(choice).exists():
        yield (name if kind == "sample" else str(choice)), to_pixels(_sample(kind, name), preprocessing)
        return
    side = decode_side_px(preprocessing)
    for item in find_images([choice]):
        image = decode(item.read(), file=item.file, min_side_px=side)
        yield Path(item.file).name, to_pixels(image, preprocessing)


def _sample(kind: str, name: str) -> Image.Image:
    """Return one of scikit-learn's images."""
    if kind == "digits":
        source = open_source("digits")
        if not name.isdecimal() or int(name) >= len(source.files):
            raise UsageError(f"expected digits:0 to digits:{len(source.files) - 1}, got 'digits:{name}'")
        return fetch_image(source, int(name), min_side_px=None)
    if name not in _SAMPLES:
        raise UsageError(f"expected sample:{' or sample:'.join(_SAMPLES)}, got 'sample:{name}'")
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(name))


def find_class(word: str | int, classes: Sequence[str]) -> int:
    """Return the number of a class that a word names, by its name or its number.

    A name goes before a number: the class called ``7`` need not be the eighth.

    Raises:
        UsageError: there is none, with the names that come close.
    """
    if isinstance(word, str) and word in classes:
        return list(classes).index(word)
    text = str(word)
    if text.isdecimal() and (not classes or int(text) < len(classes)):
        return int(text)
    close = difflib.get_close_matches(text, classes, n=3, cutoff=0.4) or list(classes[:3])
    hint = f"did you mean {' or '.join(close)}?" if close else "give its number"
    raise UsageError(f"expected the name or number of a class, got {text!r}: {hint}")


def class_name(number: int, classes: Sequence[str]) -> str:
    """Return what to call a class on a picture."""
    return classes[number] if number < len(classes) else f"class {number}"


def unit_numbers(words: Iterable[str]) -> list[int]:
    """Read numbers of units and ranges of them, such as ``0,5,10-19``.

    Raises:
        UsageError: anything else.
    """
    numbers: list[int] = []
    for word in (part.strip() for text in words for part in text.split(",")):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"expected `unit` as numbers and ranges, such as 0,5,10-19, got {word!r}")
        numbers += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(numbers))


def as_list(unit: int | Sequence[int] | None) -> list[int]:
    """Return numbers of units as a list; empty for None."""
    if unit is None:
        return []
    return [unit] if isinstance(unit, int) else list(unit)


def shortened(name: str) -> str:
    """Return a file's name without folders, in at most 26 letters."""
    name = name.rpartition("/")[2]
    return name if len(name) <= 26 else f"{name[:12]}...{name[-11:]}"


def open_data(
    data: DataChoice, preprocessing: Preprocessing, *, split: Split = "auto", batch_images: int = 32
) -> OpenData:
    """Open a data set as a stream: nothing is decoded yet.

    Args:
        data: one or several of: a data set's name, a folder with or without classes, an archive, a list of
            images (as for training), an image file; or normed images ``N x C x H x W``; or a stream.
        preprocessing: what the images go through.
        split: ``auto`` takes the test images of a source that names some, else its validation images, else
            all.
        batch_images: images in a forward pass.

    Raises:
        UsageError: there is nothing of that name, or no such split.
        DataError: it can't be read, or the split is empty.
    """
    if isinstance(data, Tensor):
        stream: ImageStream = TensorImages(images=data, batch_images=batch_images)
        return OpenData(images=stream, title=f"{len(data):,} images")
    if not isinstance(data, str | Path | Sequence):
        return OpenData(images=data, title="images" if data.total is None else f"{data.total:,} images")
    if split not in (*SPLIT_NAMES, "auto", "all"):
        raise UsageError(f"expected `split` out of auto, {', '.join(SPLIT_NAMES)}, all, got {split!r}")
    parts = [_part(str(word), split) for word in ([data] if isinstance(data, str | Path) else data)]
    counts = [part.total for part in parts if part.total is not None]
    stream = ListedImages(
        listing=lambda: (one for part in parts for one in part.listing()),
        preprocessing=preprocessing,
        total=sum(counts) if len(counts) == len(parts) else None,
        batch_images=batch_images,
    )
    return OpenData(images=stream, title=", ".join(part.title for part in parts))


@dataclass(frozen=True, slots=True)
class _Part:
    """The images of one word: how to list them, how many there are (None: unknown), what to call them."""

    listing: Callable[[], Iterable[Listed]]
    total: int | None
    title: str


def _part(word: str, split: str) -> _Part:
    path = Path(word).expanduser()
    if path.is_file() and path.suffix.lower() not in (".csv", ".tsv", ".jsonl") and not is_archive(path):
        return _found(path, split)
    try:
        source = open_source(word)
    except DataError:
        if path.is_dir() or path.is_file():  # images without classes
            return _found(path, split)
        raise
    return _labelled(word, source, split)


def _labelled(word: str, source: Source, split: str) -> _Part:
    named = set(np.unique(source.splits).tolist())
    if split == "auto":
        split = next((name for name in ("test", "val") if SPLIT_NAMES.index(name) in named), "all")
    chosen = np.full(len(source.files), True) if split == "all" else source.splits == SPLIT_NAMES.index(split)
    indices = np.flatnonzero(chosen).tolist()
    if not indices:
        raise DataError(f"{word}: expected images of its {split} part, got none: leave `split` out")

    def opener(index: int) -> Callable[[int | None], Image.Image]:
        return lambda side: fetch_image(source, index, side)

    part = f"all {len(indices):,} images" if split == "all" else f"{len(indices):,} {split} images"
    return _Part(
        lambda: (Listed(source.files[index], opener(index)) for index in indices),
        len(indices),
        f"{Path(word).name} ({part})",
    )


def _found(path: Path, split: str) -> _Part:
    if split not in ("auto", "all"):
        raise UsageError(f"expected {path} to have a {split} part, got images without one: leave `split` out")
    find_images([path])  # refuses a path that is not there

    def opener(item: Item) -> Callable[[int | None], Image.Image]:
        return lambda side: decode(item.read(), file=item.file, min_side_px=side)

    return _Part(lambda: (Listed(item.file, opener(item)) for item in find_images([path])), None, path.name)
