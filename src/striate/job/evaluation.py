"""Measuring a trained network on labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from striate.core.devices import (
    DeviceChoice,
    PrecisionChoice,
    autocast_dtype,
    pick_device,
    pick_precision,
)
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batches import in_order
from striate.data.dataset import (
    Dataset,
    open_dataset,
)
from striate.data.sources import Source, open_source
from striate.fit.recipe import Recipe
from striate.job.bundles import open_bundle
from striate.job.members import broken_files, pictures_of
from striate.score.evaluate import Evaluation, evaluate
from striate.weights.bundle import Bundle

Split = Literal["auto", "train", "val", "test", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateResult:
    """A bundle's answers on labelled images.

    Attributes:
        evaluation: scores and every answer.
        files: name of each image, in the order of the answers.
        split: which images were taken, in words.
        broken: files left out, with reasons.
    """

    evaluation: Evaluation
    files: tuple[str, ...]
    split: str
    broken: tuple[tuple[str, str], ...]


def evaluate_bundle(
    bundle: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    strict: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Measure a trained network on labelled images.

    Args:
        bundle: file or run folder.
        data: as in ``train``.
        split: ``auto`` takes the source's test images, else its validation images; where the source has no
            splits, the test images that the training held out if the data are the same, else all.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        strict: a broken image is an error.
        progress: listener.

    Raises:
        BundleError: the bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    if split not in get_args(Split):
        raise UsageError(f"expected a split out of {', '.join(get_args(Split))}; got {split!r}")
    place = pick_device(device)
    chosen_precision = pick_precision(precision, place)
    net, record = open_bundle(bundle)
    source = _with_classes(
        open_source(data if isinstance(data, str | Path) else list(data), progress=progress), record
    )
    recipe = Recipe.from_json(record.recipe) if record.recipe else None
    dataset = open_dataset(
        source,
        record.preprocessing,
        val_fraction=recipe.val_fraction if recipe else 0.0,
        test_fraction=recipe.test_fraction if recipe else 0.0,
        strict=strict,
        progress=progress,
    )
    members, words = _choose_split(dataset, record, split)
    pictures = pictures_of(dataset, members, record.preprocessing, batch_images, place)
    evaluation = evaluate(
        net.to(place),
        in_order(pictures),
        record.classes,
        device=place,
        autocast_dtype=autocast_dtype(chosen_precision),
        total=len(members),
        progress=progress,
    )
    files = tuple(source.files[i] for i in evaluation.indices.tolist())
    return EvaluateResult(evaluation=evaluation, files=files, split=words, broken=broken_files(dataset))


def _choose_split(dataset: Dataset, record: Bundle, split: Split) -> tuple[NDArray[np.int64], str]:
    parts = {"train": dataset.splits.train, "val": dataset.splits.val, "test": dataset.splits.test}
    everything = np.sort(np.concatenate(list(parts.values())))
    if split == "all":
        return everything, "all images"
    if split != "auto":
        if not len(parts[split]):
            there = ", ".join(f"{name} {len(members):,}" for name, members in parts.items() if len(members))
            raise DataError(
                f"{dataset.source.name}: its {split} split is empty (there are: {there}): choose with --split"
            )
        return parts[split], f"{split} split"
    trained_on_this = record.data.get("fingerprint") == dataset.fingerprint
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


def _with_classes(source: Source, record: Bundle) -> Source:
    """Renumber a source's labels to the bundle's classes."""
    if source.multi_label != record.multi_label:
        kinds = ("one label an image", "several labels an image")
        raise DataError(
            f"{source.name}: expected {kinds[record.multi_label]}, as the bundle was trained, got"
            f" {kinds[source.multi_label]}: use data of the same kind"
        )
    if source.classes == record.classes:
        return source
    unknown = sorted(set(source.classes) - set(record.classes))
    if unknown:
        raise DataError(
            f"{source.name}: the bundle knows {len(record.classes)} classes and not {', '.join(unknown[:5])}"
            f"{' ...' if len(unknown) > 5 else ''}: use images of its classes"
            f" ({', '.join(record.classes[:5])} ...)"
        )
    place = np.array([record.classes.index(name) for name in source.classes], np.int64)
    if source.labels.ndim == 1:
        labels: NDArray[Any] = place[source.labels]
    else:
        labels = np.zeros((len(source.labels), len(record.classes)), np.float32)
        labels[:, place] = source.labels
    return replace(source, labels=labels, classes=record.classes)
