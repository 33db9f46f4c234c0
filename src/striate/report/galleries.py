"""Which images a report shows: sure mistakes, large losses, labels that may be wrong."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.metrics.predictions import Predictions
from striate.metrics.suspects import Suspect, label_errors, top_losses
from striate.report.record import MistakePicture

NUM_MISTAKES, NUM_SUSPECTS, NUM_LOSSES = 24, 24, 12


@dataclass(frozen=True, slots=True)
class Galleries:
    """The pictures of a report, each kind in the order that it is shown in; see ``RunReport``."""

    mistakes: tuple[MistakePicture, ...] = ()
    suspects: tuple[MistakePicture, ...] = ()
    losses: tuple[MistakePicture, ...] = ()


def galleries(
    answers: Predictions,
    temperature: float,
    pictures: Callable[[Sequence[int]], Sequence[NDArray[np.uint8]]],
) -> Galleries:
    """Choose the images that a reader should see.

    Args:
        answers: to images that the network was not trained on.
        temperature: what logits are divided by.
        pictures: returns the *u8* images of rows of the answers, each ``H x W x 3`` or ``H x W x 1``.

    Returns:
        Up to 24 wrong answers by falling probability of the answer, up to 24 likely label errors, and up to
        12 images of the largest losses that are not among the mistakes. Nothing for multi-label data.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    if answers.multi_label:
        return Galleries()
    mistakes = surest_mistakes(answers, NUM_MISTAKES, temperature=temperature)
    shown = {one.position for one in mistakes}
    costly = top_losses(answers, NUM_MISTAKES + NUM_LOSSES, temperature=temperature)
    losses = [one for one in costly if one.position not in shown and one.suggested != one.given]
    suspects = label_errors(answers, NUM_SUSPECTS, temperature=temperature)
    chosen = (mistakes, suspects, tuple(losses[:NUM_LOSSES]))
    rows = sorted({one.position for group in chosen for one in group})
    image_of = dict(zip(rows, pictures(rows), strict=True)) if rows else {}
    return Galleries(
        *(tuple(_picture(one, answers, image_of[one.position]) for one in group) for group in chosen)
    )


def surest_mistakes(answers: Predictions, n: int, *, temperature: float = 1.0) -> tuple[Suspect, ...]:
    """Return the wrong answers of which the network was surest, surest first.

    Args:
        answers: of single-label data.
        n: how many at most.
        temperature: what logits are divided by, above 0.

    Returns:
        Up to ``n`` images whose most probable class is wrong, by falling probability of that class; equal
        ones by falling loss, then by file name.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    every = top_losses(answers, len(answers.labels), temperature=temperature)
    wrong = [one for one in every if one.suggested != one.given]
    return tuple(sorted(wrong, key=lambda one: (-one.p_suggested, -one.loss, one.file))[:n])


def _picture(one: Suspect, answers: Predictions, image: NDArray[np.uint8]) -> MistakePicture:
    return MistakePicture(
        image=image,
        file=one.file,
        true=answers.classes[one.given],
        predicted=answers.classes[one.suggested],
        p_predicted=one.p_suggested,
        p_true=one.p_given,
    )
