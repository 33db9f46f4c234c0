"""Images to look at first: those of the highest loss, and those whose label is likely wrong.

Both rank a network's predictions on images that it was **not trained on**: a validation or test part, or
cross-validated predictions. A network that has memorised a wrong label finds nothing wrong with it.
"""

import statistics
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.metrics.calibration import losses_of
from striate.metrics.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image whose label and prediction do not agree.

    Attributes:
        position: row in the predictions.
        file: name of the image.
        given: class index of its label.
        suggested: class index that the prediction suggests.
        p_given: probability of the label, in [0, 1].
        p_suggested: probability of the suggested class, in [0, 1].
        loss: cross-entropy of the label in nats.
        margin: ``p_given`` minus the highest probability of any other class, in [-1, 1]; the lower, the
            likelier is a wrong label.
    """

    position: int
    file: str
    given: int
    suggested: int
    p_given: float
    p_suggested: float
    loss: float
    margin: float


def top_losses(predictions: Predictions, n: int, *, temperature: float = 1.0) -> tuple[Suspect, ...]:
    """Return the images of highest cross-entropy, highest first.

    They are hard, odd, broken or wrongly labelled. ``suggested`` is the most probable class (of equals the
    lowest index); it may be the label itself.

    Args:
        predictions: on images that the network was not trained on; one label each.
        n: how many at most.
        temperature: what logits are divided by, above 0.

    Returns:
        Up to ``n`` images by falling loss; equal ones by file name, so the order of the images does not
        matter.

    Raises:
        UsageError: images with several labels.
        DataError: no images, or a label out of range.
        NonFiniteLossError: a logit is NaN or infinite.
    """
    p, losses = _probabilities_and_losses(predictions, temperature)
    suggested = predictions.logits.argmax(axis=1)
    order = sorted(range(len(losses)), key=lambda i: (-losses[i], predictions.files[i]))[: max(n, 0)]
    return tuple(_suspect(predictions, p, losses, i, int(suggested[i])) for i in order)


def class_thresholds(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return for each class the mean probability that the images labelled so give to it.

    Args:
        probabilities: ``N x K``.
        labels: ``N`` class indices as given, some of them perhaps wrong.

    Returns:
        ``K`` means, correctly rounded; NaN for a class that labels no image.

    Paper: C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident learning: estimating uncertainty in dataset
        labels", JAIR 70, 2021, section 3.1 (equation 2).
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    means = np.full(probabilities.shape[1], np.nan)
    for k in np.unique(labels).tolist():
        means[k] = statistics.mean(own[labels == k].tolist())  # exact sum: the order of images can't matter
    return means


def label_errors(
    predictions: Predictions, n: int | None = None, *, temperature: float = 1.0
) -> tuple[Suspect, ...]:
    """Return the images whose label is likely wrong, by confident learning.

    A class is a candidate for an image when its probability is at or above the class's threshold: the mean
    probability that the images labelled so give to it. The image is suspect when the most probable candidate
    is another class than its label; that class is ``suggested``. Where the label and another candidate are
    equally probable, the label stays; of other equal ones the lowest index is suggested. A class that labels
    no image is never suggested.

    Suspects are ranked by normalised margin: the probability of the label minus the highest probability of
    any other class, lowest first.

    Args:
        predictions: on images that the network was **not trained on**; one label each. On its training
            images a network repeats its labels, correct or not.
        n: how many at most; None for all.
        temperature: what logits are divided by, above 0.

    Returns:
        Suspects by rising margin; equal ones by falling loss, then by file name.

    Raises:
        UsageError: images with several labels.
        DataError: no images, or a label out of range.
        NonFiniteLossError: a logit is NaN or infinite.

    Paper: C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident learning: estimating uncertainty in dataset
        labels", JAIR 70, 2021: candidates by equation 1, thresholds by equation 2, the off-diagonal of the
        confident joint as suspects, normalised margin as the rank.
    Departures: the suspects are all images off the diagonal; the paper's prune-by-class and
        prune-by-noise-rate variants take as many as the calibrated joint estimates.
    """
    p, losses = _probabilities_and_losses(predictions, temperature)
    labels = predictions.labels
    with np.errstate(invalid="ignore"):
        candidate = p >= class_thresholds(p, labels)  # never for NaN, the threshold of a class without labels
    value = np.where(candidate, p, -1.0)
    best = value.argmax(axis=1)
    rows = np.arange(len(labels))
    suspect = (best != labels) & (value[rows, best] > value[rows, labels])
    found = [_suspect(predictions, p, losses, i, int(best[i])) for i in np.flatnonzero(suspect).tolist()]
    found.sort(key=lambda one: (one.margin, -one.loss, one.file))
    return tuple(found if n is None else found[: max(n, 0)])


def _probabilities_and_losses(
    predictions: Predictions, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``N x K`` probabilities and ``N`` losses in nats."""
    if predictions.multi_label:
        raise UsageError(
            "expected predictions on images with one label each, got several labels an image:"
            " look at the average precision of each class instead"
        )
    losses = losses_of(predictions.logits, predictions.labels, temperature)
    return predictions.probabilities(temperature), losses


def _suspect(
    predictions: Predictions, p: NDArray[np.float64], losses: NDArray[np.float64], i: int, suggested: int
) -> Suspect:
    given = int(predictions.labels[i])
    others = np.delete(p[i], given)
    return Suspect(
        position=i,
        file=predictions.files[i],
        given=given,
        suggested=suggested,
        p_given=float(p[i, given]),
        p_suggested=float(p[i, suggested]),
        loss=float(losses[i]),
        margin=float(p[i, given] - (others.max() if len(others) else 0.0)),
    )
