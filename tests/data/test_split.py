"""Splits: their laws, held against made-up sets of any shape."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.core.errors import UsageError
from striate.data.split import content_groups, make_splits


def digest(content: int) -> bytes:
    return hashlib.blake2b(str(content).encode(), digest_size=16).digest()


def digests(contents: list[int]) -> np.ndarray:
    rows = b"".join(digest(one) for one in contents)
    return np.frombuffer(rows, np.uint8).reshape(-1, 16)


sets = st.integers(1, 60).flatmap(
    lambda num: st.tuples(
        st.lists(st.integers(0, 40), min_size=num, max_size=num),  # contents, with repeats
        st.lists(st.integers(0, 3), min_size=num, max_size=num),  # labels
        st.lists(st.booleans(), min_size=num, max_size=num),  # good
    )
)
fractions = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.45])


def split(contents, labels, good, val, test, splits=None):
    given_splits = np.full(len(contents), -1, np.int8) if splits is None else np.array(splits, np.int8)
    return make_splits(
        np.array(labels, np.int64),
        digests(contents),
        given_splits,
        val_fraction=val,
        test_fraction=test,
        good=np.array(good, bool),
    )


@settings(max_examples=150, deadline=None)
@given(sets, fractions, fractions)
def test_a_made_split_takes_each_good_image_once_and_no_content_twice(made_set, val, test) -> None:
    contents, labels, good = made_set
    got = split(contents, labels, good, val, test)
    members = np.concatenate([got.train, got.val, got.test])
    assert sorted(members.tolist()) == [index for index, one in enumerate(good) if one]
    sides = [{contents[index] for index in part} for part in (got.train, got.val, got.test)]
    assert sum(len(side) for side in sides) == len(set.union(*sides))


@settings(max_examples=150, deadline=None)
@given(sets, fractions, fractions, st.randoms(use_true_random=False))
def test_a_made_split_does_not_depend_on_order(made_set, val, test, shuffler) -> None:
    contents, labels, good = made_set
    order = list(range(len(contents)))
    shuffler.shuffle(order)
    one = split(contents, labels, good, val, test)
    other = split(
        [contents[k] for k in order], [labels[k] for k in order], [good[k] for k in order], val, test
    )
    for part in ("train", "val", "test"):
        assert sorted(order[k] for k in getattr(other, part)) == getattr(one, part).tolist()


@settings(max_examples=150, deadline=None)
@given(sets, fractions, fractions)
def test_counts_are_exact_in_every_class(made_set, val, test) -> None:
    contents, labels, good = made_set
    got = split(contents, labels, good, val, test)
    # plain bookkeeping: a content belongs to the smallest label that a good image of it carries
    owner: dict[int, int] = {}
    for content, label, usable in zip(contents, labels, good, strict=True):
        if usable:
            owner[content] = min(label, owner.get(content, label))
    for label in range(4):
        mine = [content for content, one in owner.items() if one == label]
        num_test = min(math.floor(test * len(mine) + 0.5), max(0, len(mine) - 1))
        num_val = min(math.floor(val * len(mine) + 0.5), max(0, len(mine) - 1) - num_test)
        ranked = sorted(mine, key=digest)
        expected = ranked[:num_test], ranked[num_test : num_test + num_val], ranked[num_test + num_val :]
        for part, contents_of_part in zip((got.test, got.val, got.train), expected, strict=True):
            assert {contents[k] for k in part if owner[contents[k]] == label} == set(contents_of_part)


@pytest.mark.parametrize(
    ("named", "made", "sizes"),
    [
        ([-1] * 100, ("train", "val", "test"), (70, 10, 20)),
        ([0] * 100, ("val", "test"), (70, 10, 20)),
        ([0] * 60 + [2] * 40, ("val",), (54, 6, 40)),
        ([0] * 60 + [1] * 40, (), (60, 40, 0)),
        ([0] * 50 + [1] * 20 + [2] * 30, (), (50, 20, 30)),
        ([2] * 100, (), (0, 0, 100)),
        ([1] * 100, (), (0, 100, 0)),
        ([1] * 50 + [2] * 50, (), (0, 50, 50)),
        ([0] * 40 + [-1] * 20 + [2] * 40, ("val",), (54, 6, 40)),
        ([-1] * 60 + [2] * 40, ("val",), (54, 6, 40)),
        ([-1] * 60 + [1] * 40, (), (60, 40, 0)),
    ],
)
def test_named_splits_are_kept_and_missing_ones_made(named: list[int], made: tuple, sizes: tuple) -> None:
    got = split(list(range(100)), [0] * 100, [True] * 100, 0.1, 0.2, named)
    assert got.made == made
    assert (len(got.train), len(got.val), len(got.test)) == sizes
    for part, number in ((got.val, 1), (got.test, 2)):
        assert {index for index, one in enumerate(named) if one == number} <= set(part.tolist())


def test_nothing_is_cut_at_fraction_zero() -> None:
    got = split(list(range(10)), [0] * 10, [True] * 10, 0.0, 0.0)
    assert (got.made, len(got.train)) == (("train",), 10)


def test_tiny_classes_keep_a_training_image() -> None:
    labels = [0] * 50 + [1] + [2] * 2
    got = split(list(range(53)), labels, [True] * 53, 0.4, 0.5)
    assert {labels[index] for index in got.train} == {0, 1, 2}


def test_adding_images_moves_few() -> None:
    before = split(list(range(1000)), [0] * 1000, [True] * 1000, 0.1, 0.1)
    after = split(list(range(1010)), [0] * 1010, [True] * 1010, 0.1, 0.1)
    assert len(set(before.test.tolist()) & set(after.test.tolist())) >= 95


def test_multi_label_images_are_one_stratum() -> None:
    labels = np.zeros((200, 3), np.float32)
    got = make_splits(
        labels, digests(list(range(200))), np.full(200, -1, np.int8), val_fraction=0.1, test_fraction=0.25
    )
    assert (len(got.train), len(got.val), len(got.test)) == (130, 20, 50)


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (0.1, float("nan"))])
def test_fractions_that_leave_nothing_are_refused(val: float, test: float) -> None:
    with pytest.raises(UsageError, match="leave something to train on"):
        split([1, 2], [0, 0], [True, True], val, test)


def test_content_groups_by_hand() -> None:
    rows = np.array([[2, 0], [1, 9], [2, 0], [0, 255]], np.uint8)
    group, count = content_groups(rows)
    assert (group.tolist(), count) == ([2, 1, 2, 0], 3)
