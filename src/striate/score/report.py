"""The report of a run: one HTML file that needs nothing else, for a screen, a phone or paper."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from striate.core.errors import DataError
from striate.score import figures
from striate.score.metrics import Interval, Scores, easiest_classes, hardest_classes, top_confusions
from striate.score.svg import data_uri, format_number, png, png_uri

_MAX_TABLE_CLASSES = 20
_MAX_SIDE_PX = 192
_MAX_FILTERS = 256
_TILE_PX = 44

EpochRow = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class MistakePicture:
    """A wrongly classified image, to be shown.

    Attributes:
        image: ``H x W x 3`` or ``H x W`` in the *u8* state.
        file: name of the file, or of the image in its source.
        true: true class name.
        predicted: name of the class that was answered.
        p_predicted: probability given to the answer, in [0, 1].
        p_true: probability given to the true class, in [0, 1].
    """

    image: NDArray[np.uint8]
    file: str
    true: str
    predicted: str
    p_predicted: float
    p_true: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunReport:
    """All that a report tells about one training run.

    Attributes:
        title: heading of the page.
        net: name of the network.
        num_parameters: number of learned values.
        input_shape: channels, height and width of one image, in pixels.
        data: name of the data set.
        num_images: images per split; the key ``train`` is named in the headline.
        classes: class names.
        history: one row per epoch with the keys ``epoch``, ``lr``, ``train_loss``, ``val_loss`` (nats),
            ``train_error``, ``val_error`` (fractions), ``images_per_s``, ``seconds``. A value may be None,
            missing or not finite, except ``epoch``.
        command: the exact command that repeats the run.
        seed: random seed of the run.
        wall_s: duration in seconds, all resumed parts together.
        created: when the run ended, in ISO 8601.
        macs: multiply-accumulates for one image, or None.
        paper: where the network was published, or None.
        split_notes: how the splits were made, one sentence each.
        quarantined: files left out, each with the reason.
        selected_epoch: the epoch whose weights were kept, or None.
        selection_rule: why that epoch, in a few words such as "lowest validation error".
        test: scores of the kept weights on images that took no part in training or selection, or None.
        test_split: name of the split that ``test`` was measured on.
        test_summary: the result in words, where ``test`` can't hold it (several labels an image).
        test_note: what a reader must know to trust the result (who saw these images, how often).
        mistakes: the surest wrong answers, worst first.
        filters: weights of the first convolution, ``out x in x k x k``, or None.
        recipe: every value of the recipe.
        environment: versions, hardware, precision, threads.
        num_resumes: how often the run was interrupted and resumed.
    """

    title: str
    net: str
    num_parameters: int
    input_shape: tuple[int, int, int]
    data: str
    num_images: Mapping[str, int]
    classes: tuple[str, ...]
    history: Sequence[EpochRow]
    command: str
    seed: int
    wall_s: float
    created: str
    macs: int | None = None
    paper: str | None = None
    split_notes: tuple[str, ...] = ()
    quarantined: tuple[tuple[str, str], ...] = ()
    selected_epoch: int | None = None
    selection_rule: str = ""
    test: Scores | None = None
    test_split: str = "test"
    test_note: str = ""
    test_summary: str = ""
    mistakes: tuple[MistakePicture, ...] = ()
    filters: NDArray[np.floating] | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    num_resumes: int = 0


def render_report(run: RunReport) -> str:
    """Write the report as one HTML document.

    The document loads nothing: styles are inline, curves are inline SVG, pictures are PNG in ``data:``
    addresses, and a content security policy forbids everything else. Every name in ``run`` is escaped.

    Args:
        run: what to tell.

    Returns:
        HTML text that can be encoded as UTF-8.

    Raises:
        DataError: filters are not ``out x in x k x k``, or a picture is not uint8 pixels.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=_percent,
        error=_error,
        amount=_amount,
        duration=_duration,
        number=lambda v: format_number(v, digits=4),
    )
    source = resources.files("striate.score").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        run=run,
        headline=_headline(run),
        test=_test_section(run.test) if run.test else None,
        charts=_charts(run),
        curve_notes=_curve_notes(run),
        epochs=[_epoch_cells(row) for row in run.history],
        mistakes=[
            (picture, _picture_uri(picture), max(picture.image.shape[:2]) <= 96) for picture in run.mistakes
        ],
        filters=_filters_section(run.filters),
        recipe=_rows(run.recipe),
        environment=_rows(run.environment),
        created=_readable_time(run.created),
    )
    # File names may hold bytes that are not text (lone surrogates) or control characters.
    legal = (c if c >= " " or c in "\n\t" else "\ufffd" for c in page)
    return "".join(legal).encode("utf-8", "replace").decode("utf-8")


def first_layer_tiles(filters: NDArray[np.floating]) -> bytes:
    """Draw the first layer's filters side by side, enlarged without smoothing.

    All filters share one scale that is symmetric about zero: mid-grey is 0, white (or full colour) is
    ``filter_scale(filters)``, black is its negative, and what lies beyond is clipped. So a dead filter looks
    dead, and strong and weak ones can be told apart. Filters with 3 inputs are shown in colour; with any
    other number, each input gets a grey tile of its own.

    Args:
        filters: weights, ``out x in x k x k``.

    Returns:
        PNG with transparent gaps; 8 tiles in a row up to 64 tiles, 12 beyond, at most 256 tiles.

    Raises:
        DataError: the weights are not ``out x in x k x k`` or are empty.
    """
    tiles = _tiles(filters)[:_MAX_FILTERS]
    shades = 0.5 + 0.5 * np.clip(np.nan_to_num(tiles) / (filter_scale(filters) or 1.0), -1.0, 1.0)
    num, side, gap = len(tiles), tiles.shape[-1], 4
    enlarge = max(1, round(_TILE_PX / side))
    pixels = np.round(255 * shades).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    num_columns = min(num, 8 if num <= 64 else 12)
    num_rows = math.ceil(num / num_columns)
    pitch = side * enlarge + gap
    sheet = np.zeros((num_rows * pitch - gap, num_columns * pitch - gap, 4), np.uint8)
    for i, tile in enumerate(pixels):
        top, left = pitch * (i // num_columns), pitch * (i % num_columns)
        sheet[top : top + pitch - gap, left : left + pitch - gap] = np.dstack(
            [tile, np.full(tile.shape[:2], 255, np.uint8)]
        )
    return png(sheet)


def filter_scale(filters: NDArray[np.floating]) -> float:
    """Return the weight that is drawn as white: the 99.5th percentile of the finite weights' sizes."""
    sizes = np.abs(filters[np.isfinite(filters)])
    return float(np.percentile(sizes, 99.5)) if sizes.size else 0.0


def _tiles(filters: NDArray[np.floating]) -> NDArray[np.floating]:
    if filters.ndim != 4 or filters.size == 0:
        raise DataError(
            f"expected first-layer weights of shape out x in x k x k, got {filters.shape}:"
            " pass the weight of a convolution, or None"
        )
    if filters.shape[1] == 3:
        return filters
    return filters.reshape(-1, 1, *filters.shape[2:])


def _headline(run: RunReport) -> dict[str, Any]:
    num_train = run.num_images.get("train")
    learned = f"learned {len(run.classes):,} classes from "
    learned += f"{num_train:,} images of {run.data}" if num_train is not None else run.data
    if run.test_summary:
        return {
            "claim": f"{run.net} {learned}",
            "result": "and",
            "interval": f"{run.test_summary}.",
            "guess": False,
        }
    if run.test is None:
        best = _selected_row(run)
        error = _finite(best, "val_error") if best else None
        told = "It has not been tested."
        if error is not None and best:
            told += f" Its validation error at epoch {_epoch(best):g} was {_percent(error)}."
        return {"claim": f"{run.net} {learned}.", "result": told, "interval": "", "guess": error is not None}
    scores = run.test
    interval = _interval(scores.top1_interval, scores.num_images)
    return {
        "claim": f"{run.net} {learned} and names",
        "result": _percent(scores.top1, scores.num_images),
        "interval": f"of {scores.num_images:,} {run.test_split} images correctly (95% interval {interval}).",
        "guess": False,
    }


def _test_section(scores: Scores) -> dict[str, Any]:
    num, many = scores.num_images, len(scores.classes) > _MAX_TABLE_CLASSES
    rows = [("top-1 accuracy", _percent(scores.top1, num), _interval(scores.top1_interval, num))]
    flipped = Interval(1 - scores.top1_interval.high, 1 - scores.top1_interval.low)
    rows.append(("top-1 error", _error(scores.top1, num), _interval(flipped, num)))
    if scores.top5 is not None and scores.top5_interval is not None:
        flipped = Interval(1 - scores.top5_interval.high, 1 - scores.top5_interval.low)
        rows.append(("top-5 error", _error(scores.top5, num), _interval(flipped, num)))
    rows.append(("mean recall over classes", _percent(scores.macro_recall, num), ""))
    rows.append(("cross-entropy", f"{format_number(scores.loss, digits=4)} nats", ""))
    rows.append(("naming the commonest class", f"{_percent(scores.majority_share, num)} accuracy", ""))
    seen = [entry for entry in scores.per_class if entry.num_images]
    if len(seen) <= 12:
        recalls = [("Recall of each class", figures.recall_dots(hardest_classes(scores, len(seen))))]
    else:
        floor = min(entry.recall_interval.low for entry in hardest_classes(scores, 10))
        recalls = [
            ("Hardest classes", figures.recall_dots(hardest_classes(scores, 10), floor=floor)),
            ("Easiest classes", figures.recall_dots(easiest_classes(scores, 10), floor=floor)),
        ]
    svg, block = (
        figures.confusion_map(scores.confusion)
        if many
        else (figures.confusion_table(scores.confusion, scores.classes), 1)
    )
    confusions = [
        (scores.classes[c.true], scores.classes[c.predicted], c.count, _percent(c.share))
        for c in top_confusions(scores.confusion, 12 if many else 8)
    ]
    return {
        "rows": rows,
        "matrix": Markup(svg),
        "block": block,
        "many": many,
        "size": ""
        if len(scores.classes) <= 6 or many
        else "middling"
        if len(scores.classes) <= 12
        else "wide",
        "confusions": confusions,
        "recalls": [(name, Markup(drawing)) for name, drawing in recalls],
        "unseen": [entry.name for entry in scores.per_class if not entry.num_images],
        "per_class": scores.per_class,
    }


def _charts(run: RunReport) -> list[tuple[str, Markup]]:
    epochs = tuple(_epoch(row) for row in run.history)
    if not epochs:
        return []

    def curve(name: str, key: str, colour: str, factor: float = 1.0) -> figures.Series:
        values = tuple(None if v is None else factor * v for v in (_finite(row, key) for row in run.history))
        return figures.Series(name, epochs, values, colour)

    def has(*keys: str) -> bool:
        return any(_finite(row, key) is not None for row in run.history for key in keys)

    marked = run.selected_epoch if run.selected_epoch in epochs else None
    label = f"kept: epoch {marked}"
    drawings = []
    for quantity, unit, factor in (("loss", "nats", 1.0), ("error", "%", 100.0)):
        if has(f"train_{quantity}", f"val_{quantity}"):
            both = [
                curve("training", f"train_{quantity}", "var(--soft)", factor),
                curve("validation", f"val_{quantity}", "var(--good)", factor),
            ]
            drawings.append(
                (
                    "",
                    figures.line_chart(
                        both,
                        x_label="epoch",
                        y_label=f"{quantity}, {unit}",
                        marked_x=marked,
                        mark_label=label,
                    ),
                )
            )
    for key, axis in (("lr", "learning rate"), ("images_per_s", "training speed, images/s")):
        if has(key):
            series = [curve("", key, "var(--soft)")]
            drawings.append(
                (
                    "small",
                    figures.line_chart(
                        series, x_label="epoch", y_label=axis, height=150, log_if_wide=key == "lr"
                    ),
                )
            )
    return [(size, Markup(svg)) for size, svg in drawings]


def _curve_notes(run: RunReport) -> list[str]:
    notes = []
    row = _selected_row(run)
    if row is not None:
        rule = f" ({run.selection_rule})" if run.selection_rule else ""
        told = [
            f"{name} error {_percent(value)}"
            for name, value in (
                ("training", _finite(row, "train_error")),
                ("validation", _finite(row, "val_error")),
            )
            if value is not None
        ]
        at = f": {', '.join(told)}" if told else ""
        notes.append(f"The weights of epoch {_epoch(row):g} were kept{rule}{at}.")
    if run.history and not any(
        _finite(r, k) is not None for r in run.history for k in ("val_loss", "val_error")
    ):
        notes.append("No validation images were set aside, so the curves show nothing about new images.")
    broken = [
        f"{_epoch(r):g}"
        for r in run.history
        if any(v is not None and not math.isfinite(v) for v in r.values())
    ]
    if broken:
        shown = ", ".join(broken[:8]) + (", …" if len(broken) > 8 else "")
        notes.append(f"Values that are not finite numbers are left out of the curves (epoch {shown}).")
    return notes


def _epoch_cells(row: EpochRow) -> list[str]:
    cells = [f"{_epoch(row):g}"]
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


def _filters_section(filters: NDArray[np.floating] | None) -> dict[str, Any] | None:
    if filters is None:
        return None
    tiles = _tiles(filters)
    num_out, num_in, height, width = filters.shape
    return {
        "uri": data_uri(first_layer_tiles(filters)),
        "num": num_out,
        "size": " \u00d7 ".join(str(px) for px in (height, width, num_in)),
        "scale": filter_scale(filters),
        "apart": num_in not in (1, 3),
        "shown": _MAX_FILTERS if len(tiles) > _MAX_FILTERS else None,
        "px": min(len(tiles), 8 if len(tiles) <= 64 else 12) * (width * max(1, round(_TILE_PX / width)) + 4)
        - 4,
    }


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
    if max(image.shape[:2]) > _MAX_SIDE_PX:
        small = Image.fromarray(image)
        small.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX), Image.Resampling.LANCZOS)
        image = np.asarray(small)
    return png_uri(image)


def _selected_row(run: RunReport) -> EpochRow | None:
    return next((row for row in run.history if _epoch(row) == run.selected_epoch), None)


def _epoch(row: EpochRow) -> float:
    epoch = row.get("epoch")
    if epoch is None or not math.isfinite(epoch):
        raise DataError(f"expected an epoch number in every row of the history, got {epoch}: fix metrics.csv")
    return epoch


def _finite(row: EpochRow, key: str) -> float | None:
    value = row.get(key)
    return value if value is not None and math.isfinite(value) else None


def _rows(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
        for key, value in values.items()
    ]


def _percent(rate: float | None, num_images: int | None = None) -> str:
    """Write a rate with as many decimals as the number of images supports; "-" where it is undefined."""
    if rate is None:
        return "-"
    return f"{100 * rate:.{2 if num_images is not None and num_images >= 2000 else 1}f}%"


def _error(accuracy: float, num_images: int) -> str:
    """Write 1 - accuracy so that it and the printed accuracy add up to 100%."""
    printed = _percent(accuracy, num_images).removesuffix("%")
    return f"{100 - float(printed):.{len(printed.partition('.')[2])}f}%"


def _interval(interval: Interval, num_images: int) -> str:
    return f"{_percent(interval.low, num_images)} to {_percent(interval.high, num_images)}"


def _amount(value: int) -> str:
    """Write a count: 61,706 as it is, from a million on with three digits: 25.6 million, 4.09 billion."""
    for size, unit in ((1_000_000_000, "billion"), (1_000_000, "million")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:,.0f} {unit}"
    return f"{value:,}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _readable_time(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M}" + (f" {moment:%Z}" if moment.tzinfo else "")
