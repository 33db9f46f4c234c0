"""From a bundle to a bundle with an int8 network in it, if that is as good."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.environment import describe_machine
from striate.core.errors import AccuracyError, BundleError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.random import permutation
from striate.core.writable import check_writable
from striate.data.batches import loader_for, network_pixels
from striate.data.dataset import Dataset
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.metrics.paired import Paired, paired
from striate.serve.convert_openvino import convert, read_graph
from striate.serve.engine_openvino import OpenvinoEngine
from striate.serve.graph import FromPixels
from striate.serve.nncf import check_nncf, quantize_network, quantize_versions
from striate.weights.bundle import Bundle, save_bundle, with_graphs
from striate.weights.open import open_bundle

_ORDER = 4001  # the random stream of the choice of calibration images


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizeResult:
    """An int8 network that was written, and what it cost.

    Attributes:
        path: the bundle with fp32 weights and int8 network.
        bundle: the same as it was written; ``metrics["int8"]`` holds what is here.
        measure: ``"top-1"``, or ``"all labels right"`` for several labels an image.
        paired: fp32 (A) against int8 (B) on the same held-out images.
        split: which images these were, in words.
        num_calibration_images: images that ranges were measured on.
        calibration: which images these were, in words.
        versions: of what quantized.
    """

    path: Path
    bundle: Bundle
    measure: str
    paired: Paired
    split: str
    num_calibration_images: int
    calibration: str
    versions: dict[str, str]


def quantize_bundle(
    bundle: str | Path,
    data: DataChoice,
    out: str | Path,
    *,
    calibration_images: int = 300,
    max_drop_points: float = 0.5,
    split: Split = "auto",
    batch_images: int = 16,
    strict: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> QuantizeResult:
    """Add an int8 network to a bundle, unless it answers worse on held-out images than is allowed.

    Calibration images are drawn from the training images, else from the validation images; where all images
    are measured on, from these, and they are then left out of the measurement. Both networks run on OpenVINO.

    Args:
        bundle: file or run folder. Its fp32 weights stay, so that every other command takes the new one.
        data: labelled images, as in ``train``.
        out: bundle to write, ``.safetensors``.
        calibration_images: how many images to measure ranges on, at least 1.
        max_drop_points: how many percentage points of accuracy may be lost, 0 or more.
        split: what to measure on: ``auto``, ``train``, ``val``, ``test`` or ``all``, as in
            ``evaluate``.
        batch_images: images in a forward pass of the measurement.
        strict: a broken image is an error.
        force: whether to replace a file that is there.
        progress: listener.

    Raises:
        AccuracyError: int8 loses more than is allowed; nothing was written.
        BundleError: the bundle is damaged, or int8 answers with NaN.
        DataError: the classes differ, or there are too few images.
        UsageError: a number out of range, a missing package, or a file in the way.
        WriteError: the bundle can't be written.
    """
    if calibration_images < 1 or batch_images < 1 or not 0 <= max_drop_points <= 100:
        raise UsageError(
            f"expected at least 1 calibration image, at least 1 image in a batch and 0 to 100 points of drop,"
            f" got {calibration_images}, {batch_images} and {max_drop_points:g}"
        )
    check_split(split)
    path = Path(out)
    check_writable(path, (".safetensors",), force)
    check_nncf()
    net, record = open_bundle(bundle)
    labelled = LabelledImages(data, split, strict, progress)
    dataset, members, words = labelled.of(record)
    calibration, held_out, origin = _choose(dataset, members, calibration_images)
    if len(held_out) < len(members):
        words += f", less the {len(calibration):,} calibrated on"
    pictures = loader_for(dataset, held_out, record.preprocessing, batch_images, torch.device("cpu"))
    graphs = quantize_network(net, record, network_pixels(pictures, calibration), progress=progress)

    full = OpenvinoEngine(
        convert(FromPixels(net, record.preprocessing).eval(), record.preprocessing), "fp32", batch_images
    )
    small = OpenvinoEngine(read_graph(graphs["int8.xml"], graphs["int8.bin"]), "int8", batch_images)
    right: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]] = []
    for start in range(0, len(held_out), batch_images):
        part = held_out[start : start + batch_images]
        pixels, labels = network_pixels(pictures, part), dataset.source.labels[part]
        right.append((_right(full.logits(pixels), labels), _right(small.logits(pixels), labels)))
        progress("evaluate", start + len(part), len(held_out))
    found = paired(*(np.concatenate(one) for one in zip(*right, strict=True)))
    measure = "all labels right" if record.multi_label else "top-1"
    _check_drop(found, measure, max_drop_points, len(calibration))

    versions = quantize_versions()
    machine = describe_machine(torch.device("cpu"))
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
        "versions": versions,
        "processor": machine["processor"],
    }
    made = with_graphs(replace(record, metrics={**record.metrics, "int8": metrics}), graphs)
    save_bundle(made, path)
    return QuantizeResult(
        path=path,
        bundle=made,
        measure=measure,
        paired=found,
        split=words,
        num_calibration_images=len(calibration),
        calibration=origin,
        versions=versions,
    )


def _choose(
    dataset: Dataset, members: NDArray[np.int64], wanted: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Return the images to calibrate on, those to measure on, which share none, and the first in words."""
    for name, part in (("training", dataset.splits.train), ("validation", dataset.splits.val)):
        others = np.setdiff1d(part, members)
        if len(others):
            chosen = np.sort(others[permutation(len(others), 0, _ORDER)[:wanted]])
            return chosen, members, f"{name} images of {dataset.source.name}"
    if len(members) < 2:
        raise DataError(
            f"{dataset.source.name}: expected images to calibrate on and others to measure on, got"
            f" {len(members)} in all: name more with --data"
        )
    order = members[permutation(len(members), 0, _ORDER)]
    number = min(wanted, len(members) // 2)
    return np.sort(order[:number]), np.sort(order[number:]), f"images of {dataset.source.name}"


def _right(logits: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which images are answered rightly: the class, or every label."""
    if not np.isfinite(logits).all():
        raise BundleError(
            "the network answers with NaN or infinity: train it again, with a lower learning rate"
        )
    if labels.ndim == 1:
        answer: NDArray[np.bool_] = logits.argmax(1) == labels
        return answer
    every: NDArray[np.bool_] = ((logits > 0) == (labels > 0.5)).all(1)
    return every


def _check_drop(found: Paired, measure: str, allowed: float, num_calibration: int) -> None:
    drop = -100 * found.difference
    if drop > allowed + 1e-9:
        few = -100 * found.high <= allowed
        better = (
            "so few images can't tell: measure on more (--data)"
            if few
            else f"calibrate on more than {num_calibration} images (--calibration-images)"
        )
        raise AccuracyError(
            f"int8 loses {drop:.2f} points of {measure} on {found.num_images:,} images (95% interval"
            f" {-100 * found.high:z.2f} to {-100 * found.low:z.2f}) where {allowed:g} are allowed, and was"
            f" not written: {better}, or allow more (--max-drop)"
        )
