"""Ensembles of bundles and of saved predictions, whatever their architectures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from striate.blend.ensemble import AverageOf, ensemble
from striate.blend.ingredients import Ingredient, gather
from striate.core.compute import Compute, DeviceChoice, PrecisionChoice
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.evaluation.labelled import Split
from striate.evaluation.measure import measure
from striate.metrics.paired import MeanDifference, Paired, paired, paired_means
from striate.metrics.predictions import Predictions, on_common_images, on_same_images
from striate.metrics.predictions_file import is_predictions_file, save_predictions
from striate.metrics.scores import Interval, wilson
from striate.nets import describe
from striate.weights.bundle import Bundle
from striate.weights.open import about_int8
from striate.weights.run_folder import bundle_path


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one network, or the ensemble, did on the images. Rates are fractions in [0, 1].

    Attributes:
        name: who.
        accuracy: share of images answered rightly (multi-label: with every label right).
        interval: its 95% Wilson interval.
        loss: mean cross-entropy in nats, at the bundle's temperature.
        macs: multiply-accumulates for one image, or None where only saved predictions are known.
    """

    name: str
    accuracy: float
    interval: Interval
    loss: float
    macs: int | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "name": self.name,
            "accuracy": self.accuracy,
            "interval": [self.interval.low, self.interval.high],
            "loss": self.loss,
            "macs": self.macs,
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EnsembleResult:
    """An ensemble and its indices on the same images.

    Attributes:
        predictions: the ensemble's.
        indices: one standing for each, in the order given (snapshots before saved predictions).
        ensemble: the ensemble's standing; its MACs are the sum of the indices'.
        best: the member of highest accuracy on these very images (an index).
        over_best: the ensemble against that member.
        over_mean: the ensemble against the mean of the indices' accuracies.
        of: what was averaged.
        split: which images, in words.
        notes: what to know before trusting the figures.
    """

    predictions: Predictions
    indices: tuple[Standing, ...]
    ensemble: Standing
    best: int
    over_best: Paired
    over_mean: MeanDifference
    of: AverageOf
    split: str
    notes: tuple[str, ...]


def ensemble_bundles(
    paths: Sequence[str | Path],
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    of: AverageOf = "probabilities",
    split: Split = "auto",
    snapshots: bool = False,
    save: str | Path | None = None,
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    force: bool = False,
    progress: Progress = silent,
) -> EnsembleResult:
    """Average the predictions of networks of any architecture and preprocessing.

    Args:
        paths: at least two bundles, run folders or predictions files (``.csv``, ``.parquet``).
        data: as in ``train``; needed where a path is a bundle.
        of: average ``probabilities``, or ``logits``.
        split: as in ``evaluate_bundle``; where indices held out different images, those that all of them
            held out.
        snapshots: take the snapshots of run folders.
        save: predictions file to write the ensemble's predictions to.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        force: replace a file that is there.
        progress: listener.

    Raises:
        UsageError: fewer than two indices, no data, an unknown setting, or a target that is in the way.
        DataError: indices that answered other images or know other classes.
    """
    if of not in get_args(AverageOf):
        raise UsageError(f"expected --of probabilities or logits, got {of!r}")
    if batch_images < 1:
        raise UsageError(f"expected at least one image in a batch, got {batch_images}")
    if save is not None:
        check_writable(
            Path(save), (".csv", ".parquet"), force, sources=[bundle_path(Path(path)) for path in paths]
        )
    files = [Path(path) for path in paths if is_predictions_file(path)]
    found = gather([path for path in paths if not is_predictions_file(path)], snapshots=snapshots)
    if len(found) + len(files) < 2:
        raise UsageError(
            f"expected at least two indices of an ensemble, got {len(found) + len(files)}: name more bundles,"
            " runs or predictions files"
        )
    if found and data is None:
        raise UsageError(f"expected images for {found[0].name} to answer, got none: --data FOLDER")
    bundles = iter(found)
    asked: list[Path | Ingredient] = [*found, *files]
    if not snapshots:
        asked = [Path(path) if is_predictions_file(path) else next(bundles) for path in paths]
    measured = measure(
        [one.path if isinstance(one, Ingredient) else one for one in asked],
        data,
        split=split,
        compute=Compute(device=device, precision=precision, batch_images=batch_images),
        progress=progress,
    )
    indices: Sequence[Predictions] = [
        replace(its.predictions, name=one.name) for one, its in zip(asked, measured, strict=True)
    ]
    notes = [f"{one.name}: {note}" for one in found if (note := about_int8(one.bundle))]
    if files:
        indices = on_same_images(indices)
    else:
        indices, note = on_common_images(indices)
        notes += [note] if note else []
    warmth = [its.temperature for its in measured]
    costs = [macs_of(one.bundle) if isinstance(one, Ingredient) else None for one in asked]
    words = indices[0].split
    made = ensemble(indices, of=of, temperatures=warmth, name=f"ensemble of {len(indices)}")
    standings = [standing(one, cost, heat) for one, cost, heat in zip(indices, costs, warmth, strict=True)]
    rights = [one.correct for one in indices]
    best = max(range(len(indices)), key=lambda i: standings[i].accuracy)
    known = [cost for cost in costs if cost is not None]
    result = EnsembleResult(
        predictions=made,
        indices=tuple(standings),
        ensemble=standing(made, sum(known) if len(known) == len(costs) else None),
        best=best,
        over_best=paired(rights[best], made.correct),
        over_mean=paired_means(np.mean(rights, axis=0), made.correct.astype(np.float64)),
        of=of,
        split=words,
        notes=tuple(notes),
    )
    if save is not None:
        save_predictions(made, Path(save), progress=progress)
    return result


def standing(predictions: Predictions, macs: int | None, temperature: float = 1.0) -> Standing:
    """Sum up predictions."""
    correct = predictions.correct
    return Standing(
        name=predictions.name,
        accuracy=float(correct.mean()),
        interval=wilson(int(correct.sum()), len(correct)),
        loss=predictions.scores(temperature).loss,
        macs=macs,
    )


def macs_of(bundle: Bundle) -> int:
    """Count a network's multiply-accumulates for one image."""
    return describe(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments).macs
