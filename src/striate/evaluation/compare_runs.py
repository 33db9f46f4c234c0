"""Comparing trained networks on the same images, pair by pair or recipe by recipe."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import Compute, DeviceChoice, PrecisionChoice
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.evaluation.comparison import (
    Comparison,
    Disagreement,
    Entrant,
    GroupDifference,
    Pair,
    SeedGroup,
)
from striate.evaluation.labelled import Split
from striate.evaluation.measure import measure
from striate.metrics.calibration import losses_of
from striate.metrics.paired import ClassDifference, holm, paired, paired_by_class, paired_means
from striate.metrics.predictions import Predictions, on_common_images, on_same_images
from striate.metrics.predictions_file import is_predictions_file
from striate.metrics.seeds import compare_seeds, summarise
from striate.weights.bundle import Bundle, load_bundle
from striate.weights.open import about_int8
from striate.weights.run_folder import RunFolder, read_settings

_MAX_NAME = 40
_MEAN_RESAMPLES = 2000  # each draws every image anew, which takes a while with many of them


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """Predictions, and what is known of who gave them."""

    answers: Predictions
    seed: int | None
    recipe_key: str  # equal for trainings that differ in nothing but the seed
    recipe_name: str
    measured_now: bool


def compare_runs(
    runs: Sequence[str | Path],
    data: str | Path | Sequence[str | Path] | None = None,
    *,
    split: Split = "auto",
    seeds: bool = False,
    seed: int = 0,
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> Comparison:
    """Compare networks on the same images: each against the first, or the seeds of one recipe together.

    Args:
        runs: two or more bundles, run folders or predictions files (.csv, .parquet), also mixed.
        data: as in ``train``; None takes the data that the run folders were trained on. Predictions files
            need none.
        split: as in ``evaluate``, for bundles.
        seeds: group the bundles that differ in nothing but the seed, and compare the groups.
        seed: of the resampling.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        progress: listener.

    Returns:
        Accuracies, differences with their intervals and p-values, classes and images that differ. Where
        recipes held out different shares of the data, the images that all of them held out are taken.

    Raises:
        UsageError: fewer than two networks, or no data named and none known.
        DataError: they do not answer about the same images or classes.
        BundleError: a bundle can't be used.
        NonFiniteLossError: a network answers with NaN.
    """
    if len(runs) < 2:
        raise UsageError(
            f"expected at least two networks to compare, got {len(runs)}: striate compare-runs RUN_A RUN_B"
        )
    paths = [Path(run) for run in runs]
    repeated = [str(path) for path, count in Counter(paths).items() if count > 1]
    if repeated and seeds:
        raise UsageError(f"expected different trainings, got {repeated[0]} twice: name each once")
    bundles = [path for path in paths if not is_predictions_file(path)]
    facts = {path: load_bundle(path) for path in bundles}  # tells first what is missing or damaged
    where = _data_of(bundles, data) if bundles else None
    measured = measure(
        paths,
        where,
        split=split,
        compute=Compute(device=device, precision=precision, batch_images=batch_images),
        progress=progress,
    )
    known = [_known(path, one.answers, facts.get(path)) for path, one in zip(paths, measured, strict=True)]
    notes = list(_about(facts))
    aligned = tuple(one.answers for one in known)
    if all(one.measured_now for one in known):
        aligned, note = on_common_images(aligned)
        notes += [note] if note else []
    else:
        aligned = on_same_images(aligned)
    correct = [one.correct for one in aligned]
    losses = [
        losses_of(one.logits, one.labels, its.temperature) for one, its in zip(aligned, measured, strict=True)
    ]
    entrants = tuple(
        Entrant(
            name=str(path),
            seed=one.seed,
            num_right=int(hits.sum()),
            num_images=len(hits),
            loss=float(np.sort(loss).mean()),
        )
        for path, one, hits, loss in zip(paths, known, correct, losses, strict=True)
    )
    pairs: tuple[Pair, ...] = ()
    groups: tuple[SeedGroup, ...] = ()
    differences: tuple[GroupDifference, ...] = ()
    if seeds:
        groups = _groups(known, entrants)
        differences = _group_differences(groups, entrants, correct, seed)
    else:
        pairs = _pairs(aligned, correct, losses, seed, progress)
        notes += _seeds_among(known)
    return Comparison(
        entrants=entrants,
        split=aligned[0].split,
        num_images=len(aligned[0].files),
        multi_label=aligned[0].multi_label,
        pairs=pairs,
        groups=groups,
        group_differences=differences,
        notes=tuple(notes),
    )


def _about(facts: Mapping[Path, Bundle]) -> Iterator[str]:
    """Say what the figures leave out: int8 networks."""
    for path, bundle in facts.items():
        if note := about_int8(bundle):
            yield f"{path}: {note}"


def _known(path: Path, answers: Predictions, bundle: Bundle | None) -> _Known:
    answers = replace(answers, name=str(path))
    if bundle is None or not bundle.recipe or bundle.seed is None or bundle.ingredients:
        return _Known(answers, None, str(path), path.stem, bundle is not None)
    started = bundle.data.get("started_from")
    experiment = [bundle.net, bundle.net_arguments, bundle.recipe, bundle.data.get("fingerprint"), started]
    net = bundle.net if len(bundle.net) <= _MAX_NAME else "a network in notation"
    name = f"{net}, recipe {bundle.recipe.get('name')}"
    return _Known(answers, bundle.seed, json.dumps(experiment, sort_keys=True), name, True)


def _data_of(
    bundles: Sequence[Path], data: str | Path | Sequence[str | Path] | None
) -> str | Path | list[str | Path]:
    """Return the data that were named, or those that all the run folders were trained on."""
    if data is not None:
        given: list[str | Path] = [data] if isinstance(data, str | Path) else list(data)
        if given:
            return given
    named: dict[Path, list[str]] = {}
    for path in bundles:
        if not (path / "run.json").exists():
            if path.is_dir():
                read_settings(RunFolder(path))  # says what is missing
            raise UsageError(
                f"{path}: expected --data, for a bundle does not say where its images are: name them, or"
                " compare run folders"
            )
        named[path] = [str(part) for part in read_settings(RunFolder(path)).get("data", [])]
    first, *others = named.items()
    for path, where in others:
        if where != first[1]:
            raise UsageError(
                f"expected trainings on the same data, got {' and '.join(first[1])} for {first[0]} and"
                f" {' and '.join(where)} for {path}: say with --data what to compare them on"
            )
    return list(first[1])


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
    found = [
        paired((a.logits[:, k] > 0) == truth[:, k], (b.logits[:, k] > 0) == truth[:, k], seed=seed)
        for k in range(len(a.classes))
    ]
    corrected = holm([one.p_exact for one in found])
    entries = [
        ClassDifference(name, one, p) for name, one, p in zip(a.classes, found, corrected, strict=True)
    ]
    return tuple(sorted(entries, key=lambda entry: (-abs(entry.paired.difference), entry.paired.p_exact)))


def _disagreements(a: Predictions, b: Predictions, differs: NDArray[np.bool_]) -> tuple[Disagreement, ...]:
    rows = sorted(np.flatnonzero(differs).tolist(), key=lambda i: a.files[i])
    return tuple(
        Disagreement(
            file=a.files[i],
            true=_named(a, a.labels[i] == 1) if a.multi_label else a.classes[int(a.labels[i])],
            answer_a=_answer(a, i),
            answer_b=_answer(b, i),
        )
        for i in rows
    )


def _answer(answers: Predictions, i: int) -> str:
    row = answers.logits[i]
    return _named(answers, row > 0) if answers.multi_label else answers.classes[int(row.argmax())]


def _named(answers: Predictions, there: NDArray[np.bool_]) -> str:
    return ", ".join(answers.classes[k] for k in np.flatnonzero(there).tolist()) or "none"


def _seeds_among(known: Sequence[_Known]) -> tuple[str, ...]:
    counts = Counter(one.recipe_key for one in known)
    if max(counts.values()) < 2 or len({(one.recipe_key, one.seed) for one in known}) < len(known):
        return ()
    return ("some of these differ in nothing but the seed: --seeds summarises those together",)


def _groups(known: Sequence[_Known], entrants: Sequence[Entrant]) -> tuple[SeedGroup, ...]:
    members: dict[str, list[int]] = {}
    for k, one in enumerate(known):
        members.setdefault(one.recipe_key, []).append(k)
    names = [known[places[0]].recipe_name for places in members.values()]
    groups = []
    for number, (places, name) in enumerate(zip(members.values(), names, strict=True), start=1):
        own = name if names.count(name) == 1 else f"{name} (group {number})"
        accuracy = summarise([entrants[k].accuracy for k in places])
        groups.append(SeedGroup(name=own, members=tuple(places), accuracy=accuracy))
    return tuple(groups)


def _group_differences(
    groups: Sequence[SeedGroup],
    entrants: Sequence[Entrant],
    correct: Sequence[NDArray[np.bool_]],
    seed: int,
) -> tuple[GroupDifference, ...]:
    shares = [np.mean([correct[k] for k in group.members], axis=0) for group in groups]
    rates = [[entrants[k].accuracy for k in group.members] for group in groups]
    return tuple(
        GroupDifference(
            a=0,
            b=k,
            seeds=compare_seeds(rates[0], rates[k]) if min(len(rates[0]), len(rates[k])) > 1 else None,
            images=paired_means(shares[0], shares[k], seed=seed, resamples=_MEAN_RESAMPLES),
        )
        for k in range(1, len(groups))
    )
