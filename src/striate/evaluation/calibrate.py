"""Fitting the temperature of a trained network and keeping it in its bundle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.data.dataset import Dataset
from striate.data.preprocess import Preprocessing
from striate.evaluation.evaluate import evaluate_images
from striate.evaluation.labelled import DataChoice, LabelledImages
from striate.evaluation.measure import RunChoice, network_of
from striate.metrics.calibration import Calibration, TemperatureFit, calibration, temperature_fit
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.open import OpenNetwork, open_bundle
from striate.weights.run_folder import bundle_path

MIN_IMAGES = 50  # with fewer validation images a training leaves the temperature at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateResult:
    """What ``calibrate`` did.

    Attributes:
        bundle: the file that now holds the temperature.
        fit: temperature, and the calibration on the images that it was fitted on, before and after.
        split: which images those are, in words.
        replaced: the temperature that the bundle held before.
        test_before: calibration on the test images at a temperature of 1, or None where there are none.
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

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        test = None
        if self.test_before is not None and self.test_after is not None:
            test = {"before": self.test_before.to_json(), "after": self.test_after.to_json()}
        return {
            "bundle": str(self.bundle),
            "split": self.split,
            "replaced": self.replaced,
            **self.fit.to_json(),
            "notes": list(self.notes),
            "fitted_on": {"before": self.fit.before.to_json(), "after": self.fit.after.to_json()},
            "test": test,
        }


def calibrate(
    network: RunChoice,
    data: DataChoice,
    *,
    split: str = "val",
    out: str | Path | None = None,
    force: bool = False,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> CalibrateResult:
    """Fit a temperature on validation images and write it into the bundle.

    Only the probabilities change; predicted classes, and so the accuracy, stay the same.

    Args:
        network: a bundle, a run folder or the result of a training.
        data: as in ``train``.
        split: ``val`` only: see Raises.
        out: the bundle to write; None replaces the network's own.
        force: whether ``out`` may replace an existing file.
        compute: where and how; 128 images in a forward pass.
        progress: listener.

    Raises:
        UsageError: another split: fitted on the test images, later figures on them would be too good, and on
            its training images every network is overconfident. Or ``out`` exists, or the network has no file
            and there is no ``out``.
        BundleError: the bundle can't be used.
        DataError: the classes differ, or there are no validation images.
        WriteError: the bundle can't be written.

    Paper: Guo et al. 2017, sec. 4.2 (see ``metrics.calibration``).
    """
    _check_split(split)
    word = network_of(network)
    origin = word.path if isinstance(word, OpenNetwork) else bundle_path(Path(word))
    target = origin if out is None else Path(out)
    if target is None:
        raise UsageError("expected `out`, a bundle to write: this network was not read from a file")
    if out is not None:
        same = origin is not None and origin.exists() and target.exists() and target.samefile(origin)
        check_writable(target, (".safetensors",), force or same)
    net, bundle = (word.net, word.bundle) if isinstance(word, OpenNetwork) else open_bundle(word)
    dataset, _, _ = LabelledImages(data, "all", False, progress).of(bundle)
    if not len(dataset.splits.val):
        raise DataError(
            f"{dataset.source.name}: expected validation images to fit the temperature on, got none: train"
            " with `val_fraction=0.1`, or put images that it was not trained on into a folder named val"
        )
    val, *test = [
        evaluate_images(net, dataset, indices, bundle.preprocessing, compute=compute, progress=progress)
        for indices in (dataset.splits.val, dataset.splits.test)
        if len(indices)
    ]
    fit = temperature_fit(val.logits, val.labels)
    before, after = (
        calibration(test[0].logits, test[0].labels, temperature) if test else None
        for temperature in (1.0, fit.temperature)
    )
    metrics = {**bundle.metrics, "calibration": {**fit.to_json(), "split": "val"}}
    state = bundle.state or net.state_dict()
    save_bundle(replace(bundle, state=state, temperature=fit.temperature, metrics=metrics), target)
    return CalibrateResult(
        bundle=target,
        fit=fit,
        split=f"val split of {dataset.source.name}",
        replaced=bundle.temperature,
        test_before=before,
        test_after=after,
        notes=_notes(dataset, bundle, fit),
    )


def fit_on_validation(
    net: nn.Module,
    dataset: Dataset,
    preprocessing: Preprocessing,
    *,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> TemperatureFit | None:
    """Fit the temperature at the end of a training.

    Args:
        net: the selected weights; it is moved to the device.
        dataset: what it was trained on.
        preprocessing: of its input.
        compute: where and how; 128 images in a forward pass.
        progress: listener.

    Returns:
        The fit, or None for multi-label data and for fewer than ``MIN_IMAGES`` validation images.
    """
    val = dataset.splits.val
    if dataset.multi_label or len(val) < MIN_IMAGES:
        return None
    found = evaluate_images(net, dataset, val, preprocessing, compute=compute, progress=progress)
    return temperature_fit(found.logits, found.labels)


def _check_split(split: str) -> None:
    why = {
        "test": "a temperature fitted on the test images makes every later figure on them too good",
        "train": "every network is overconfident on images that it was trained on",
    }
    if split != "val":
        raise UsageError(
            f"expected `split=val`, got {split!r}:"
            f" {why.get(split, 'only validation images fit a temperature')}"
        )


def _notes(dataset: Dataset, bundle: Bundle, fit: TemperatureFit) -> tuple[str, ...]:
    notes = [fit.note] if fit.note else []
    num = fit.before.num_images
    if num < MIN_IMAGES:
        notes.append(f"only {num} validation images: the temperature is rough")
    if "val" in dataset.splits.made and bundle.data.get("fingerprint") != dataset.fingerprint:
        notes.append(
            "these are not the data that the bundle was trained on, or they have changed: where some of the"
            " images were trained on, the temperature is too low"
        )
    return tuple(notes)
