"""Predictions: images in, class names and probabilities out, as a stream in constant memory."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.core.choices import EngineChoice
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.find import Item
from striate.metrics.predictions import probabilities
from striate.serve.engine import Engine, engine_for, open_trained
from striate.serve.images import Images, OneImage, PixelItem, is_one_image, items_of
from striate.serve.pipeline import stream_logits
from striate.weights.bundle import Bundle
from striate.weights.open import NetworkChoice, OpenNetwork


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one image.

    Attributes:
        file: the path as it was given or found; a file in an archive as ``ARCHIVE/FILE``; ``image`` or
            ``image 3`` for one in memory.
        ranked: (class name, probability) of the most probable classes, falling; empty when the image is
            broken.
        error: why the image could not be read, or None.
    """

    file: str
    ranked: tuple[tuple[str, float], ...]
    error: str | None = None

    @property
    def label(self) -> str | None:
        """The most probable class; None when the image is broken."""
        return self.ranked[0][0] if self.ranked else None

    @property
    def probability(self) -> float | None:
        """The probability of ``label``, in [0, 1]; None when the image is broken."""
        return self.ranked[0][1] if self.ranked else None


def predict(
    network: NetworkChoice,
    images: Images,
    *,
    top: int = 5,
    engine: EngineChoice | Engine = "auto",
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Generator[Prediction, None, None]:
    """Classify any number of images; results come batch by batch, in order.

    Args:
        network: a bundle, a run folder or an open network.
        images: a path (file, folder, ``.tar``, ``.zip``), bytes of a file, Pillow's image, uint8 pixels
            (``H x W x 3`` RGB or ``H x W`` grey), or an iterable of these. All are preprocessed alike:
            Pillow's images are turned upright by their EXIF tag, as files are. A few batches are in memory.
        top: how many classes to name, at least 1; all there are if fewer.
        engine: see ``open_engine``; or an engine that is open for this network, which stays open.
        compute: see ``open_engine``; ``threads`` also decode. With an open engine only ``threads`` count.
        progress: see ``open_engine``.

    Returns:
        A generator of one ``Prediction`` for each image, broken images included (``error`` says why). An
        engine is opened at the first and closed after the last, or when the generator is closed.

    Raises:
        UsageError: ``top`` below 1, a path that does not exist, an array that does not hold pixels, a network
            that is not trained, or an engine or precision that is not there.
        BundleError: the bundle is damaged.
        DataError: an archive is damaged or hostile.
    """
    check_top(top)
    return _predict(open_trained(network), items_of(images), top, engine, compute, progress)


def predict_one(
    network: NetworkChoice,
    image: OneImage,
    *,
    top: int = 5,
    engine: EngineChoice | Engine = "auto",
    compute: Compute = Compute(),
) -> Prediction:
    """Classify one image.

    Args:
        network: as the following, see ``predict``.
        image: Pillow's image, uint8 pixels, bytes, or the path of one file.
        top: how many classes to name.
        engine: an open one for many images one by one, which saves opening it every time.
        compute: where and how.

    Raises:
        UsageError: as ``predict``; or a folder, an archive or several images.
    """
    if not is_one_image(image):
        got = image if isinstance(image, str) else type(image).__name__
        raise UsageError(f"expected one image, got {got}: use `predict` for several")
    [found] = predict(network, image, top=top, engine=engine, compute=compute)
    return found


def _predict(
    network: OpenNetwork,
    items: Iterator[Item | PixelItem],
    top: int,
    engine: EngineChoice | Engine,
    compute: Compute,
    progress: Progress,
) -> Generator[Prediction, None, None]:
    with (
        engine_for(network, engine=engine, compute=compute, progress=progress) as running,
        closing(stream_logits(running, network.preprocessing, items, threads=compute.threads)) as results,
    ):
        for image, logits in results:
            ranked = () if logits is None else rank(logits, network.bundle, top)
            yield Prediction(image.file, ranked, image.error)


def rank(logits: NDArray[np.float32], bundle: Bundle, top: int) -> tuple[tuple[str, float], ...]:
    """Name the most probable classes of one image.

    Args:
        logits: ``K`` values.
        bundle: gives classes, temperature, and whether the classes are independent of each other.
        top: how many classes to name.

    Returns:
        (class name, probability), falling; of equal ones the first class first.
    """
    [p] = probabilities(logits[None], multi_label=bundle.multi_label, temperature=bundle.temperature)
    top = min(top, len(p))
    least = np.partition(p, -top)[-top]
    near = np.flatnonzero(p >= least)  # a full sort of 1,000 takes ten times as long
    best = near[np.argsort(-p[near], kind="stable")][:top]
    return tuple((bundle.classes[k], float(p[k])) for k in best.tolist())


def check_top(top: int) -> None:
    """Refuse to name no classes.

    Raises:
        UsageError: ``top`` is below 1.
    """
    if top < 1:
        raise UsageError(f"expected `top` of at least 1, got {top}")
