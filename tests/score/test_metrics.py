"""Scores against hand-computed cases, scipy and scikit-learn."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as peer

from striate.core.errors import DataError, NonFiniteLossError
from striate.score.metrics import (
    Confusion,
    Scores,
    confusion,
    easiest_classes,
    hardest_classes,
    score,
    score_multilabel,
    top_confusions,
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
    assert result.macro_recall == pytest.approx(peer.balanced_accuracy_score(labels, predicted))
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


def test_multilabel_agrees_with_scikit_learn():
    draw = np.random.default_rng(3)
    labels = (draw.random((200, 4)) < [0.5, 0.2, 0.02, 0.9]).astype(np.float32)
    p = np.round(np.clip(0.3 * labels + 0.7 * draw.random((200, 4)), 0.001, 0.999), 2)  # rounding makes ties
    result = score_multilabel(p, labels, named(4))
    expected = [peer.average_precision_score(labels[:, k], p[:, k]) for k in range(4)]
    assert result.average_precision == pytest.approx(expected)
    assert result.mean_average_precision == pytest.approx(np.mean(expected))
    assert result.exact_match == pytest.approx(peer.accuracy_score(labels, p > 0.5))
    losses = [peer.log_loss(labels[:, k], p[:, k]) for k in range(4)]
    assert result.loss == pytest.approx(np.mean(losses))
    json.dumps(result.to_json(), allow_nan=False)


def test_multilabel_by_hand():
    # Ranked: 0.9 right, 0.8 wrong, 0.7 right: AP = (1/1 + 2/3) / 2. The second class has no image.
    p = np.array([[0.9, 0.1], [0.8, 0.6], [0.7, 0.2]])
    result = score_multilabel(p, np.array([[1, 0], [0, 0], [1, 0]]), ["a", "b"])
    assert result.average_precision == (pytest.approx(5 / 6), None)
    assert result.mean_average_precision == pytest.approx(5 / 6)
    assert result.exact_match == pytest.approx(2 / 3)


def test_multilabel_refuses_labels_other_than_0_and_1():
    with pytest.raises(DataError, match="holding 0 and 1"):
        score_multilabel(np.full((2, 2), 0.5), np.array([[0, 1], [0.5, 1]]), ["a", "b"])
