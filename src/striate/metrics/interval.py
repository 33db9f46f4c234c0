"""How sure a counted rate is: the Wilson interval."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from striate.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a rate; both ends are fractions in [0, 1]."""

    low: float
    high: float


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
