"""Ensembles against numpy means."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, softmax

from striate.blend.ensemble import average_predictions
from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.predictions import Predictions

CLASSES = ("a", "b", "c")


def predictions(seed, *, name="x", order=None, multi=False):
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 3, 20)
    if multi:
        labels = np.random.default_rng(99).integers(0, 2, (20, 3)).astype(np.float32)
    rows = np.arange(20) if order is None else order
    return Predictions(
        name=name,
        classes=CLASSES,
        files=tuple(f"{i}.png" for i in rows),
        labels=labels[rows],
        logits=(4 * rng.normal(size=(20, 3)).astype(np.float32))[rows],
    )


def test_probabilities_are_the_numpy_mean():
    members = [predictions(k) for k in range(4)]
    made = average_predictions(members)
    expected = np.mean([softmax(m.logits.astype(np.float64), axis=1) for m in members], axis=0)
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-5)
    assert made.files == members[0].files


def test_temperatures_come_first():
    members = [predictions(k) for k in range(2)]
    made = average_predictions([replace(m, temperature=t) for m, t in zip(members, (0.5, 3.0), strict=True)])
    assert made.temperature == 1.0
    expected = (softmax(members[0].logits / 0.5, axis=1) + softmax(members[1].logits / 3.0, axis=1)) / 2
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-5)


def test_logits_are_the_numpy_mean_and_another_prediction():
    members = [predictions(k) for k in range(4)]
    made = average_predictions(members, of="logits")
    np.testing.assert_allclose(
        made.logits, np.mean([m.logits for m in members], axis=0), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(made.probabilities(), average_predictions(members).probabilities())


def test_several_labels():
    members = [predictions(k, multi=True) for k in range(3)]
    made = average_predictions(members)
    expected = np.mean([expit(m.logits.astype(np.float64)) for m in members], axis=0)
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-4)
    all_correct = ((expected > 0.5) == (members[0].labels > 0.5)).all(1)
    assert made.correct.tolist() == all_correct.tolist()


def test_order_of_images_and_members_changes_nothing():
    order = np.random.default_rng(1).permutation(20)
    mixed = [predictions(0), predictions(1, order=order), predictions(2)]
    plain = [predictions(0), predictions(1), predictions(2)]
    assert np.array_equal(average_predictions(mixed).logits, average_predictions(plain).logits)
    assert np.array_equal(average_predictions(plain[::-1]).logits, average_predictions(plain).logits)


def test_one_network_predicts_as_alone():
    alone = predictions(0)
    assert average_predictions([alone]).correct.tolist() == (alone.logits.argmax(1) == alone.labels).tolist()


def test_refusals():
    one = predictions(0)
    with pytest.raises(UsageError, match="probabilities or logits"):
        average_predictions([one], of="votes")
    with pytest.raises(UsageError, match="temperature"):
        average_predictions([one, replace(one, temperature=0.0)])
    with pytest.raises(UsageError, match="at least one network"):
        average_predictions([])
    broken = predictions(1, name="nanny")
    broken.logits[3, 1] = np.nan
    with pytest.raises(NonFiniteLossError, match="nanny"):
        average_predictions([one, broken])
    short = Predictions(
        name="short", classes=CLASSES, files=one.files[:5], labels=one.labels[:5], logits=one.logits[:5]
    )
    with pytest.raises(DataError, match="same images"):
        average_predictions([one, short])
