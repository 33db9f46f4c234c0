"""Paired comparisons against scipy, statsmodels, formulas for large samples and hand-computed cases."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.paired import (
    format_p,
    holm,
    images_needed,
    mcnemar,
    paired,
    paired_by_class,
    paired_means,
    verdict,
)


def pair(both: int, only_a: int, only_b: int, neither: int):
    """Make two arrays of right and wrong with these counts."""
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_counts_and_difference_by_hand():
    a = np.array([1, 1, 1, 0, 0, 1, 0, 1])
    b = np.array([1, 0, 1, 1, 0, 1, 1, 1])
    found = paired(a, b)
    assert (found.both_correct, found.only_a, found.only_b, found.both_wrong) == (4, 1, 2, 1)
    assert found.difference == 1 / 8
    assert (found.accuracy_a, found.accuracy_b, found.num_images) == (5 / 8, 6 / 8, 8)
    # 3 images decide; the chance of at most 1 of 3 is (1 + 3) / 8, twice that is 1.
    assert found.p_exact == 1.0
    assert found.p_mid == 1.0 - 3 / 8


@pytest.mark.parametrize(
    ("a", "b"), [(0, 5), (6, 2), (1, 10), (25, 25), (40, 61), (900, 1001), (0, 1), (3, 0)]
)
def test_exact_p_is_scipys_binomial_test(a, b):
    assert mcnemar(a, b)[0] == pytest.approx(stats.binomtest(a, a + b, 0.5).pvalue, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0, 5), (6, 2), (1, 10), (25, 25), (40, 61), (900, 1001), (0, 1)])
def test_mid_p_counts_the_observed_split_by_half(a, b):
    few, num = min(a, b), a + b
    expected = 2 * (stats.binom.cdf(few - 1, num, 0.5) + 0.5 * stats.binom.pmf(few, num, 0.5))
    assert mcnemar(a, b)[1] == pytest.approx(expected, rel=1e-9)


def test_agrees_with_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    for counts in ((101, 59, 121, 33), (70, 3, 12, 15), (10, 0, 4, 1)):
        both, a, b, neither = counts
        peer = tables.mcnemar([[both, a], [b, neither]], exact=True)
        assert paired(*pair(*counts)).p_exact == pytest.approx(peer.pvalue, rel=1e-9)


def test_p_by_hand():
    # 1 against 9: twice (1 + 10) / 1024; the mid-p takes 10 / 1024 away.
    assert mcnemar(1, 9) == (22 / 1024, 12 / 1024)
    assert mcnemar(0, 0) == (1.0, 1.0)


@pytest.mark.parametrize("counts", [(700, 60, 90, 150), (450, 8, 20, 22), (9000, 150, 210, 640)])
def test_interval_against_scipys_paired_bootstrap(counts):
    a, b = pair(*counts)
    found = paired(a, b)
    gain = b.astype(float) - a.astype(float)
    peer = stats.bootstrap(
        (gain,), np.mean, n_resamples=4000, method="percentile", batch=200, rng=np.random.default_rng(1)
    ).confidence_interval
    standard_error = gain.std() / math.sqrt(len(gain))
    allowed = 0.15 * standard_error + 1 / len(gain)  # the ends lie on whole images
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=allowed)


def test_interval_against_the_large_sample_formula():
    found = paired(*pair(9000, 300, 400, 300))
    num, d = 10_000, 0.01
    error = math.sqrt((0.07 - d * d) / num)
    z = stats.norm.ppf(0.975)
    assert (found.low, found.high) == pytest.approx((d - z * error, d + z * error), abs=0.05 * error)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draw = np.random.default_rng(5)
    hits = 0
    for seed in range(300):
        counts = draw.multinomial(400, [0.8, 0.05, 0.09, 0.06])
        found = paired(*pair(*counts), seed=seed, resamples=1000)
        hits += found.low <= 0.04 <= found.high
    # 95% of 300 is 285; the binomial's 1e-4 quantile is 269.
    assert hits >= 269
    assert hits < 300


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.randoms())
def test_the_order_of_the_images_changes_nothing(answers, random):
    shuffled = list(answers)
    random.shuffle(shuffled)
    first, second = (np.array(list(zip(*rows, strict=True))) for rows in (answers, shuffled))
    assert paired(*first, resamples=200) == paired(*second, resamples=200)


def test_swapping_the_networks_turns_the_signs():
    a, b = pair(50, 3, 11, 6)
    found, swapped = paired(a, b), paired(b, a)
    assert swapped.difference == -found.difference
    assert (swapped.p_exact, swapped.p_mid) == (found.p_exact, found.p_mid)
    assert swapped.low == pytest.approx(-found.high, abs=0.011)  # another draw, steps of 1/70


def test_a_network_against_itself():
    a, _ = pair(90, 5, 0, 5)
    found = paired(a, a)
    assert (found.difference, found.p_exact, found.p_mid) == (0.0, 1.0, 1.0)
    # None of 100 images differs: with 97.5% confidence at most 1 - 0.025^(1/100) of all images do.
    assert (found.low, found.high) == pytest.approx((-0.036217, 0.036217), abs=1e-6)
    assert found.high == pytest.approx(stats.binomtest(0, 100).proportion_ci(0.95).high, abs=1e-12)
    assert verdict(found) == (
        "no difference that this test set can show: A and B are correct on exactly the same images"
    )


def test_one_image_shows_nothing():
    found = paired(np.array([False]), np.array([True]))
    assert (found.difference, found.p_exact) == (1.0, 1.0)
    # The unseen kinds may be up to 97.5% of all images: 1 - 2 x 0.975.
    assert (found.low, found.high) == pytest.approx((-0.95, 1.0))
    assert not found.significant
    assert verdict(found).startswith("no difference that this test set can show")
    other = paired(np.array([True]), np.array([False]))
    assert (other.low, other.high) == pytest.approx((-1.0, 0.95))


def test_verdict_in_plain_words():
    better = paired(*pair(900, 10, 40, 50))
    assert better.significant
    words = verdict(better)
    assert words.startswith("B is better by 3.00 points (1.")
    assert verdict(paired(*pair(900, 40, 10, 50)), "wide", "deep").startswith(
        "wide is better by 3.00 points (1."
    )
    assert verdict(paired(*pair(80, 4, 4, 12))).endswith(
        "each is correct on 4 images where the other is wrong"
    )
    unsure = verdict(paired(*pair(440, 0, 5, 55)))
    # s = d = 0.01: ((1.959964 x 0.1 + 0.841621 x sqrt(0.0099)) / 0.01)^2 = 782.3
    assert "+1.0 points" in unsure
    assert "p 0.062" in unsure
    assert "about 790 images" in unsure


def test_images_needed_by_hand_and_by_the_power_of_the_test():
    # d = 0.05, s = 0.15: (1.959964 sqrt(0.15) + 0.841621 sqrt(0.1475))^2 / 0.0025 = 468.6
    assert images_needed(0.05, 0.15) == 469
    assert images_needed(-0.05, 0.15) == 469
    num, d, s = 469, 0.05, 0.15
    power = 0.0
    for discordant in range(num + 1):
        ones = np.arange(discordant + 1)
        z = np.abs(2 * ones - discordant) / math.sqrt(max(discordant, 1))
        shown = stats.binom.pmf(ones, discordant, (s + d) / (2 * s))[z > 1.959964].sum()
        power += stats.binom.pmf(discordant, num, s) * shown
    assert power == pytest.approx(0.8, abs=0.015)
    with pytest.raises(UsageError, match="difference of 0"):
        images_needed(0.0, 0.1)


def test_holm_by_hand_and_against_statsmodels():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 -> 0.06 (not below the one before), 0.9 x 1.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx((0.06, 0.04, 0.9, 0.06))
    assert holm([]) == ()
    assert holm([0.7, 0.6]) == (1.0, 1.0)
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(0).uniform(size=12) ** 3
    assert holm(p.tolist()) == pytest.approx(tuple(multitest.multipletests(p, method="holm")[1]))


def test_means_against_scipy_and_by_hand():
    draw = np.random.default_rng(3)
    a = draw.exponential(size=800)
    b = a + draw.normal(-0.05, 0.4, size=800)
    found = paired_means(a, b, resamples=4000)
    peer = stats.bootstrap(
        (b - a,), np.mean, n_resamples=4000, method="percentile", batch=200, rng=draw
    ).confidence_interval
    assert found.difference == pytest.approx(np.mean(b - a), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.003)
    order = draw.permutation(800)
    assert paired_means(a[order], b[order], resamples=4000) == found
    one = paired_means(np.array([2.0]), np.array([1.5]))
    assert (one.difference, one.low, one.high) == (-0.5, -0.5, -0.5)


def test_classes_by_size_of_the_difference():
    a = np.array([1, 1, 1, 1, 0, 0, 1, 1])
    b = np.array([1, 1, 1, 0, 1, 1, 1, 1])
    labels = np.array([0, 0, 0, 0, 2, 2, 3, 3])
    found = paired_by_class(a, b, labels, ["p", "q", "r", "s"])
    assert [entry.name for entry in found] == ["r", "p", "s"]  # q has no images
    assert [entry.paired.difference for entry in found] == [1.0, -0.25, 0.0]
    assert [entry.p_holm for entry in found] == [1.0, 1.0, 1.0]


def test_classes_are_corrected_for_their_number():
    rights = np.concatenate([pair(0, 0, 9, 0)[1], np.ones(9, bool)])
    wrongs = np.concatenate([pair(0, 0, 9, 0)[0], np.ones(9, bool)])
    found = paired_by_class(wrongs, rights, np.repeat([0, 1], 9), ["x", "y"])
    assert found[0].p_holm == pytest.approx(2 * 2 / 2**9)


def test_the_record_goes_into_json():
    found = paired(*pair(5, 1, 2, 3))
    record = json.loads(json.dumps(found.to_json()))
    assert record["interval"] == [found.low, found.high]
    assert record["only_b"] == 2


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.array([True]), np.array([True, False]), "same images"),
        (np.array([], bool), np.array([], bool), "at least one image"),
        (np.array([0, 2]), np.array([0, 1]), "True or False"),
        (np.zeros((2, 2), bool), np.zeros((2, 2), bool), "True or False"),
    ],
)
def test_what_is_no_pair_is_refused(a, b, message):
    with pytest.raises(DataError, match=message):
        paired(a, b)


def test_settings_out_of_range_are_refused():
    a, b = pair(3, 1, 1, 1)
    for wrong in ({"level": 1.0}, {"seed": -1}, {"resamples": 10}):
        with pytest.raises(UsageError, match="expected a seed"):
            paired(a, b, **wrong)


def test_losses_that_are_no_numbers_are_refused():
    with pytest.raises(NonFiniteLossError, match="finite"):
        paired_means(np.array([1.0, np.nan]), np.array([1.0, 1.0]))
    with pytest.raises(DataError, match="same"):
        paired_means(np.array([1.0]), np.array([1.0, 1.0]))


@pytest.mark.parametrize(
    ("p", "text"), [(0.5, "0.50"), (0.0499, "0.050"), (0.0021, "0.002"), (3e-9, "below 0.0001")]
)
def test_p_is_written_short(p, text):
    assert format_p(p) == text


def test_a_verdict_never_prints_a_negative_zero():
    assert "(0.0 to" in verdict(replace(paired(*pair(90, 0, 5, 5)), low=-1e-9, p_exact=0.5))
