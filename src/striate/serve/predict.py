"""Predicting files, folders and archives: a stream in, a stream out, in constant memory."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.devices import Precision, autocast_dtype
from striate.core.errors import BrokenImageError, DataError, UsageError
from striate.data.archives import is_archive, open_archive
from striate.data.batches import ordered_map
from striate.data.decode import decode
from striate.data.folders import read_image_file
from striate.data.layout import has_image_extension, printable
from striate.data.preprocess import decode_side_px, normalise, to_pixels
from striate.weights.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        file: the path as it was given or found; members of an archive as ``ARCHIVE/MEMBER``.
        ranked: (class name, probability) of the most probable classes, falling; empty when the image is
            broken.
        error: why the image could not be read, or None.
    """

    file: str
    ranked: tuple[tuple[str, float], ...]
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An image that may be read: its name and how to get its bytes."""

    file: str
    read: Callable[[], bytes]


def find_images(paths: Iterable[str | Path]) -> Iterator[Item]:
    """Find the images of files, folders (with all below them) and archives, in the order given.

    A file that is named is always tried; inside folders and archives only files with an image's extension
    are.

    Raises:
        UsageError: a path does not exist.
        DataError: an archive is damaged or hostile.
    """
    found = [Path(path) for path in paths]
    for path in found:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder; expected an image, a folder or an archive")
    return _find_images(found)


def _find_images(paths: Sequence[Path]) -> Iterator[Item]:
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path)
        elif is_archive(path):
            yield from _in_archive(path)
        else:
            yield _file(str(path))


def predict(
    net: nn.Module,
    bundle: Bundle,
    items: Iterable[Item],
    *,
    topk: int = 5,
    batch_images: int = 32,
    threads: int | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
) -> Iterator[Prediction]:
    """Classify a stream of images; results come batch by batch, in the order of the items.

    Args:
        net: the network of ``open_bundle``, in eval mode, on ``device``.
        bundle: gives classes and preprocessing.
        items: any number of images; at most three batches of them are in memory.
        topk: how many classes to name, at least 1; all there are if fewer.
        batch_images: images in a forward pass.
        threads: decoding threads; None takes one for each core.
        device: where the network is.
        precision: of the forward pass.

    Yields:
        One ``Prediction`` for each item, broken images included (``error`` says why).

    Raises:
        UsageError: ``topk`` below 1.
    """
    if topk < 1:
        raise UsageError(f"expected --topk of at least 1, got {topk}")
    side = decode_side_px(bundle.preprocessing)

    def prepare(item: Item) -> tuple[str, NDArray[np.uint8] | None, str | None]:
        try:
            image = decode(item.read(), file=item.file, min_side_px=side)
            return item.file, to_pixels(image, bundle.preprocessing), None
        except BrokenImageError as error:
            return item.file, None, error.reason
        except DataError as error:
            return item.file, None, str(error)

    ready = ordered_map(prepare, items, threads or os.cpu_count() or 1, ahead=2 * batch_images)
    for group in _groups(ready, batch_images):
        good = [pixels for _, pixels, _ in group if pixels is not None]
        ranked = iter(_rank(net, bundle, good, topk, torch.device(device), precision) if good else ())
        for file, pixels, error in group:
            yield Prediction(file, () if pixels is None else next(ranked), error)


def _rank(
    net: nn.Module,
    bundle: Bundle,
    pixels: Sequence[NDArray[np.uint8]],
    topk: int,
    device: torch.device,
    precision: Precision,
) -> list[tuple[tuple[str, float], ...]]:
    dtype = autocast_dtype(precision)
    images = normalise(torch.from_numpy(np.stack(pixels)).to(device), bundle.preprocessing)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        logits = net(images).float() / bundle.temperature
    probabilities = logits.sigmoid() if bundle.multi_label else logits.softmax(1)
    values, places = probabilities.cpu().sort(dim=1, descending=True, stable=True)
    return [
        tuple((bundle.classes[k], p) for k, p in zip(row_places[:topk], row_values[:topk], strict=True))
        for row_places, row_values in zip(places.tolist(), values.tolist(), strict=True)
    ]


def _groups(
    items: Iterator[tuple[str, NDArray[np.uint8] | None, str | None]], size: int
) -> Iterator[list[tuple[str, NDArray[np.uint8] | None, str | None]]]:
    group: list[tuple[str, NDArray[np.uint8] | None, str | None]] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _in_archive(path: Path) -> Iterator[Item]:
    archive = open_archive(path, name=str(path))
    for index, name in enumerate(archive.names):
        if has_image_extension(name):
            yield Item(printable(f"{path}/{name}"), partial(archive.read, index, None))


def _in_folder(folder: Path) -> Iterator[Item]:
    """Walk a folder one directory at a time, so that a deep tree is never listed whole."""
    for inside, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if has_image_extension(name) and not name.startswith("."):
                yield _file(os.path.join(inside, name))


def _file(path: str) -> Item:
    name = printable(path)
    return Item(name, lambda: read_image_file(path, name))
