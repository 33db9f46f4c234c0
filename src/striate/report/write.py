"""The page about runs, bundles and files of predictions: read again, tested again, written as one file."""

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from striate.core.atomic import write_text_atomic
from striate.core.compute import (
    DeviceChoice,
    PrecisionChoice,
    autocast_dtype,
    pick_device,
    pick_precision,
)
from striate.core.errors import DataError, StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batches import in_order, loader_for
from striate.evaluation.evaluate import evaluate
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.metrics.multilabel import MultiLabelScores, choose_thresholds, score_multilabel
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import is_predictions_file, load_predictions
from striate.metrics.scores import Scores
from striate.nets import describe, find
from striate.recipes.recipe import Recipe
from striate.report.galleries import galleries
from striate.report.render import RunReport, render_report, render_side_by_side
from striate.report.run_record import (
    data_name,
    first_filters,
    pictures_from,
    protocols_of,
    recipe_rows,
    selection_rule,
    split_notes,
)
from striate.weights.bundle import Bundle
from striate.weights.open import about_int8, open_bundle
from striate.weights.run_folder import RunFolder, read_settings

_MOST_RUNS = 26
_SHORT = {"test": "test", "val": "validation", "train": "training"}


@dataclass(frozen=True, slots=True, eq=False)
class ReportResult:
    """A page that was written.

    Attributes:
        page: the HTML file.
        runs: what it tells of each run, in the order given.
    """

    page: Path
    runs: tuple[RunReport, ...]


@dataclass(frozen=True, slots=True)
class _Setting:
    """How runs are tested for a page."""

    split: Split
    batch_images: int
    device: torch.device
    dtype: torch.dtype | None
    progress: Progress


def write_report(
    runs: Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    data: DataChoice | None = None,
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> ReportResult:
    """Write one page about one run, or about several side by side.

    Args:
        runs: 1 to 26 run folders, bundles or predictions files (``.csv``, ``.parquet``). Several are compared
            with the first.
        out: the page, ending in ``.html``; replaced if it is there.
        data: labelled images to test on, as in ``train``. None: those that a run folder's ``run.json`` names;
            a lone bundle is tested on what the first run folder names, if there is one.
        split: which of them, as in ``evaluate_bundle``.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        progress: listener. A note tells why a run was not tested again: the page then holds the figures that
            are stored with the weights.

    Returns:
        The page and what it tells.

    Raises:
        UsageError: no runs, too many, a page of another kind, or nothing of that name.
        CheckpointError: a folder is no run.
        BundleError: a bundle can't be used.
        DataError: ``data`` can't be used, or a predictions file is damaged.
        WriteError: the page can't be written.
    """
    paths = [Path(run) for run in runs]
    page = Path(out)
    _check(paths, page)
    check_split(split)
    place = pick_device(device)
    setting = _Setting(split, batch_images, place, autocast_dtype(pick_precision(precision, place)), progress)
    settings = {path: read_settings(RunFolder(path)) for path in paths if path.is_dir()}
    readings: dict[tuple[str, ...], LabelledImages] = {}
    lent = next((_data_of(record) for record in settings.values()), None)
    told = []
    for done, path in enumerate(paths):
        progress("report", done, len(paths), path.name)
        if is_predictions_file(path):
            told.append(_of_predictions(path, progress))
            continue
        where = _listed(data) if data is not None else _data_of(settings.get(path, {})) or lent
        images = None
        if where is not None:
            images = readings.setdefault(tuple(where), LabelledImages(where, split, False, progress))
        told.append(_of_weights(path, settings.get(path), images, data is not None, setting))
    told = [replace(run, name=name) for run, name in zip(told, _names(paths), strict=True)]
    created = datetime.now(UTC).isoformat(timespec="seconds")
    if len(told) == 1:
        text = render_report(replace(told[0], created=created))
    else:
        text = render_side_by_side(told, title=_title(told), created=created)
    write_text_atomic(page, text)
    progress("report", len(paths), len(paths))
    return ReportResult(page, tuple(told))


def _check(paths: Sequence[Path], page: Path) -> None:
    if not 1 <= len(paths) <= _MOST_RUNS:
        raise UsageError(f"expected 1 to {_MOST_RUNS} runs, got {len(paths)}: striate report RUN...")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected -o with a file that ends in .html, got {page}: -o report.html")
    if page.is_dir():
        raise UsageError(f"expected a file to write, got the folder {page}: -o {page / 'report.html'}")
    for path in paths:
        if not path.exists():
            raise UsageError(
                f"expected a run folder, a bundle or a predictions file, got {path}, which isn't there: check"
                " the path"
            )


def _of_predictions(path: Path, progress: Progress) -> RunReport:
    answers = load_predictions(path, progress=progress)
    return RunReport(
        title=f"Predictions in {path.name}",
        classes=answers.classes,
        test=answers.scores(),
        test_split=_short(answers.split),
        test_note=_sentence(answers.split),
        answers=answers,
        origin="a file of predictions",
        notes=("Made from predictions alone: there are no pictures, curves or weights to show.",),
    )


def _of_weights(
    path: Path,
    settings: Mapping[str, Any] | None,
    images: LabelledImages | None,
    chosen: bool,
    setting: _Setting,
) -> RunReport:
    """Tell of a run folder or a bundle, tested again where its data are at hand."""
    net, bundle = open_bundle(path)
    run = _stored(path, settings, bundle)
    run = replace(run, filters=first_filters(net))
    if images is None:
        return replace(run, notes=(*run.notes, _untested(run, "no labelled images were named (--data)")))
    try:
        dataset, members, words = images.of(bundle)
    except StriateError as error:
        if chosen:
            raise
        setting.progress("note", 0, None, f"{path}: not tested again: {error}")
        why = f"its data ({run.data or 'unnamed'}) could not be read"
        return replace(run, notes=(*run.notes, _untested(run, why)))
    evaluation = evaluate(
        net.to(setting.device),
        in_order(loader_for(dataset, members, bundle.preprocessing, setting.batch_images, setting.device)),
        bundle.classes,
        device=setting.device,
        autocast_dtype=setting.dtype,
        total=len(members),
        progress=setting.progress,
    )
    answers = Predictions(
        name=run.name,
        classes=bundle.classes,
        files=tuple(dataset.source.files[i] for i in evaluation.indices.tolist()),
        labels=evaluation.labels,
        logits=evaluation.logits,
        split=words,
    )
    scores: Scores | MultiLabelScores = evaluation.scores
    val = dataset.splits.val
    if isinstance(scores, MultiLabelScores) and len(val) and not words.startswith(("val", "all")):
        pictures = loader_for(dataset, val, bundle.preprocessing, setting.batch_images, setting.device)
        on_val = evaluate(
            net,
            in_order(pictures),
            bundle.classes,
            device=setting.device,
            autocast_dtype=setting.dtype,
            total=len(val),
            progress=setting.progress,
        )
        cuts = choose_thresholds(on_val.probabilities, on_val.labels)
        scores = score_multilabel(evaluation.probabilities, answers.labels, answers.classes, thresholds=cuts)
    shown = galleries(
        answers,
        bundle.temperature,
        pictures_from(dataset.source, evaluation.indices, bundle.preprocessing),
    )
    own = bundle.data.get("fingerprint") == dataset.fingerprint
    short = _short(words)
    about = about_int8(bundle)
    counts = {name: count for name, count in dataset.num_images.items() if count}
    return replace(
        run,
        test=scores,
        test_split=short,
        test_note=_test_note(bundle, words, short, own),
        num_images=counts if own else run.num_images,
        split_notes=split_notes(dataset) if own else (),
        quarantined=dataset.broken_files,
        notes=(*run.notes, f"It was {about}.") if about else run.notes,
        answers=answers,
        mistakes=shown.mistakes,
        suspects=shown.suspects,
        losses=shown.losses,
    )


def _stored(path: Path, settings: Mapping[str, Any] | None, bundle: Bundle) -> RunReport:
    """Tell what a bundle and, for a run, its folder hold; nothing is tested."""
    entry = find(bundle.net)
    summary = describe(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
    where = _data_of(settings or {})
    data = data_name(where) if where else data_name(str(bundle.data.get("name", "")).split(" + "))
    counts = bundle.data.get("num_images")
    counts = counts if isinstance(counts, dict) else {}
    history = _history(RunFolder(path)) if settings is not None else None
    recipe = Recipe.from_json(bundle.recipe) if bundle.recipe else None
    split = str(bundle.metrics.get("split", ""))
    epoch = bundle.metrics.get("epoch")
    environment = dict((settings or {}).get("environment") or bundle.versions)
    if settings is not None and "precision" in settings:
        environment["precision"] = settings["precision"]
    return RunReport(
        title=f"{entry.title} on {data}" if data else entry.title,
        classes=bundle.classes,
        name=path.name,
        net=entry.name,
        num_parameters=summary.parameters,
        macs=summary.macs,
        input_shape=summary.input_shape,
        paper=entry.paper,
        data=data,
        num_images={str(name): int(count) for name, count in counts.items() if count},
        history=history,
        selected_epoch=epoch if isinstance(epoch, int) else None,
        selection_rule=selection_rule(recipe, has_val=bool(counts.get("val"))) if recipe else "",
        test=_stored_scores(bundle),
        test_split=_short(split),
        test_note=_sentence(str(bundle.metrics.get("note") or "")),
        temperature=bundle.temperature,
        protocols=protocols_of(bundle),
        recipe=recipe_rows(recipe.to_json()) if recipe else {},
        environment=environment,
        command=str((settings or {}).get("command", "")),
        seed=bundle.seed,
        wall_s=math.fsum(row["seconds"] or 0.0 for row in history) if history else None,
        origin="its run folder" if settings is not None else "a bundle",
        ingredients=bundle.ingredients,
    )


def _stored_scores(bundle: Bundle) -> Scores | MultiLabelScores | None:
    record = bundle.metrics.get("scores")
    if not isinstance(record, dict):
        return None
    with suppress(DataError):  # a record of another kind or from a newer striate: as if there were none
        return MultiLabelScores.from_json(record) if bundle.multi_label else Scores.from_json(record)
    return None


def _history(run: RunFolder) -> list[dict[str, float | None]]:
    """Read ``metrics.csv``; an absent one is an empty history."""
    try:
        with open(run.metrics, encoding="utf-8", newline="") as file:
            return [
                {key: float(text) if text else None for key, text in row.items() if key}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{run.metrics}: expected a table of numbers as `striate train` writes it, got one that can't be"
            f" read ({error}): take it from the run's backup or remove it"
        ) from None


def _untested(run: RunReport, why: str) -> str:
    if run.test is None:
        return f"It was not tested for this page: {why}, and no figures are stored with its weights."
    return (
        f"It was not tested again for this page: {why}. The figures are those stored with its weights; there"
        " are no pictures and no calibration, and it can't be paired with other runs."
    )


def _test_note(bundle: Bundle, words: str, short: str, own: bool) -> str:
    """Say what to know before trusting the result: what the training wrote, if these are its images."""
    if own and _short(str(bundle.metrics.get("split", ""))) == short and bundle.metrics.get("note"):
        return _sentence(str(bundle.metrics["note"]))
    return _sentence(words)


def _short(words: str) -> str:
    """Name a split in one word; "given" for images that are none."""
    first = words.partition(" ")[0]
    return _SHORT.get(first, first if first in _SHORT.values() else "given")


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words and not words.endswith(".") else words


def _data_of(settings: Mapping[str, Any]) -> list[str] | None:
    where = settings.get("data")
    return [str(part) for part in where] if isinstance(where, list) and where else None


def _listed(data: DataChoice) -> list[str]:
    return [str(data)] if isinstance(data, str | Path) else [str(part) for part in data]


def _names(paths: Sequence[Path]) -> list[str]:
    """Name runs by their last part, or by the whole path where that is not enough."""
    short = [path.absolute().name for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]


def _title(runs: Sequence[RunReport]) -> str:
    data = {run.data for run in runs if run.data}
    return f"{len(runs)} runs on {data.pop()}" if len(data) == 1 else f"{len(runs)} runs"
