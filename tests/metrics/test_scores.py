"""Scores against hand-computed cases, scipy and scikit-learn."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as peer

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.scores import (
    Confusion,
    Scores,
    confusion,
    easiest_classes,
    hardest_classes,
    score,
    top_confusions,
    topk_correct,
    wilson,
)


def answers(num_images: int, num_classes: int, seed: int = 0):
    """Draw distinct probabilities that lean towards the true class, and the labels."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, num_classes, num_images)
    logits = draw.normal(size=(num_images, num_classes))
    logits[np.arange(num_images), labels] += 1.2
    p = np.exp(logits)
    return (p / p.sum(axis=1, keepdims=True)).astype(np.float32), labels


def named(num_classes: int) -> list[str]:
    return [f"class {k}" for k in range(num_classes)]


def test_wilson_at_the_ends_has_a_closed_form():
    # With no success the interval is [0, z^2 / (n + z^2)]; z = 1.959964, z^2 = 3.841459.
    zero = wilson(0, 10)
    assert zero.low == 0.0
    assert zero.high == pytest.approx(3.841459 / 13.841459, abs=1e-6)
    assert zero.high == pytest.approx(0.2775, abs=5e-5)
    full = wilson(10, 10)
    assert full.high == 1.0
    assert full.low == pytest.approx(10 / 13.841459, abs=1e-6)


def test_wilson_by_hand_at_one_half():
    # p = 1/2 keeps the centre at 1/2; half width = z / (2 sqrt(n + z^2)) = 1.959964 / (2 sqrt(13.841459)).
    interval = wilson(5, 10)
    assert interval.low == pytest.approx(0.5 - 0.263405, abs=1e-5)
    assert interval.high == pytest.approx(0.5 + 0.263405, abs=1e-5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (1, 7), (97, 100), (9_991, 10_000), (3, 50_000)])
def test_wilson_agrees_with_scipy(k: int, n: int, level: float):
    ours, theirs = wilson(k, n, level), binomtest(k, n).proportion_ci(level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_knows_nothing():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n", "level"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0), (1, 3, 0.0)])
def test_wilson_refuses_nonsense(k: int, n: int, level: float):
    with pytest.raises(DataError, match="expected 0 <= successes <= trials"):
        wilson(k, n, level)


def test_a_case_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    result = score(p, np.array([0, 1, 1, 0]), ["a", "b", "c"])
    assert result.num_images == 4
    assert result.top1 == 0.75
    assert result.top1_error == 0.25
    assert result.top5 is None
    assert result.top5_error is None
    assert result.top5_interval is None
    assert result.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.6)) / 4)
    assert result.confusion.tolist() == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    a, b, c = result.per_class
    assert (a.num_images, a.recall, a.precision, a.f1) == (2, 1.0, pytest.approx(2 / 3), 0.8)
    assert (b.num_images, b.recall, b.precision, b.f1) == (2, 0.5, 1.0, pytest.approx(2 / 3))
    assert (c.num_images, c.recall, c.precision, c.f1) == (0, None, None, None)
    assert (c.recall_interval.low, c.recall_interval.high) == (0.0, 1.0)
    assert result.macro_recall == 0.75
    assert result.majority_share == 0.5


@pytest.mark.parametrize("num_classes", [2, 5, 6, 30])
def test_agrees_with_scikit_learn(num_classes: int):
    p, labels = answers(700, num_classes, seed=num_classes)
    result, predicted, k = score(p, labels, named(num_classes)), p.argmax(axis=1), range(num_classes)
    assert result.top1 == pytest.approx(peer.accuracy_score(labels, predicted))
    assert result.loss == pytest.approx(peer.log_loss(labels, p, labels=k), rel=1e-5)
    assert np.array_equal(result.confusion, peer.confusion_matrix(labels, predicted, labels=k))
    precision, recall, f1, support = peer.precision_recall_fscore_support(
        labels, predicted, labels=k, zero_division=np.nan
    )
    for i, entry in enumerate(result.per_class):
        assert entry.name == f"class {i}"
        assert entry.num_images == support[i]
        for ours, theirs in ((entry.precision, precision[i]), (entry.recall, recall[i]), (entry.f1, f1[i])):
            assert (math.nan if ours is None else ours) == pytest.approx(theirs, nan_ok=True)
    assert result.balanced_accuracy == pytest.approx(peer.balanced_accuracy_score(labels, predicted))
    if num_classes >= 6:
        assert result.top5 == pytest.approx(peer.top_k_accuracy_score(labels, p, k=5, labels=k))
    else:
        assert result.top5 is None


def test_ties_go_to_the_lower_class():
    # All seven are equally probable: class 0 wins, and classes 0..4 are the first five.
    for true, top1, top5 in ((0, 1.0, 1.0), (1, 0.0, 1.0), (4, 0.0, 1.0), (5, 0.0, 0.0), (6, 0.0, 0.0)):
        result = score(np.full((1, 7), 1 / 7), np.array([true]), named(7))
        assert (result.top1, result.top5) == (top1, top5)
        assert result.confusion[true, 0] == 1


def test_a_probability_of_zero_costs_a_finite_loss():
    result = score(np.array([[0.0, 1.0]], np.float32), np.array([0]), ["a", "b"])
    assert result.loss == pytest.approx(126 * math.log(2))  # smallest normal float32: 2^-126


def test_given_losses_are_used():
    p, labels = answers(5, 3)
    assert score(p, labels, named(3), losses=np.array([1.0, 2.0, 3.0, 4.0, 5.0])).loss == 3.0


def test_json_survives_a_round_trip():
    p, labels = answers(300, 9)
    result = score(p, labels, named(9))
    text = json.dumps(result.to_json(), allow_nan=False)
    back = Scores.from_json(json.loads(text))
    for name in (
        "num_images",
        "top1",
        "top5",
        "top1_interval",
        "top5_interval",
        "loss",
        "per_class",
        "classes",
    ):
        assert getattr(back, name) == getattr(result, name)
    assert np.array_equal(back.confusion, result.confusion)


def test_json_of_another_kind_is_refused():
    with pytest.raises(DataError, match="score the images again"):
        Scores.from_json({"classes": ["a"], "confusion": [[0, 3, 1]], "top5": None, "loss": 1.0})


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), "at least one image"),
        (np.full((3, 3), 0.3), np.zeros(3, int), "N x 2"),
        (np.full((3, 2), 0.5), np.zeros(4, int), "one label for each of 3 images"),
        (np.full((3, 2), 0.5), np.array([0, 1, 2]), r"in 0\.\.1, got 0\.\.2"),
        (np.full((3, 2), 0.5), np.array([0, -1, 1]), r"in 0\.\.1, got -1\.\.1"),
        (np.full((3, 2), 0.5), np.array([0.0, 1.0, 1.0]), "integer class indices"),
    ],
)
def test_input_that_does_not_fit_is_refused(p, labels, message: str):
    with pytest.raises(DataError, match=message):
        score(p, labels, ["a", "b"])


def test_nan_is_refused():
    p = np.full((3, 2), 0.5)
    p[1, 0] = np.nan
    with pytest.raises(NonFiniteLossError, match="for 1 of 3 images"):
        score(p, np.array([0, 1, 1]), ["a", "b"])


def test_confusion_refuses_predictions_out_of_range():
    with pytest.raises(DataError, match=r"0\.\.2, got 0\.\.3"):
        confusion(np.array([0, 1]), np.array([0, 3]), 3)


def test_hard_and_easy_classes():
    # Recalls: a 1/2, b 1/1, c 0/1, d 1/2 (of 4), e without images.
    counts = [[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 2, 2, 0], [0, 0, 0, 0, 0]]
    true = [i for i in range(5) for j in range(5) for _ in range(counts[i][j])]
    said = [j for i in range(5) for j in range(5) for _ in range(counts[i][j])]
    result = score(np.eye(5)[said], np.array(true), list("abcde"))
    assert [entry.name for entry in hardest_classes(result, 3)] == ["c", "d", "a"]
    assert [entry.name for entry in easiest_classes(result, 9)] == ["b", "d", "a", "c"]


def test_top_confusions():
    counts = np.array([[5, 3, 0], [1, 0, 2], [3, 0, 9]])
    assert top_confusions(counts, 3) == (
        Confusion(0, 1, 3, 0.375),
        Confusion(2, 0, 3, 0.25),
        Confusion(1, 2, 2, pytest.approx(2 / 3)),
    )
    assert top_confusions(np.diag([3, 4]), 5) == ()


@pytest.mark.parametrize("num_classes", [2, 4, 12])
@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_averages_equal_scikit_learn_with_classes_that_are_missing_or_never_named(num_classes, average):
    # Class 0 has no images but is named, class 1 has images but is never named, the last does not occur.
    draw = np.random.default_rng(num_classes)
    true = draw.integers(1, max(2, num_classes - 1), 60)
    said = np.where(draw.random(60) < 0.6, true, draw.integers(0, max(1, num_classes - 1), 60))
    said[said == 1] = 0
    result = score(np.eye(num_classes)[said], true, named(num_classes))
    there = np.union1d(true, said)
    precision, recall, f1, _ = peer.precision_recall_fscore_support(
        true, said, labels=there, average=average, zero_division=0
    )
    ours = [getattr(result, f"{average}_{rate}") for rate in ("precision", "recall", "f1")]
    assert ours == pytest.approx([precision, recall, f1])
    assert result.to_json()[average] == dict(zip(("precision", "recall", "f1"), ours, strict=True))


def test_averages_by_hand():
    # a: 3 images, 2 found, named 3 times. b: 2 images, 1 found, named once. c and d: neither, so left out.
    # e: no images, but named once.
    true, said = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 4, 1, 0])
    result = score(np.eye(5)[said], true, list("abcde"))
    # recalls: a 2/3, b 1/2, e 0 (undefined); precisions: a 2/3, b 1, e 0.
    assert result.macro_recall == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.macro_precision == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert result.weighted_recall == pytest.approx(3 / 5)
    assert result.weighted_precision == pytest.approx((3 * 2 / 3 + 2 * 1) / 5)
    assert result.weighted_f1 == pytest.approx(2 / 3)


def test_weighted_recall_is_top1():
    p, labels = answers(313, 7)
    result = score(p, labels, named(7))
    assert result.weighted_recall == pytest.approx(result.top1)


def test_one_class_is_right_by_definition():
    result = score(np.ones((3, 1)), np.zeros(3, int), ["only"])
    assert (result.top1, result.macro_f1, result.weighted_f1, result.loss) == (1.0, 1.0, 1.0, 0.0)
    assert (result.imbalance.ratio, result.imbalance.majority_share, result.imbalance.num_empty) == (1, 1, 0)


def test_imbalance_by_hand():
    true = np.array([2] * 6 + [0] * 3 + [1] * 3)
    result = score(np.eye(4)[true], true, list("abcd"))
    found = result.imbalance
    assert (found.largest.name, found.smallest.name) == ("c", "a")  # a and b are equal: the first
    assert (found.ratio, found.majority_share) == (2.0, 0.5)
    assert (found.num_classes, found.num_empty, found.num_images) == (3, 1, 12)
    assert result.to_json()["imbalance"] == {
        "largest": "c",
        "largest_images": 6,
        "smallest": "a",
        "smallest_images": 3,
        "ratio": 2.0,
        "majority_share": 0.5,
        "classes_without_images": 1,
    }


def test_a_record_of_striate_0_1_is_read():
    # As to_json wrote it before averages and imbalance were in it.
    record = {
        "num_images": 4,
        "top1": 0.75,
        "top1_interval": [0.3, 0.95],
        "top5": None,
        "top5_interval": None,
        "loss": 0.4,
        "classes": ["a", "b"],
        "per_class": [
            {"name": "a", "num_images": 3, "recall": 1.0, "precision": 0.75, "f1": 6 / 7},
            {"name": "b", "num_images": 1, "recall": 0.0, "precision": None, "f1": 0.0},
        ],
        "confusion": [[0, 0, 3], [1, 0, 1]],
    }
    back = Scores.from_json(record)
    assert (back.top1, back.loss) == (0.75, 0.4)
    assert back.macro_f1 == pytest.approx(3 / 7)
    assert back.macro_precision == pytest.approx(0.375)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 11])
def test_topk_agrees_with_scikit_learn(k: int):
    p, labels = answers(400, 11, seed=k)
    found = topk_correct(p, labels, k)
    assert found.dtype == bool
    assert found.shape == (400,)
    with_all = {"labels": range(11), "normalize": False}
    if k < 11:  # the peer warns that the result is trivial
        assert found.sum() == peer.top_k_accuracy_score(labels, p, k=k, **with_all)
    else:
        assert found.all()


def test_topk_breaks_ties_by_class_index():
    level = np.array([[1.0, 3.0, 3.0, 3.0, 0.0]] * 5)
    labels = np.arange(5)
    # Ranks by hand: classes 1, 2, 3, then 0, then 4.
    assert topk_correct(level, labels, 1).tolist() == [False, True, False, False, False]
    assert topk_correct(level, labels, 2).tolist() == [False, True, True, False, False]
    assert topk_correct(level, labels, 4).tolist() == [True, True, True, True, False]


def test_topk_of_logits_and_of_probabilities_is_the_same_as_in_score():
    p, labels = answers(200, 9, seed=4)
    assert topk_correct(np.log(p), labels, 5).mean() == score(p, labels, named(9)).top5
    assert topk_correct(p, labels, 1).mean() == score(p, labels, named(9)).top1


@pytest.mark.parametrize("k", [0, -1, 4])
def test_topk_refuses_a_k_without_meaning(k: int):
    with pytest.raises(UsageError, match="expected k from 1 to the number of classes, 3"):
        topk_correct(np.eye(3), np.arange(3), k)


def test_topk_refuses_what_score_refuses():
    with pytest.raises(NonFiniteLossError, match="for 1 of 2 images"):
        topk_correct(np.array([[0.0, np.nan], [0.0, 1.0]]), np.array([0, 1]), 1)
    with pytest.raises(DataError, match="at least one image"):
        topk_correct(np.zeros((0, 3)), np.zeros(0, int), 1)
    with pytest.raises(DataError, match="N x 0"):
        topk_correct(np.zeros(3), np.zeros(3, int), 1)
    with pytest.raises(DataError, match=r"0\.\.2, got 0\.\.3"):
        topk_correct(np.eye(3), np.array([0, 1, 3]), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_the_order_of_images_changes_nothing(num_images: int, num_classes: int, seed: int):
    p, labels = answers(num_images, num_classes, seed)
    p = np.round(p, 2) + np.float32(0.001)  # with ties
    shuffled = np.random.default_rng(seed + 1).permutation(num_images)
    one, other = (score(p[o], labels[o], named(num_classes)) for o in (np.arange(num_images), shuffled))
    assert one.to_json() == other.to_json()
    k = 1 + seed % num_classes
    assert np.array_equal(
        topk_correct(p, labels, k)[shuffled], topk_correct(p[shuffled], labels[shuffled], k)
    )
