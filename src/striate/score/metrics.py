"""Numbers from probabilities and labels: accuracy with intervals, confusion, classes, average precision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError, NonFiniteLossError

_TINY = float(np.finfo(np.float32).tiny)
_TOP5_MIN_CLASSES = 6


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a rate; both ends are fractions in [0, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fares.

    Attributes:
        name: the class name.
        num_images: images that truly belong to the class.
        num_predicted: images that were given to the class, rightly or wrongly.
        num_correct: images that belong to the class and were given to it.
    """

    name: str
    num_images: int
    num_predicted: int
    num_correct: int

    @property
    def recall(self) -> float | None:
        """Share of the class's images that were found; None when there are none."""
        return self.num_correct / self.num_images if self.num_images else None

    @property
    def precision(self) -> float | None:
        """Share of the answers naming this class that are right; None when the class was never named."""
        return self.num_correct / self.num_predicted if self.num_predicted else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of recall and precision; None when the class neither occurs nor is named."""
        total = self.num_images + self.num_predicted
        return 2 * self.num_correct / total if total else None

    @property
    def recall_interval(self) -> Interval:
        """95% Wilson interval of the recall; the whole of [0, 1] when the class has no images."""
        return wilson(self.num_correct, self.num_images)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How a single-label classifier did on one set of images. Rates are fractions in [0, 1].

    Attributes:
        num_images: number of images scored, at least 1.
        top1: share of images whose most probable class is the true one.
        top5: share of images whose true class is among the five most probable; None below 6 classes.
        top1_interval: 95% Wilson interval of ``top1``.
        top5_interval: 95% Wilson interval of ``top5``, or None.
        loss: mean cross-entropy in nats.
        per_class: one entry per class, in the order of ``classes``.
        confusion: ``K x K`` int64 counts; row = true class, column = predicted class.
        classes: the ``K`` class names.
    """

    num_images: int
    top1: float
    top5: float | None
    top1_interval: Interval
    top5_interval: Interval | None
    loss: float
    per_class: tuple[ClassScore, ...]
    confusion: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def top1_error(self) -> float:
        """Share of images whose most probable class is wrong."""
        return 1.0 - self.top1

    @property
    def top5_error(self) -> float | None:
        """Share of images whose true class is not among the five most probable; None below 6 classes."""
        return None if self.top5 is None else 1.0 - self.top5

    @property
    def majority_share(self) -> float:
        """Accuracy of always answering the commonest class: what a classifier must beat."""
        return int(self.confusion.sum(axis=1).max()) / self.num_images

    @property
    def macro_recall(self) -> float:
        """Mean recall over the classes that have images (balanced accuracy)."""
        return float(np.mean([entry.recall for entry in self.per_class if entry.recall is not None]))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``; the confusion as its non-zero (true, predicted, count)."""
        true, predicted = np.nonzero(self.confusion)
        return {
            "num_images": self.num_images,
            "top1": self.top1,
            "top1_interval": [self.top1_interval.low, self.top1_interval.high],
            "top5": self.top5,
            "top5_interval": self.top5_interval and [self.top5_interval.low, self.top5_interval.high],
            "loss": self.loss,
            "classes": list(self.classes),
            "per_class": [
                {
                    "name": entry.name,
                    "num_images": entry.num_images,
                    "recall": entry.recall,
                    "precision": entry.precision,
                    "f1": entry.f1,
                }
                for entry in self.per_class
            ],
            "confusion": np.stack([true, predicted, self.confusion[true, predicted]], axis=1).tolist(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Scores":
        """Rebuild what ``to_json`` wrote; the derived numbers are computed again from the counts.

        Raises:
            DataError: the record lacks a field or its counts do not fit its classes.
        """
        try:
            classes = tuple(str(name) for name in record["classes"])
            counts = np.zeros((len(classes), len(classes)), np.int64)
            for true, predicted, count in record["confusion"]:
                counts[true, predicted] = count
            top5 = record["top5"]
            num_top5 = None if top5 is None else round(float(top5) * int(counts.sum()))
            return _from_counts(counts, num_top5, float(record["loss"]), classes)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise DataError(
                f"expected a scores record as written by to_json, got one that fails with"
                f" {type(error).__name__} ({error}): score the images again"
            ) from error


@dataclass(frozen=True, slots=True)
class MultiLabelScores:
    """How a multi-label classifier did on one set of images.

    Attributes:
        num_images: number of images scored, at least 1.
        mean_average_precision: mean of the defined ``average_precision`` values; None when there are none.
        average_precision: one value in [0, 1] per class; None for a class without images.
        exact_match: share of images with every label right at a threshold of 0.5.
        loss: mean binary cross-entropy over images and classes, in nats.
        classes: the class names.
    """

    num_images: int
    mean_average_precision: float | None
    average_precision: tuple[float | None, ...]
    exact_match: float
    loss: float
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "num_images": self.num_images,
            "mean_average_precision": self.mean_average_precision,
            "average_precision": list(self.average_precision),
            "exact_match": self.exact_match,
            "loss": self.loss,
            "classes": list(self.classes),
        }


@dataclass(frozen=True, slots=True)
class Confusion:
    """One way of being wrong: ``count`` images of class ``true`` were called ``predicted``.

    Attributes:
        true: true class index.
        predicted: predicted class index.
        count: number of images, at least 1.
        share: ``count`` as a fraction of the images of class ``true``.
    """

    true: int
    predicted: int
    count: int
    share: float


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a rate: sensible near 0 and 1 and for few images.

    Args:
        successes: how often it happened, 0 to ``trials``.
        trials: how often it was tried; 0 gives the whole of [0, 1], for nothing is known.
        level: confidence level in (0, 1).

    Returns:
        The interval, within [0, 1].

    Raises:
        DataError: the counts or the level make no sense.

    Paper: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
        1927.
    Departures: none (no continuity correction).
    """
    if not 0 <= successes <= trials or not 0.0 < level < 1.0:
        raise DataError(
            f"expected 0 <= successes <= trials and a level in (0, 1), got {successes} of {trials} at {level}"
            ": check the counts"
        )
    if trials == 0:
        return Interval(0.0, 1.0)
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    rate = successes / trials
    centre = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    # At the ends the formula is exactly 0 or 1; rounding must not say otherwise.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def confusion(
    true: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Count how often each class was called what.

    Args:
        true: ``N`` true class indices in [0, ``num_classes``).
        predicted: ``N`` predicted class indices in the same range.
        num_classes: number of classes ``K``.

    Returns:
        ``K x K`` int64; row = true class, column = predicted class.

    Raises:
        DataError: the two differ in length or hold an index out of range.
    """
    if true.shape != predicted.shape or true.ndim != 1:
        raise DataError(
            f"expected as many predictions as labels, got shapes {predicted.shape} and {true.shape}:"
            " pass two 1-d arrays of class indices"
        )
    _check_indices(true, num_classes)
    _check_indices(predicted, num_classes)
    flat = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def score(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    losses: NDArray[np.floating] | None = None,
) -> Scores:
    """Score the answers of a single-label classifier.

    Equal probabilities are ranked by class index, the lower first, so that a rate never depends on a sort.

    Args:
        probabilities: ``N x K``, each row a distribution over the classes. Any values that rank the classes
            give the same rates.
        labels: ``N`` true class indices in [0, K).
        classes: ``K`` class names.
        losses: ``N`` cross-entropies in nats, where the caller knows them from logits; otherwise they are
            ``-ln p`` of the true class, with p held above the smallest normal float32 (87.3 nats at most).

    Returns:
        The scores; rates are fractions in [0, 1].

    Raises:
        DataError: no images, shapes that do not fit, or a label out of range.
        NonFiniteLossError: a probability or loss is NaN or infinite.
    """
    _check_matrix(probabilities, classes)
    num_images = len(probabilities)
    if labels.shape != (num_images,):
        raise DataError(
            f"expected one label for each of {num_images} images, got labels of shape {labels.shape}:"
            " pass N class indices (score_multilabel takes N x K)"
        )
    _check_indices(labels, len(classes))
    true_p = np.take_along_axis(probabilities, labels[:, None].astype(np.int64), axis=1)
    before = np.arange(len(classes)) < labels[:, None]
    rank = ((probabilities > true_p) | ((probabilities == true_p) & before)).sum(axis=1)
    if losses is None:
        losses = -np.log(np.maximum(true_p[:, 0].astype(np.float64), _TINY))
    loss = float(np.mean(losses, dtype=np.float64))
    if not math.isfinite(loss):
        raise _not_finite(f"a mean loss of {loss}")
    counts = confusion(labels, probabilities.argmax(axis=1), len(classes))
    num_top5 = int((rank < 5).sum()) if len(classes) >= _TOP5_MIN_CLASSES else None
    return _from_counts(counts, num_top5, loss, tuple(classes))


def score_multilabel(
    probabilities: NDArray[np.floating],
    labels: NDArray[Any],
    classes: Sequence[str],
    *,
    losses: NDArray[np.floating] | None = None,
) -> MultiLabelScores:
    """Score the answers of a multi-label classifier.

    Average precision is the step-wise area under the precision-recall curve, ``sum (R_n - R_{n-1}) P_n`` over
    the distinct thresholds from high to low, without interpolation; equal probabilities form one threshold.

    Args:
        probabilities: ``N x K`` in [0, 1], one independent probability per class.
        labels: ``N x K`` of 0 and 1 (any numeric or bool type).
        classes: ``K`` class names.
        losses: ``N`` binary cross-entropies in nats (each the mean over classes), where the caller knows them
            from logits; otherwise from the probabilities, held away from 0 by the smallest normal float32.

    Returns:
        The scores.

    Raises:
        DataError: no images, shapes that do not fit, or labels other than 0 and 1.
        NonFiniteLossError: a probability or loss is NaN or infinite.
    """
    _check_matrix(probabilities, classes)
    if labels.shape != probabilities.shape or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"expected labels of shape {probabilities.shape} holding 0 and 1, got shape {labels.shape}:"
            " mark each class of each image with 0 or 1"
        )
    positive = labels.astype(bool)
    if losses is None:
        chance = np.where(positive, probabilities, 1.0 - probabilities.astype(np.float64))
        losses = -np.log(np.maximum(chance, _TINY))
    loss = float(np.mean(losses, dtype=np.float64))
    if not math.isfinite(loss):
        raise _not_finite(f"a mean loss of {loss}")
    average = tuple(_average_precision(probabilities[:, k], positive[:, k]) for k in range(len(classes)))
    defined = [value for value in average if value is not None]
    return MultiLabelScores(
        num_images=len(probabilities),
        mean_average_precision=sum(defined) / len(defined) if defined else None,
        average_precision=average,
        exact_match=float(((probabilities > 0.5) == positive).all(axis=1).mean()),
        loss=loss,
        classes=tuple(classes),
    )


def hardest_classes(scores: Scores, n: int) -> tuple[ClassScore, ...]:
    """Return the ``n`` classes of lowest recall, hardest first; of equals, those with more images first."""
    return _ranked(scores, n, hardest=True)


def easiest_classes(scores: Scores, n: int) -> tuple[ClassScore, ...]:
    """Return the ``n`` classes of highest recall, easiest first; of equals, those with more images first."""
    return _ranked(scores, n, hardest=False)


def top_confusions(counts: NDArray[np.int64], n: int) -> tuple[Confusion, ...]:
    """Return the ``n`` commonest mistakes of a confusion matrix, commonest first.

    Args:
        counts: ``K x K``, row = true class.
        n: how many at most; mistakes that never happened are left out.

    Returns:
        Mistakes by falling count, then by falling share of their row, then by class index.
    """
    true, predicted = np.nonzero(counts * ~np.eye(len(counts), dtype=bool))
    found = counts[true, predicted]
    share = found / counts.sum(axis=1)[true]
    order = np.lexsort((predicted, true, -share, -found))[:n]
    return tuple(Confusion(int(true[i]), int(predicted[i]), int(found[i]), float(share[i])) for i in order)


def _from_counts(
    counts: NDArray[np.int64], num_top5: int | None, loss: float, classes: tuple[str, ...]
) -> Scores:
    num_images, num_correct = int(counts.sum()), int(np.trace(counts))
    images, predictions = counts.sum(axis=1), counts.sum(axis=0)
    per_class = tuple(
        ClassScore(name, int(images[k]), int(predictions[k]), int(counts[k, k]))
        for k, name in enumerate(classes)
    )
    return Scores(
        num_images=num_images,
        top1=num_correct / num_images,
        top5=None if num_top5 is None else num_top5 / num_images,
        top1_interval=wilson(num_correct, num_images),
        top5_interval=None if num_top5 is None else wilson(num_top5, num_images),
        loss=loss,
        per_class=per_class,
        confusion=counts,
        classes=classes,
    )


def _ranked(scores: Scores, n: int, *, hardest: bool) -> tuple[ClassScore, ...]:
    sign = 1.0 if hardest else -1.0
    rated = [
        (sign * entry.recall, -entry.num_images, entry)
        for entry in scores.per_class
        if entry.recall is not None
    ]
    return tuple(entry for _, _, entry in sorted(rated, key=lambda item: item[:2])[:n])


def _average_precision(probabilities: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    num_positive = int(positive.sum())
    if num_positive == 0:
        return None
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    found = np.cumsum(positive[order])
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits = found[last_of_tie]
    precision = hits / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(np.diff(hits, prepend=0) * precision) / num_positive)


def _check_matrix(probabilities: NDArray[np.floating], classes: Sequence[str]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise DataError(
            f"expected probabilities of shape N x {len(classes)} (one per class), got {probabilities.shape}:"
            " use the class names that the network was trained with"
        )
    if len(probabilities) == 0:
        raise DataError("expected at least one image to score, got none: check the data source and its split")
    if not np.isfinite(probabilities).all():
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise _not_finite(f"NaN or infinity for {bad} of {len(probabilities)} images")


def _check_indices(indices: NDArray[np.integer], num_classes: int) -> None:
    if not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"expected integer class indices, got {indices.dtype}: convert them to int64")
    if indices.size and not (indices.min() >= 0 and indices.max() < num_classes):
        raise DataError(
            f"expected class indices in 0..{num_classes - 1}, got {int(indices.min())}..{int(indices.max())}:"
            " use the class list that the labels were made with"
        )


def _not_finite(got: str) -> NonFiniteLossError:
    return NonFiniteLossError(
        f"expected finite probabilities and losses, got {got}: the network has diverged, so train again with"
        " a lower learning rate or load earlier weights"
    )
