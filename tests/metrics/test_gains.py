"""Figures and gains against counting by hand."""

import numpy as np
import pytest

from striate.core.errors import DataError, UsageError
from striate.metrics.gains import check_top, figures
from striate.metrics.predictions import Predictions

CLASSES = ("a", "b", "c")


def answers(logits, labels, files=("0", "1", "2", "3")) -> Predictions:
    return Predictions(
        name="x",
        classes=CLASSES,
        files=tuple(files),
        labels=np.array(labels),
        logits=np.array(logits, np.float32),
    )


BEFORE = [[3, 1, 0], [3, 1, 0], [3, 2, 0], [0, 0, 9]]  # names a, a, a, c
AFTER = [[3, 1, 0], [1, 3, 0], [0, 3, 2], [0, 9, 0]]  # names a, b, b, b
LABELS = [0, 1, 1, 2]


def test_rates_and_gains_by_hand():
    first, second, loss = figures(answers(AFTER, LABELS), top=(1, 2), against=answers(BEFORE, LABELS))
    assert (first.what, first.value, first.gain) == ("top-1", 0.75, 0.25)  # 3 right, 2 were
    # Wilson's interval of 3 of 4 by his formula.
    z = 1.959963984540054
    centre, half = (0.75 + z**2 / 8) / (1 + z**2 / 4), z * np.sqrt(0.1875 / 4 + z**2 / 64) / (1 + z**2 / 4)
    assert first.interval == pytest.approx((centre - half, centre + half))
    # After, the last image has its class in the third place by index; before, all but none are in two.
    assert (second.what, second.value, second.gain) == ("top-2", 0.75, -0.25)
    low, high = first.gain_interval
    assert low <= 0.25 <= high
    assert low < 0  # two images gained, one lost, of four: nothing is shown

    def nats(logits):
        rows = np.array(logits, float)
        return np.mean(np.log(np.exp(rows).sum(axis=1)) - rows[range(4), LABELS])

    assert loss.what == "loss"
    assert loss.value == pytest.approx(nats(AFTER))
    assert loss.gain == pytest.approx(nats(AFTER) - nats(BEFORE))
    assert loss.interval is None


def test_the_order_of_the_images_does_not_matter():
    order = [2, 0, 3, 1]
    shuffled = answers(np.array(BEFORE)[order], np.array(LABELS)[order], [str(i) for i in order])
    straight = figures(answers(AFTER, LABELS), against=answers(BEFORE, LABELS))
    assert figures(answers(AFTER, LABELS), against=shuffled) == straight


def test_without_a_comparison_there_is_no_gain():
    for figure in figures(answers(AFTER, LABELS)):
        assert figure.gain is None
        assert figure.gain_interval is None


def test_several_labels():
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    after = answers([[2, -1, -1], [2, 2, -1], [-1, -1, 2], [-1, -1, -1]], labels)
    before = answers([[2, -1, -1], [2, -1, -1], [2, -1, 2], [-1, 2, -1]], labels)
    ap, right, _ = figures(after, against=before)
    assert (right.what, right.value, right.gain) == ("all right", 0.75, 0.25)
    # Class a: before, the third image ties with its two at the top: precision 2/3; after, it is perfect.
    # Class b: before, image 3 first, then three equal ones: 1/2 + 1/2 * 2/4; after 1/2 + 1/2 * 2/4.
    assert ap.what == "mean AP"
    assert ap.value == pytest.approx((1 + 0.75 + 1) / 3)
    assert ap.gain == pytest.approx((1 - 2 / 3) / 3)
    with pytest.raises(UsageError, match="`top`"):
        figures(after, top=(1,))


def test_which_topk():
    assert check_top(None, 5) == (1,)
    assert check_top(None, 6) == (1, 5)
    assert check_top((3, 1, 3), 3) == (3, 1)
    for bad in (0, 4):
        with pytest.raises(UsageError, match="from 1 to 3"):
            check_top((bad,), 3)


def test_other_images_are_refused():
    with pytest.raises(DataError, match="same images"):
        figures(answers(AFTER, LABELS), against=answers(BEFORE, LABELS, "abcd"))
