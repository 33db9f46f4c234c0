"""What networks predict on a set of images: what statistics, blends and reports are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.metrics.multilabel import MultiLabelScores, score_multilabel
from striate.metrics.scores import Scores, score


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Predictions:
    """One network's (or blend's) predictions on a set of images.

    Attributes:
        name: of the network, for tables; with its protocol where that is not a single crop.
        classes: the ``K`` class names.
        files: ``N`` image names, each once; they and the labels say whether two are of one set.
        labels: ``N`` int64 class indices, or ``N x K`` float32 in {0, 1} for multi-label data.
        logits: ``N x K`` float32. Their softmax (sigmoid for multi-label data) are the probabilities;
            where a protocol averages probabilities, the logits are the logarithms (log-odds) of the averages.
        split: which images these are, in words.
        temperature: what the network divides its logits by when it predicts (``Bundle.temperature``);
            ``scores`` and ``probabilities`` use it only where it is passed to them.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: NDArray[Any]
    logits: NDArray[np.float32]
    split: str = ""
    temperature: float = 1.0

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.labels.ndim == 2

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, ``N``.

        The most probable class is the true one (of equals the lower index counts as predicted, as in
        ``score``); for multi-label data, every label is correct at a probability of 0.5.
        """
        if self.multi_label:
            return np.asarray(((self.logits > 0) == (self.labels > 0.5)).all(axis=1))
        return np.asarray(self.logits.argmax(axis=1) == self.labels)

    def probabilities(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """Return ``N x K`` probabilities of the logits divided by ``temperature`` (above 0)."""
        return probabilities(self.logits, multi_label=self.multi_label, temperature=temperature)

    def scores(self, temperature: float = 1.0) -> Scores | MultiLabelScores:
        """Score the predictions.

        Raises:
            NonFiniteLossError: a logit is NaN or infinite.
        """
        made = score_multilabel if self.multi_label else score
        return made(self.probabilities(temperature), self.labels, self.classes)


def probabilities(
    logits: NDArray[np.floating], *, multi_label: bool, temperature: float = 1.0
) -> NDArray[np.float64]:
    """Turn logits into probabilities.

    Args:
        logits: ``N x K``, finite.
        multi_label: each class by itself (sigmoid), or one distribution for each row (softmax).
        temperature: what logits are divided by first, above 0.

    Returns:
        ``N x K`` values in [0, 1].
    """
    scaled = logits.astype(np.float64) / temperature
    return sigmoid(scaled) if multi_label else softmax(scaled)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``1 / (1 + exp(-x))`` of each value, without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))


def logits_of(probabilities: NDArray[np.floating], *, multi_label: bool) -> NDArray[np.float32]:
    """Return logits whose softmax (sigmoid) gives back the probabilities; 0 and 1 stay finite."""
    p = np.maximum(probabilities.astype(np.float64), 1e-38)
    if multi_label:
        return (np.log(p) - np.log(np.maximum(1.0 - probabilities, 1e-38))).astype(np.float32)
    return np.log(p).astype(np.float32)


def on_same_images(several: Sequence[Predictions]) -> tuple[Predictions, ...]:
    """Put predictions into the first one's order of images and classes.

    Args:
        several: at least one.

    Raises:
        DataError: they are not of the same images with the same labels, or of other classes.
    """
    first = several[0]
    row_of = {file: i for i, file in enumerate(first.files)}
    aligned = [first]
    for other in several[1:]:
        if sorted(other.classes) != sorted(first.classes) or other.multi_label != first.multi_label:
            raise DataError(
                f"expected predictions of the same classes, got {first.name} ({len(first.classes)} classes)"
                f" and {other.name} ({len(other.classes)}): compare networks of the same task"
            )
        if (
            len(row_of) != len(first.files)
            or len(other.files) != len(row_of)
            or any(file not in row_of for file in other.files)
        ):
            raise DataError(
                f"expected predictions on the same images, got {len(first.files):,} of {first.name} and"
                f" {len(other.files):,} of {other.name} that differ: evaluate both on the same `data`"
                " and `split`"
            )
        rows = np.empty(len(first.files), np.int64)
        rows[[row_of[file] for file in other.files]] = np.arange(len(first.files))
        columns = [other.classes.index(name) for name in first.classes]
        renumbered = np.argsort(columns)  # a class's index there -> its index here
        labels = other.labels[rows][:, columns] if other.multi_label else renumbered[other.labels[rows]]
        if not np.array_equal(labels, first.labels):
            raise DataError(
                f"expected the same labels, got images of {other.name} that are labelled otherwise than"
                f" those of {first.name}: evaluate both on the same `data`"
            )
        logits = other.logits[rows][:, columns]
        aligned.append(
            replace(other, classes=first.classes, files=first.files, labels=first.labels, logits=logits)
        )
    return tuple(aligned)


def on_common_images(several: Sequence[Predictions]) -> tuple[tuple[Predictions, ...], str]:
    """Keep the images that all predictions share, in the first one's order.

    Args:
        several: at least one.

    Returns:
        The predictions, and a note: empty where all were of the same images already. Otherwise each takes
        the ``split`` of the smallest one.

    Raises:
        DataError: they share no image, an image's name occurs twice, or as ``on_same_images``.
    """
    sets = [set(one.files) for one in several]
    common = set.intersection(*sets)
    if not common or all(one == common for one in sets):
        return on_same_images(several), ""
    if any(len(files) != len(one.files) for files, one in zip(sets, several, strict=True)):
        raise DataError(
            "expected a different name for every image, got the same name twice: rename the images"
        )
    smallest = min(several, key=lambda one: len(one.files))
    kept = []
    for one in several:
        rows = np.array([i for i, file in enumerate(one.files) if file in common], np.int64)
        files = tuple(one.files[i] for i in rows.tolist())
        kept.append(
            replace(one, files=files, labels=one.labels[rows], logits=one.logits[rows], split=smallest.split)
        )
    sizes = sorted({len(files) for files in sets})
    note = (
        f"not all networks were tested on the same images ({sizes[0]:,} to {sizes[-1]:,}): the figures are of"
        f" the {len(common):,} that all share"
    )
    return on_same_images(kept), note
