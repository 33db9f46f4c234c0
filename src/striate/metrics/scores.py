"""Numbers from probabilities and labels: accuracy with intervals, confusion, hard and easy classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError, UsageError
from striate.metrics import by_class
from striate.metrics.by_class import ClassScore, Imbalance
from striate.metrics.checks import check_indices, check_labels, check_values, not_finite
from striate.metrics.interval import Interval, wilson

__all__ = [
    "ClassScore",
    "Confusion",
    "Imbalance",
    "Interval",
    "Scores",
    "confusion",
    "easiest_classes",
    "hardest_classes",
    "score",
    "top_confusions",
    "topk_correct",
    "wilson",
]

_TINY = float(np.finfo(np.float32).tiny)
_TOP5_MIN_CLASSES = 6


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """How a single-label classifier did on one set of images. Rates are fractions in [0, 1].

    Averages of precision, recall and F1 take an undefined rate (the recall of a class without images, the
    precision of one that was never predicted) as 0, and leave out classes that have no images and were never
    predicted. So they equal scikit-learn's with ``zero_division=0`` over the classes that occur in labels or
    predictions.

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
    def imbalance(self) -> Imbalance:
        """How unequal the classes are."""
        return by_class.imbalance(self.per_class, self.num_images)

    @property
    def majority_share(self) -> float:
        """Accuracy of always predicting the commonest class: what a classifier must beat."""
        return self.imbalance.majority_share

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images, whatever else was predicted."""
        recalls = [entry.recall for entry in self.per_class if entry.recall is not None]
        return sum(recalls) / len(recalls)

    @property
    def macro_precision(self) -> float:
        """Mean precision over the classes that occur or were predicted."""
        return by_class.macro(self.per_class, "precision")

    @property
    def macro_recall(self) -> float:
        """Mean recall over the classes that occur or were predicted."""
        return by_class.macro(self.per_class, "recall")

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur or were predicted."""
        return by_class.macro(self.per_class, "f1")

    @property
    def weighted_precision(self) -> float:
        """Mean precision, each class weighted by its images."""
        return by_class.weighted(self.per_class, "precision")

    @property
    def weighted_recall(self) -> float:
        """Mean recall, each class weighted by its images: the same as ``top1``."""
        return by_class.weighted(self.per_class, "recall")

    @property
    def weighted_f1(self) -> float:
        """Mean F1, each class weighted by its images."""
        return by_class.weighted(self.per_class, "f1")

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
            "per_class": [entry.to_json() for entry in self.per_class],
            "macro": {"precision": self.macro_precision, "recall": self.macro_recall, "f1": self.macro_f1},
            "weighted": {
                "precision": self.weighted_precision,
                "recall": self.weighted_recall,
                "f1": self.weighted_f1,
            },
            "imbalance": self.imbalance.to_json(),
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
class Confusion:
    """One way of being wrong: ``count`` images of class ``true`` were predicted as ``predicted``.

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


def confusion(
    true: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """Count how often each class was predicted as which.

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
    check_indices(true, num_classes)
    check_indices(predicted, num_classes)
    flat = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def score(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    losses: NDArray[np.floating] | None = None,
) -> Scores:
    """Score the predictions of a single-label classifier.

    Equal probabilities are ranked by class index, the lower first, so a rate never depends on a sort.

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
    check_values(probabilities, classes)
    check_labels(labels, len(probabilities), len(classes))
    true_p, rank = _ranks(probabilities, labels)
    if losses is None:
        losses = -np.log(np.maximum(true_p.astype(np.float64), _TINY))
    loss = math.fsum(losses.astype(np.float64).tolist()) / len(probabilities)
    if not math.isfinite(loss):
        raise not_finite(f"a mean loss of {loss}")
    counts = confusion(labels, probabilities.argmax(axis=1), len(classes))
    num_top5 = int((rank < 5).sum()) if len(classes) >= _TOP5_MIN_CLASSES else None
    return _from_counts(counts, num_top5, loss, tuple(classes))


def topk_correct(values: NDArray[np.floating], labels: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Return for each image whether its true class is among the ``k`` highest values.

    Equal values are ranked by class index, the lower first, as in ``score``.

    Args:
        values: ``N x K`` logits or probabilities; anything that ranks the classes.
        labels: ``N`` true class indices in [0, K).
        k: 1 to K.

    Returns:
        ``N`` bool; their mean is the top-k accuracy.

    Raises:
        UsageError: there are fewer than ``k`` classes, or ``k`` is below 1.
        DataError: no images, shapes that do not fit, or a label out of range.
        NonFiniteLossError: a value is NaN or infinite.
    """
    num_classes = values.shape[1] if values.ndim == 2 else 0
    check_values(values, [""] * num_classes, "values")
    check_labels(labels, len(values), num_classes)
    if not 1 <= k <= num_classes:
        raise UsageError(
            f"expected k from 1 to the number of classes, {num_classes}, got {k}:"
            " no classifier can be wrong beyond that"
        )
    return _ranks(values, labels)[1] < k


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


def _ranks(
    values: NDArray[np.floating], labels: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return the value of each image's true class, and how many classes rank before it."""
    true = np.take_along_axis(values, labels[:, None].astype(np.int64), axis=1)
    before = np.arange(values.shape[1]) < labels[:, None]
    return true[:, 0], ((values > true) | ((values == true) & before)).sum(axis=1)


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
