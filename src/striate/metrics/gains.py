"""The figures of a network's predictions, each with its interval, and the gain over other predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.metrics.paired import paired
from striate.metrics.predictions import Predictions, on_same_images
from striate.metrics.scores import Scores, topk_correct, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number about a network's predictions. Rates are fractions in [0, 1]; the loss is in nats.

    Attributes:
        what: ``top-1``, ``top-5``, ``mean AP``, ``all right`` or ``loss``.
        value: the number, or None where it is not defined.
        interval: 95% Wilson interval of a rate, or None.
        gain: ``value`` minus that of the predictions it is compared with, or None.
        gain_interval: 95% paired interval of the gain, or None where there is none.
    """

    what: str
    value: float | None
    interval: tuple[float, float] | None = None
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "what": self.what,
            "value": self.value,
            "interval": self.interval and list(self.interval),
            "gain": self.gain,
            "gain_interval": self.gain_interval and list(self.gain_interval),
        }


def check_top(top: Sequence[int] | None, num_classes: int) -> tuple[int, ...]:
    """Return which top-k rates to give: those in ``top``, else top-1, and top-5 from 6 classes on.

    Raises:
        UsageError: a number is below 1 or above the number of classes.
    """
    if top is None:
        return (1, 5) if num_classes > 5 else (1,)
    for k in top:
        if not 1 <= k <= num_classes:
            raise UsageError(f"expected `top` from 1 to {num_classes}, the number of classes, got {k}")
    return tuple(dict.fromkeys(top))


def figures(
    predictions: Predictions, *, top: Sequence[int] | None = None, against: Predictions | None = None
) -> tuple[Figure, ...]:
    """Measure predictions, and their gain over others on the same images.

    Args:
        predictions: of one network.
        top: which top-k accuracies; None: top-1, and top-5 from 6 classes on. Not for multi-label data.
        against: predictions on the same images, such as those of single crops; None for no gains. A gain's
            interval is that of the paired bootstrap (``metrics.paired``).

    Returns:
        The rates, then the loss.

    Raises:
        UsageError: a k out of range.
        DataError: the two are not on the same images.
        NonFiniteLossError: a logit is NaN or infinite.
    """
    if against is not None:
        predictions, against = on_same_images((predictions, against))
    scores = predictions.scores(predictions.temperature)
    before = None if against is None else against.scores(against.temperature)
    found = []
    if isinstance(scores, Scores):
        for k in check_top(top, len(predictions.classes)):
            old = None if against is None else topk_correct(against.logits, against.labels, k)
            found.append(_rate(f"top-{k}", topk_correct(predictions.logits, predictions.labels, k), old))
    else:
        if top is not None:
            raise UsageError(
                "expected `top` with one label an image only, got multi-label data: leave it out"
            )
        old_value = getattr(before, "mean_average_precision", None)
        value = scores.mean_average_precision
        gain = None if value is None or old_value is None else value - old_value
        found.append(Figure(what="mean AP", value=value, gain=gain))
        found.append(_rate("all right", predictions.correct, None if against is None else against.correct))
    change = None if before is None else scores.loss - before.loss
    return (*found, Figure(what="loss", value=scores.loss, gain=change))


def _rate(what: str, correct: NDArray[np.bool_], before: NDArray[np.bool_] | None) -> Figure:
    interval = wilson(int(correct.sum()), len(correct))
    pair = None if before is None else paired(before, correct)
    return Figure(
        what=what,
        value=float(correct.mean()),
        interval=(interval.low, interval.high),
        gain=None if pair is None else pair.difference,
        gain_interval=None if pair is None else (pair.low, pair.high),
    )
