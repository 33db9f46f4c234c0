"""Which bundles can be averaged, and what is said when they should not have been."""

from dataclasses import replace

import pytest
import torch

from striate.blend.kinship import Barrier, barrier, common_start, explain, refuse_unrelated
from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle

PRE = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=None, mean=(0.0,), std=(1.0,))
ONE = Bundle(
    net="lenet5_modern",
    classes=("cat", "dog"),
    preprocessing=PRE,
    state={"w": torch.zeros(2)},
    net_arguments={"dropout": 0.1},
    seed=0,
    recipe={"name": "r"},
    data={"fingerprint": "f", "started_from": None},
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"net": "resnet20"}, "same network as A .lenet5_modern., got resnet20"),
        ({"net_arguments": {"width": 2}}, "argument width as A .None., got 2"),
        ({"multi_label": True}, "several labels"),
        ({"classes": ("dog", "cat")}, "order of classes"),
        ({"classes": ("cat", "dog", "emu")}, "3 classes .difference: emu"),
        ({"preprocessing": replace(PRE, resize_px=40)}, "preprocessing resize_px as A .None., got 40"),
        ({"preprocessing": replace(PRE, mean=(0.5,))}, "preprocessing mean"),
        ({"state": {"w": torch.zeros(3)}}, "w of 2 float32 in B, as in A, got 3 float32"),
        ({"state": {"v": torch.zeros(2)}}, "same tensors"),
    ],
)
def test_unrelated_bundles_are_refused_in_one_line(change, words):
    with pytest.raises(BundleError, match=words) as caught:
        refuse_unrelated([ONE, replace(ONE, **change)], ["A", "B"])
    assert "\n" not in str(caught.value)
    assert "`striate blend ensemble` takes any" in str(caught.value)


def test_another_dropout_or_seed_is_no_obstacle():
    refuse_unrelated([ONE, replace(ONE, net_arguments={"dropout": 0.5}, seed=7)], ["A", "B"])
    refuse_unrelated([ONE, replace(ONE, net_arguments={})], ["A", "B"])


def test_common_start_goes_by_the_records():
    child = replace(ONE, data={"fingerprint": "f", "started_from": "/runs/parent"}, seed=1)
    sibling = replace(child, seed=2, recipe={"name": "other"})
    assert common_start([child, sibling]) == "all were trained from /runs/parent"
    assert common_start([child, ONE]) is None
    assert common_start([ONE, replace(ONE, seed=1)]) is None
    assert common_start([ONE, replace(ONE, state={})]) == "all are of one run"
    assert common_start([replace(ONE, seed=None), replace(ONE, seed=None)]) is None


def test_barrier_by_hand():
    seen = []

    def accuracy(state):
        seen.append(state["w"].tolist())
        return 0.25

    pair = ({"w": torch.tensor([0.0])}, {"w": torch.tensor([4.0])})
    found = barrier(pair, (0.9, 0.8), accuracy, lambda state: {"w": state["w"] + 1})
    assert seen == [[3.0]]
    assert found.height == pytest.approx(0.6)
    assert not found.connected
    assert Barrier(0.9, 0.89).connected
    assert Barrier(0.5, 0.7).height == pytest.approx(-0.2)


def test_explanations():
    wall = (Barrier(0.9, 0.3), Barrier(0.9, 0.9))
    assert explain(0.91, [0.9, 0.9], None, ()) is None
    assert explain(0.89, [0.9, 0.9, 0.9], None, ()) is None  # within the two points
    strangers = explain(0.31, [0.9, 0.9, 0.9], None, wall)
    assert "the soup has an accuracy of 31%, its ingredients 90% on average" in strangers
    assert "different starts" in strangers
    assert "1 of the 2 others" in strangers
    assert "`weights=PARENT`" in strangers
    family = explain(0.31, [0.9, 0.9, 0.9], "all are of one run", wall)
    assert "all are of one run, but they have moved too far apart" in family
