"""One run's part of a report: from its ``RunReport`` to the texts, rows and charts that the template sets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import DataError
from striate.metrics.interval import Interval
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores, easiest_classes, hardest_classes, top_confusions
from striate.report import history, numbers
from striate.report.calibration import calibration_section
from striate.report.confusion_charts import confusion_map, confusion_table
from striate.report.filter_tiles import MAX_FILTERS, filter_scale, first_layer_tiles, tiles_of
from striate.report.images import InlineImage, inline
from striate.report.numbers import format_number, percent
from striate.report.rate_charts import bars, recall_dots
from striate.report.run_report import RunReport, ShownImage

_MAX_TABLE_CLASSES = 20
_MAX_SIDE_PX = 192
_SMALL_PX = 96  # up to this side images are shown pixel by pixel and kept without loss
_DEFAULT_THRESHOLD = 0.5
_IMBALANCED = 1.5  # images of the largest class over those of the smallest, from which on the page says so


def run_page(run: RunReport, key: str = "") -> dict[str, Any]:
    """Turn a run into what its template sets.

    Args:
        run: what to show.
        key: put before the page's anchors where several runs share a page.

    Raises:
        DataError: filters are not ``out x in x k x k``, an image is not uint8 pixels, or a row of the
            history has no epoch.
    """
    single = run.test if isinstance(run.test, Scores) else None
    multi = run.test if isinstance(run.test, MultiLabelScores) else None
    return {
        "run": run,
        "key": key,
        "headline": _headline(run),
        "facts": _facts(run),
        "test": _test_section(run, single) if single else None,
        "multi": _multi_section(run, multi) if multi else None,
        "protocols": _protocol_rows(run),
        "calibration": calibration_section(run.predictions, run.temperature) if run.predictions else None,
        "charts": history.charts(run),
        "curve_notes": history.notes(run),
        "epochs": [history.cells(row) for row in run.history or ()],
        "mistakes": _shown(run.mistakes),
        "suspects": _shown(run.suspects),
        "losses": _shown(run.losses),
        "filters": _filters_section(run.filters),
        "ingredients": _ingredient_table(run.ingredients),
        "recipe": numbers.rows_of(run.recipe),
        "environment": numbers.rows_of(run.environment),
        "created": numbers.readable_time(run.created),
    }


def _headline(run: RunReport) -> dict[str, Any]:
    num_train = run.num_images.get("train")
    kinds = f"{len(run.classes):,} classes"
    if not run.net:
        claim, joined = run.name or run.title, ""
    elif run.ingredients:
        claim, joined = f"{run.net}, blended from {len(run.ingredients)} networks,", ""
    elif not run.data:
        claim, joined = f"{run.net} knows {kinds}", " and"
    else:
        source = f"{num_train:,} images of {run.data}" if num_train else run.data
        claim, joined = f"{run.net} learned {kinds} from {source}", " and"
    if run.test is None:
        best = history.selected_row(run)
        error = history.finite(best, "val_error") if best else None
        said = "It has not been tested."
        if error is not None and best:
            said += f" Its validation error at epoch {history.epoch_of(best):g} was {percent(error)}."
        return {"claim": f"{claim}.", "result": said, "interval": "", "guess": error is not None}
    scores = run.test
    if isinstance(scores, MultiLabelScores):
        mean = scores.mean_average_precision
        if mean is None:
            said = f"None of its classes occurs in {scores.num_images:,} {run.test_split} images."
            return {"claim": f"{claim}.", "result": said, "interval": "", "guess": False}
        exact = percent(scores.exact_match, scores.num_images)
        return {
            "claim": f"{claim}{joined} reaches a mean average precision of",
            "result": f"{mean:.3f}",
            "interval": f"on {scores.num_images:,} {run.test_split} images; every label is correct on {exact}"
            " of them.",
            "guess": False,
        }
    found = numbers.interval(scores.top1_interval, scores.num_images)
    return {
        "claim": f"{claim}{joined} names",
        "result": percent(scores.top1, scores.num_images),
        "interval": f"of {scores.num_images:,} {run.test_split} images correctly (95% interval {found}).",
        "guess": False,
    }


def _facts(run: RunReport) -> list[tuple[str, str]]:
    facts = []
    if isinstance(run.test, Scores):
        num = run.test.num_images
        facts.append((f"{run.test_split} top-1 error", numbers.error(run.test.top1, num)))
        if run.test.top5 is not None:
            facts.append((f"{run.test_split} top-5 error", numbers.error(run.test.top5, num)))
    if run.num_parameters is not None:
        facts.append(("parameters", numbers.amount(run.num_parameters)))
    if run.macs is not None:
        facts.append(("MACs per image", numbers.amount(run.macs)))
    if run.input_shape is not None:
        facts.append(("input", " × ".join(map(str, run.input_shape))))  # noqa: RUF001
    if run.history is not None:
        facts.append(("epochs", f"{len(run.history):,}"))
    if run.wall_s is not None:
        facts.append(("training time", numbers.duration(run.wall_s)))
    if not run.net:
        facts.append(("classes", f"{len(run.classes):,}"))
    return facts


def _test_section(run: RunReport, scores: Scores) -> dict[str, Any]:
    num, many = scores.num_images, len(scores.classes) > _MAX_TABLE_CLASSES
    rows = [("top-1 accuracy", percent(scores.top1, num), numbers.interval(scores.top1_interval, num))]
    flipped = Interval(1 - scores.top1_interval.high, 1 - scores.top1_interval.low)
    rows.append(("top-1 error", numbers.error(scores.top1, num), numbers.interval(flipped, num)))
    if scores.top5 is not None and scores.top5_interval is not None:
        flipped = Interval(1 - scores.top5_interval.high, 1 - scores.top5_interval.low)
        rows.append(("top-5 error", numbers.error(scores.top5, num), numbers.interval(flipped, num)))
    rows.append(("mean recall over classes", percent(scores.balanced_accuracy, num), ""))
    rows.append((f"cross-entropy{_at_one(run)}", f"{format_number(run.loss, digits=4)} nats", ""))
    rows.append(("predicting the commonest class", f"{percent(scores.majority_share, num)} accuracy", ""))
    seen = [entry for entry in scores.per_class if entry.num_images]
    if len(seen) <= 12:
        recalls = [("Recall of each class", recall_dots(hardest_classes(scores, len(seen))))]
    else:
        floor = min(entry.recall_interval.low for entry in hardest_classes(scores, 10))
        recalls = [
            ("Hardest classes", recall_dots(hardest_classes(scores, 10), floor=floor)),
            ("Easiest classes", recall_dots(easiest_classes(scores, 10), floor=floor)),
        ]
    matrix, block = (
        confusion_map(scores.confusion) if many else (confusion_table(scores.confusion, scores.classes), 1)
    )
    confusions = [
        (scores.classes[c.true], scores.classes[c.predicted], c.count, percent(c.share))
        for c in top_confusions(scores.confusion, 12 if many else 8)
    ]
    small = len(scores.classes) <= 6 or many
    return {
        "rows": rows,
        "matrix": Markup(matrix),
        "block": block,
        "many": many,
        "size": "" if small else "middling" if len(scores.classes) <= 12 else "wide",
        "confusions": confusions,
        "recalls": [(name, Markup(chart)) for name, chart in recalls],
        "unseen": [entry.name for entry in scores.per_class if not entry.num_images],
        "per_class": scores.per_class,
        "averages": _averages(scores),
        "balance": _balance(scores),
    }


def _averages(scores: Scores) -> list[tuple[str, str, str, str]]:
    """Return rows of name, recall, precision, F1: each class counted alike, and by its number of images."""
    return [
        (
            "macro average",
            percent(scores.macro_recall),
            percent(scores.macro_precision),
            percent(scores.macro_f1),
        ),
        (
            "weighted average",
            percent(scores.weighted_recall),
            percent(scores.weighted_precision),
            percent(scores.weighted_f1),
        ),
    ]


def _balance(scores: Scores) -> str:
    """Say how evenly the images are spread over the classes that have any."""
    found = scores.imbalance
    most, least = found.largest, found.smallest
    if found.num_classes == 1:
        return f"All images belong to one class, {most.name}: the results say nothing about the others."
    spread = f"from {least.num_images:,} images ({least.name}) to {most.num_images:,} ({most.name})"
    if found.ratio < _IMBALANCED:
        return f"The classes are about balanced: {spread}."
    return (
        f"The classes are imbalanced: {spread}, {found.ratio:.2g} times as many. Accuracy mostly reflects"
        " the large ones; the macro average counts every class alike."
    )


def _at_one(run: RunReport) -> str:
    """Say so where only the loss without the temperature is known."""
    return "" if run.predictions is not None or run.temperature == 1.0 else " at a temperature of 1"


def _multi_section(run: RunReport, scores: MultiLabelScores) -> dict[str, Any]:
    num = scores.num_images
    mean = scores.mean_average_precision
    order = sorted(
        range(len(scores.classes)),
        key=lambda k: (scores.average_precision[k] is None, -(scores.average_precision[k] or 0.0)),
    )
    written = ["-" if value is None else f"{value:.3f}" for value in scores.average_precision]
    chart = bars(
        [(scores.classes[k], scores.average_precision[k], written[k]) for k in order],
        axis_name="average precision",
        spoken=f"average precision of {len(order)} classes",
    )
    rows = [
        ("mean average precision", "-" if mean is None else f"{mean:.3f}"),
        ("every label correct", percent(scores.exact_match, num)),
        (f"binary cross-entropy{_at_one(run)}", f"{format_number(run.loss, digits=4)} nats"),
    ]
    if scores.per_class:
        rows += [("macro F1", percent(scores.macro_f1)), ("micro F1", percent(scores.micro_f1))]
    chosen = any(value != _DEFAULT_THRESHOLD for value in scores.thresholds)
    return {
        "rows": rows,
        "chart": Markup(chart),
        "classes": [(scores.per_class[k], written[k], f"{scores.thresholds[k]:.3f}") for k in order]
        if scores.per_class
        else [],
        "chosen": chosen,
        "unseen": [scores.classes[k] for k in order if scores.average_precision[k] is None],
    }


def _protocol_rows(run: RunReport) -> list[dict[str, str]]:
    rows = []
    num = run.test.num_images if run.test else None
    for one in run.protocols:
        low, high = one.get("top1_interval") or (None, None)
        gain, gain_interval = one.get("gain"), one.get("gain_interval") or (None, None)
        between = "" if low is None else f"{percent(low, num)} to {percent(high, num)}"
        reach = ""
        if gain_interval[0] is not None and gain_interval[1] is not None:
            reach = f"{numbers.points(gain_interval[0], num)} to {numbers.points(gain_interval[1], num)}"
        rows.append(
            {
                "name": str(one.get("protocol", "")),
                "top1": percent(one.get("top1"), num),
                "interval": between,
                "gain": "" if gain is None else numbers.points(gain, num),
                "gain_interval": reach,
            }
        )
    return rows


def _ingredient_table(ingredients: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Set a blend's ingredients as a table, with the columns that any of them has."""
    if not ingredients:
        return None
    keys = list(dict.fromkeys(key for one in ingredients for key in one))
    numeric = {key: all(isinstance(one.get(key), int | float | None) for one in ingredients) for key in keys}
    rows = [[_ingredient_cell(one.get(key)) for key in keys] for one in ingredients]
    return {
        "heads": [(key.replace("_", " "), numeric[key]) for key in keys],
        "rows": [list(zip(row, numeric.values(), strict=True)) for row in rows],
    }


def _ingredient_cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return format_number(value, digits=4)
    text = numbers.value_of(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _filters_section(filters: NDArray[np.floating] | None) -> dict[str, Any] | None:
    if filters is None:
        return None
    num_tiles = len(tiles_of(filters))
    num_out, num_in, height, width = filters.shape
    return {
        "sheet": first_layer_tiles(filters),
        "num": num_out,
        "size": " \u00d7 ".join(str(px) for px in (height, width, num_in)),
        "scale": filter_scale(filters),
        "apart": num_in not in (1, 3),
        "shown": MAX_FILTERS if num_tiles > MAX_FILTERS else None,
    }


def _shown(images: Sequence[ShownImage]) -> list[dict[str, Any]]:
    return [
        {"image": one, "inline": _inline(one.image), "loss": -math.log(max(one.p_true, 1e-38))}
        for one in images
    ]


def _inline(pixels: NDArray[np.uint8]) -> InlineImage:
    """Put an image into the page: small ones pixel by pixel, larger ones shrunk."""
    shape = pixels.shape
    if pixels.ndim == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or pixels.size == 0 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise DataError(
            f"expected an image of H x W x 3 uint8 pixels, got {shape} {pixels.dtype}:"
            " pass the image before normalisation"
        )
    if max(shape[:2]) <= _SMALL_PX:
        return inline(pixels, sharp=True)
    small = Image.fromarray(pixels)
    small.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return inline(np.asarray(small), sharp=False)
