"""How each class fares, the averages over classes, and how unequal the classes are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from striate.core.errors import DataError
from striate.metrics.interval import Interval, wilson

Rate = Literal["precision", "recall", "f1"]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fares.

    Attributes:
        name: the class name.
        num_images: images that truly belong to the class (its support).
        num_predicted: images that were predicted as the class, correctly or not.
        num_correct: images of the class that were predicted as it.
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
        """Share of the predictions of this class that are correct; None when it was never predicted."""
        return self.num_correct / self.num_predicted if self.num_predicted else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of recall and precision; None when the class neither occurs nor is predicted."""
        total = self.num_images + self.num_predicted
        return 2 * self.num_correct / total if total else None

    @property
    def recall_interval(self) -> Interval:
        """95% Wilson interval of the recall; the whole of [0, 1] when the class has no images."""
        return wilson(self.num_correct, self.num_images)

    @property
    def counts(self) -> bool:
        """Whether the class is in the averages: it has images, or it was predicted."""
        return self.num_images > 0 or self.num_predicted > 0

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "name": self.name,
            "num_images": self.num_images,
            "num_predicted": self.num_predicted,
            "num_correct": self.num_correct,
            "recall": self.recall,
            "precision": self.precision,
            "f1": self.f1,
        }


def macro(per_class: Sequence[ClassScore], rate: Rate) -> float:
    """Return the plain mean of a rate over the classes that have images or were predicted.

    A rate that is undefined for such a class (the recall of a class without images, the precision of one that
    was never predicted) is 0, so the mean equals scikit-learn's ``average="macro", zero_division=0`` over
    those classes. A class that neither occurs nor was predicted is left out.

    Args:
        per_class: one entry per class.
        rate: which.

    Returns:
        A fraction in [0, 1]; 0 where no class is in.
    """
    values = [getattr(entry, rate) or 0.0 for entry in per_class if entry.counts]
    return float(sum(values) / len(values)) if values else 0.0


def weighted(per_class: Sequence[ClassScore], rate: Rate) -> float:
    """Return the mean of a rate weighted by the images of each class; an undefined rate is 0.

    Classes without images have no weight. Equals scikit-learn's ``average="weighted", zero_division=0``.

    Args:
        per_class: one entry per class.
        rate: which.

    Returns:
        A fraction in [0, 1]; 0 where no class has images.
    """
    num_images = sum(entry.num_images for entry in per_class)
    total = sum(entry.num_images * (getattr(entry, rate) or 0.0) for entry in per_class)
    return float(total / num_images) if num_images else 0.0


def micro(per_class: Sequence[ClassScore], rate: Rate) -> float:
    """Return a rate of all labels counted together, whatever their class.

    Args:
        per_class: one entry per class.
        rate: which.

    Returns:
        A fraction in [0, 1]; 0 where it is undefined. Equals scikit-learn's
        ``average="micro", zero_division=0``.
    """
    everything = ClassScore(
        "",
        sum(entry.num_images for entry in per_class),
        sum(entry.num_predicted for entry in per_class),
        sum(entry.num_correct for entry in per_class),
    )
    return float(getattr(everything, rate) or 0.0)


@dataclass(frozen=True, slots=True)
class Imbalance:
    """How unequal the classes of a set of images are.

    Attributes:
        largest: the class with the most images; of equals the first.
        smallest: the class with the fewest images among those that have any; of equals the first.
        num_classes: number of classes with images.
        num_empty: number of classes without images.
        num_images: images of all classes.
    """

    largest: ClassScore
    smallest: ClassScore
    num_classes: int
    num_empty: int
    num_images: int

    @property
    def ratio(self) -> float:
        """Images of the largest class for each image of the smallest: 1 when all classes are equal."""
        return self.largest.num_images / self.smallest.num_images

    @property
    def majority_share(self) -> float:
        """Share of the largest class: the accuracy of always predicting it."""
        return self.largest.num_images / self.num_images

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "largest": self.largest.name,
            "largest_images": self.largest.num_images,
            "smallest": self.smallest.name,
            "smallest_images": self.smallest.num_images,
            "ratio": self.ratio,
            "majority_share": self.majority_share,
            "classes_without_images": self.num_empty,
        }


def imbalance(per_class: Sequence[ClassScore], num_images: int) -> Imbalance:
    """State how unequal classes are.

    Args:
        per_class: one entry per class.
        num_images: number of images that were scored.

    Raises:
        DataError: no class has an image.
    """
    filled = [entry for entry in per_class if entry.num_images]
    if not filled:
        raise DataError("expected a class with images, got none: check the labels of the data")
    return Imbalance(
        largest=max(filled, key=lambda entry: entry.num_images),
        smallest=min(filled, key=lambda entry: entry.num_images),
        num_classes=len(filled),
        num_empty=len(per_class) - len(filled),
        num_images=num_images,
    )
