"""Whether probabilities mean what they say: reliability bins, calibration error, and the temperature.

A network is calibrated when 80% of its predictions with a probability of 80% are correct.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.metrics.checks import check_labels, check_marks, check_values
from striate.metrics.predictions import probabilities as probabilities_of
from striate.metrics.scores import Interval, wilson

NUM_BINS = 15  # Guo et al. 2017, table 1
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0  # the range that a temperature is sought in


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions of about one confidence. Rates are fractions in [0, 1].

    Attributes:
        above: the bin holds confidences above this (the first one also 0) ...
        upto: ... and up to this.
        num: predictions in the bin; 0 leaves ``confidence`` and ``accuracy`` at None.
        confidence: their mean confidence.
        accuracy: share of them that is correct.
        interval: 95% Wilson interval of that share; the whole of [0, 1] for an empty bin.
    """

    above: float
    upto: float
    num: int
    confidence: float | None
    accuracy: float | None
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well probabilities mean what they say, at one temperature.

    Attributes:
        temperature: what the logits were divided by.
        num_images: number of images.
        nll: mean negative log likelihood in nats (multi-label: mean binary cross-entropy).
        ece: expected calibration error with bins of equal width, in [0, 1].
        ece_equal_mass: the same with bins of equally many predictions.
        brier: Brier score; 0 is best.
        bins: of equal width.
    """

    temperature: float
    num_images: int
    nll: float
    ece: float
    ece_equal_mass: float
    brier: float
    bins: tuple[ReliabilityBin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "temperature": self.temperature,
            "num_images": self.num_images,
            "nll": self.nll,
            "ece": self.ece,
            "ece_equal_mass": self.ece_equal_mass,
            "brier": self.brier,
            "bins": [
                {
                    "above": one.above,
                    "upto": one.upto,
                    "num": one.num,
                    "confidence": one.confidence,
                    "accuracy": one.accuracy,
                    "interval": [one.interval.low, one.interval.high],
                }
                for one in self.bins
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureFit:
    """A temperature and what it does on the images it was fitted on.

    Attributes:
        temperature: to divide logits by; 1 where the images determine none.
        note: why it stayed at 1, or empty.
        before: calibration of these images at a temperature of 1.
        after: at ``temperature``.
    """

    temperature: float
    note: str
    before: Calibration
    after: Calibration

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``, without the bins."""
        return {
            "temperature": self.temperature,
            "num_images": self.before.num_images,
            "nll_before": self.before.nll,
            "nll_after": self.after.nll,
            "ece_before": self.before.ece,
            "ece_after": self.after.ece,
            "note": self.note,
        }


def reliability(
    probabilities: NDArray[np.floating],
    labels: NDArray[Any],
    *,
    num_bins: int = NUM_BINS,
    equal_mass: bool = False,
) -> tuple[ReliabilityBin, ...]:
    """Sort predictions into bins of confidence and count how many of each are correct.

    For single-label data an image gives one prediction, its most probable class (of equals the first), with
    that probability as its confidence. For multi-label data each image gives one prediction for each class,
    "present", with the class's probability; it is correct where the label is 1.

    Args:
        probabilities: ``N x K``.
        labels: ``N`` class indices, or ``N x K`` of 0 and 1.
        num_bins: number of bins, at least 1.
        equal_mass: bins of equally many predictions instead of equal width. Predictions of the same
            confidence stay in one bin, so there may be fewer bins and their sizes may differ.

    Returns:
        Bins by rising confidence; all ``num_bins`` of equal width, empty ones too.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a probability is NaN or infinite.
        UsageError: no bins.

    Paper: equal width: C. Guo et al., "On calibration of modern neural networks", ICML 2017, sec. 2; bin m of
        M holds ((m-1)/M, m/M]. Equal mass: K. Nguyen and B. O'Connor, "Posterior calibration and exploratory
        analysis for natural language processing models", EMNLP 2015.
    """
    if num_bins < 1:
        raise UsageError(f"expected at least one bin, got {num_bins}")
    _check(probabilities, labels, "probabilities")
    values = probabilities.astype(np.float64)
    if labels.ndim == 1:
        best = values.argmax(axis=1)
        confidence, correct = values[np.arange(len(values)), best], best == labels
    else:
        confidence, correct = values.ravel(), labels.ravel().astype(bool)
    order = np.argsort(confidence, kind="stable")
    confidence, correct = confidence[order], correct[order]
    if equal_mass:
        first_of_tie = np.searchsorted(confidence, confidence, side="left")
        bin_of = np.unique(first_of_tie * num_bins // len(confidence), return_inverse=True)[1]
        last = [int(np.flatnonzero(bin_of == m)[-1]) for m in range(int(bin_of.max()) + 1)]
        edges = [0.0, *(float(confidence[k]) for k in last)]
    else:
        edges = [m / num_bins for m in range(num_bins + 1)]
        bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, num_bins - 1)
    return tuple(
        _bin(edges[m], edges[m + 1], confidence[bin_of == m], correct[bin_of == m])
        for m in range(len(edges) - 1)
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Return the expected calibration error: the mean gap of confidence and accuracy over all predictions.

    Paper: Guo et al. 2017, eq. 3.
    """
    num = sum(one.num for one in bins)
    return math.fsum(
        one.num / num * abs(one.accuracy - one.confidence)
        for one in bins
        if one.accuracy is not None and one.confidence is not None
    )


def brier(probabilities: NDArray[np.floating], labels: NDArray[Any]) -> float:
    """Return the mean squared distance between probabilities and the truth.

    Args:
        probabilities: ``N x K``.
        labels: ``N`` class indices: the squares are summed over the classes, 0 (best) to 2, as in Brier's
            paper; or ``N x K`` of 0 and 1: their mean over the classes, 0 to 1.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a probability is NaN or infinite.

    Paper: G. W. Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review
        78, 1950, eq. 2.
    """
    _check(probabilities, labels, "probabilities")
    distance = probabilities.astype(np.float64)
    if labels.ndim == 1:
        distance[np.arange(len(labels)), labels] -= 1.0
        return _mean((distance**2).sum(axis=1))
    return _mean(((distance - labels) ** 2).mean(axis=1))


def losses_of(
    logits: NDArray[np.floating], labels: NDArray[Any], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Return each image's cross-entropy in nats, of logits divided by a temperature.

    Args:
        logits: ``N x K``.
        labels: ``N`` class indices (softmax), or ``N x K`` of 0 and 1 (sigmoids; the mean over classes).
        temperature: above 0.

    Returns:
        ``N`` float64.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a logit is NaN or infinite.
    """
    _check(logits, labels, "logits")
    scaled = logits.astype(np.float64) / temperature
    if labels.ndim == 1:
        shifted = scaled - scaled.max(axis=1, keepdims=True)
        true = shifted[np.arange(len(labels)), labels]
        return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - true)
    return np.asarray(np.logaddexp(0.0, np.where(labels == 1, -scaled, scaled)).mean(axis=1))


def negative_log_likelihood(
    logits: NDArray[np.floating], labels: NDArray[Any], temperature: float = 1.0
) -> float:
    """Return the mean cross-entropy in nats; arguments and errors as in ``losses_of``."""
    return _mean(losses_of(logits, labels, temperature))


def calibration(
    logits: NDArray[np.floating],
    labels: NDArray[Any],
    temperature: float = 1.0,
    *,
    num_bins: int = NUM_BINS,
) -> Calibration:
    """Measure the calibration of logits divided by a temperature.

    Args:
        logits: ``N x K``.
        labels: ``N`` class indices, or ``N x K`` of 0 and 1.
        temperature: above 0.
        num_bins: of the calibration error.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a logit is NaN or infinite.
    """
    _check(logits, labels, "logits")
    probabilities = probabilities_of(logits, multi_label=labels.ndim == 2, temperature=temperature)
    bins = reliability(probabilities, labels, num_bins=num_bins)
    alike = reliability(probabilities, labels, num_bins=num_bins, equal_mass=True)
    return Calibration(
        temperature=temperature,
        num_images=len(logits),
        nll=negative_log_likelihood(logits, labels, temperature),
        ece=calibration_error(bins),
        ece_equal_mass=calibration_error(alike),
        brier=brier(probabilities, labels),
        bins=bins,
    )


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[Any]) -> float:
    """Find the temperature at which the images' negative log likelihood is lowest.

    The images must not be ones that the network was trained on: there every network is overconfident. The
    order of the classes never changes, and so neither does the accuracy.

    Args:
        logits: ``N x K`` of validation images, not yet divided by anything.
        labels: ``N`` class indices, or ``N x K`` of 0 and 1: one temperature for all classes, by binary
            cross-entropy.

    Returns:
        The temperature, within ``MIN_TEMPERATURE`` and ``MAX_TEMPERATURE``. An end of that range means that
        the images set no bound there: all are correct (the likelihood keeps rising as the temperature falls),
        or the predictions are no better than guessing. Logits that are equal for all classes give 1: no
        temperature changes them. Any order of the images gives the same temperature to the bit.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a logit is NaN or infinite.

    Paper: Guo et al. 2017, sec. 4.2.
    Departures: the paper does not say how it minimises. The likelihood is convex in 1 / T, so the zero of
        its slope is found by Newton steps kept inside a bracket.
    """
    _check(logits, labels, "logits")
    values = logits.astype(np.float64)
    if labels.ndim == 1:
        values = values - values.max(axis=1, keepdims=True)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if _slope(values, labels, low)[0] >= 0:
        return MAX_TEMPERATURE if _slope(values, labels, high)[0] > 0 else 1.0
    if _slope(values, labels, high)[0] <= 0:
        return MIN_TEMPERATURE
    inverse = 1.0
    for _ in range(200):
        slope, curvature = _slope(values, labels, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        step = inverse - slope / curvature if curvature > 0 else 0.0
        following = step if low < step < high else math.sqrt(low * high)
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return 1 / inverse


def temperature_fit(logits: NDArray[np.floating], labels: NDArray[Any]) -> TemperatureFit:
    """Fit a temperature and measure its effect; keep 1 where the images determine none.

    Args:
        logits: as in ``fit_temperature``.
        labels: as in ``fit_temperature``.

    Raises:
        DataError: no images, or shapes that do not fit.
        NonFiniteLossError: a logit is NaN or infinite.

    Departures: the paper has no rule for images that are all correct. Their best temperature is 0, which
        would make every prediction certain; 1 is kept instead, and ``note`` says so.
    """
    fitted = fit_temperature(logits, labels)
    num = f"{len(logits):,} image{'s' if len(logits) > 1 else ''}"
    note = ""
    if fitted >= MAX_TEMPERATURE:
        note = f"the predictions for the {num} are no better than guessing: the temperature stays at 1"
    elif fitted <= MIN_TEMPERATURE:
        wrong = logits.argmax(axis=1) != labels if labels.ndim == 1 else (logits > 0) != (labels == 1)
        why = "whose logits hardly differ" if wrong.any() else "all of them correct"
        note = f"the {num}, {why}, have no best temperature: it stays at 1"
    temperature = 1.0 if note else fitted
    before = calibration(logits, labels)
    after = before if temperature == 1.0 else calibration(logits, labels, temperature)
    return TemperatureFit(temperature=temperature, note=note, before=before, after=after)


def _slope(values: NDArray[np.float64], labels: NDArray[Any], inverse: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean cross-entropy by ``inverse`` = 1 / T."""
    p = probabilities_of(values * inverse, multi_label=labels.ndim == 2)
    if labels.ndim == 1:
        expected = (p * values).sum(axis=1)
        true = values[np.arange(len(labels)), labels]
        variance = (p * (values - expected[:, None]) ** 2).sum(axis=1)
        return _mean(expected - true), _mean(variance)
    return _mean((values * (p - labels)).mean(axis=1)), _mean((values**2 * p * (1 - p)).mean(axis=1))


def _bin(
    above: float, upto: float, confidence: NDArray[np.float64], correct: NDArray[np.bool_]
) -> ReliabilityBin:
    num, num_correct = len(confidence), int(correct.sum())
    mean, rate = (_mean(confidence), num_correct / num) if num else (None, None)
    return ReliabilityBin(above, upto, num, mean, rate, wilson(num_correct, num))


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean, rounded once: the order of the values does not matter."""
    return math.fsum(values.tolist()) / len(values)


def _check(values: NDArray[np.floating], labels: NDArray[Any], what: str) -> None:
    num_classes = values.shape[1] if values.ndim == 2 else 0
    check_values(values, [""] * num_classes, what)
    if labels.ndim == 1:
        check_labels(labels, len(values), num_classes)
    else:
        check_marks(labels, values.shape)
