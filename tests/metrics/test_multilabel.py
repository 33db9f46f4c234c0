"""Multi-label scores against scikit-learn, brute force and cases by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from striate.core.errors import DataError, NonFiniteLossError
from striate.metrics.multilabel import MultiLabelScores, choose_thresholds, score_multilabel


def named(num_classes: int) -> list[str]:
    return [f"class {k}" for k in range(num_classes)]


def marked(num_images: int, shares: list[float], seed: int = 3):
    """Draw labels with given shares, and probabilities with many ties that lean towards them."""
    draw = np.random.default_rng(seed)
    labels = (draw.random((num_images, len(shares))) < shares).astype(np.float32)
    return np.round(np.clip(0.3 * labels + 0.7 * draw.random(labels.shape), 0.001, 0.999), 2), labels


def test_agrees_with_scikit_learn():
    p, labels = marked(200, [0.5, 0.2, 0.02, 0.9])
    result = score_multilabel(p, labels, named(4))
    expected = [peer.average_precision_score(labels[:, k], p[:, k]) for k in range(4)]
    assert result.average_precision == pytest.approx(expected)
    assert result.mean_average_precision == pytest.approx(np.mean(expected))
    assert result.mean_average_precision == pytest.approx(peer.average_precision_score(labels, p))
    assert result.exact_match == pytest.approx(peer.accuracy_score(labels, p > 0.5))
    losses = [peer.log_loss(labels[:, k], p[:, k]) for k in range(4)]
    assert result.loss == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("cuts", [None, [0.3, 0.99, 0.62, 0.1, 0.5]])
def test_rates_at_thresholds_agree_with_scikit_learn(cuts):
    # Class 3 has no images but is given at 0.1; class 4 neither occurs nor is given, so it is in no average.
    p, labels = marked(150, [0.5, 0.2, 0.1, 0.0, 0.0])
    p[:, 4] = 0.1
    result = score_multilabel(p, labels, named(5), thresholds=cuts)
    given_labels = p > (cuts or [0.5] * 5)
    assert result.thresholds == tuple(cuts or [0.5] * 5)
    precision, recall, f1, support = peer.precision_recall_fscore_support(
        labels, given_labels, average=None, zero_division=np.nan
    )
    for k, entry in enumerate(result.per_class):
        assert (entry.name, entry.num_images) == (f"class {k}", support[k])
        for ours, theirs in ((entry.precision, precision[k]), (entry.recall, recall[k]), (entry.f1, f1[k])):
            assert (math.nan if ours is None else ours) == pytest.approx(theirs, nan_ok=True)
    for average in ("macro", "micro"):
        expected = peer.precision_recall_fscore_support(
            labels[:, :4], given_labels[:, :4], average=average, zero_division=0
        )
        ours = [getattr(result, f"{average}_{rate}") for rate in ("precision", "recall", "f1")]
        assert ours == pytest.approx(list(expected[:3]))
    assert result.exact_match == pytest.approx(peer.accuracy_score(labels, given_labels))


def test_by_hand():
    # Ranked: 0.9 right, 0.8 wrong, 0.7 right: AP = (1/1 + 2/3) / 2. The second class has no image.
    p = np.array([[0.9, 0.1], [0.8, 0.6], [0.7, 0.2]])
    result = score_multilabel(p, np.array([[1, 0], [0, 0], [1, 0]]), ["a", "b"])
    assert result.average_precision == (pytest.approx(5 / 6), None)
    assert result.mean_average_precision == pytest.approx(5 / 6)
    assert result.exact_match == pytest.approx(2 / 3)
    a, b = result.per_class
    assert (a.num_images, a.num_predicted, a.num_correct) == (2, 3, 2)
    assert (b.recall, b.precision, b.f1) == (None, 0.0, 0.0)
    assert result.macro_f1 == pytest.approx((4 / 5 + 0) / 2)
    assert result.micro_f1 == pytest.approx(2 * 2 / (2 + 4))
    assert (result.imbalance.largest.name, result.imbalance.num_empty) == ("a", 1)


def test_no_labels_at_all():
    result = score_multilabel(np.full((2, 2), 0.1), np.zeros((2, 2)), ["a", "b"])
    assert result.average_precision == (None, None)
    assert result.mean_average_precision is None
    assert (result.exact_match, result.macro_f1, result.micro_f1) == (1.0, 0.0, 0.0)
    with pytest.raises(DataError, match="expected a class with images, got none"):
        _ = result.imbalance
    assert MultiLabelScores.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


def test_json_survives_a_round_trip():
    p, labels = marked(80, [0.4, 0.1, 0.0])
    result = score_multilabel(p, labels, named(3), thresholds=[0.4, 0.5, 0.6])
    assert MultiLabelScores.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result


@pytest.mark.parametrize("spoil", ["classes", "thresholds", "per_class", "loss"])
def test_json_that_is_not_whole_is_refused(spoil: str):
    record = score_multilabel(np.full((2, 2), 0.4), np.eye(2), ["a", "b"]).to_json()
    without = {key: value for key, value in record.items() if key != spoil}
    with pytest.raises(DataError, match="score the images again"):
        MultiLabelScores.from_json(without)
    if spoil != "loss":
        with pytest.raises(DataError, match="differ in length"):
            MultiLabelScores.from_json(record | {spoil: record[spoil][:1]})


@pytest.mark.parametrize(
    ("p", "labels", "cuts", "message"),
    [
        (np.full((2, 2), 0.5), np.array([[0, 1], [0.5, 1]]), None, "holding 0 and 1"),
        (np.full((2, 2), 0.5), np.array([0, 1]), None, r"shape \(2, 2\) holding 0 and 1, got shape \(2,\)"),
        (np.zeros((0, 2)), np.zeros((0, 2)), None, "at least one image"),
        (np.full((2, 3), 0.5), np.zeros((2, 3)), None, "N x 2"),
        (np.full((2, 2), 0.5), np.eye(2), [0.5], "expected 2 thresholds"),
        (np.full((2, 2), 0.5), np.eye(2), [0.5, np.nan], "with NaN"),
    ],
)
def test_input_that_does_not_fit_is_refused(p, labels, cuts, message: str):
    with pytest.raises(DataError, match=message):
        score_multilabel(p, labels, ["a", "b"], thresholds=cuts)


def test_nan_is_refused():
    p = np.array([[0.5, np.nan], [0.5, 0.5]])
    with pytest.raises(NonFiniteLossError, match="for 1 of 2 images"):
        score_multilabel(p, np.eye(2), ["a", "b"])
    with pytest.raises(NonFiniteLossError, match="for 1 of 2 images"):
        choose_thresholds(p, np.eye(2))


def f1_above(cut: float, p, positive) -> float:
    return peer.f1_score(positive, p > cut, zero_division=0)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(6))
def test_thresholds_equal_brute_force_over_all_cuts(seed: int, kind: type):
    p, labels = marked(40, [0.5, 0.15, 0.95], seed)
    p = p.astype(kind)
    found = choose_thresholds(p, labels)
    for k in range(3):
        cuts = [-1.0, *np.unique(p[:, k].astype(np.float64))]  # above each value, and everything
        values = [f1_above(cut, p[:, k], labels[:, k]) for cut in cuts]
        best = max(values)
        assert f1_above(found[k], p[:, k], labels[:, k]) == pytest.approx(best)
        fewest = min(
            int((p[:, k] > cut).sum())
            for cut, value in zip(cuts, values, strict=True)
            if value > best - 1e-12
        )
        assert (p[:, k] > found[k]).sum() == fewest  # of equal ones the highest cut


def test_thresholds_by_hand():
    # First: right, right, wrong, right: F1 of 2 is 4/5, of 4 is 6/7: all four, so half of 0.2.
    # Second: 1 right, then a tie of a right and a wrong: F1 of 1 is 2/3, of 3 is 4/5: between 0.4 and 0.1.
    # Third: both cuts give 2/3: the higher, between 0.9 and 0.6.
    # Fourth: no image. Fifth: the only one stands at probability 0.
    p = np.array(
        [
            [0.9, 0.8, 0.9, 0.9, 1.0],
            [0.6, 0.4, 0.6, 0.8, 0.5],
            [0.4, 0.4, 0.5, 0.7, 0.0],
            [0.2, 0.1, 0.3, 0.6, 0.0],
        ]
    )
    labels = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 0, 1, 0, 1]])
    expected = [0.1, 0.25, 0.75, 0.5, -1.0]
    assert choose_thresholds(p, labels).tolist() == pytest.approx(expected)


def test_a_threshold_stays_between_neighbouring_numbers():
    low = np.float64(0.3)
    high = np.nextafter(low, 1.0)
    cut = choose_thresholds(np.array([[high], [low]]), np.array([[1], [0]]))
    assert (np.array([high, low]) > cut[0]).tolist() == [True, False]


def test_all_images_carry_the_label():
    p = np.array([[0.2], [0.7]])
    assert (
        score_multilabel(p, np.ones((2, 1)), ["a"], thresholds=choose_thresholds(p, np.ones((2, 1)))).macro_f1
        == 1
    )


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one image"),
        (np.zeros(3), np.zeros(3), "got \\(3,\\)"),
        (np.zeros((2, 2)), np.full((2, 2), 2), "holding 0 and 1"),
    ],
)
def test_thresholds_refuse_what_does_not_fit(p, labels, message: str):
    with pytest.raises(DataError, match=message):
        choose_thresholds(p, labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_order_of_images_changes_nothing(num_images: int, seed: int):
    p, labels = marked(num_images, [0.5, 0.05, 0.3], seed)
    shuffled = np.random.default_rng(seed + 1).permutation(num_images)
    assert np.array_equal(choose_thresholds(p, labels), choose_thresholds(p[shuffled], labels[shuffled]))
    one, other = (score_multilabel(p[o], labels[o], named(3)) for o in (np.arange(num_images), shuffled))
    assert one == other
