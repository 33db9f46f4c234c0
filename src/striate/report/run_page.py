"""One run's part of a report: from the record to the words, rows and figures that the template sets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from striate.core.errors import DataError
from striate.metrics.interval import Interval
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores, easiest_classes, hardest_classes, top_confusions
from striate.report import words as say
from striate.report.calibration import calibration_section
from striate.report.confusion_figures import confusion_map, confusion_table
from striate.report.curve_figures import Series, line_chart
from striate.report.filter_tiles import MAX_FILTERS, TILE_PX, filter_scale, first_layer_tiles, tiles_of
from striate.report.rate_figures import bars, recall_dots
from striate.report.record import EpochRow, MistakePicture, RunReport
from striate.report.svg import data_uri, format_number, jpeg_uri, png_uri

_MAX_TABLE_CLASSES = 20
_MAX_SIDE_PX = 192
_SMALL_PX = 96  # up to this side pictures are shown pixel by pixel and kept without loss
_EVEN = 0.5  # the threshold where none was chosen
_SKEWED = 1.5  # the largest class over the smallest from which on classes are called imbalanced


def run_page(run: RunReport, key: str = "") -> dict[str, Any]:
    """Turn a record into what the template of a run sets.

    Args:
        run: what to tell.
        key: put before the page's anchors where several runs share a page.

    Raises:
        DataError: filters are not ``out x in x k x k``, a picture is not uint8 pixels, or a row of the
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
        "calibration": calibration_section(run.answers, run.temperature) if run.answers else None,
        "charts": _charts(run),
        "curve_notes": _curve_notes(run),
        "epochs": [_epoch_cells(row) for row in run.history or ()],
        "mistakes": _gallery(run.mistakes),
        "suspects": _gallery(run.suspects),
        "losses": _gallery(run.losses),
        "filters": _filters_section(run),
        "ingredients": _ingredient_table(run.ingredients),
        "recipe": say.rows_of(run.recipe),
        "environment": say.rows_of(run.environment),
        "created": say.readable_time(run.created),
    }


def epoch_of(row: EpochRow) -> float:
    """Return the epoch of a row of the history.

    Raises:
        DataError: it has none.
    """
    epoch = row.get("epoch")
    if epoch is None or not math.isfinite(epoch):
        raise DataError(f"expected an epoch number in every row of the history, got {epoch}: fix metrics.csv")
    return epoch


def finite(row: EpochRow, key: str) -> float | None:
    """Return a value of a row of the history, or None where it is missing or not finite."""
    value = row.get(key)
    return value if value is not None and math.isfinite(value) else None


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
        best = _selected_row(run)
        error = finite(best, "val_error") if best else None
        told = "It has not been tested."
        if error is not None and best:
            told += f" Its validation error at epoch {epoch_of(best):g} was {say.percent(error)}."
        return {"claim": f"{claim}.", "result": told, "interval": "", "guess": error is not None}
    scores = run.test
    if isinstance(scores, MultiLabelScores):
        mean = scores.mean_average_precision
        if mean is None:
            told = f"None of its classes occurs in {scores.num_images:,} {run.test_split} images."
            return {"claim": f"{claim}.", "result": told, "interval": "", "guess": False}
        exact = say.percent(scores.exact_match, scores.num_images)
        return {
            "claim": f"{claim}{joined} reaches a mean average precision of",
            "result": f"{mean:.3f}",
            "interval": f"on {scores.num_images:,} {run.test_split} images; every label is right on {exact}"
            " of them.",
            "guess": False,
        }
    found = say.interval(scores.top1_interval, scores.num_images)
    return {
        "claim": f"{claim}{joined} names",
        "result": say.percent(scores.top1, scores.num_images),
        "interval": f"of {scores.num_images:,} {run.test_split} images correctly (95% interval {found}).",
        "guess": False,
    }


def _facts(run: RunReport) -> list[tuple[str, str]]:
    facts = []
    if isinstance(run.test, Scores):
        num = run.test.num_images
        facts.append((f"{run.test_split} top-1 error", say.error(run.test.top1, num)))
        if run.test.top5 is not None:
            facts.append((f"{run.test_split} top-5 error", say.error(run.test.top5, num)))
    if run.num_parameters is not None:
        facts.append(("parameters", say.amount(run.num_parameters)))
    if run.macs is not None:
        facts.append(("MACs per image", say.amount(run.macs)))
    if run.input_shape is not None:
        facts.append(("input", " × ".join(map(str, run.input_shape))))  # noqa: RUF001
    if run.history is not None:
        facts.append(("epochs", f"{len(run.history):,}"))
    if run.wall_s is not None:
        facts.append(("training time", say.duration(run.wall_s)))
    if not run.net:
        facts.append(("classes", f"{len(run.classes):,}"))
    return facts


def _test_section(run: RunReport, scores: Scores) -> dict[str, Any]:
    num, many = scores.num_images, len(scores.classes) > _MAX_TABLE_CLASSES
    rows = [("top-1 accuracy", say.percent(scores.top1, num), say.interval(scores.top1_interval, num))]
    flipped = Interval(1 - scores.top1_interval.high, 1 - scores.top1_interval.low)
    rows.append(("top-1 error", say.error(scores.top1, num), say.interval(flipped, num)))
    if scores.top5 is not None and scores.top5_interval is not None:
        flipped = Interval(1 - scores.top5_interval.high, 1 - scores.top5_interval.low)
        rows.append(("top-5 error", say.error(scores.top5, num), say.interval(flipped, num)))
    rows.append(("mean recall over classes", say.percent(scores.balanced_accuracy, num), ""))
    rows.append((f"cross-entropy{_unheated(run)}", f"{format_number(run.loss, digits=4)} nats", ""))
    rows.append(("naming the commonest class", f"{say.percent(scores.majority_share, num)} accuracy", ""))
    seen = [entry for entry in scores.per_class if entry.num_images]
    if len(seen) <= 12:
        recalls = [("Recall of each class", recall_dots(hardest_classes(scores, len(seen))))]
    else:
        floor = min(entry.recall_interval.low for entry in hardest_classes(scores, 10))
        recalls = [
            ("Hardest classes", recall_dots(hardest_classes(scores, 10), floor=floor)),
            ("Easiest classes", recall_dots(easiest_classes(scores, 10), floor=floor)),
        ]
    drawing, block = (
        confusion_map(scores.confusion) if many else (confusion_table(scores.confusion, scores.classes), 1)
    )
    confusions = [
        (scores.classes[c.true], scores.classes[c.predicted], c.count, say.percent(c.share))
        for c in top_confusions(scores.confusion, 12 if many else 8)
    ]
    small = len(scores.classes) <= 6 or many
    return {
        "rows": rows,
        "matrix": Markup(drawing),
        "block": block,
        "many": many,
        "size": "" if small else "middling" if len(scores.classes) <= 12 else "wide",
        "confusions": confusions,
        "recalls": [(name, Markup(figure)) for name, figure in recalls],
        "unseen": [entry.name for entry in scores.per_class if not entry.num_images],
        "per_class": scores.per_class,
        "averages": _averages(scores),
        "balance": _balance(scores),
    }


def _averages(scores: Scores) -> list[tuple[str, str, str, str]]:
    """Return rows of name, recall, precision, F1: every class alike, and by its number of images."""
    return [
        (
            "macro average",
            say.percent(scores.macro_recall),
            say.percent(scores.macro_precision),
            say.percent(scores.macro_f1),
        ),
        (
            "weighted average",
            say.percent(scores.weighted_recall),
            say.percent(scores.weighted_precision),
            say.percent(scores.weighted_f1),
        ),
    ]


def _balance(scores: Scores) -> str:
    """Say how unevenly the images are spread over the classes that have any."""
    found = scores.imbalance
    most, least = found.largest, found.smallest
    if found.num_classes == 1:
        return f"All images belong to one class, {most.name}: the figures say nothing about the others."
    spread = f"from {least.num_images:,} images ({least.name}) to {most.num_images:,} ({most.name})"
    if found.ratio < _SKEWED:
        return f"The classes are about balanced: {spread}."
    return (
        f"The classes are imbalanced: {spread}, {found.ratio:.2g} times as many. Accuracy speaks mostly of"
        " the large ones; the macro average counts every class alike."
    )


def _unheated(run: RunReport) -> str:
    """Say so where only the loss before the temperature is known."""
    return "" if run.answers is not None or run.temperature == 1.0 else " at a temperature of 1"


def _multi_section(run: RunReport, scores: MultiLabelScores) -> dict[str, Any]:
    num = scores.num_images
    mean = scores.mean_average_precision
    order = sorted(
        range(len(scores.classes)),
        key=lambda k: (scores.average_precision[k] is None, -(scores.average_precision[k] or 0.0)),
    )
    written = ["-" if value is None else f"{value:.3f}" for value in scores.average_precision]
    drawing = bars(
        [(scores.classes[k], scores.average_precision[k], written[k]) for k in order],
        axis_name="average precision",
        spoken=f"average precision of {len(order)} classes",
    )
    rows = [
        ("mean average precision", "-" if mean is None else f"{mean:.3f}"),
        ("every label right", say.percent(scores.exact_match, num)),
        (f"binary cross-entropy{_unheated(run)}", f"{format_number(run.loss, digits=4)} nats"),
    ]
    if scores.per_class:
        rows += [("macro F1", say.percent(scores.macro_f1)), ("micro F1", say.percent(scores.micro_f1))]
    chosen = any(value != _EVEN for value in scores.thresholds)
    return {
        "rows": rows,
        "figure": Markup(drawing),
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
        between = "" if low is None else f"{say.percent(low, num)} to {say.percent(high, num)}"
        reach = ""
        if gain_interval[0] is not None and gain_interval[1] is not None:
            reach = f"{say.points(gain_interval[0], num)} to {say.points(gain_interval[1], num)}"
        rows.append(
            {
                "name": str(one.get("protocol", "")),
                "top1": say.percent(one.get("top1"), num),
                "interval": between,
                "gain": "" if gain is None else say.points(gain, num),
                "gain_interval": reach,
            }
        )
    return rows


def _ingredient_table(ingredients: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Set the records of a blend's ingredients as a table: the columns that any of them has."""
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
    text = say.value_of(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _charts(run: RunReport) -> list[tuple[str, Markup]]:
    history = run.history or ()
    epochs = tuple(epoch_of(row) for row in history)
    if not epochs:
        return []

    def curve(name: str, key: str, colour: str, factor: float = 1.0) -> Series:
        values = tuple(None if v is None else factor * v for v in (finite(row, key) for row in history))
        return Series(name, epochs, values, colour)

    def has(*keys: str) -> bool:
        return any(finite(row, key) is not None for row in history for key in keys)

    marked = run.selected_epoch if run.selected_epoch in epochs else None
    label = f"kept: epoch {marked}"
    drawings = []
    for quantity, unit, factor in (("loss", "nats", 1.0), ("error", "%", 100.0)):
        if has(f"train_{quantity}", f"val_{quantity}"):
            both = [
                curve("training", f"train_{quantity}", "var(--soft)", factor),
                curve("validation", f"val_{quantity}", "var(--good)", factor),
            ]
            drawing = line_chart(
                both, x_label="epoch", y_label=f"{quantity}, {unit}", marked_x=marked, mark_label=label
            )
            drawings.append(("", drawing))
    for key, axis in (("lr", "learning rate"), ("images_per_s", "training speed, images/s")):
        if has(key):
            series = [curve("", key, "var(--soft)")]
            drawing = line_chart(series, x_label="epoch", y_label=axis, height=150, log_if_wide=key == "lr")
            drawings.append(("small", drawing))
    return [(size, Markup(drawing)) for size, drawing in drawings]


def _curve_notes(run: RunReport) -> list[str]:
    notes, history = [], run.history or ()
    row = _selected_row(run)
    if row is not None:
        rule = f" ({run.selection_rule})" if run.selection_rule else ""
        told = [
            f"{name} error {say.percent(value)}"
            for name, value in (
                ("training", finite(row, "train_error")),
                ("validation", finite(row, "val_error")),
            )
            if value is not None
        ]
        at = f": {', '.join(told)}" if told else ""
        notes.append(f"The weights of epoch {epoch_of(row):g} were kept{rule}{at}.")
    if history and not any(finite(r, k) is not None for r in history for k in ("val_loss", "val_error")):
        notes.append("No validation images were set aside, so the curves show nothing about new images.")
    broken = [
        f"{epoch_of(r):g}" for r in history if any(v is not None and not math.isfinite(v) for v in r.values())
    ]
    if broken:
        shown = ", ".join(broken[:8]) + (", …" if len(broken) > 8 else "")
        notes.append(f"Values that are not finite numbers are left out of the curves (epoch {shown}).")
    return notes


def _epoch_cells(row: EpochRow) -> list[str]:
    cells = [f"{epoch_of(row):g}"]
    for key in ("lr", "train_loss", "val_loss", "train_error", "val_error", "images_per_s", "seconds"):
        value = row.get(key)
        if value is None:
            cells.append("-")
        elif not math.isfinite(value):
            cells.append(str(value))
        elif key.endswith("error"):
            cells.append(f"{100 * value:.2f}")
        else:
            cells.append(f"{value:,.0f}" if value >= 1000 else format_number(value, digits=4))
    return cells


def _filters_section(run: RunReport) -> dict[str, Any] | None:
    filters = run.filters
    if filters is None:
        return None
    tiles = tiles_of(filters)
    num_out, num_in, height, width = filters.shape
    side = width * max(1, round(TILE_PX / width)) + 4
    return {
        "uri": data_uri(first_layer_tiles(filters)),
        "num": num_out,
        "size": " \u00d7 ".join(str(px) for px in (height, width, num_in)),
        "scale": filter_scale(filters),
        "apart": num_in not in (1, 3),
        "shown": MAX_FILTERS if len(tiles) > MAX_FILTERS else None,
        "px": min(len(tiles), 8 if len(tiles) <= 64 else 12) * side - 4,
    }


def _gallery(pictures: Sequence[MistakePicture]) -> list[dict[str, Any]]:
    return [
        {
            "picture": picture,
            "uri": _picture_uri(picture),
            "small": max(picture.image.shape[:2]) <= _SMALL_PX,
            "loss": -math.log(max(picture.p_true, 1e-38)),
        }
        for picture in pictures
    ]


def _picture_uri(picture: MistakePicture) -> str:
    image = picture.image
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if (
        image.dtype != np.uint8
        or image.ndim not in (2, 3)
        or image.size == 0
        or (image.ndim == 3 and image.shape[2] != 3)
    ):
        raise DataError(
            f"expected a picture of H x W x 3 uint8 pixels, got {picture.image.shape} {picture.image.dtype}:"
            " pass the image before normalisation"
        )
    if max(image.shape[:2]) <= _SMALL_PX:
        return png_uri(image)
    small = Image.fromarray(image)
    small.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Image.Resampling.LANCZOS)
    return jpeg_uri(np.asarray(small))


def _selected_row(run: RunReport) -> EpochRow | None:
    return next((row for row in run.history or () if epoch_of(row) == run.selected_epoch), None)
