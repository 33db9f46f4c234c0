"""Predicting files, folders and archives: a stream in, a stream out, in constant memory."""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.core.compute import DeviceChoice
from striate.core.errors import BrokenImageError, UsageError
from striate.data.archives import is_archive, open_archive
from striate.data.folders import read_image_file
from striate.data.source import has_image_extension, printable
from striate.serve.engine import (
    Engine,
    EngineChoice,
    EnginePrecisionChoice,
    open_engine,
)
from striate.serve.pipeline import Item, answer
from striate.weights.bundle import Bundle

__all__ = ["Item", "Prediction", "find_images", "predict", "predict_with", "rank"]


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
    batch_images: int | None = None,
    threads: int | None = None,
    device: DeviceChoice = "cpu",
    engine: EngineChoice = "auto",
    precision: EnginePrecisionChoice = "fp32",
) -> Generator[Prediction, None, None]:
    """Classify a stream of images with an engine that is opened for it and closed at the end.

    Args:
        net: the network of ``open_bundle``, in eval mode.
        bundle: gives classes, preprocessing and temperature.
        items: any number of images.
        topk: how many classes to name, at least 1; all there are if fewer.
        batch_images: images in a forward pass; None takes what is fast.
        threads: threads that decode, and threads that compute; None takes one for each core.
        device: where the torch engine computes.
        engine: see ``serve.engine.open_engine``.
        precision: of the forward pass.

    Yields:
        One ``Prediction`` for each item, in their order, broken images included (``error`` says why).

    Raises:
        UsageError: ``topk`` below 1, or an engine or precision that is not there.
    """
    check_topk(topk)
    opened = open_engine(
        net,
        bundle,
        engine=engine,
        precision=precision,
        batch_images=batch_images,
        threads=threads,
        device=device,
    )
    with closing(opened), closing(predict_with(opened, bundle, items, topk=topk, threads=threads)) as found:
        yield from found


def predict_with(
    engine: Engine, bundle: Bundle, items: Iterable[Item], *, topk: int = 5, threads: int | None = None
) -> Generator[Prediction, None, None]:
    """Classify a stream of images with an engine that is open; results come batch by batch, in order.

    Args:
        engine: of ``open_engine``, for this bundle.
        bundle: gives classes, preprocessing and temperature.
        items: any number of images; a few batches of them are in memory.
        topk: how many classes to name, at least 1; all there are if fewer.
        threads: that decode; None takes one for each core.

    Yields:
        One ``Prediction`` for each item, broken images included (``error`` says why).

    Raises:
        UsageError: ``topk`` below 1.
    """
    check_topk(topk)
    with closing(answer(engine, bundle.preprocessing, items, threads=threads)) as answers:
        for one in answers:
            ranked = () if one.logits is None else rank(one.logits, bundle, topk)
            yield Prediction(one.file, ranked, one.error)


def rank(logits: NDArray[np.float32], bundle: Bundle, topk: int) -> tuple[tuple[str, float], ...]:
    """Name the most probable classes of one image.

    Args:
        logits: ``K`` values.
        bundle: gives classes, temperature, and whether the classes are independent of each other.
        topk: how many classes to name.

    Returns:
        (class name, probability), falling; of equal ones the first class first.
    """
    scaled = logits.astype(np.float64) / bundle.temperature
    if bundle.multi_label:
        probabilities = np.exp(-np.logaddexp(0.0, -scaled))
    else:
        powers = np.exp(scaled - scaled.max())
        probabilities = powers / powers.sum()
    topk = min(topk, len(probabilities))
    least = np.partition(probabilities, -topk)[-topk]
    near = np.flatnonzero(probabilities >= least)  # a full sort of 1,000 takes ten times as long
    best = near[np.argsort(-probabilities[near], kind="stable")][:topk]
    return tuple((bundle.classes[k], float(probabilities[k])) for k in best.tolist())


def check_topk(topk: int) -> None:
    """Refuse to name no classes.

    Raises:
        UsageError: ``topk`` is below 1.
    """
    if topk < 1:
        raise UsageError(f"expected --topk of at least 1, got {topk}")


def _in_archive(path: Path) -> Iterator[Item]:
    archive = open_archive(path, name=str(path))
    for index, name in enumerate(archive.names):
        if has_image_extension(name):
            yield Item(printable(f"{path}/{name}"), partial(archive.read, index, None))


def _in_folder(folder: Path) -> Iterator[Item]:
    """Walk a folder one directory at a time, so that a deep tree is never listed whole.

    Pipes and devices are left out: to read one could take for ever. A folder that can't be read is an image
    that can't be read.
    """
    closed: list[OSError] = []
    for inside, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(inside, name)
            plain = has_image_extension(name) and not name.startswith(".")
            if plain and (os.path.isfile(path) or not os.path.exists(path)):  # a link to nothing is reported
                yield _file(path)
        yield from map(_unreadable, closed)
        closed.clear()
    yield from map(_unreadable, closed)


def _unreadable(error: OSError) -> Item:
    name = printable(str(error.filename))

    def read() -> bytes:
        raise BrokenImageError(name, f"this folder can't be read: {error.strerror or error}")

    return Item(name, read)


def _file(path: str) -> Item:
    name = printable(path)
    return Item(name, lambda: read_image_file(path, name))
