"""Two networks on the same images: which is correct where the other is wrong, and what that can show.

Paired figures are far sharper than two separate intervals: an image that both classify correctly, or both
wrongly, says nothing about which one is better, and most images are of that kind.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError, NonFiniteLossError, UsageError

_POWER = 0.8
_EXACT = 1000  # up to this many flips a binomial chance is a quotient of whole numbers
_CHUNK = 4_000_000  # numbers drawn at a time when means are resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How A and B did on the same images. Rates are fractions in [0, 1]; differences are B minus A.

    Attributes:
        both_correct: images that both classify correctly.
        only_a: images that only A classifies correctly.
        only_b: images that only B classifies correctly.
        both_wrong: images that neither classifies correctly.
        difference: accuracy of B minus accuracy of A, in [-1, 1].
        low: lower end of the bootstrap interval of the difference.
        high: upper end.
        level: confidence level of that interval.
        p_exact: McNemar's exact two-sided p: the chance of so lopsided a split of the ``only_a + only_b``
            images, or a more lopsided one, if either were as likely.
        p_mid: the mid-p version: it counts the observed split by half and is less conservative.
    """

    both_correct: int
    only_a: int
    only_b: int
    both_wrong: int
    difference: float
    low: float
    high: float
    level: float
    p_exact: float
    p_mid: float

    @property
    def num_images(self) -> int:
        """Number of images, at least 1."""
        return self.both_correct + self.only_a + self.only_b + self.both_wrong

    @property
    def accuracy_a(self) -> float:
        """Share of the images that A classifies correctly."""
        return (self.both_correct + self.only_a) / self.num_images

    @property
    def accuracy_b(self) -> float:
        """Share of the images that B classifies correctly."""
        return (self.both_correct + self.only_b) / self.num_images

    @property
    def significant(self) -> bool:
        """Whether McNemar's exact p is below 1 - ``level``: the rule that ``verdict`` goes by."""
        return self.p_exact < 1.0 - self.level

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "num_images": self.num_images,
            "both_right": self.both_correct,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "both_wrong": self.both_wrong,
            "difference": self.difference,
            "interval": [self.low, self.high],
            "level": self.level,
            "p_exact": self.p_exact,
            "p_mid": self.p_mid,
        }


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """The mean of B's values minus the mean of A's, with its bootstrap interval ``low`` to ``high``."""

    difference: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {"difference": self.difference, "interval": [self.low, self.high]}


@dataclass(frozen=True, slots=True)
class ClassDifference:
    """How A and B did on the images of one class.

    Attributes:
        name: the class name.
        paired: the comparison on its images.
        p_holm: McNemar's exact p after Holm's correction for the number of classes.
    """

    name: str
    paired: Paired
    p_holm: float


def paired(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Paired:
    """Compare which of two networks is correct on the same images.

    Args:
        correct_a: ``N`` booleans (or 0 and 1): whether A is correct on each image.
        correct_b: the same of B, in the same order. Any common order gives the same result to the bit.
        seed: of the resampling, 0 or more.
        resamples: bootstrap samples, at least 100.
        level: confidence level in (0, 1).

    Returns:
        Counts, difference, interval and p-values.

    Raises:
        DataError: no images, different lengths, or values other than 0 and 1.
        UsageError: a level, seed or number of samples out of range.

    Paper: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 12, 1947 (p in its exact, binomial form); mid-p after M. W. Fagerland et
        al., "The McNemar test for binary matched-pairs data", BMC Medical Research Methodology 13:91, 2013;
        interval: percentile bootstrap, B. Efron and R. Tibshirani, "An introduction to the bootstrap", 1993,
        ch. 13.
    Departures: a bootstrap sample of N images is drawn as counts of the three kinds of image (a multinomial),
        which is the same distribution as drawing images. Where all images are of one kind no sample can
        differ, and the interval would have no width; it then reaches as far as the other kinds could hide:
        their share is at most ``1 - ((1 - level) / 2) ** (1 / N)`` (Clopper and Pearson's bound for none).
    """
    _check_settings(seed, resamples, level)
    a, b = _booleans(correct_a, "correct_a"), _booleans(correct_b, "correct_b")
    if len(a) != len(b):
        raise DataError(
            f"expected both networks' predictions on the same images, got {len(a):,} and {len(b):,}: evaluate"
            " both on the same `data` and `split`"
        )
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((b & ~a).sum())
    num = len(a)
    low, high = _bootstrap(only_a, only_b, num, seed, resamples, level)
    exact, mid = mcnemar(only_a, only_b)
    return Paired(
        both_correct=both,
        only_a=only_a,
        only_b=only_b,
        both_wrong=num - both - only_a - only_b,
        difference=(only_b - only_a) / num,
        low=low,
        high=high,
        level=level,
        p_exact=exact,
        p_mid=mid,
    )


def paired_means(
    values_a: NDArray[np.floating],
    values_b: NDArray[np.floating],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> MeanDifference:
    """Compare the means of per-image values, such as losses, on the same images.

    Args:
        values_a: ``N`` finite numbers, one for each image.
        values_b: the same of B, in the same order. Any common order gives the same result to the bit.
        seed: of the resampling, 0 or more.
        resamples: bootstrap samples, at least 100. Each draws ``N`` images.
        level: confidence level in (0, 1).

    Returns:
        Mean of B minus mean of A, with the percentile bootstrap interval. One image gives an interval
        of no width: it says nothing.

    Raises:
        DataError: no values, or different lengths.
        NonFiniteLossError: a value is NaN or infinite.
        UsageError: a level, seed or number of samples out of range.
    """
    _check_settings(seed, resamples, level)
    if values_a.shape != values_b.shape or values_a.ndim != 1 or not len(values_a):
        raise DataError(
            f"expected one value for each image of both networks, got shapes {values_a.shape} and"
            f" {values_b.shape}: evaluate both on the same `data` and `split`"
        )
    gains = np.sort(values_b.astype(np.float64) - values_a.astype(np.float64))
    if not np.isfinite(gains).all():
        raise NonFiniteLossError(
            "expected finite values to compare, got NaN or infinity: a network has diverged, so train it"
            " again with a lower learning rate"
        )
    draw = np.random.default_rng(seed)
    num = len(gains)
    means = np.empty(resamples)
    step = max(1, _CHUNK // num)
    for begin in range(0, resamples, step):
        rows = min(step, resamples - begin)
        means[begin : begin + rows] = gains[draw.integers(0, num, (rows, num))].mean(axis=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return MeanDifference(math.fsum(gains) / num, low, high)


def paired_by_class(
    correct_a: NDArray[Any],
    correct_b: NDArray[Any],
    labels: NDArray[np.integer],
    classes: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[ClassDifference, ...]:
    """Compare class by class, the class that differs most first.

    Args:
        correct_a: as in ``paired``.
        correct_b: as in ``paired``.
        labels: ``N`` true class indices.
        classes: class names.
        seed: as in ``paired``.
        resamples: as in ``paired``.
        level: as in ``paired``.

    Returns:
        One entry for each class that has images: by falling size of the difference in recall, then by p,
        then by class index. Holm's correction is over these classes.
    """
    a, b = _booleans(correct_a, "correct_a"), _booleans(correct_b, "correct_b")
    if not len(a) == len(b) == len(labels):
        raise DataError(
            f"expected one label for each of {len(a):,} and {len(b):,} predictions, got {len(labels):,}:"
            " compare predictions on the same images"
        )
    present = [k for k in range(len(classes)) if (labels == k).any()]
    found = [
        paired(a[labels == k], b[labels == k], seed=seed, resamples=resamples, level=level) for k in present
    ]
    return most_different_first([classes[k] for k in present], found)


def most_different_first(classes: Sequence[str], found: Sequence[Paired]) -> tuple[ClassDifference, ...]:
    """Correct the classes' comparisons for their number, and sort them as ``paired_by_class``."""
    corrected = holm([one.p_exact for one in found])
    entries = [ClassDifference(name, one, p) for name, one, p in zip(classes, found, corrected, strict=True)]
    return tuple(sorted(entries, key=lambda entry: (-abs(entry.paired.difference), entry.paired.p_exact)))


def mcnemar(only_a: int, only_b: int) -> tuple[float, float]:
    """Return McNemar's two-sided p from the numbers of images on which one alone is correct.

    Args:
        only_a: images that only A classifies correctly.
        only_b: images that only B classifies correctly.

    Returns:
        The exact p, ``min(1, 2 P(X <= min(only_a, only_b)))`` with X binomial(only_a + only_b, 1/2), and the
        mid-p, which counts the observed value by half. Both are 1 where there are no such images.
    """
    num, few = only_a + only_b, min(only_a, only_b)
    if num <= _EXACT:
        chance = math.comb(num, few) / 2**num
    else:
        ways = math.lgamma(num + 1) - math.lgamma(few + 1) - math.lgamma(num - few + 1)
        chance = math.exp(ways - num * math.log(2))
    term, terms = 1.0, [1.0]
    for k in range(few, 0, -1):
        term *= k / (num - k + 1)
        if term < 1e-18:
            break
        terms.append(term)
    tail = chance * math.fsum(terms)
    return min(1.0, 2 * tail), min(1.0, 2 * tail - chance)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p-values for their number: any of them below 5% is then wrong in at most 5% of cases.

    Args:
        p_values: of all the comparisons made, in any order.

    Returns:
        Corrected p-values in the same order, in [0, 1].

    Paper: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
        Statistics 6, 1979.
    """
    num = len(p_values)
    corrected = [0.0] * num
    largest = 0.0
    for rank, k in enumerate(sorted(range(num), key=lambda k: p_values[k])):
        largest = max(largest, min(1.0, (num - rank) * p_values[k]))
        corrected[k] = largest
    return tuple(corrected)


def images_needed(difference: float, discordant: float, *, level: float = 0.95, power: float = 0.8) -> int:
    """Return how many images a McNemar test needs to show a difference of accuracies.

    Args:
        difference: of the accuracies, in [-1, 1] and not 0.
        discordant: share of images on which one alone is correct, at least ``abs(difference)``.
        level: 1 minus the test's two-sided error rate.
        power: chance of showing the difference if it is there.

    Returns:
        Number of images, rounded up: ``((z_level sqrt(s) + z_power sqrt(s - d^2)) / d)^2`` with s the
        discordant share and d the difference.

    Raises:
        UsageError: no difference, or an impossible share.

    Paper: R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design",
        Biometrics 43, 1987.
    """
    if not 0 < abs(difference) <= discordant <= 1:
        raise UsageError(
            f"expected a difference other than 0 and a discordant share of at least its size, got"
            f" {difference} and {discordant}: nothing can show a difference of 0"
        )
    z_level = NormalDist().inv_cdf((1 + level) / 2)
    z_power = NormalDist().inv_cdf(power)
    reach = z_level * math.sqrt(discordant) + z_power * math.sqrt(max(0.0, discordant - difference**2))
    return math.ceil((reach / difference) ** 2)


def verdict(found: Paired, a: str = "A", b: str = "B", *, p: float | None = None) -> str:
    """Return what a comparison shows, in one plain sentence.

    A difference counts as shown when McNemar's exact p is below 1 - level. Otherwise the sentence says how
    many images would show a difference of the size that was seen (``images_needed``, power 80%, at the share
    of discordant images that was seen).

    Args:
        found: the comparison.
        a: what to call A.
        b: what to call B.
        p: printed where no difference is shown, such as one corrected for several comparisons; None:
            McNemar's exact p.
    """
    digits = 2 if found.num_images >= 1000 else 1
    low, high = f"{100 * found.low:z.{digits}f}", f"{100 * found.high:z.{digits}f}"
    size = f"{abs(100 * found.difference):z.{digits}f} points"
    discordant = found.only_a + found.only_b
    if found.significant:
        if found.difference > 0:
            return f"{b} is better by {size} ({low} to {high})"
        swapped = (f"{-100 * found.high:z.{digits}f}", f"{-100 * found.low:z.{digits}f}")
        return f"{a} is better by {size} ({swapped[0]} to {swapped[1]})"
    nothing = "no difference that this test set can show"
    if not discordant:
        return f"{nothing}: {a} and {b} are correct on exactly the same images"
    if found.only_a == found.only_b:
        each = "1 image" if found.only_a == 1 else f"{found.only_a:,} images"
        return f"{nothing}: each is correct on {each} where the other is wrong"
    needed = images_needed(found.difference, discordant / found.num_images, level=found.level, power=_POWER)
    number = _rounded(max(needed, found.num_images + 1))
    return (
        f"{nothing}: {b} minus {a} is {100 * found.difference:+z.{digits}f} points ({low} to {high}), p"
        f" {format_p(found.p_exact if p is None else p)}; about {number} images would be needed to show one"
        " of this size"
    )


def format_p(p: float) -> str:
    """Write a p-value with two or three digits; tiny ones as a bound."""
    if p < 0.0001:
        return "below 0.0001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}" if p >= 0.001 else f"{p:.4f}"


def _rounded(number: int) -> str:
    """Write a number rounded up to two significant digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // unit) * unit:,}"


def _bootstrap(
    only_a: int, only_b: int, num: int, seed: int, resamples: int, level: float
) -> tuple[float, float]:
    tail = (1 - level) / 2
    if num in (only_a, only_b, num - only_a - only_b):
        hidden = 1 - tail ** (1 / num)
        difference = (only_b - only_a) / num
        if difference == 0:
            return -hidden, hidden
        far = difference * (1 - 2 * hidden)
        return min(far, difference), max(far, difference)
    shares = np.array([only_a, only_b, num - only_a - only_b]) / num
    counts = np.random.default_rng(seed).multinomial(num, shares, resamples)
    low, high = np.quantile((counts[:, 1] - counts[:, 0]) / num, (tail, 1 - tail)).tolist()
    return low, high


def _booleans(correct: NDArray[Any], name: str) -> NDArray[np.bool_]:
    if correct.ndim != 1 or not len(correct) or not np.isin(correct, (0, 1)).all():
        raise DataError(
            f"expected {name} to hold one True or False for each of at least one image, got shape"
            f" {correct.shape} {correct.dtype}: compare predictions with labels first"
        )
    return correct.astype(bool)


def _check_settings(seed: int, resamples: int, level: float) -> None:
    if seed < 0 or resamples < 100 or not 0.0 < level < 1.0:
        raise UsageError(
            f"expected a seed of at least 0, at least 100 resamples and a level in (0, 1), got {seed},"
            f" {resamples} and {level}"
        )
