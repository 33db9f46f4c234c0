"""Summaries over seeds against scipy and tabled values."""

import json
import math

import pytest
from scipy import stats

from striate.core.errors import DataError
from striate.metrics.seeds import compare_seeds, student_t, summarise

ACCURACIES = [0.9102, 0.9187, 0.9144, 0.9121, 0.9163]


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("num", [2, 3, 4, 5])
def test_the_interval_is_scipys(num, level):
    values = ACCURACIES[:num]
    found = summarise(values, level)
    mean, error = sum(values) / num, stats.sem(values)
    assert found.interval == pytest.approx(stats.t.interval(level, num - 1, mean, error), abs=1e-12)
    assert found.spread == pytest.approx(stats.tstd(values), abs=1e-15)
    assert (found.smallest, found.largest, found.num) == (min(values), max(values), num)


def test_by_hand():
    # 1, 2, 3: mean 2, variance (1 + 0 + 1) / 2 = 1; t(0.975, 2) = 4.302653 from any table.
    found = summarise([1.0, 3.0, 2.0])
    assert (found.mean, found.spread) == (2.0, 1.0)
    half = 4.302653 / math.sqrt(3)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-6)


@pytest.mark.parametrize(("freedom", "tabled"), [(1, 12.706), (2, 4.303), (5, 2.571), (30, 2.042)])
def test_quantiles_of_a_printed_table(freedom, tabled):
    assert student_t(0.975, freedom) == pytest.approx(tabled, abs=5e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 10, 99, 100])
def test_quantiles_are_scipys(freedom):
    for probability in (0.5, 0.6, 0.9, 0.975, 0.9995):
        expected = stats.t.ppf(probability, freedom)
        assert student_t(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_one_seed_says_nothing_of_the_spread():
    found = summarise([0.9])
    assert (found.mean, found.spread, found.interval) == (0.9, None, None)
    assert json.loads(json.dumps(found.to_json()))["interval"] is None


def test_the_order_of_the_seeds_changes_nothing():
    assert summarise(ACCURACIES) == summarise(ACCURACIES[::-1])


def test_two_recipes_are_compared_as_scipy_does():
    a, b = ACCURACIES, [0.921, 0.926, 0.919]
    found = compare_seeds(a, b)
    peer = stats.ttest_ind(b, a)
    interval = peer.confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert found.difference == pytest.approx(sum(b) / 3 - sum(a) / 5, abs=1e-15)
    assert not found.within_spread


def test_a_difference_within_the_spread_by_hand():
    # Both groups have variance 2, so the pooled spread is sqrt(2); the means differ by 1.
    found = compare_seeds([0.0, 2.0], [1.0, 3.0])
    assert found.spread == pytest.approx(math.sqrt(2))
    assert found.within_spread
    assert not compare_seeds([0.0, 2.0], [2.0, 4.0]).within_spread


@pytest.mark.parametrize("values", [[], [math.nan], [0.5, math.inf]])
def test_nothing_and_not_a_number_are_refused(values):
    with pytest.raises(DataError, match="expected at least one finite figure"):
        summarise(values)


def test_two_groups_need_two_seeds_each():
    with pytest.raises(DataError, match="two seeds"):
        compare_seeds([0.5], [0.4, 0.6])
