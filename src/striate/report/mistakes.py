"""Which images a report shows: confident mistakes, large losses, labels that may be wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics.predictions import Predictions
from striate.metrics.suspects import Suspect, label_errors, top_losses
from striate.report.run_report import ShownImage

_NUM_MISTAKES, _NUM_SUSPECTS, _NUM_LOSSES = 24, 24, 12


@dataclass(frozen=True, slots=True)
class ChosenImages:
    """The images of a report, each kind in the order that it is shown in; see ``RunReport``."""

    mistakes: tuple[ShownImage, ...] = ()
    suspects: tuple[ShownImage, ...] = ()
    losses: tuple[ShownImage, ...] = ()


def choose_images(
    predictions: Predictions,
    temperature: float,
    images: Callable[[Sequence[int]], Sequence[NDArray[np.uint8]]],
) -> ChosenImages:
    """Choose the images that a reader should see.

    Args:
        predictions: on images that the network was not trained on.
        temperature: what logits are divided by.
        images: returns the *u8* images of rows of the predictions, each ``H x W x 3`` or ``H x W x 1``.

    Returns:
        Up to 24 wrong predictions by falling probability, up to 24 likely label errors, and up to 12 images
        of the largest losses that are not among the mistakes. Nothing for multi-label data.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    if predictions.multi_label:
        return ChosenImages()
    mistakes = confident_mistakes(predictions, _NUM_MISTAKES, temperature=temperature)
    shown = {one.position for one in mistakes}
    costly = top_losses(predictions, _NUM_MISTAKES + _NUM_LOSSES, temperature=temperature)
    losses = [one for one in costly if one.position not in shown and one.suggested != one.given]
    suspects = label_errors(predictions, _NUM_SUSPECTS, temperature=temperature)
    chosen = (mistakes, suspects, tuple(losses[:_NUM_LOSSES]))
    rows = sorted({one.position for group in chosen for one in group})
    image_of = dict(zip(rows, images(rows), strict=True)) if rows else {}
    return ChosenImages(
        *(tuple(_shown(one, predictions, image_of[one.position]) for one in group) for group in chosen)
    )


def confident_mistakes(predictions: Predictions, n: int, *, temperature: float = 1.0) -> tuple[Suspect, ...]:
    """Return the wrong predictions of which the network was most confident, the most confident first.

    Args:
        predictions: of single-label data.
        n: how many at most.
        temperature: what logits are divided by, above 0.

    Returns:
        Up to ``n`` images whose most probable class is wrong, by falling probability of that class; equal
        ones by falling loss, then by file name.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    every = top_losses(predictions, len(predictions.labels), temperature=temperature)
    wrong = [one for one in every if one.suggested != one.given]
    return tuple(sorted(wrong, key=lambda one: (-one.p_suggested, -one.loss, one.file))[:n])


def _shown(one: Suspect, predictions: Predictions, image: NDArray[np.uint8]) -> ShownImage:
    return ShownImage(
        image=image,
        file=one.file,
        true=predictions.classes[one.given],
        predicted=predictions.classes[one.suggested],
        p_predicted=one.p_suggested,
        p_true=one.p_given,
    )
