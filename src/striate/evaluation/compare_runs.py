"""Comparing trained networks on the same images, pair by pair or recipe by recipe."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.evaluation.labelled import DataChoice, Split
from striate.evaluation.measure import RunChoice, measure, network_of
from striate.metrics.calibration import losses_of
from striate.metrics.interval import Interval, wilson
from striate.metrics.paired import (
    ClassDifference,
    MeanDifference,
    Paired,
    holm,
    most_different_first,
    paired,
    paired_by_class,
    paired_means,
)
from striate.metrics.predictions import Predictions, on_common_images, on_same_images
from striate.metrics.predictions_file import is_predictions_file
from striate.metrics.seeds import SeedDifference, SeedSummary, compare_seeds, summarise
from striate.weights.bundle import Bundle, load_bundle
from striate.weights.open import NetworkChoice, OpenNetwork, about_int8
from striate.weights.run_folder import RunFolder, read_settings

_MAX_NAME = 40
_MEAN_RESAMPLES = 2000  # each draws every image anew, which is slow with many of them


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelScore:
    """How one model did on the images.

    Attributes:
        name: for tables.
        num_correct: images classified correctly (multi-label: with every label correct).
        num_images: images in all, at least 1.
        loss: mean cross-entropy in nats, at the temperature of the bundle or file.
        seed: of its training, or None where that is not known.
        macs: multiply-accumulates for one image, or None where that is not known.
    """

    name: str
    num_correct: int
    num_images: int
    loss: float
    seed: int | None = None
    macs: int | None = None

    @property
    def accuracy(self) -> float:
        """Share of the images classified correctly."""
        return self.num_correct / self.num_images

    @property
    def interval(self) -> Interval:
        """95% Wilson interval of the accuracy."""
        return wilson(self.num_correct, self.num_images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An image that only one of two models classifies correctly.

    Attributes:
        file: its name.
        true: its class (multi-label: its classes).
        predicted_a: the class (classes) that A predicts.
        predicted_b: the same of B.
    """

    file: str
    true: str
    predicted_a: str
    predicted_b: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One model against the first.

    Attributes:
        a: index of the first among the models: 0.
        b: index of the other.
        paired: which is correct where, with interval and p.
        p_holm: McNemar's exact p after Holm's correction for the number of pairs.
        loss: difference of the mean losses in nats, B minus A.
        by_class: every class that has images, those that differ most first.
        disagreements: every image that only one classifies correctly, by name.
    """

    a: int
    b: int
    paired: Paired
    p_holm: float
    loss: MeanDifference
    by_class: tuple[ClassDifference, ...]
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedGroup:
    """Trainings that differ in nothing but the seed.

    Attributes:
        name: network and recipe.
        indices: of its models.
        accuracy: their accuracies, summarised.
    """

    name: str
    indices: tuple[int, ...]
    accuracy: SeedSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDifference:
    """One group of seeds against the first.

    Attributes:
        a: index of the first among the groups: 0.
        b: index of the other.
        seeds: difference of the mean accuracies over seeds, B minus A, on these images; None where a group
            has but one seed.
        images: the same difference with its bootstrap interval over images, for these trainings.
    """

    a: int
    b: int
    seeds: SeedDifference | None
    images: MeanDifference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Models compared on the same images.

    Attributes:
        models: in the order given.
        split: which images, in words.
        num_images: how many.
        multi_label: whether an image may carry several labels; it then counts as correct when all are.
        pairs: each other model against the first; empty where seeds were grouped.
        groups: seeds of one recipe, where they were to be grouped.
        group_differences: each other group against the first.
        notes: what to know before trusting the figures.
    """

    models: tuple[ModelScore, ...]
    split: str
    num_images: int
    multi_label: bool
    pairs: tuple[Pair, ...]
    groups: tuple[SeedGroup, ...]
    group_differences: tuple[GroupDifference, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        names = [one.name for one in self.models]
        return {
            "split": self.split,
            "num_images": self.num_images,
            "multi_label": self.multi_label,
            "networks": [
                {
                    "name": one.name,
                    "seed": one.seed,
                    "accuracy": one.accuracy,
                    "interval": [one.interval.low, one.interval.high],
                    "loss": one.loss,
                }
                for one in self.models
            ],
            "pairs": [
                {
                    "a": names[pair.a],
                    "b": names[pair.b],
                    **pair.paired.to_json(),
                    "p_holm": pair.p_holm,
                    "loss": pair.loss.to_json(),
                    "by_class": [
                        {"name": entry.name, "p_holm": entry.p_holm, **entry.paired.to_json()}
                        for entry in pair.by_class
                    ],
                    "disagreements": [
                        {
                            "file": one.file,
                            "true": one.true,
                            "answer_a": one.predicted_a,
                            "answer_b": one.predicted_b,
                        }
                        for one in pair.disagreements
                    ],
                }
                for pair in self.pairs
            ],
            "groups": [
                {
                    "name": group.name,
                    "members": [names[k] for k in group.indices],
                    "accuracy": group.accuracy.to_json(),
                }
                for group in self.groups
            ],
            "group_differences": [
                {
                    "a": self.groups[one.a].name,
                    "b": self.groups[one.b].name,
                    "over_seeds": one.seeds and one.seeds.to_json(),
                    "over_images": one.images.to_json(),
                }
                for one in self.group_differences
            ],
            "notes": list(self.notes),
        }


def compare(
    *runs: RunChoice | Sequence[RunChoice],
    data: DataChoice | None = None,
    split: Split = "auto",
    seeds: bool = False,
    seed: int = 0,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Comparison:
    """Compare models on the same images: each with the first, or the seeds of one recipe together.

    Args:
        runs: two or more bundles, run folders, results of trainings or predictions files (.csv, .parquet),
            also mixed; one by one, or as a list.
        data: as in ``train``; None takes the data that the run folders were trained on. Predictions files
            need none.
        split: as in ``evaluate``, for bundles.
        seeds: group the bundles that differ in nothing but the seed, and compare the groups.
        seed: of the resampling.
        compute: as in ``evaluate``.
        progress: listener.

    Returns:
        Accuracies, differences with their intervals and p-values, classes and images that differ. Where
        recipes held out different shares of the data, the images that all of them held out are taken.

    Raises:
        UsageError: fewer than two models, or no data given and none known.
        DataError: their images or classes differ.
        BundleError: a bundle can't be used.
        NonFiniteLossError: a network gives NaN.
    """
    chosen: list[RunChoice] = []
    for run in runs:
        chosen += run if isinstance(run, Sequence) and not isinstance(run, str) else [run]
    if len(chosen) < 2:
        raise UsageError(
            f"expected at least two networks to compare, got {len(chosen)}: name two or more runs, bundles or"
            " predictions files"
        )
    words = [network_of(run) for run in chosen]
    names = [word.name if isinstance(word, OpenNetwork) else str(Path(word)) for word in words]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated and seeds:
        raise UsageError(f"expected different trainings, got {repeated[0]} twice: name each once")
    bundles = [_bundle_of(word) for word in words]  # says first what is missing or damaged
    known = {name: bundle for name, bundle in zip(names, bundles, strict=True) if bundle is not None}
    if known and not data:
        data = _data_of([word for word, bundle in zip(words, bundles, strict=True) if bundle is not None])
    measured = measure(words, data, split=split, compute=compute, progress=progress)
    notes = [f"{name}: {note}" for name, bundle in known.items() if (note := about_int8(bundle))]
    found = [replace(one.predictions, name=name) for one, name in zip(measured, names, strict=True)]
    if all(bundle is not None for bundle in bundles):
        aligned, note = on_common_images(found)
        notes += [note] if note else []
    else:
        aligned = on_same_images(found)
    correct = [one.correct for one in aligned]
    losses = [losses_of(one.logits, one.labels, one.temperature) for one in aligned]
    trainings = [_training_of(bundle, name) for bundle, name in zip(bundles, names, strict=True)]
    models = tuple(
        ModelScore(
            name=name,
            num_correct=int(hits.sum()),
            num_images=len(hits),
            loss=float(np.sort(loss).mean()),
            seed=training.seed,
        )
        for name, training, hits, loss in zip(names, trainings, correct, losses, strict=True)
    )
    pairs: tuple[Pair, ...] = ()
    groups: tuple[SeedGroup, ...] = ()
    differences: tuple[GroupDifference, ...] = ()
    if seeds:
        groups = _groups(trainings, models)
        differences = _group_differences(groups, models, correct, seed)
    else:
        pairs = _pairs(aligned, correct, losses, seed, progress)
        if _some_are_seeds(trainings):
            notes.append(
                "some of these differ in nothing but the seed: `seeds=True` summarises those together"
            )
    return Comparison(
        models=models,
        split=aligned[0].split,
        num_images=len(aligned[0].files),
        multi_label=aligned[0].multi_label,
        pairs=pairs,
        groups=groups,
        group_differences=differences,
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Training:
    """Where a model comes from: ``key`` is equal for trainings that differ in nothing but the seed."""

    key: str
    name: str
    seed: int | None = None


def _bundle_of(word: NetworkChoice) -> Bundle | None:
    if isinstance(word, OpenNetwork):
        return word.bundle
    return None if is_predictions_file(word) else load_bundle(Path(word))


def _training_of(bundle: Bundle | None, name: str) -> _Training:
    if bundle is None or not bundle.recipe or bundle.seed is None or bundle.ingredients:
        return _Training(name, Path(name).stem)
    started = bundle.data.get("started_from")
    experiment = [bundle.net, bundle.net_arguments, bundle.recipe, bundle.data.get("fingerprint"), started]
    net = bundle.net if len(bundle.net) <= _MAX_NAME else "a network in notation"
    key = json.dumps(experiment, sort_keys=True)
    return _Training(key, f"{net}, recipe {bundle.recipe.get('name')}", bundle.seed)


def _data_of(words: Sequence[NetworkChoice]) -> list[str | Path]:
    """Return the data that all the run folders were trained on."""
    named: dict[Path, list[str | Path]] = {}
    for word in words:
        path = Path(word.path or word.name) if isinstance(word, OpenNetwork) else Path(word)
        run = RunFolder(path)
        if not run.settings.exists():
            if path.is_dir():
                read_settings(run)  # says what is missing
            raise UsageError(
                f"{path}: expected `data`, for a bundle does not say where its images are: name them, or"
                " compare run folders"
            )
        named[path] = [str(part) for part in read_settings(run).get("data", [])]
    first, *others = named.items()
    for path, where in others:
        if where != first[1]:
            raise UsageError(
                f"expected trainings on the same data, got {' and '.join(map(str, first[1]))} for {first[0]}"
                f" and {' and '.join(map(str, where))} for {path}: name the images to compare on with `data`"
            )
    return first[1]


def _pairs(
    aligned: Sequence[Predictions],
    correct: Sequence[NDArray[np.bool_]],
    losses: Sequence[NDArray[np.float64]],
    seed: int,
    progress: Progress,
) -> tuple[Pair, ...]:
    found = [paired(correct[0], other, seed=seed) for other in correct[1:]]
    corrected = holm([one.p_exact for one in found])
    pairs = []
    for k, (one, p) in enumerate(zip(found, corrected, strict=True), start=1):
        pairs.append(
            Pair(
                a=0,
                b=k,
                paired=one,
                p_holm=p,
                loss=paired_means(losses[0], losses[k], seed=seed, resamples=_MEAN_RESAMPLES),
                by_class=_by_class(aligned[0], aligned[k], correct[0], correct[k], seed),
                disagreements=_disagreements(aligned[0], aligned[k], correct[0] != correct[k]),
            )
        )
        progress("compare", k, len(found))
    return tuple(pairs)


def _by_class(
    a: Predictions, b: Predictions, correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_], seed: int
) -> tuple[ClassDifference, ...]:
    if not a.multi_label:
        return paired_by_class(correct_a, correct_b, a.labels, a.classes, seed=seed)
    truth = a.labels == 1
    return most_different_first(
        a.classes,
        [
            paired((a.logits[:, k] > 0) == truth[:, k], (b.logits[:, k] > 0) == truth[:, k], seed=seed)
            for k in range(len(a.classes))
        ],
    )


def _disagreements(a: Predictions, b: Predictions, differs: NDArray[np.bool_]) -> tuple[Disagreement, ...]:
    def predicted(one: Predictions, i: int) -> str:
        row = one.logits[i]
        return _named(one, row > 0) if one.multi_label else one.classes[int(row.argmax())]

    return tuple(
        Disagreement(
            file=a.files[i],
            true=_named(a, a.labels[i] == 1) if a.multi_label else a.classes[int(a.labels[i])],
            predicted_a=predicted(a, i),
            predicted_b=predicted(b, i),
        )
        for i in sorted(np.flatnonzero(differs).tolist(), key=lambda i: a.files[i])
    )


def _named(predictions: Predictions, present: NDArray[np.bool_]) -> str:
    return ", ".join(predictions.classes[k] for k in np.flatnonzero(present).tolist()) or "none"


def _some_are_seeds(trainings: Sequence[_Training]) -> bool:
    counts = Counter(one.key for one in trainings)
    return max(counts.values()) > 1 and len({(one.key, one.seed) for one in trainings}) == len(trainings)


def _groups(trainings: Sequence[_Training], models: Sequence[ModelScore]) -> tuple[SeedGroup, ...]:
    by_key: dict[str, list[int]] = {}
    for k, one in enumerate(trainings):
        by_key.setdefault(one.key, []).append(k)
    names = [trainings[indices[0]].name for indices in by_key.values()]
    groups = []
    for number, (indices, name) in enumerate(zip(by_key.values(), names, strict=True), start=1):
        own = name if names.count(name) == 1 else f"{name} (group {number})"
        accuracy = summarise([models[k].accuracy for k in indices])
        groups.append(SeedGroup(name=own, indices=tuple(indices), accuracy=accuracy))
    return tuple(groups)


def _group_differences(
    groups: Sequence[SeedGroup],
    models: Sequence[ModelScore],
    correct: Sequence[NDArray[np.bool_]],
    seed: int,
) -> tuple[GroupDifference, ...]:
    shares = [np.mean([correct[k] for k in group.indices], axis=0) for group in groups]
    rates = [[models[k].accuracy for k in group.indices] for group in groups]
    return tuple(
        GroupDifference(
            a=0,
            b=k,
            seeds=compare_seeds(rates[0], rates[k]) if min(len(rates[0]), len(rates[k])) > 1 else None,
            images=paired_means(shares[0], shares[k], seed=seed, resamples=_MEAN_RESAMPLES),
        )
        for k in range(1, len(groups))
    )
