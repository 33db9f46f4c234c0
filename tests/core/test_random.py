import numpy as np
from scipy import stats

from striate.core.random import normal, permutation, random_bits, uniform


def test_splitmix64_reference_output():
    # First output of SplitMix64 seeded with 0, as published with the xoshiro generators' reference code.
    assert int(random_bits(0)[0]) == 0xE220A8397B1DCDAF


def test_a_draw_depends_on_its_own_counters_only():
    together = uniform(3, 5, np.arange(1000))
    assert together[777] == uniform(3, 5, 777)[0]
    assert len(np.unique(together)) == 1000
    assert not np.any(together == uniform(3, 6, np.arange(1000)))
    assert not np.any(together == uniform(4, 5, np.arange(1000)))


def test_distributions():
    counters = np.arange(20_000)
    assert stats.kstest(uniform(1, counters), "uniform").pvalue > 0.001
    assert stats.kstest(normal(1, counters), "norm").pvalue > 0.001
    neighbours = np.corrcoef(uniform(1, counters), uniform(2, counters))[0, 1]
    assert abs(neighbours) < 0.03


def test_permutation_is_one_and_changes_with_every_counter():
    first = permutation(1000, 1, 2)
    assert sorted(first) == list(range(1000))
    assert np.array_equal(first, permutation(1000, 1, 2))
    assert not np.array_equal(first, permutation(1000, 1, 3))
