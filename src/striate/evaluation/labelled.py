"""Which labelled images a network is measured on: read once, split, with the classes as it numbers them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from striate.core.choices import Split as Split
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress
from striate.data.dataset import Dataset, open_dataset
from striate.data.preprocess import Preprocessing
from striate.data.sources import Source, open_source
from striate.recipes.recipe import Recipe
from striate.weights.bundle import Bundle

DataChoice = str | Path | Sequence[str | Path]


def check_split(split: str) -> None:
    """Refuse an unknown split.

    Raises:
        UsageError: it is not one of ``Split``.
    """
    if split not in get_args(Split):
        raise UsageError(f"expected a split out of {', '.join(get_args(Split))}; got {split!r}")


class LabelledImages:
    """Labelled images, read once for all networks that prepare them alike.

    Args:
        data: as in ``train``; None where none turn out to be needed.
        split: which of them; ``auto`` as in ``evaluate``.
        strict: a broken image is an error.
        progress: listener.
    """

    def __init__(self, data: DataChoice | None, split: Split, strict: bool, progress: Progress) -> None:
        self.data = data
        self.split = split
        self.strict = strict
        self.progress = progress
        self._source: Source | None = None
        self._datasets: dict[tuple[Any, ...], Dataset] = {}

    def source(self) -> Source:
        """Return the images with their own classes.

        Raises:
            UsageError: no data was given.
        """
        if self._source is None:
            if self.data is None:
                raise UsageError("expected labelled images, got none: name them with `data`")
            where = self.data if isinstance(self.data, str | Path) else list(self.data)
            self._source = open_source(where, progress=self.progress)
        return self._source

    def of(self, bundle: Bundle) -> tuple[Dataset, NDArray[np.int64], str]:
        """Return the images for a network, the indices of those to take, and what these are in words.

        Raises:
            DataError: the classes differ, or the split is empty.
        """
        recipe = Recipe.from_json(bundle.recipe) if bundle.recipe else None
        fractions = (recipe.val_fraction, recipe.test_fraction) if recipe else (0.0, 0.0)
        shape = geometry(bundle.preprocessing)
        key = (shape, fractions, bundle.classes, bundle.multi_label)
        if key not in self._datasets:
            self._datasets.clear()  # keep the pixels of one size at a time
            self._datasets[key] = open_dataset(
                with_classes(self.source(), bundle),
                shape,
                val_fraction=fractions[0],
                test_fraction=fractions[1],
                strict=self.strict,
                progress=self.progress,
            )
        dataset = self._datasets[key]
        return (dataset, *_choose_split(dataset, bundle, self.split))


def _choose_split(dataset: Dataset, bundle: Bundle, split: Split) -> tuple[NDArray[np.int64], str]:
    parts = {"train": dataset.splits.train, "val": dataset.splits.val, "test": dataset.splits.test}
    everything = np.sort(np.concatenate(list(parts.values())))
    if split == "all":
        return everything, "all images"
    if split != "auto":
        if not len(parts[split]):
            there = ", ".join(f"{name} {len(part):,}" for name, part in parts.items() if len(part))
            raise DataError(
                f"{dataset.source.name}: its {split} split is empty (it has: {there}): use another `split`"
            )
        return parts[split], f"{split} split"
    trained_on_this = bundle.data.get("fingerprint") == dataset.fingerprint
    official = set(np.unique(dataset.source.splits).tolist())
    for code, name in ((2, "test"), (1, "val")):
        if len(parts[name]) and (code in official or trained_on_this):
            made = "" if code in official else " (held out from this bundle's training)"
            return parts[name], f"{name} split{made}"
    if trained_on_this:
        return everything, "all images, those it was trained on included: this says nothing about new images"
    return (
        everything,
        "all images (the source names no test part; some may be among those the bundle was trained on)",
    )


def geometry(preprocessing: Preprocessing) -> Preprocessing:
    """Return what images go through before their pixels are kept: all but colour order, mean and std."""
    channels = preprocessing.channels
    return replace(preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels, colour_order="RGB")


def with_classes(source: Source, bundle: Bundle) -> Source:
    """Renumber a source's labels to the bundle's classes.

    Raises:
        DataError: the source has a class that the bundle lacks, or labels of the other kind.
    """
    if source.multi_label != bundle.multi_label:
        kinds = ("one label an image", "several labels an image")
        raise DataError(
            f"{source.name}: expected {kinds[bundle.multi_label]}, as the bundle was trained, got"
            f" {kinds[source.multi_label]}: use data of the same kind"
        )
    if source.classes == bundle.classes:
        return source
    unknown = sorted(set(source.classes) - set(bundle.classes))
    if unknown:
        raise DataError(
            f"{source.name}: the bundle knows {len(bundle.classes)} classes and not {', '.join(unknown[:5])}"
            f"{' ...' if len(unknown) > 5 else ''}: use images of its classes"
            f" ({', '.join(bundle.classes[:5])} ...)"
        )
    number = np.array([bundle.classes.index(name) for name in source.classes], np.int64)
    if source.labels.ndim == 1:
        labels: NDArray[Any] = number[source.labels]
    else:
        labels = np.zeros((len(source.labels), len(bundle.classes)), np.float32)
        labels[:, number] = source.labels
    return replace(source, labels=labels, classes=bundle.classes)
