"""What goes into a blend: bundles, the snapshots of runs, and the images that they are judged on."""

import copy
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.blend.average import state_digest
from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.random import permutation
from striate.data.batches import Loader, loader_for
from striate.data.dataset import Dataset, open_dataset
from striate.data.sources import open_source
from striate.data.split import make_splits
from striate.evaluation.labelled import DataChoice, geometry, with_classes
from striate.evaluation.measure import RunChoice, network_of
from striate.recipes.recipe import Recipe
from striate.weights.bundle import Bundle, load_bundle
from striate.weights.open import NetworkChoice, OpenNetwork, open_bundle
from striate.weights.run_folder import RunFolder, bundle_path, snapshot_files

_CARVED = 0.1  # share of the training images to choose by where there are no validation images
_UNKNOWN = 0.1  # held out for choosing, and for the test, where no ingredient says what it was trained on
BATCH_IMAGES = 256  # in a forward pass of a blend, unless the caller says otherwise
_STATISTICS = 2001  # the random stream that picks images for batch norm's statistics


@dataclass(frozen=True, slots=True, eq=False)
class Ingredient:
    """A bundle that goes into a blend.

    Attributes:
        name: short, and different for each ingredient: the run's name, or the file's.
        network: the file, or the open network.
        bundle: with its tensors.
        digest: of these (``state_digest``).
    """

    name: str
    network: Path | OpenNetwork
    bundle: Bundle
    digest: str

    def build(self) -> nn.Module:
        """Return a network of its own with these weights, in eval mode on the CPU."""
        if isinstance(self.network, OpenNetwork):
            return copy.deepcopy(self.network.net).cpu()
        return open_bundle(self.network)[0]


@dataclass(frozen=True, slots=True, eq=False)
class BlendImages:
    """The images that blends are made and judged with. Indices are into each dataset's source.

    Attributes:
        datasets: one for each ingredient, in its geometry and with its order of classes.
        train: images that batch norm's statistics are measured on.
        held_out: images that choose; never the test images.
        test: images that nothing was chosen by; may be empty.
        held_out_words: which the held-out images are.
        notes: what to know before trusting the figures.
    """

    datasets: tuple[Dataset, ...]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    test: NDArray[np.int64]
    held_out_words: str
    notes: tuple[str, ...]


def gather(networks: Iterable[RunChoice], *, snapshots: bool = False) -> tuple[Ingredient, ...]:
    """Load the bundles of a blend.

    Args:
        networks: bundles, run folders and results of trainings.
        snapshots: take a run folder's snapshots, in their order, instead of its selected weights.

    Raises:
        UsageError: ``snapshots``, and one is no run folder or holds none.
        BundleError: a bundle can't be read, or its network has diverged.
    """
    words = [network_of(one) for one in networks]
    chosen: list[Path | OpenNetwork] = []
    for word in words:
        if snapshots:
            chosen += snapshots_of(_file_of(word).parent if isinstance(word, OpenNetwork) else Path(word))
        else:
            chosen.append(word if isinstance(word, OpenNetwork) else bundle_path(Path(word)))
    files = [_file_of(one) for one in chosen]
    found = []
    for one, name in zip(chosen, _names(files), strict=True):
        bundle = one.bundle if isinstance(one, OpenNetwork) else load_bundle(one)
        if isinstance(one, OpenNetwork) and not bundle.state:
            bundle = replace(bundle, state=one.net.state_dict())
        found.append(Ingredient(name, one, bundle, state_digest(bundle.state)))
    return tuple(found)


def bundle_files(networks: Iterable[NetworkChoice]) -> list[Path]:
    """Return the files of networks, which a blend must not overwrite."""
    return [_file_of(one) for one in networks]


def _file_of(network: NetworkChoice) -> Path:
    if isinstance(network, OpenNetwork):
        return network.path or Path(network.name)
    return bundle_path(Path(network))


def snapshots_of(run: Path) -> list[Path]:
    """List a run's snapshots in the order in which they were taken.

    Raises:
        UsageError: there are none.
    """
    found = list(snapshot_files(RunFolder(run)))
    if not found:
        raise UsageError(
            f"expected a run folder with snapshots, got {run}, which holds none: train it with"
            " a cyclic schedule (`schedule=cyclic`, `cycles=5`)"
        )
    return found


def open_images(
    ingredients: Sequence[Ingredient],
    data: DataChoice,
    *,
    held_out: str = "auto",
    progress: Progress = silent,
) -> BlendImages:
    """Open the images that choose and test blends of these ingredients.

    Splits are as the ingredients' trainings made them. Where their recipes held out different shares, the
    smallest are taken: such images were held out from every one of them.

    Args:
        ingredients: at least one.
        data: as in ``train``.
        held_out: images to choose by: ``val``; ``train`` cuts a tenth of the training images, by their
            content; ``auto`` takes ``val`` where there are such images, else ``train``.
        progress: listener.

    Raises:
        UsageError: the test images were asked for, or an unknown part.
        DataError: no usable images, or other classes than the ingredients'.
    """
    if held_out in ("test", "all"):
        raise UsageError(
            f"expected images to choose by other than the test images, got `held_out={held_out}`: a"
            " blend that was chosen by the test images has no honest accuracy; use `held_out=val`"
        )
    if held_out not in ("auto", "val", "train"):
        raise UsageError(f"expected `held_out` as auto, val or train, got {held_out!r}")
    source = open_source(data if isinstance(data, str | Path) else list(data), progress=progress)
    fractions, notes = _fractions(ingredients)
    datasets: list[Dataset] = []
    opened: dict[object, Dataset] = {}
    for ingredient in ingredients:
        own = with_classes(source, ingredient.bundle)
        shape = geometry(ingredient.bundle.preprocessing)
        key = (own.classes, shape)
        if key not in opened:
            opened[key] = open_dataset(
                own, shape, val_fraction=fractions[0], test_fraction=fractions[1], progress=progress
            )
        datasets.append(opened[key])
    first = datasets[0]
    train, val, test = first.splits.train, first.splits.val, first.splits.test
    words = f"{len(val):,} validation images"
    if held_out == "val" and not len(val):
        raise DataError(
            f"{source.name}: no ingredient left validation images out of its training: use `held_out=train`"
        )
    if held_out == "train" or not len(val):
        train, val = _carve(first)
        words = f"{len(val):,} of the training images"
        notes.append(
            f"the held-out images are {words}, which the ingredients were trained on too: better train them"
            " with `val_fraction=0.1`"
        )
    elsewhere = [
        one.name
        for one in ingredients
        if one.bundle.data.get("fingerprint") not in (None, first.fingerprint)
        and one.bundle.recipe
        and _own_fractions(one) == fractions
    ]
    if elsewhere:
        notes.append(
            f"trained on other data than this: {', '.join(elsewhere)}; some of these images may have been"
            " among them"
        )
    return BlendImages(tuple(datasets), train, val, test, words, tuple(notes))


def statistics_loader(
    images: BlendImages, bundle: Bundle, num_images: int, seed: int, compute: Compute
) -> Loader:
    """Choose training images for batch norm's statistics: up to ``num_images``, mixed, in whole batches."""
    dataset, batch_images = images.datasets[0], compute.batch(BATCH_IMAGES)
    if not len(images.train):
        raise DataError(
            f"{dataset.source.name}: expected training images to measure batch norm's statistics on, got"
            " none: name data with a training part, or keep the averaged statistics with `batch_norm=False`"
        )
    num = min(num_images, len(images.train))
    num -= num % batch_images if num > batch_images else 0
    chosen = images.train[permutation(len(images.train), seed, _STATISTICS)[:num]]
    return loader_for(dataset, chosen, bundle.preprocessing, batch_images, compute.torch_device)


def _names(files: Sequence[Path]) -> list[str]:
    """Give each file a short name of its own."""
    short = []
    for file in files:
        path = file.absolute()
        if path.stem == "model":
            short.append(path.parent.name)
        elif path.parent.name == "snapshots":
            short.append(f"{path.parent.parent.name}/{path.stem}")
        elif path.stem == "last":
            short.append(f"{path.parent.name}/last")
        else:
            short.append(path.stem)
    if len(set(short)) == len(short):
        return short
    if len({file.absolute() for file in files}) < len(files):  # a file that is named twice
        return [f"{name} ({turn})" for turn, name in enumerate(short, 1)]
    common = os.path.commonpath([str(file.absolute().parent) for file in files])
    return [os.path.relpath(file.absolute(), common) for file in files]


def _own_fractions(ingredient: Ingredient) -> tuple[float, float]:
    recipe = Recipe.from_json(ingredient.bundle.recipe)
    return recipe.val_fraction, recipe.test_fraction


def _fractions(ingredients: Sequence[Ingredient]) -> tuple[tuple[float, float], list[str]]:
    """Return shares (validation, test) that every training held out, and what to say about them."""
    known = [_own_fractions(one) for one in ingredients if one.bundle.recipe]
    if not known:
        return (_UNKNOWN, _UNKNOWN), [
            "no ingredient says what it was trained on: some of these images may have been among them"
        ]
    smallest = (min(val for val, _ in known), min(test for _, test in known))
    notes = []
    if len(set(known)) > 1:
        notes.append(
            "the ingredients held out different shares of the images: those that all of them held out are"
            " used"
        )
    return smallest, notes


def _carve(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split the training images into nine tenths and one tenth, by content."""
    train = dataset.splits.train
    if not len(train):
        raise DataError(
            f"{dataset.source.name}: expected validation or training images to choose by, got none: name data"
            " with more than a test part"
        )
    parts = make_splits(
        dataset.source.labels[train],
        dataset.scan.digests[train],
        np.zeros(len(train), np.int8),
        val_fraction=_CARVED,
        test_fraction=0.0,
    )
    if not len(parts.val):
        raise DataError(
            f"{dataset.source.name}: expected enough images to hold some out, got {len(train)}: use"
            " more images"
        )
    return train[parts.train], train[parts.val]
