"""From a bundle to one with an int8 network beside the weights, if that is accurate enough."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.compute import Compute
from striate.core.environment import describe_machine
from striate.core.errors import AccuracyError, BundleError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.random import permutation
from striate.core.writable import check_writable
from striate.data.batches import Loader, loader_for, network_pixels
from striate.data.dataset import Dataset
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.metrics.paired import Paired, paired
from striate.metrics.predictions import Predictions
from striate.serve.engine import Engine, engine_for, open_trained
from striate.serve.packages import check_packages
from striate.serve.quantize_network import quantize_network, quantize_versions
from striate.weights.bundle import Bundle, save_bundle, with_graphs
from striate.weights.open import NetworkChoice

_ORDER = 4001  # the random stream of the choice of calibration images


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeResult:
    """An int8 network that was written, and what it cost.

    Attributes:
        path: the bundle with fp32 weights and int8 network.
        bundle: what was written there; its ``metrics["int8"]`` holds the figures, the images that were used
            (in words), the versions of the packages and the processor.
        paired: fp32 (A) against int8 (B) on the same held-out images.
    """

    path: Path
    bundle: Bundle
    paired: Paired


def quantize(
    network: NetworkChoice,
    data: DataChoice,
    out: str | Path,
    *,
    calibration_images: int = 300,
    max_drop_points: float = 0.5,
    split: Split = "auto",
    compute: Compute = Compute(),
    strict: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> QuantizeResult:
    """Add an int8 network to a bundle, unless it loses more accuracy on held-out images than is allowed.

    Calibration images are drawn from the training images, else from the validation images; where all images
    are measured on, from these, which then leaves them out of the measurement. Both networks run on OpenVINO.

    Args:
        network: a bundle, a run folder or an open network. The new bundle keeps its fp32 weights, so every
            other command takes it.
        data: labelled images, as in ``train``.
        out: bundle to write, ``.safetensors``.
        calibration_images: how many images to measure ranges on, at least 1.
        max_drop_points: how many percentage points of accuracy may be lost, 0 to 100.
        split: what to measure on: ``auto``, ``train``, ``val``, ``test`` or ``all``, as in ``evaluate``.
        compute: ``batch_images`` in a forward pass of the measurement, 16 unless given, and ``threads``; the
            device is the CPU, the precisions are fp32 and int8.
        strict: a broken image is an error.
        force: whether to replace a file that is there.
        progress: listener.

    Raises:
        AccuracyError: int8 loses more than is allowed; nothing was written.
        BundleError: the bundle is damaged, or a network gives NaN.
        DataError: the classes differ, or there are too few images.
        UsageError: a number out of range, a network that is not trained, a missing package, or a file in the
            way.
        WriteError: the bundle can't be written.
    """
    if calibration_images < 1 or not 0 <= max_drop_points <= 100:
        raise UsageError(
            "expected `calibration_images` of at least 1 and `max_drop_points` of 0 to 100, got"
            f" {calibration_images} and {max_drop_points:g}"
        )
    check_split(split)
    path = Path(out)
    check_writable(path, (".safetensors",), force)
    check_packages("quantizing", "openvino", "nncf")
    opened = open_trained(network)
    bundle = opened.bundle if opened.bundle.state else replace(opened.bundle, state=opened.net.state_dict())
    dataset, indices, words = LabelledImages(data, split, strict, progress).of(bundle)
    calibration, held_out, origin = _choose(dataset, indices, calibration_images)
    if len(held_out) < len(indices):
        words += f", less the {len(calibration):,} calibrated on"
    batch_images = compute.batch(16)
    loader = loader_for(dataset, held_out, bundle.preprocessing, batch_images, torch.device("cpu"))
    pixels = network_pixels(loader, calibration)
    graphs = quantize_network(opened.net, bundle, pixels, progress=progress)
    compute = Compute(device="cpu", precision="fp32", batch_images=batch_images, threads=compute.threads)
    small = replace(opened, bundle=with_graphs(bundle, graphs))
    with (
        engine_for(opened, engine="openvino", compute=compute) as full_engine,
        engine_for(small, engine="openvino", compute=replace(compute, precision="int8")) as small_engine,
    ):
        full, int8 = _predictions((full_engine, small_engine), loader, bundle, progress)
    found = paired(full.correct, int8.correct)
    measure = "all labels right" if bundle.multi_label else "top-1"
    _check_drop(found, measure, max_drop_points, len(calibration))

    metrics: dict[str, Any] = {
        "measure": measure,
        "accuracy_fp32": found.accuracy_a,
        "accuracy_int8": found.accuracy_b,
        "drop": 0.0 - found.difference,  # never -0
        "drop_interval": [0.0 - found.high, 0.0 - found.low],
        "level": found.level,
        "num_images": found.num_images,
        "split": words,
        "calibration_images": len(calibration),
        "calibration": origin,
        "versions": quantize_versions(),
        "processor": describe_machine(torch.device("cpu"))["processor"],
    }
    made = with_graphs(replace(bundle, metrics={**bundle.metrics, "int8": metrics}), graphs)
    save_bundle(made, path)
    return QuantizeResult(path=path, bundle=made, paired=found)


def _choose(
    dataset: Dataset, indices: NDArray[np.int64], wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Return the images to calibrate on, the others to measure on, and the first in words."""
    for name, part in (("training", dataset.splits.train), ("validation", dataset.splits.val)):
        others = np.setdiff1d(part, indices)
        if len(others):
            chosen = np.sort(others[permutation(len(others), 0, _ORDER)[:wanted]])
            return chosen, indices, f"{name} images of {dataset.source.name}"
    if len(indices) < 2:
        raise DataError(
            f"{dataset.source.name}: expected images to calibrate on and others to measure on, got"
            f" {len(indices)} in all: add more to `data`"
        )
    order = indices[permutation(len(indices), 0, _ORDER)]
    number = min(wanted, len(indices) // 2)
    return np.sort(order[:number]), np.sort(order[number:]), f"images of {dataset.source.name}"


def _predictions(
    engines: Sequence[Engine], loader: Loader, bundle: Bundle, progress: Progress
) -> list[Predictions]:
    """Run several engines over images that are read once."""
    source, indices = loader.dataset.source, loader.indices
    found: list[list[NDArray[np.float32]]] = [[] for _ in engines]
    for start in range(0, len(loader), loader.batch_images):
        part = indices[start : start + loader.batch_images]
        pixels = network_pixels(loader, part)
        for logits, engine in zip(found, engines, strict=True):
            logits.append(engine.logits(pixels))
        progress("evaluate", start + len(part), len(loader))
    if not all(np.isfinite(part).all() for logits in found for part in logits):
        raise BundleError("the network gives NaN or infinity: train it again, with a lower learning rate")
    return [
        Predictions(
            name=engine.precision,
            classes=bundle.classes,
            files=tuple(source.files[index] for index in indices.tolist()),
            labels=source.labels[indices],
            logits=np.concatenate(logits),
        )
        for logits, engine in zip(found, engines, strict=True)
    ]


def _check_drop(found: Paired, measure: str, allowed: float, num_calibration: int) -> None:
    drop = -100 * found.difference
    if drop > allowed + 1e-9:
        few = -100 * found.high <= allowed
        better = (
            "that may be chance: measure on more images (`data`)"
            if few
            else f"calibrate on more than {num_calibration} images (`calibration_images`)"
        )
        raise AccuracyError(
            f"int8 loses {drop:.2f} points of {measure} on {found.num_images:,} images (95% interval"
            f" {-100 * found.high:z.2f} to {-100 * found.low:z.2f}) where {allowed:g} are allowed, and was"
            f" not written: {better}, or allow more (`max_drop_points`)"
        )
