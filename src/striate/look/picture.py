"""Pictures of maps: panels in a grid, each with a title and a scale, and a caption."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from striate.core.atomic import atomic_path, write_atomic
from striate.core.errors import UsageError

Box = tuple[int, int, int, int]
"""First row, first column, last row, last column, in pixels."""

_DPI = 150
_TITLE_PT, _LABEL_PT, _CAPTION_PT, _SMALLEST_PT = 11.0, 7.5, 7.5, 5.0
_MARGIN, _GAP, _SCALE_ROOM, _LEGEND_ROOM = 0.1, 0.09, 0.50, 1.15  # inches
_LEGEND_LINES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture in a grid.

    Attributes:
        pixels: ``H x W x 3`` colours in 0..1, ``H x W`` numbers that ``colours`` maps to colours (NaN stays
            blank), or ``H x W`` integers with ``names`` (one colour each).
        title: one or two short lines above it; letters shrink to fit.
        colours: matplotlib's name of a colour map for numbers: ``magma`` for amounts, ``RdBu_r`` for signed.
        limits: numbers at the ends of the scale; None takes the smallest and largest, symmetric about zero
            for ``RdBu_r``.
        scale: what the numbers are, for the scale beside the panel; "" draws no scale.
        boxes: drawn as frames.
        names: of integers, for the legend of a label map.
        width: in panels; a row with any other than 1 is laid out on its own, not in columns.
        rows_named: text left of the panel, by row of pixels.
        columns_named: text above the panel, by column of pixels.
    """

    pixels: NDArray[Any]
    title: str = ""
    colours: str = "magma"
    limits: tuple[float, float] | None = None
    scale: str = ""
    boxes: Sequence[Box] = ()
    names: dict[int, str] = field(default_factory=dict)
    width: float = 1.0
    rows_named: Mapping[float, str] = field(default_factory=dict)
    columns_named: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a way of looking found: its numbers, and how they are drawn. A notebook shows it as a picture.

    Attributes:
        name: of its files, without ending: the way of looking, network, layer, image.
        rows: of panels; rows may differ in length.
        title: above all.
        caption: what was done and with which parameters, below all; wrapped.
        numbers: arrays by name; they go beside the picture as ``.npz``.
        notes: what else there is to say, one line each.
        panel_mm: width of a panel in millimetres.
    """

    name: str
    rows: Sequence[Sequence[Panel]]
    title: str
    caption: str
    numbers: Mapping[str, NDArray[Any]]
    notes: Sequence[str] = ()
    panel_mm: float = 42.0

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array by its name."""
        return self.numbers[name]

    def save(self, path: str | Path | None = None) -> Path:
        """Write the picture, and its numbers beside it as ``.npz``.

        Args:
            path: of the picture: .png, .svg or .pdf; None takes ``name`` in the current folder.

        Returns:
            The path of the picture.

        Raises:
            UsageError: another ending, or no panel to draw.
            WriteError: it can't be written.
        """
        path = Path(f"{self.name}.png" if path is None else path)
        check_ending(path)
        figure, kind = _drawn(self), path.suffix[1:].lower()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, metadata={"Date": None} if kind == "svg" else None)
        savez: Callable[..., None] = np.savez_compressed
        write_atomic(numbers_path(path), lambda file: savez(file, **self.numbers))
        return path

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        _drawn(self).savefig(content, format="png")
        return content.getvalue()


def file_name(*words: object) -> str:
    """Join words to the name of a file; what does not belong into one becomes ``_``, empty words go."""
    parts = [re.sub(r"[^A-Za-z0-9.-]+", "_", str(word)).strip("_") for word in words]
    return "-".join(part for part in parts if part)


def numbers_path(picture: Path) -> Path:
    """Return where the numbers of a picture go."""
    return picture.with_suffix(".npz")


def check_ending(path: Path) -> None:
    """Refuse a file that is no picture.

    Raises:
        UsageError: an ending that is none of .png, .svg, .pdf.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"expected a picture ending in .png, .svg or .pdf, got {path.name}")


def _drawn(picture: Picture) -> Figure:
    rows = [list(row) for row in picture.rows if row]
    if not rows:
        raise UsageError("expected at least one panel to draw, got none")
    cell = picture.panel_mm / 25.4
    places = _columns(rows, cell)
    right = max(
        place + panel.width * cell + _right(panel)
        for row, starts in zip(rows, places, strict=True)
        for panel, place in zip(row, starts, strict=True)
    )
    width = max(right + _MARGIN, 3.2)
    heads = _wrap(picture.title, width, _TITLE_PT * 0.64)
    wrapped = _wrap(picture.caption, width, _CAPTION_PT * 0.53)
    heights = [max(_aspect(panel) * panel.width * cell for panel in row) for row in rows]
    tops = [0.04 + max(_above(panel) for panel in row) for row in rows]
    head = 0.12 + (0.06 + 0.20 * len(heads) if heads else 0.0)
    foot = 0.20 + 0.135 * len(wrapped)
    height = head + foot + sum(heights) + sum(tops) + 0.06 * len(rows)
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    for number, line in enumerate(heads):
        y = 1 - (0.26 + 0.20 * number) / height
        figure.text(_MARGIN / width, y, line, fontsize=_TITLE_PT, weight="bold")
    for number, line in enumerate(wrapped):
        y = (foot - 0.15 - 0.135 * number) / height
        figure.text(_MARGIN / width, y, line, fontsize=_CAPTION_PT, color="#555555")
    bottom = height - head
    for row, starts, row_height, top in zip(rows, places, heights, tops, strict=True):
        bottom -= row_height + top + 0.06
        for number, (panel, start) in enumerate(zip(row, starts, strict=True)):
            wide = panel.width * cell
            own = _aspect(panel) * wide
            place = start / width, (bottom + row_height - own) / height, wide / width, own / height
            end = starts[number + 1] - _left(row[number + 1]) if number + 1 < len(row) else width
            _draw(figure, panel, place, (end - start - 0.05) * _DPI)
    return figure


def _columns(rows: Sequence[Sequence[Panel]], cell: float) -> list[list[float]]:
    """Return where each panel begins, in inches: columns are as wide as their widest panel with its scale.

    The gap between columns grows with the panels.
    """
    gap = max(_GAP, 0.06 * cell)
    in_columns = [row for row in rows if all(panel.width == 1 for panel in row)]
    lefts: list[float] = []
    rights: list[float] = []
    for column in range(max(map(len, in_columns), default=0)):
        lefts.append(max(_left(row[column]) for row in in_columns if len(row) > column))
        followed = [row[column] for row in in_columns if len(row) > column + 1]
        rights.append(max(map(_right, followed), default=0.0))
    places = []
    for row in rows:
        own = any(panel.width != 1 for panel in row)
        x, starts = _MARGIN, []
        for column, panel in enumerate(row):
            x += _left(panel) if own else lefts[column]
            starts.append(x)
            x += panel.width * cell + (_right(panel) if own else rights[column]) + gap
        places.append(starts)
    return places


def _left(panel: Panel) -> float:
    longest = max(map(len, panel.rows_named.values()), default=0)
    return 0.06 + longest * (_LABEL_PT - 1) * 0.58 / 72 if longest else 0.0


def _right(panel: Panel) -> float:
    if panel.names:
        return _LEGEND_ROOM
    return _SCALE_ROOM if panel.scale and panel.pixels.ndim == 2 else 0.0


def _above(panel: Panel) -> float:
    lines = panel.title.count("\n") + 1 if panel.title else 0
    return (0.06 if lines else 0.0) + 0.14 * lines + (0.12 if panel.columns_named else 0.0)


def _aspect(panel: Panel) -> float:
    return panel.pixels.shape[0] / panel.pixels.shape[1]


def _wrap(text: str, width_inch: float, letter_pt: float) -> list[str]:
    per_line = max(30, int((width_inch - 2 * _MARGIN) * 72 / letter_pt))
    return [line for part in text.split("\n") for line in textwrap.wrap(part, per_line)]


def _draw(figure: Figure, panel: Panel, place: tuple[float, float, float, float], title_dots: float) -> None:
    axes = figure.add_axes(place)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
        spine.set_color("#999999")
    # Shrunk pictures are smoothed first; enlarged ones show their pixels.
    shrunk = panel.pixels.shape[1] > place[2] * figure.get_figwidth() * _DPI
    kind = "antialiased" if shrunk else "nearest"
    if panel.pixels.ndim == 3:
        axes.imshow(np.clip(panel.pixels, 0, 1), interpolation=kind, aspect="auto")
    elif panel.names:
        _draw_labels(axes, panel)
    else:
        low, high = limits_of(panel)
        shown = axes.imshow(
            panel.pixels, cmap=panel.colours, norm=Normalize(low, high), interpolation=kind, aspect="auto"
        )
        if panel.scale:
            x, y, width, height = place
            inch = 1 / figure.get_figwidth()
            bar = figure.add_axes((x + width + 0.03 * inch, y, 0.055 * inch, height))
            figure.colorbar(shown, cax=bar)
            _label_scale(bar, low, high, panel.scale)
    for top, left, bottom, right in panel.boxes:
        frame = (left - 0.5, top - 0.5), right - left + 1, bottom - top + 1
        for colour, line_width in (("white", 2.0), ("#d62728", 1.0)):
            axes.add_patch(
                Rectangle(*frame, fill=False, edgecolor=colour, linewidth=line_width, clip_on=False)
            )
    small: dict[str, Any] = {"fontsize": _LABEL_PT - 1, "color": "#555555"}
    small["textcoords"] = "offset points"
    side: dict[str, Any]
    for row, word in panel.rows_named.items():
        side = {"xycoords": ("axes fraction", "data"), "xytext": (-2.5, 0), "ha": "right", "va": "center"}
        axes.annotate(word, (0, row), **side, **small)
    for column, word in panel.columns_named.items():
        side = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "ha": "center", "va": "bottom"}
        axes.annotate(word, (column, 1), **side, **small)
    if panel.title:
        pad = 11.5 if panel.columns_named else 2.5
        _fit(axes.set_title(panel.title, fontsize=_LABEL_PT, pad=pad, loc="left"), title_dots)


def _label_scale(bar: Axes, low: float, high: float, words: str) -> None:
    """Write the ends and the middle of a scale beside it, with a power of ten where they are long."""
    largest = int(np.floor(np.log10(max(abs(low), abs(high)))))
    power = 0 if -3 < largest < 4 else largest
    ticks = [low, (low + high) / 2, high]
    bar.set_yticks(ticks, [_short(tick / 10.0**power, 2 - largest + power) for tick in ticks])
    bar.tick_params(labelsize=_LABEL_PT - 1.5, length=2, width=0.4, pad=1)
    bottom, middle, top = bar.get_yticklabels()
    bottom.set_verticalalignment("bottom")
    middle.set_verticalalignment("center")
    top.set_verticalalignment("top")
    text = f"{words} / 1e{power}" if power else words
    axis = bar.transAxes
    style: dict[str, Any] = {
        "rotation": 90,
        "fontsize": _LABEL_PT - 1,
        "ha": "right",
        "va": "center",
        "transform": axis,
    }
    written = bar.text(8.4, 0.5, text, **style)
    tall, room = written.get_window_extent().height, bar.get_window_extent().height
    if tall > room:
        written.set_fontsize(max(_SMALLEST_PT, (_LABEL_PT - 1) * room / tall))


def _short(number: float, decimals: int) -> str:
    """Write a number without zeros at its end."""
    text = f"{number:.{max(decimals, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text.replace("-", "\u2212")


def _fit(text: Text, dots: float) -> None:
    """Shrink a text, then cut it, to at most this width in dots."""
    wide = text.get_window_extent().width
    if wide > dots:
        text.set_fontsize(max(_SMALLEST_PT, float(text.get_fontsize()) * dots / wide))
    wide = text.get_window_extent().width
    if wide > dots * 1.01:
        lines = text.get_text().split("\n")
        keep = max(3, int(max(map(len, lines)) * dots / wide) - 1)
        text.set_text("\n".join(line if len(line) <= keep else f"{line[:keep]}\u2026" for line in lines))


def _draw_labels(axes: Axes, panel: Panel) -> None:
    """Draw a label map: the most frequent labels have a colour and a line in the legend, the others grey."""
    labels, counts = np.unique(panel.pixels, return_counts=True)
    order = [int(label) for label in labels[np.argsort(-counts, kind="stable")]]
    named = order if len(order) <= _LEGEND_LINES else order[: _LEGEND_LINES - 1]
    palette = [f"C{number}" for number in range(9) if number != 7]  # C7 is grey
    colours = {label: palette[number % len(palette)] for number, label in enumerate(named)}
    lines = [(colours[label], panel.names.get(label, str(label))) for label in named]
    if len(named) < len(order):
        lines.append(("#bbbbbb", f"{len(order) - len(named)} others"))
    elif len(named) > len(palette):
        colours[named[-1]] = "#bbbbbb"
        lines[-1] = ("#bbbbbb", lines[-1][1])
    places = {label: number for number, label in enumerate(order)}
    numbered = np.vectorize(places.__getitem__, otypes=[int])(panel.pixels)
    shown = ListedColormap([colours.get(label, "#bbbbbb") for label in order])
    axes.imshow(
        numbered, cmap=shown, norm=Normalize(-0.5, len(order) - 0.5), interpolation="nearest", aspect="auto"
    )
    for number, (colour, word) in enumerate(lines):
        y = -5.0 - 8.5 * number
        corner: dict[str, Any] = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        axes.annotate("\u25a0", (1, 1), xytext=(3, y), color=colour, fontsize=7, va="center", **corner)
        line = axes.annotate(word, (1, 1), xytext=(11, y), fontsize=_LABEL_PT - 1.5, va="center", **corner)
        _fit(line, (_LEGEND_ROOM - 0.2) * _DPI)


def limits_of(panel: Panel) -> tuple[float, float]:
    """Return the numbers at the ends of a panel's scale."""
    if panel.limits is not None:
        low, high = panel.limits
        return (low, high) if high > low else (low - 0.5, low + 0.5)
    values = panel.pixels[np.isfinite(panel.pixels)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if panel.colours == "RdBu_r":
        high = max(abs(low), abs(high))
        low = -high
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def tiles(images: NDArray[Any], columns: int, *, gap: int = 1, fill: float = 1.0) -> NDArray[Any]:
    """Lay ``N x H x W x C`` (or ``N x H x W``) tiles of one size out in a grid with white gaps."""
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:])
    out = np.full(shape, fill, dtype=images.dtype)
    for number in range(count):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        out[top : top + height, left : left + width] = images[number]
    return out


def signed_colours(maps: NDArray[Any]) -> NDArray[Any]:
    """Turn signed ``H x W x C`` maps into colours, as Zeiler and Fergus show their projections.

    Zero is mid grey, the map's largest magnitude white or black.
    """
    largest = float(np.abs(maps).max())
    colours: NDArray[Any] = 0.5 + 0.5 * maps / largest if largest > 0 else np.full_like(maps, 0.5)
    return np.repeat(colours, 3, axis=-1) if colours.shape[-1] == 1 else colours
