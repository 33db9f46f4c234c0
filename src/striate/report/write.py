"""Writing the page: of runs, bundles and files of predictions, and of a training that has just ended."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from torch import nn

from striate.core.atomic import write_text_atomic
from striate.core.compute import Compute
from striate.core.errors import StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.data.dataset import Dataset
from striate.evaluation.evaluate import Evaluation, evaluate_images
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.metrics.predictions_file import is_predictions_file, load_predictions
from striate.report.gather import data_of, gather, sentence, split_name
from striate.report.render import render_report, render_side_by_side
from striate.report.run_report import RunReport
from striate.weights.bundle import Bundle
from striate.weights.open import about_int8, open_bundle
from striate.weights.run_folder import RunFolder, read_settings

_MOST_RUNS = 26


@dataclass(frozen=True, slots=True, eq=False)
class ReportResult:
    """A page that was written.

    Attributes:
        page: the HTML file.
        runs: what it says of each run, in the order given.
    """

    page: Path
    runs: tuple[RunReport, ...]


def write_report(
    runs: Sequence[str | Path],
    out: str | Path = "report.html",
    *,
    data: DataChoice | None = None,
    split: Split = "auto",
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> ReportResult:
    """Write one page about one run, or about several side by side.

    Args:
        runs: 1 to 26 run folders, bundles or predictions files (``.csv``, ``.parquet``). Several are compared
            with the first.
        out: the page, ending in ``.html``; replaced if it is there.
        data: labelled images to test on, as in ``train``. None: those that a run folder's ``run.json`` names;
            a lone bundle is tested on what the first run folder names, if there is one.
        split: which of them, as in ``evaluate``.
        compute: where and how; 128 images in a forward pass unless it says otherwise.
        progress: listener. A note says why a run was not tested again: the page then holds the results that
            are stored with the weights.

    Returns:
        The page and what it says.

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
    named = {path: data_of(read_settings(RunFolder(path))) for path in paths if path.is_dir()}
    lent = next(filter(None, named.values()), None)
    readings: dict[tuple[str, ...], LabelledImages] = {}
    found = []
    for done, path in enumerate(paths):
        progress("report", done, len(paths), path.name)
        if is_predictions_file(path):
            found.append(_of_predictions(path, progress))
            continue
        where = _listed(data) if data is not None else named.get(path) or lent
        images = None
        if where is not None:
            images = readings.setdefault(tuple(where), LabelledImages(where, split, False, progress))
        found.append(_of_weights(path, images, data is not None, compute, progress))
    found = [replace(run, name=name) for run, name in zip(found, _names(paths), strict=True)]
    if len(found) == 1:
        text = render_report(replace(found[0], created=_now()))
    else:
        text = render_side_by_side(found, title=_title(found), created=_now())
    write_text_atomic(page, text)
    progress("report", len(paths), len(paths))
    return ReportResult(page, tuple(found))


def write_run_report(
    run: RunFolder,
    net: nn.Module,
    bundle: Bundle,
    dataset: Dataset,
    evaluation: Evaluation | None,
    *,
    num_resumes: int = 0,
) -> None:
    """Write the page of a training into its run folder; nothing is tested again.

    Args:
        run: with its ``run.json`` and ``metrics.csv``.
        net: the trained network.
        bundle: its weights; ``metrics`` hold the split that was tested and a note.
        dataset: that it was trained on.
        evaluation: of the images that were held out; None where there are none.
        num_resumes: how often the training was resumed.

    Raises:
        WriteError: the page can't be written.
    """
    split = str(bundle.metrics.get("split", ""))
    found = gather(run.path, net, bundle, dataset, evaluation, split=split, num_resumes=num_resumes)
    write_text_atomic(run.report, render_report(replace(found, created=_now())))


def _check(paths: Sequence[Path], page: Path) -> None:
    if not 1 <= len(paths) <= _MOST_RUNS:
        raise UsageError(f"expected 1 to {_MOST_RUNS} runs, got {len(paths)}: `striate report RUN...`")
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected a page that ends in .html, got {page}: `out=report.html`")
    if page.is_dir():
        raise UsageError(f"expected a file to write, got the folder {page}: `out={page / 'report.html'}`")
    for path in paths:
        if not path.exists():
            raise UsageError(
                f"expected a run folder, a bundle or a predictions file, got {path}, which isn't there: check"
                " the path"
            )


def _of_predictions(path: Path, progress: Progress) -> RunReport:
    predictions = load_predictions(path, progress=progress)
    return RunReport(
        title=f"Predictions in {path.name}",
        classes=predictions.classes,
        test=predictions.scores(),
        test_split=split_name(predictions.split),
        test_note=sentence(predictions.split),
        predictions=predictions,
        origin="a file of predictions",
        notes=("Made from predictions alone: there are no images, curves or weights to show.",),
    )


def _of_weights(
    path: Path, images: LabelledImages | None, chosen: bool, compute: Compute, progress: Progress
) -> RunReport:
    """Report on a run folder or a bundle, tested again where its data are at hand."""
    net, bundle = open_bundle(path)
    if images is None:
        return _untested(gather(path, net, bundle), "no labelled images were given to test it on")
    try:
        dataset, indices, split = images.of(bundle)
    except StriateError as error:
        if chosen:
            raise
        progress("note", 0, None, f"{path}: not tested again: {error}")
        run = gather(path, net, bundle)
        return _untested(run, f"its data ({run.data or 'unnamed'}) could not be read")
    measured = partial(evaluate_images, net, dataset, compute=compute, progress=progress)
    evaluation, on_val = measured(indices, bundle.preprocessing), None
    if bundle.multi_label and len(dataset.splits.val) and not split.startswith(("val", "all")):
        on_val = measured(dataset.splits.val, bundle.preprocessing)
    run = gather(path, net, bundle, dataset, evaluation, split=split, on_val=on_val)
    about = about_int8(bundle)
    return replace(run, notes=(*run.notes, f"It was {about}.")) if about else run


def _untested(run: RunReport, why: str) -> RunReport:
    if run.test is None:
        note = f"It was not tested for this page: {why}, and no results are stored with its weights."
    else:
        note = (
            f"It was not tested again for this page: {why}. The results are those stored with its weights;"
            " there are no images and no calibration, and it can't be paired with other runs."
        )
    return replace(run, notes=(*run.notes, note))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _listed(data: DataChoice) -> list[str]:
    return [str(data)] if isinstance(data, str | Path) else [str(part) for part in data]


def _names(paths: Sequence[Path]) -> list[str]:
    """Name runs by their last part, or by the whole path where that is not enough."""
    short = [path.absolute().name for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]


def _title(runs: Sequence[RunReport]) -> str:
    data = {run.data for run in runs if run.data}
    return f"{len(runs)} runs on {data.pop()}" if len(data) == 1 else f"{len(runs)} runs"
