"""Ensembles against numpy means."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from striate.blend.ensemble import ensemble
from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.predictions import Predictions

CLASSES = ("a", "b", "c")


def answers(seed, *, name="x", order=None, multi=False):
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
    members = [answers(k) for k in range(4)]
    made = ensemble(members)
    expected = np.mean([softmax(m.logits.astype(np.float64), axis=1) for m in members], axis=0)
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-5)
    assert made.files == members[0].files


def test_temperatures_come_first():
    members = [answers(k) for k in range(2)]
    made = ensemble(members, temperatures=[0.5, 3.0])
    expected = (softmax(members[0].logits / 0.5, axis=1) + softmax(members[1].logits / 3.0, axis=1)) / 2
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-5)


def test_logits_are_the_numpy_mean_and_another_answer():
    members = [answers(k) for k in range(4)]
    made = ensemble(members, of="logits")
    np.testing.assert_allclose(
        made.logits, np.mean([m.logits for m in members], axis=0), rtol=1e-5, atol=1e-6
    )
    assert not np.allclose(made.probabilities(), ensemble(members).probabilities())


def test_several_labels():
    members = [answers(k, multi=True) for k in range(3)]
    made = ensemble(members)
    expected = np.mean([expit(m.logits.astype(np.float64)) for m in members], axis=0)
    np.testing.assert_allclose(made.probabilities(), expected, rtol=1e-4)
    all_right = ((expected > 0.5) == (members[0].labels > 0.5)).all(1)
    assert made.correct.tolist() == all_right.tolist()


def test_order_of_images_and_members_changes_nothing():
    order = np.random.default_rng(1).permutation(20)
    mixed = [answers(0), answers(1, order=order), answers(2)]
    plain = [answers(0), answers(1), answers(2)]
    assert np.array_equal(ensemble(mixed).logits, ensemble(plain).logits)
    assert np.array_equal(ensemble(plain[::-1]).logits, ensemble(plain).logits)


def test_one_member_answers_as_alone():
    alone = answers(0)
    assert ensemble([alone]).correct.tolist() == (alone.logits.argmax(1) == alone.labels).tolist()


def test_refusals():
    one = answers(0)
    with pytest.raises(UsageError, match="probabilities or logits"):
        ensemble([one], of="votes")
    with pytest.raises(UsageError, match="temperature"):
        ensemble([one, one], temperatures=[1.0])
    with pytest.raises(UsageError, match="temperature"):
        ensemble([one], temperatures=[0.0])
    with pytest.raises(UsageError, match="at least one member"):
        ensemble([])
    broken = answers(1, name="nanny")
    broken.logits[3, 1] = np.nan
    with pytest.raises(NonFiniteLossError, match="nanny"):
        ensemble([one, broken])
    short = Predictions(
        name="short", classes=CLASSES, files=one.files[:5], labels=one.labels[:5], logits=one.logits[:5]
    )
    with pytest.raises(DataError, match="same images"):
        ensemble([one, short])
