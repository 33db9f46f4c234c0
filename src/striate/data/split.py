"""Who trains, who validates, who tests: official splits kept, missing ones made from the images' content.

A made split depends on what the images are, never on their order or their names: each distinct content has a
hash, the contents of one class are ranked by it, and the first ranks are held out. Adding an image moves few
others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import UsageError
from striate.data.source import NO_SPLIT, SPLIT_NAMES


@dataclass(frozen=True, slots=True)
class Splits:
    """Indices into a source, ascending and disjoint; images that can't be used are in none.

    Attributes:
        train: int64, images to learn from.
        val: int64, images to choose by.
        test: int64, images to report on.
        made: names of the splits that the source did not have and that were cut from others.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    made: tuple[str, ...]


def make_splits(
    labels: NDArray[np.int64] | NDArray[np.float32],
    digests: NDArray[np.uint8],
    splits: NDArray[np.int8],
    *,
    val_fraction: float,
    test_fraction: float,
    good: NDArray[np.bool_] | None = None,
) -> Splits:
    """Keep the splits that a source names and cut the missing ones from its training images.

    ======================  ========================================================
    the source names        result
    ======================  ========================================================
    nothing                 train, val and test are made
    train                   val and test are made from train
    train, test             val is made from train
    train, val (and test)   kept as named
    val or test, no train   kept as named, train is empty
    ======================  ========================================================

    Images that name no split, beside others that do, count as train. Cutting is stratified: of the ``d``
    distinct contents of a class, ``floor(fraction x d + 1/2)`` are held out, as long as one stays in train.
    Images with the same content stay together even if their labels differ (they count in the class with the
    smallest number). Multi-label images are one stratum.

    Args:
        labels: int64 ``[n]`` or float32 ``[n, k]``.
        digests: uint8 ``[n, b]`` content hashes.
        splits: int8 ``[n]``: -1 none, 0 train, 1 val, 2 test.
        val_fraction: share of the distinct contents to hold out for validation, in [0, 1).
        test_fraction: share to hold out for testing, in [0, 1).
        good: bool ``[n]``, the images that may be used; None for all.

    Returns:
        The indices of each split.

    Raises:
        UsageError: a fraction is out of range, or the two leave nothing to train on.
    """
    if not (0 <= val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
        raise UsageError(
            f"expected fractions in [0, 1) that leave something to train on, got val {val_fraction}"
            f" and test {test_fraction}: lower them"
        )
    usable = np.ones(len(splits), np.bool_) if good is None else good
    named: set[str] = {SPLIT_NAMES[number] for number in np.unique(splits) if number != NO_SPLIT}
    parts = np.array(splits, np.int8)
    parts[parts == NO_SPLIT] = 0
    if named <= {"train"}:
        fractions = {"test": test_fraction, "val": val_fraction}
    elif named == {"train", "test"} or (named == {"test"} and (splits == NO_SPLIT).any()):
        fractions = {"val": val_fraction}
    else:
        fractions = {}
    fractions = {name: fraction for name, fraction in fractions.items() if fraction > 0}
    pool = np.flatnonzero(usable & (parts == 0))
    if fractions and len(pool):
        held_out = _hold_out(labels[pool], digests[pool], list(fractions.values()))
        for turn, name in enumerate(fractions):
            parts[pool[held_out == turn]] = SPLIT_NAMES.index(name)
    parts[~usable] = NO_SPLIT
    made = [name for name in SPLIT_NAMES[1:] if name in fractions]
    if not named:
        made = ["train", *made]
    return Splits(
        train=np.flatnonzero(parts == 0).astype(np.int64),
        val=np.flatnonzero(parts == 1).astype(np.int64),
        test=np.flatnonzero(parts == 2).astype(np.int64),
        made=tuple(made),
    )


def content_groups(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Number the distinct contents in the order of their hashes.

    Args:
        digests: uint8 ``[n, b]``.

    Returns:
        int64 ``[n]``, each image's content in 0..m-1, and ``m``.
    """
    if not len(digests):
        return np.zeros(0, np.int64), 0
    rows = np.ascontiguousarray(digests)
    keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    distinct, group = np.unique(keys, return_inverse=True)
    return group.astype(np.int64).ravel(), len(distinct)


def _hold_out(
    labels: NDArray[np.int64] | NDArray[np.float32], digests: NDArray[np.uint8], fractions: list[float]
) -> NDArray[np.int64]:
    """Return, for each image, the index of the fraction that it is held out for, or -1 if it stays."""
    group, num_groups = content_groups(digests)
    stratum = np.zeros(num_groups, np.int64)
    if labels.ndim == 1:
        stratum[:] = np.iinfo(np.int64).max
        np.minimum.at(stratum, group, labels.astype(np.int64))
    held_out = np.full(num_groups, -1, np.int64)
    for one in np.unique(stratum):
        ranked = np.flatnonzero(stratum == one)  # groups are numbered by hash
        left = len(ranked) - 1
        start = 0
        for turn, fraction in enumerate(fractions):
            count = min(int(np.floor(fraction * len(ranked) + 0.5)), left)
            held_out[ranked[start : start + count]] = turn
            start += count
            left -= count
    return held_out[group]
