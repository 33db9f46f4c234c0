"""Fitting the temperature of a trained network and keeping it in its bundle."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.compute import (
    DeviceChoice,
    Precision,
    PrecisionChoice,
    autocast_dtype,
    pick_device,
    pick_precision,
)
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.data.batches import in_order, loader_for
from striate.data.dataset import Dataset
from striate.data.preprocess import Preprocessing
from striate.evaluation.evaluate import Evaluation, evaluate
from striate.evaluation.labelled import LabelledImages
from striate.metrics.calibration import Calibration, TemperatureFit, calibrate, calibration
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.open import open_bundle
from striate.weights.run_folder import bundle_path

MIN_IMAGES = 50  # with fewer validation images a training leaves the temperature at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateResult:
    """What ``calibrate_bundle`` did.

    Attributes:
        bundle: the file that now holds the temperature.
        fit: temperature, and the calibration of the images that it was fitted on, before and after.
        split: which images those are, in words.
        replaced: the temperature that the bundle held before.
        test_before: calibration of the test images at a temperature of 1, or None where there are none.
        test_after: the same at the fitted temperature: the honest figure.
        notes: what to know before trusting it.
    """

    bundle: Path
    fit: TemperatureFit
    split: str
    replaced: float
    test_before: Calibration | None
    test_after: Calibration | None
    notes: tuple[str, ...]


def calibrate_bundle(
    bundle: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    split: str = "val",
    out: str | Path | None = None,
    force: bool = False,
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> CalibrateResult:
    """Fit a temperature on validation images and write it into the bundle.

    Nothing but the probabilities changes: every answer, and so the accuracy, stays what it was.

    Args:
        bundle: file or run folder.
        data: as in ``train``.
        split: ``val``, and nothing else: see Raises.
        out: the bundle to write; None replaces ``bundle`` itself.
        force: whether ``out`` may replace a file that is there.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        progress: listener.

    Raises:
        UsageError: another split: on the test images the figures would stop being honest, and on training
            images every network is too sure of itself. Or ``out`` is in the way.
        BundleError: the bundle can't be used.
        DataError: the classes differ, or there are no validation images.
        WriteError: the bundle can't be written.

    Paper: Guo et al. 2017, sec. 4.2 (see ``score.calibration``).
    """
    _check_split(split)
    origin = bundle_path(Path(bundle))
    target = origin if out is None else Path(out)
    if out is not None:
        same = origin.exists() and target.exists() and target.samefile(origin)
        check_writable(target, (".safetensors",), force or same)
    place = pick_device(device)
    chosen = pick_precision(precision, place)
    net, record = open_bundle(origin)
    dataset, _, _ = LabelledImages(data, "all", False, progress).of(record)
    if not len(dataset.splits.val):
        raise DataError(
            f"{dataset.source.name}: expected validation images to fit the temperature on, got none: train"
            " with --set val_fraction=0.1, or put images that it was not trained on into a folder named val"
        )
    net = net.to(place)
    predictions = [
        _answers(net, dataset, indices, record.preprocessing, batch_images, place, chosen, progress)
        for indices in (dataset.splits.val, dataset.splits.test)
        if len(indices)
    ]
    fit = calibrate(predictions[0].logits, predictions[0].labels)
    before, after = None, None
    if len(predictions) > 1:
        before = calibration(predictions[1].logits, predictions[1].labels)
        after = calibration(predictions[1].logits, predictions[1].labels, fit.temperature)
    metrics = {**record.metrics, "calibration": {**fit.to_json(), "split": "val"}}
    save_bundle(replace(record, temperature=fit.temperature, metrics=metrics), target)
    return CalibrateResult(
        bundle=target,
        fit=fit,
        split=f"val split of {dataset.source.name}",
        replaced=record.temperature,
        test_before=before,
        test_after=after,
        notes=_notes(dataset, record, fit),
    )


def fit_on_validation(
    net: nn.Module,
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    batch_images: int,
    precision: Precision,
    device: torch.device,
    progress: Progress = silent,
) -> TemperatureFit | None:
    """Fit the temperature at the end of a training.

    Args:
        net: the selected weights, on ``device``.
        dataset: what it was trained on.
        preprocessing: of its input.
        batch_images: images in a batch.
        precision: of the forward pass.
        device: where the network is.
        progress: listener.

    Returns:
        The fit, or None for multi-label data and for fewer than ``MIN_IMAGES`` validation images.
    """
    indices = dataset.splits.val
    if dataset.multi_label or len(indices) < MIN_IMAGES:
        return None
    found = _answers(net, dataset, indices, preprocessing, batch_images, device, precision, progress)
    return calibrate(found.logits, found.labels)


def _answers(
    net: nn.Module,
    dataset: Dataset,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_images: int,
    device: torch.device,
    precision: Precision,
    progress: Progress,
) -> Evaluation:
    return evaluate(
        net,
        in_order(loader_for(dataset, indices, preprocessing, batch_images, device)),
        dataset.classes,
        device=device,
        autocast_dtype=autocast_dtype(precision),
        total=len(indices),
        progress=progress,
    )


def _check_split(split: str) -> None:
    if split == "test":
        raise UsageError(
            "expected validation images, got --split test: a temperature fitted on the test images makes"
            " every later figure on them too good; use --split val"
        )
    if split == "train":
        raise UsageError(
            "expected validation images, got --split train: every network is too sure of images that it was"
            " trained on; use --split val"
        )
    if split != "val":
        raise UsageError(f"expected --split val, got {split!r}: only validation images fit a temperature")


def _notes(dataset: Dataset, record: Bundle, fit: TemperatureFit) -> tuple[str, ...]:
    notes = [fit.note] if fit.note else []
    num = fit.before.num_images
    if num < MIN_IMAGES:
        notes.append(f"only {num} validation images: the temperature is rough")
    if "val" in dataset.splits.made and record.data.get("fingerprint") != dataset.fingerprint:
        notes.append(
            "these are not the data that the bundle was trained on, or they have changed: were some of the"
            " images trained on, the temperature is too low"
        )
    return tuple(notes)
