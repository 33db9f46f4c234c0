"""Trainings that differ in nothing but the seed: their mean, their spread, and two recipes compared."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from striate.core.errors import DataError


@dataclass(frozen=True, slots=True)
class SeedSummary:
    """The results of several seeds of one recipe, in the unit of the values.

    Attributes:
        num: number of seeds, at least 1.
        mean: their mean.
        spread: sample standard deviation (divisor ``num - 1``); None for one seed, which says nothing of it.
        interval: Student's t interval of the mean, low and high; None for one seed. It is not cut off at 0
            or 1.
        smallest: the lowest value.
        largest: the highest value.
        level: confidence level of the interval.
    """

    num: int
    mean: float
    spread: float | None
    interval: tuple[float, float] | None
    smallest: float
    largest: float
    level: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "num": self.num,
            "mean": self.mean,
            "spread": self.spread,
            "interval": self.interval and list(self.interval),
            "smallest": self.smallest,
            "largest": self.largest,
            "level": self.level,
        }


@dataclass(frozen=True, slots=True)
class SeedDifference:
    """Two recipes, several seeds of each.

    Attributes:
        difference: mean of B minus mean of A.
        interval: Student's t interval of the difference, low and high.
        spread: standard deviation between seeds, both groups pooled.
        level: confidence level of the interval.
    """

    difference: float
    interval: tuple[float, float]
    spread: float
    level: float

    @property
    def within_spread(self) -> bool:
        """Whether the difference is no larger than the change from another seed alone."""
        return abs(self.difference) <= self.spread

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "difference": self.difference,
            "interval": list(self.interval),
            "spread": self.spread,
            "within_spread": self.within_spread,
            "level": self.level,
        }


def summarise(values: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Summarise the results of several seeds of one recipe.

    Args:
        values: one figure for each seed, such as accuracies; any order gives the same result to the bit.
        level: confidence level in (0, 1).

    Returns:
        Mean, spread and interval; spread and interval are None for one value.

    Raises:
        DataError: no values, one that is not finite, or a level out of range.
    """
    _check(values, level)
    num = len(values)
    mean = math.fsum(values) / num
    spread, interval = None, None
    if num > 1:
        spread = math.sqrt(_squares(values) / (num - 1))
        half = student_t((1 + level) / 2, num - 1) * spread / math.sqrt(num)
        interval = (mean - half, mean + half)
    return SeedSummary(num, mean, spread, interval, min(values), max(values), level)


def compare_seeds(
    values_a: Sequence[float], values_b: Sequence[float], level: float = 0.95
) -> SeedDifference:
    """Compare two recipes by several seeds of each.

    Args:
        values_a: one figure for each seed of A, two at least.
        values_b: the same of B.
        level: confidence level in (0, 1).

    Returns:
        Mean of B minus mean of A with Student's two-sample interval, which takes the spread of both to be
        the same: with so few seeds nothing better is known of it.

    Raises:
        DataError: fewer than two values, one that is not finite, or a level out of range.
    """
    for values in (values_a, values_b):
        _check(values, level)
        if len(values) < 2:
            raise DataError(
                "expected at least two seeds of each recipe, got one: train again with another `seed`"
            )
    num_a, num_b = len(values_a), len(values_b)
    spread = math.sqrt((_squares(values_a) + _squares(values_b)) / (num_a + num_b - 2))
    difference = math.fsum(values_b) / num_b - math.fsum(values_a) / num_a
    half = student_t((1 + level) / 2, num_a + num_b - 2) * spread * math.sqrt(1 / num_a + 1 / num_b)
    return SeedDifference(difference, (difference - half, difference + half), spread, level)


def seed_verdict(found: SeedDifference, a: str = "A", b: str = "B", *, digits: int = 2) -> str:
    """Return what the seeds of two recipes show, in one plain sentence; rates are printed as points.

    Args:
        found: the comparison of accuracies (fractions).
        a: what to call A.
        b: what to call B.
        digits: decimals of a point.
    """
    size = f"{100 * abs(found.difference):.{digits}f} points"
    spread = f"{100 * found.spread:.{digits}f} points"
    if found.within_spread:
        return (
            f"no difference that these seeds can show: {size} is no more than the spread between seeds of one"
            f" recipe ({spread}), so another seed alone changes as much"
        )
    low, high = found.interval
    if low <= 0 <= high:
        return (
            f"no difference that these seeds can show: {size} is more than the spread between seeds"
            f" ({spread}), but there are too few of them"
        )
    better = b if found.difference > 0 else a
    ends = (low, high) if found.difference > 0 else (-high, -low)
    return (
        f"{better} is better by {size} ({100 * ends[0]:.{digits}f} to {100 * ends[1]:.{digits}f}); the spread"
        f" between seeds is {spread}"
    )


def student_t(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution.

    Args:
        probability: in [0.5, 1).
        freedom: degrees of freedom, at least 1.
    """
    from scipy.special import stdtrit  # here: it takes a tenth of a second to import

    return float(stdtrit(freedom, probability))


def _squares(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def _check(values: Sequence[float], level: float) -> None:
    if not values or not all(math.isfinite(value) for value in values) or not 0.0 < level < 1.0:
        raise DataError(
            f"expected at least one finite figure and a level in (0, 1), got {list(values)} at {level}: leave"
            " out trainings that diverged, and say so"
        )
