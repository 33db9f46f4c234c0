"""Counter-based random numbers: a pure function of (seed, stream, counters), never of call order.

Data order and augmentation draw from here, so that they are the same for (seed, epoch, image) whatever the
number of worker threads, and the same again after a resume.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = state + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return z ^ (z >> np.uint64(31))


def random_bits(*counters: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash integer counters, broadcast against each other, to 64 random bits each.

    Args:
        counters: any number of integers or integer arrays of compatible shapes.

    Returns:
        uint64 array of the broadcast shape (at least 1-d).

    Source: the SplitMix64 output function (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
        generators"), chained once per counter.
    """
    state: NDArray[np.uint64] = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for counter in counters:
            state = _splitmix64(state ^ np.asarray(counter, np.int64).view(np.uint64))
    return state


def uniform(*counters: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw from [0, 1), one number for each combination of counters."""
    return (random_bits(*counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(*counters: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Draw from the standard normal distribution (Box-Muller), one for each combination of counters."""
    radius = np.sqrt(-2.0 * np.log1p(-uniform(*counters, 0)))
    return radius * np.cos(2.0 * np.pi * uniform(*counters, 1))


def permutation(length: int, *counters: int) -> NDArray[np.int64]:
    """Return a random order of ``range(length)`` that depends only on the counters."""
    return np.argsort(random_bits(*counters, np.arange(length, dtype=np.int64)), kind="stable")
