"""Ensembles: networks of any kind predict together, at the cost of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from striate.blend.ingredients import Ingredient, bundle_files, gather
from striate.core.choices import AverageOf, Split
from striate.core.compute import Compute
from striate.core.errors import NonFiniteLossError, UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.evaluation.compare_runs import ModelScore
from striate.evaluation.labelled import DataChoice
from striate.evaluation.measure import RunChoice, measure, network_of
from striate.metrics.paired import MeanDifference, Paired, paired, paired_means
from striate.metrics.predictions import Predictions, logits_of, on_common_images, on_same_images
from striate.metrics.predictions_file import is_predictions_file, save_predictions
from striate.nets import describe
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork, about_int8, is_own


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EnsembleResult:
    """An ensemble and its models on the same images.

    Attributes:
        predictions: the ensemble's.
        models: in the order given (snapshots before predictions files).
        ensemble: its MACs are the sum of the models'.
        best: index of the model of highest accuracy on these very images.
        over_best: the ensemble against that model.
        over_mean: the ensemble against the mean of the models' accuracies.
        of: what was averaged.
        split: which images, in words.
        notes: what to know before trusting the figures.
    """

    predictions: Predictions
    models: tuple[ModelScore, ...]
    ensemble: ModelScore
    best: int
    over_best: Paired
    over_mean: MeanDifference
    of: AverageOf
    split: str
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "split": self.split,
            "of": self.of,
            "multi_label": self.predictions.multi_label,
            "members": [_score_json(model) for model in self.models],
            "ensemble": _score_json(self.ensemble),
            "best": self.models[self.best].name,
            "over_best": self.over_best.to_json(),
            "over_mean": self.over_mean.to_json(),
            "passes": len(self.models),
        }


def ensemble(
    networks: Sequence[RunChoice],
    data: DataChoice | None = None,
    *,
    of: AverageOf = "probabilities",
    split: Split = "auto",
    snapshots: bool = False,
    save: str | Path | None = None,
    compute: Compute = Compute(),
    force: bool = False,
    progress: Progress = silent,
) -> EnsembleResult:
    """Average the predictions of networks of any architecture and preprocessing.

    Args:
        networks: at least two bundles, run folders, results of trainings or predictions files (``.csv``,
            ``.parquet``).
        data: as in ``train``; needed unless all are predictions files.
        of: average ``probabilities``, or ``logits``.
        split: as in ``evaluate``; where the networks held out different images, those that all of them held
            out.
        snapshots: take the snapshots of run folders.
        save: predictions file to write the ensemble's predictions to.
        compute: as in ``evaluate``.
        force: whether ``save`` may replace an existing file.
        progress: listener.

    Raises:
        UsageError: fewer than two networks, no data, an unknown setting, or ``save`` exists.
        DataError: the networks' images or classes differ.
    """
    _check_of(of)
    words = [network_of(one) for one in networks]
    if save is not None:
        check_writable(Path(save), (".csv", ".parquet"), force, sources=bundle_files(words))
    is_file = [not isinstance(word, OpenNetwork) and is_predictions_file(word) for word in words]
    files = [Path(str(word)) for word, file in zip(words, is_file, strict=True) if file]
    found = gather([word for word, file in zip(words, is_file, strict=True) if not file], snapshots=snapshots)
    if len(found) + len(files) < 2:
        raise UsageError(
            f"expected at least two networks for an ensemble, got {len(found) + len(files)}: name more"
            " bundles, runs or predictions files"
        )
    if found and data is None:
        raise UsageError(f"expected images to evaluate {found[0].name} on, got none: name them with `data`")
    bundles, saved = iter(found), iter(files)
    asked: list[Path | Ingredient] = (
        [*found, *files] if snapshots else [next(saved) if file else next(bundles) for file in is_file]
    )
    measured = measure(
        [one.network if isinstance(one, Ingredient) else one for one in asked],
        data,
        split=split,
        compute=compute,
        progress=progress,
    )
    several: Sequence[Predictions] = [
        replace(its.predictions, name=one.name) for one, its in zip(asked, measured, strict=True)
    ]
    notes = [f"{one.name}: {note}" for one in found if (note := about_int8(one.bundle))]
    if files:
        several = on_same_images(several)
    else:
        several, note = on_common_images(several)
        notes += [note] if note else []
    macs = [macs_of(one.bundle) if isinstance(one, Ingredient) else None for one in asked]
    together = average_predictions(several, of=of, name=f"ensemble of {len(several)}")
    models = tuple(_score(one, cost) for one, cost in zip(several, macs, strict=True))
    correct = [one.correct for one in several]
    best = max(range(len(models)), key=lambda i: models[i].accuracy)
    known = [cost for cost in macs if cost is not None]
    result = EnsembleResult(
        predictions=together,
        models=models,
        ensemble=_score(together, sum(known) if len(known) == len(macs) else None),
        best=best,
        over_best=paired(correct[best], together.correct),
        over_mean=paired_means(np.mean(correct, axis=0), together.correct.astype(np.float64)),
        of=of,
        split=several[0].split,
        notes=tuple(notes),
    )
    if save is not None:
        save_predictions(together, Path(save), progress=progress)
    return result


def average_predictions(
    several: Sequence[Predictions], *, of: AverageOf = "probabilities", name: str = "ensemble"
) -> Predictions:
    """Average what several networks predict on the same images, each at its own temperature.

    Args:
        several: at least one, on the same images and classes in any order. Their order changes nothing, to
            the bit.
        of: ``probabilities`` averages softmax outputs (sigmoid for multi-label data), so no network counts
            for more because its logits are larger; ``logits`` averages before the softmax, a geometric mean
            of the probabilities.
        name: of the result.

    Returns:
        Predictions at a temperature of 1, in the first one's order of images and classes. For probabilities
        the logits are logarithms (log-odds) of the averages.

    Raises:
        UsageError: an unknown ``of``, nothing to average, or a temperature of 0 or below.
        DataError: they are not of the same images with the same labels and classes.
        NonFiniteLossError: a logit is NaN or infinite.

    Paper: averaged softmax outputs as in Krizhevsky et al. 2012 sec. 6 and Simonyan and Zisserman 2015
        sec. 4.4; logits as in Wortsman et al. 2022, "Model soups", table 2.
    """
    _check_of(of)
    if not several or min(one.temperature for one in several) <= 0:
        raise UsageError(
            "expected predictions of at least one network, each with a temperature above 0, got temperatures"
            f" {[one.temperature for one in several]}"
        )
    aligned = on_same_images(several)
    for one in aligned:
        if not np.isfinite(one.logits).all():
            raise NonFiniteLossError(
                f"{one.name}: expected finite logits, got NaN or infinity: leave this network out, or train"
                " it again with a lower learning rate"
            )
    first = aligned[0]
    if of == "logits":
        logits = _mean([one.logits.astype(np.float64) / one.temperature for one in aligned])
        return replace(first, name=name, logits=logits.astype(np.float32), temperature=1.0)
    mean = _mean([one.probabilities(one.temperature) for one in aligned])
    logits32 = logits_of(mean, multi_label=first.multi_label)
    return replace(first, name=name, logits=logits32, temperature=1.0)


def macs_of(bundle: Bundle) -> int | None:
    """Count a network's multiply-accumulates for one image; None for a module of one's own."""
    if is_own(bundle.net):
        return None
    return describe(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments).macs


def _check_of(of: str) -> None:
    if of not in get_args(AverageOf):
        raise UsageError(f"expected `of` as probabilities or logits, got {of!r}")


def _score(predictions: Predictions, macs: int | None) -> ModelScore:
    return ModelScore(
        name=predictions.name,
        num_correct=int(predictions.correct.sum()),
        num_images=len(predictions.files),
        loss=predictions.scores(predictions.temperature).loss,
        macs=macs,
    )


def _score_json(score: ModelScore) -> dict[str, Any]:
    return {
        "name": score.name,
        "accuracy": score.accuracy,
        "interval": [score.interval.low, score.interval.high],
        "loss": score.loss,
        "macs": score.macs,
    }


def _mean(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average arrays of one shape; sorting the summands first makes their order not matter."""
    stacked = np.stack(parts)
    stacked.sort(axis=0)
    return np.asarray(stacked.mean(axis=0))
