"""Suspect images by hand and with planted label errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.predictions import Predictions
from striate.metrics.suspects import class_thresholds, label_errors, top_losses


def answers(p, labels) -> Predictions:
    p = np.asarray(p, np.float64)
    return Predictions(
        name="net",
        classes=tuple("abcdefghijklm"[: p.shape[1]]),
        files=tuple(f"{i}.png" for i in range(len(p))),
        labels=np.asarray(labels, np.int64),
        logits=np.log(p).astype(np.float32),
    )


#        a     b     c     label
SIX = [
    [0.80, 0.15, 0.05],  # a
    [0.40, 0.55, 0.05],  # a: above b's threshold, so suspect
    [0.66, 0.24, 0.10],  # a
    [0.70, 0.20, 0.10],  # b: above a's threshold, so suspect
    [0.10, 0.85, 0.05],  # b
    [0.45, 0.50, 0.05],  # c: b is most probable but below its threshold; suspect of nothing
]
LABELS = [0, 0, 0, 1, 1, 2]


def test_thresholds_by_hand():
    # a: (0.80 + 0.40 + 0.66) / 3; b: (0.20 + 0.85) / 2; c: 0.05 / 1.
    assert class_thresholds(np.array(SIX), np.array(LABELS)) == pytest.approx([0.62, 0.525, 0.05])


def test_label_errors_of_six_images_by_hand():
    # Candidates: image 0 a (label) and c: 0.05 is at c's threshold, but a is larger. Image 1: b. Image 3: a.
    # Image 5: b's 0.50 is below 0.525 and a's 0.45 below 0.62, so only c, its label.
    found = label_errors(answers(SIX, LABELS))
    assert [(one.position, one.file, one.given, one.suggested) for one in found] == [
        (3, "3.png", 1, 0),  # margin 0.20 - 0.70
        (1, "1.png", 0, 1),  # margin 0.40 - 0.55
    ]
    assert [one.margin for one in found] == pytest.approx([-0.50, -0.15])
    assert [one.p_given for one in found] == pytest.approx([0.20, 0.40])
    assert [one.p_suggested for one in found] == pytest.approx([0.70, 0.55])
    assert [one.loss for one in found] == pytest.approx([-math.log(0.20), -math.log(0.40)], rel=1e-6)
    assert label_errors(answers(SIX, LABELS), 1) == found[:1]
    assert label_errors(answers(SIX, LABELS), 0) == ()


def test_at_the_threshold_is_above_it_and_equal_answers_keep_the_label():
    # Every probability is exactly one half, and so is every mean: all classes are candidates everywhere.
    even = np.full((3, 2), 0.5)
    assert class_thresholds(np.full((3, 2), 0.1), np.array([0, 0, 0]))[0] == 0.1  # a mean that does not drift
    assert label_errors(answers(even, [0, 1, 1])) == ()
    # Classes b and c are equally probable and at their thresholds: the lower is suggested.
    third = [[0.2, 0.4, 0.4], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]]
    assert [(one.position, one.suggested) for one in label_errors(answers(third, [0, 1, 2]))] == [(0, 1)]


def test_a_class_that_labels_no_image_is_never_suggested():
    p = [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7], [0.05, 0.9, 0.05]]
    found = label_errors(answers(p, [0, 1, 1]))
    # c is the most probable class of two images but has no threshold; b's is (0.2 + 0.9) / 2, a's 0.1. So a
    # is the only candidate of image 1, which is labelled b.
    assert [(one.position, one.suggested) for one in found] == [(1, 0)]
    assert math.isnan(class_thresholds(np.array(p), np.array([0, 1, 1]))[2])
    assert top_losses(answers(p, [0, 1, 1]), 1)[0].suggested == 2


def test_the_margin_is_to_the_best_other_class_even_below_its_threshold():
    # Image 0 (label a): c is likelier than b, but c's threshold is 0.9.
    p = [[0.1, 0.42, 0.48], [0.9, 0.05, 0.05], [0.3, 0.4, 0.3], [0.05, 0.05, 0.9]]
    found = label_errors(answers(p, [0, 0, 1, 2]))
    assert [(one.position, one.suggested) for one in found] == [(0, 1)]
    assert found[0].margin == pytest.approx(0.1 - 0.48)


def test_top_losses_by_hand():
    found = top_losses(answers(SIX, LABELS), 3)
    assert [(one.position, one.given, one.suggested) for one in found] == [(5, 2, 1), (3, 1, 0), (1, 0, 1)]
    assert [one.loss for one in found] == pytest.approx([-math.log(v) for v in (0.05, 0.2, 0.4)], rel=1e-6)
    assert [one.p_given for one in found] == pytest.approx([0.05, 0.2, 0.4])
    assert [one.p_suggested for one in found] == pytest.approx([0.5, 0.7, 0.55])
    everything = top_losses(answers(SIX, LABELS), 99)
    assert len(everything) == 6
    assert np.mean([one.loss for one in everything]) == pytest.approx(
        log_loss(LABELS, np.array(SIX)), rel=1e-6
    )


def test_losses_of_logits_far_apart_stay_exact():
    far = replace(answers([[0.5, 0.5]], [0]), logits=np.array([[-300.0, 300.0]], np.float32))
    assert top_losses(far, 1)[0].loss == 600.0
    assert top_losses(far, 1, temperature=2.0)[0].loss == 300.0


def test_equal_images_are_ranked_by_file_name():
    same = replace(answers([[0.2, 0.8]] * 3, [0] * 3), files=("b", "a", "c"))
    assert [one.file for one in top_losses(same, 3)] == ["a", "b", "c"]


def test_planted_label_errors_stand_before_clean_images():
    pixels, true = load_digits(return_X_y=True)
    draw = np.random.default_rng(0)
    flipped = draw.choice(len(true), 60, replace=False)
    labels = true.copy()
    labels[flipped] = (true[flipped] + draw.integers(1, 10, 60)) % 10
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    model = LogisticRegression(C=3, max_iter=300)
    p = cross_val_predict(model, pixels / 16, labels, cv=folds, method="predict_proba")
    record = answers(p, labels)
    found = label_errors(record)
    planted = set(flipped.tolist())
    hits = [one.position in planted for one in found]
    assert all(hits[:35])  # the first ones are all planted
    assert sum(hits) >= 45  # of 60
    assert len(hits) - sum(hits) <= 8  # of 1,737 clean ones
    right = [one.suggested == true[one.position] for one in found if one.position in planted]
    assert np.mean(right) > 0.95
    assert sum(one.position in planted for one in top_losses(record, 60)) >= 50


def test_one_class_and_one_image():
    one = answers([[1.0]], [0])
    assert label_errors(one) == ()
    assert top_losses(one, 3)[0].margin == 1.0


@pytest.mark.parametrize("rank", [label_errors, top_losses])
def test_what_can_not_be_ranked_is_refused(rank):
    good = answers(SIX, LABELS)
    with pytest.raises(UsageError, match="one label each"):
        rank(replace(good, labels=np.zeros((6, 3), np.float32)), 3)
    logits = good.logits.copy()
    logits[2, 1] = np.nan
    with pytest.raises(NonFiniteLossError, match="for 1 of 6 images"):
        rank(replace(good, logits=logits), 3)
    with pytest.raises(DataError, match=r"0\.\.2, got 0\.\.3"):
        rank(replace(good, labels=np.array([0, 0, 0, 1, 1, 3])), 3)
    with pytest.raises(DataError, match="at least one image"):
        rank(replace(good, files=(), labels=np.zeros(0, np.int64), logits=np.zeros((0, 3), np.float32)), 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 25), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_order_of_images_changes_nothing(num_images: int, num_classes: int, seed: int):
    draw = np.random.default_rng(seed)
    record = Predictions(
        name="net",
        classes=tuple(map(str, range(num_classes))),
        files=tuple(map(str, range(num_images))),
        labels=draw.integers(0, num_classes, num_images),
        logits=draw.integers(-2, 3, (num_images, num_classes)).astype(np.float32),  # with ties
    )
    order = draw.permutation(num_images)
    shuffled = replace(
        record,
        files=tuple(record.files[i] for i in order),
        labels=record.labels[order],
        logits=record.logits[order],
    )
    for rank in (label_errors, top_losses):
        found = rank(shuffled, 10)
        assert tuple(replace(one, position=int(order[one.position])) for one in found) == rank(record, 10)
