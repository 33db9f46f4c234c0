"""Scores where an image may carry several labels: average precision, and labels given at thresholds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.metrics import by_class
from striate.metrics.by_class import ClassScore, Imbalance
from striate.metrics.checks import check_marks, check_values, not_finite

_TINY = float(np.finfo(np.float32).tiny)
_EVEN = 0.5


@dataclass(frozen=True, slots=True)
class MultiLabelScores:
    """How a multi-label classifier did on one set of images. Rates are fractions in [0, 1].

    An image is given a label where the probability is above the class's threshold. Averages of precision,
    recall and F1 take an undefined rate as 0 and leave out classes that neither occur nor were given
    (scikit-learn's ``zero_division=0`` over the classes that are in).

    Attributes:
        num_images: number of images scored, at least 1.
        mean_average_precision: mean of the defined ``average_precision`` values; None when there are none.
        average_precision: one value in [0, 1] per class; None for a class without images.
        exact_match: share of images with every label correct at the thresholds.
        loss: mean binary cross-entropy over images and classes, in nats.
        classes: the class names.
        thresholds: one per class; 0.5 unless they were chosen.
        per_class: one entry per class, counted at the thresholds.
    """

    num_images: int
    mean_average_precision: float | None
    average_precision: tuple[float | None, ...]
    exact_match: float
    loss: float
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    per_class: tuple[ClassScore, ...]

    @property
    def macro_precision(self) -> float:
        """Mean precision over the classes that occur or were given."""
        return by_class.macro(self.per_class, "precision")

    @property
    def macro_recall(self) -> float:
        """Mean recall over the classes that occur or were given."""
        return by_class.macro(self.per_class, "recall")

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the classes that occur or were given."""
        return by_class.macro(self.per_class, "f1")

    @property
    def micro_precision(self) -> float:
        """Share of all labels given that are correct."""
        return by_class.micro(self.per_class, "precision")

    @property
    def micro_recall(self) -> float:
        """Share of all labels that were found."""
        return by_class.micro(self.per_class, "recall")

    @property
    def micro_f1(self) -> float:
        """F1 of all labels counted together."""
        return by_class.micro(self.per_class, "f1")

    @property
    def imbalance(self) -> Imbalance:
        """How unequal the classes are; its shares are of images, and an image may be in several classes.

        Raises:
            DataError: no image carries a label.
        """
        return by_class.imbalance(self.per_class, self.num_images)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "num_images": self.num_images,
            "mean_average_precision": self.mean_average_precision,
            "average_precision": list(self.average_precision),
            "exact_match": self.exact_match,
            "loss": self.loss,
            "classes": list(self.classes),
            "thresholds": list(self.thresholds),
            "per_class": [entry.to_json() for entry in self.per_class],
            "macro": {
                "precision": self.macro_precision,
                "recall": self.macro_recall,
                "f1": self.macro_f1,
            },
            "micro": {
                "precision": self.micro_precision,
                "recall": self.micro_recall,
                "f1": self.micro_f1,
            },
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "MultiLabelScores":
        """Rebuild what ``to_json`` wrote.

        Raises:
            DataError: the record lacks a field (those of striate 0.1 lack the counts of the classes), or a
                field has another length than the classes.
        """
        try:
            classes = tuple(str(name) for name in record["classes"])
            average = tuple(None if v is None else float(v) for v in record["average_precision"])
            mean = record["mean_average_precision"]
            per_class = tuple(
                ClassScore(
                    str(one["name"]),
                    int(one["num_images"]),
                    int(one["num_predicted"]),
                    int(one["num_correct"]),
                )
                for one in record["per_class"]
            )
            thresholds = tuple(float(value) for value in record["thresholds"])
            if not len(classes) == len(average) == len(per_class) == len(thresholds):
                raise ValueError("its fields differ in length")
            return cls(
                num_images=int(record["num_images"]),
                mean_average_precision=None if mean is None else float(mean),
                average_precision=average,
                exact_match=float(record["exact_match"]),
                loss=float(record["loss"]),
                classes=classes,
                thresholds=thresholds,
                per_class=per_class,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"expected a multi-label scores record as written by to_json, got one that fails with"
                f" {type(error).__name__} ({error}): score the images again"
            ) from error


def score_multilabel(
    probabilities: NDArray[np.floating],
    labels: NDArray[Any],
    classes: Sequence[str],
    *,
    losses: NDArray[np.floating] | None = None,
    thresholds: Sequence[float] | NDArray[np.floating] | None = None,
) -> MultiLabelScores:
    """Score the predictions of a multi-label classifier.

    Average precision is the step-wise area under the precision-recall curve, ``sum (R_n - R_{n-1}) P_n`` over
    the distinct thresholds from high to low, without interpolation; equal probabilities form one threshold.

    Args:
        probabilities: ``N x K`` in [0, 1], one independent probability per class.
        labels: ``N x K`` of 0 and 1 (any numeric or bool type).
        classes: ``K`` class names.
        losses: ``N`` binary cross-entropies in nats (each the mean over classes), where the caller knows them
            from logits; otherwise from the probabilities, held away from 0 by the smallest normal float32.
        thresholds: ``K`` values; a label is given where its probability is above. None: 0.5 for each. Choose
            them on validation images (``choose_thresholds``), never on the images that are scored.

    Returns:
        The scores.

    Raises:
        DataError: no images, shapes that do not fit, labels other than 0 and 1, or a threshold that is NaN.
        NonFiniteLossError: a probability or loss is NaN or infinite.
    """
    check_values(probabilities, classes)
    positive = check_marks(labels, probabilities.shape)
    cuts = np.full(len(classes), _EVEN) if thresholds is None else np.asarray(thresholds, np.float64)
    if cuts.shape != (len(classes),) or np.isnan(cuts).any():
        raise DataError(
            f"expected {len(classes)} thresholds, one for each class, got shape {cuts.shape}"
            f"{' with NaN' if np.isnan(cuts).any() else ''}: use what choose_thresholds returns"
        )
    if losses is None:
        chance = np.where(positive, probabilities, 1.0 - probabilities.astype(np.float64))
        losses = -np.log(np.maximum(chance, _TINY)).mean(axis=1)
    loss = math.fsum(losses.astype(np.float64).tolist()) / len(probabilities)
    if not math.isfinite(loss):
        raise not_finite(f"a mean loss of {loss}")
    average = tuple(_average_precision(probabilities[:, k], positive[:, k]) for k in range(len(classes)))
    defined = [value for value in average if value is not None]
    given = probabilities.astype(np.float64) > cuts
    per_class = tuple(
        ClassScore(
            name,
            int(positive[:, k].sum()),
            int(given[:, k].sum()),
            int((positive[:, k] & given[:, k]).sum()),
        )
        for k, name in enumerate(classes)
    )
    return MultiLabelScores(
        num_images=len(probabilities),
        mean_average_precision=sum(defined) / len(defined) if defined else None,
        average_precision=average,
        exact_match=float((given == positive).all(axis=1).mean()),
        loss=loss,
        classes=tuple(classes),
        thresholds=tuple(cuts.tolist()),
        per_class=per_class,
    )


def choose_thresholds(probabilities: NDArray[np.floating], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Choose for each class the threshold of the highest F1 on the given images.

    Give validation images: on the images that it was chosen on, a threshold looks better than it is. Equal
    probabilities fall on one side. Of cuts with equal F1 the highest is taken, which gives the fewest labels.
    A threshold lies halfway between the probabilities on its two sides (halfway to 0 below the lowest).

    Args:
        probabilities: ``N x K`` in [0, 1].
        labels: ``N x K`` of 0 and 1.

    Returns:
        ``K`` thresholds; a label is to be given where the probability is above. A class without images
        keeps 0.5. Where giving the label to every image is best, also to one of probability 0, it is -1.

    Raises:
        DataError: no images, shapes that do not fit, or labels other than 0 and 1.
        NonFiniteLossError: a probability is NaN or infinite.
    """
    check_values(probabilities, [""] * (probabilities.shape[1] if probabilities.ndim == 2 else 1))
    positive = check_marks(labels, probabilities.shape)
    return np.array(
        [_best_cut(probabilities[:, k], positive[:, k]) for k in range(probabilities.shape[1])], np.float64
    )


def _best_cut(probabilities: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    num_positive = int(positive.sum())
    if num_positive == 0:
        return _EVEN
    values, hits, given = _hits_by_cut(probabilities, positive)
    # F1 = 2 hits / (given + positives). Equal fractions have equal quotients; the first is the highest cut.
    best = int(np.argmax(hits / (given + num_positive)))
    above = float(values[best])
    if best + 1 == len(values):
        return above / 2 if above > 0 else -1.0
    below = float(values[best + 1])
    middle = below + (above - below) / 2
    return middle if middle < above else below


def _hits_by_cut(
    probabilities: NDArray[np.floating], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct probabilities, falling; how many at or above each are positive, and in all."""
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    hits = np.cumsum(positive[order])[last_of_tie]
    return ranked[last_of_tie], hits, np.flatnonzero(last_of_tie) + 1


def _average_precision(probabilities: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    num_positive = int(positive.sum())
    if num_positive == 0:
        return None
    _, hits, given = _hits_by_cut(probabilities, positive)
    return float(np.sum(np.diff(hits, prepend=0) * (hits / given)) / num_positive)
