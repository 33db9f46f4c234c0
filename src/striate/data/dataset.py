"""A source that has been read once: what is broken, who trains and who tests, its statistics."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import DataError
from striate.core.progress import Progress, silent
from striate.data.decode import decode_sized
from striate.data.pixels import as_image
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels
from striate.data.scan import Scan, scan
from striate.data.sources import Source, open_source
from striate.data.split import Splits, make_splits
from striate.data.store import PixelStore, store_for

_PEEK_IMAGES = 64
_STATISTICS_IMAGES = 5000


@dataclass(frozen=True, slots=True)
class Dataset:
    """A scanned source with its splits.

    Attributes:
        source: where the images come from.
        scan: digests, sizes and broken files of every image.
        splits: indices for train, val and test; broken images are in none.
        fingerprint: 32 hex digits that depend on every image's content, label and split, not on file names.
        store: the *u8* canvases of all good images, or None when they are decoded anew each time.
        canvas: the geometry that the store holds.
        notes: what was done about images that are in several splits.
    """

    source: Source
    scan: Scan
    splits: Splits
    fingerprint: str
    store: PixelStore | None
    canvas: Preprocessing
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the labels."""
        return self.source.classes

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.source.labels.ndim == 2

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images in each split."""
        splits = self.splits
        return {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}

    @property
    def broken_files(self) -> tuple[tuple[str, str], ...]:
        """The files that were left out, each with its reason."""
        return tuple((broken.file, broken.reason) for broken in self.scan.broken)


def fetch_pixels(source: Source, index: int, min_side_px: int | None = None) -> NDArray[np.uint8]:
    """Decode image ``index`` of a source: ``H x W x C`` uint8, upright, C being 3 (RGB) or 1 (grey).

    Raises:
        BrokenImageError: it can't be decoded.
    """
    content = source.fetch(index)
    if isinstance(content, bytes):
        return decode_sized(content, file=source.files[index], min_side_px=min_side_px).pixels
    return content[:, :, None] if content.ndim == 2 else content


def fetch_image(source: Source, index: int, min_side_px: int | None = None) -> Image.Image:
    """Decode image ``index`` of a source as ``fetch_pixels`` does, to Pillow's image."""
    return as_image(fetch_pixels(source, index, min_side_px))


def fit_preprocessing(
    source: Source, input_shape: tuple[int, int, int], *, canvas_px: int | None
) -> Preprocessing:
    """Choose the geometry that brings a source's images to a network's input; mean and std stay at 0 and 1.

    Images that all have one size, not larger than the network's input nor smaller than three quarters of it,
    keep their pixels and get a border (MNIST's 28 x 28 in LeNet's 32 x 32, as in the paper). All others have
    their shorter side resized and the centre cut out.

    Args:
        source: up to 64 evenly spaced images are looked at.
        input_shape: C, H, W of the network.
        canvas_px: side that training crops are cut from, or None for the network's own input size.

    Returns:
        Preprocessing to ``canvas_px`` (or the input size) with identity normalisation.
    """
    channels, height, width = input_shape
    if canvas_px is not None:
        height = width = max(canvas_px, height, width)
    places = np.unique(np.linspace(0, len(source.files) - 1, _PEEK_IMAGES).astype(int)).tolist()
    sizes, edges = set(), []
    for index in places:
        try:
            image = fetch_image(source, index, min_side_px=2 * min(height, width))
        except DataError:
            continue
        sizes.add(image.size)
        if image.width * image.height <= height * width:
            grey = np.asarray(image.convert("L"))
            edges.append(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    one_size = len(sizes) == 1
    wide, high = next(iter(sizes)) if one_size else (0, 0)
    keeps = (
        canvas_px is None
        and one_size
        and 3 * width <= 4 * wide <= 4 * width
        and 3 * height <= 4 * high <= 4 * height
    )
    needs_border = keeps and (wide, high) != (width, height)
    return Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=None if keeps else min(height, width),
        fill=int(np.median(np.concatenate(edges))) if needs_border else 0,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )


def open_dataset(
    where: str | Path | Sequence[str | Path] | Source,
    canvas: Preprocessing,
    *,
    val_fraction: float,
    test_fraction: float,
    keep: bool = True,
    strict: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Read a source once: decode and hash every image, set broken ones aside, make the splits.

    Args:
        where: a source, or what ``open_source`` takes.
        canvas: geometry of the images kept for training.
        val_fraction: share of the training images to hold out where the source has no validation split.
        test_fraction: share of all images to hold out where the source has no splits at all.
        keep: keep decoded canvases for the epochs to come.
        strict: a broken image is an error.
        progress: called with the number of images read.

    Raises:
        DataError: nothing usable is left, or ``strict`` and an image is broken.
    """
    source = where if isinstance(where, Source) else open_source(where, progress=progress)
    num = len(source.files)
    store = store_for(num, (canvas.height_px, canvas.width_px, canvas.channels)) if keep else None

    def sink(index: int, pixels: NDArray[np.uint8]) -> None:
        if store is not None:
            store.write(index, to_pixels(pixels, canvas))

    seen = scan(source, min_side_px=decode_side_px(canvas), sink=sink, progress=progress)
    if strict and seen.broken:
        first = seen.broken[0]
        raise DataError(
            f"{len(seen.broken)} of {num} images can't be decoded, first {first.file} ({first.reason}):"
            " fix or remove them, or leave `strict` out to skip them"
        )
    good = np.ones(num, bool)
    good[[b.index for b in seen.broken]] = False
    if not good.any():
        raise DataError(
            f"{source.name}: none of its {num} images can be decoded; see `striate data {source.name}`"
        )
    splits = make_splits(
        source.labels,
        seen.digests,
        source.splits,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        good=good,
    )
    splits, notes = _without_leaks(splits, seen)
    return Dataset(source, seen, splits, _fingerprint(source, seen, splits, good), store, canvas, notes)


def _without_leaks(splits: Splits, seen: Scan) -> tuple[Splits, tuple[str, ...]]:
    """Take out of train what val or test holds too, byte for byte, and out of val what test holds."""
    keys = np.ascontiguousarray(seen.digests).view("V16").ravel()
    train, val, notes = splits.train, splits.val, []
    in_test = np.isin(keys[val], keys[splits.test])
    in_later = np.isin(keys[train], keys[np.concatenate([val, splits.test])])
    for name, leaks in (("training", in_later), ("validation", in_test)):
        if leaks.any():
            notes.append(
                f"{int(leaks.sum()):,} {name} images were left out: equal ones are in a later split"
                " (striate data names them)."
            )
    return replace(splits, train=train[~in_later], val=val[~in_test]), tuple(notes)


def _fingerprint(source: Source, seen: Scan, splits: Splits, good: NDArray[np.bool_]) -> str:
    """Hash the sorted (content, label, split) records, so that names and order do not matter."""
    split_of = np.full(len(good), 255, np.uint8)
    for code, indices in enumerate((splits.train, splits.val, splits.test)):
        split_of[indices] = code
    labels = np.ascontiguousarray(source.labels.reshape(len(good), -1).astype(np.float32)).view(np.uint8)
    digests = np.ascontiguousarray(seen.digests).view(np.uint8).reshape(len(good), -1)
    records = np.concatenate([digests, labels.reshape(len(good), -1), split_of[:, None]], axis=1)[good]
    order = np.lexsort(records.T[::-1])
    state = hashlib.blake2b("\0".join(source.classes).encode("utf-8", "surrogateescape"), digest_size=16)
    state.update(np.ascontiguousarray(records[order]).data)
    return state.hexdigest()


@dataclass(frozen=True, slots=True)
class ColourStatistics:
    """Mean, standard deviation and principal directions of the training pixels, on the 0..1 scale.

    Attributes:
        mean: one value per channel.
        std: one value per channel, over all pixels of all images.
        principal: ``C x C``; column i is the i-th principal direction times its standard deviation.
        num_images: how many training images were read for it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    principal: NDArray[np.float64]
    num_images: int


def colour_statistics(dataset: Dataset, indices: NDArray[np.int64]) -> ColourStatistics:
    """Measure the colours of up to 5,000 of the given images, those whose content hash comes first.

    Raises:
        DataError: ``indices`` is empty.
    """
    if not len(indices):
        raise DataError(f"{dataset.source.name}: expected training images, got none; is it a test set?")
    digests = np.ascontiguousarray(dataset.scan.digests).view(np.uint8).reshape(len(dataset.source.files), -1)
    chosen = np.sort(indices[np.lexsort(digests[indices].T[::-1])[:_STATISTICS_IMAGES]])
    channels = dataset.canvas.channels
    total, products, count = np.zeros(channels), np.zeros((channels, channels)), 0
    for index in chosen.tolist():
        if dataset.store is not None:
            pixels = dataset.store.read(np.array([index]))[0]
        else:
            decoded = fetch_pixels(dataset.source, index, decode_side_px(dataset.canvas))
            pixels = to_pixels(decoded, dataset.canvas)
        flat = pixels.reshape(-1, channels).astype(np.float64) / 255.0
        total += flat.sum(0)
        products += flat.T @ flat
        count += len(flat)
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(covariance)
    std = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    std[std < 1e-3] = 1.0
    return ColourStatistics(
        mean=tuple(round(float(m), 6) for m in mean),
        std=tuple(round(float(s), 6) for s in std),
        principal=directions * np.sqrt(np.maximum(variances, 0.0)),
        num_images=len(chosen),
    )


def for_network(canvas: Preprocessing, input_shape: tuple[int, int, int]) -> Preprocessing:
    """Turn the training canvas into the preprocessing for prediction: the centre of the canvas."""
    return replace(canvas, height_px=input_shape[1], width_px=input_shape[2])
