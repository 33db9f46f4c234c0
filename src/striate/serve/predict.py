"""Predicting files, folders and archives: a stream in, a stream out, in constant memory."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.core.compute import DeviceChoice
from striate.core.errors import UsageError
from striate.data.find import Item
from striate.serve.engine import (
    Engine,
    EngineChoice,
    EnginePrecisionChoice,
    open_engine,
)
from striate.serve.pipeline import answer
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
