"""The pixels that one unit sees."""

import difflib
from dataclasses import dataclass

from striate.anatomy.layer import Layer
from striate.anatomy.record import Anatomy
from striate.core.errors import UsageError

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitBox:
    """The box of input pixels that a unit sees.

    Attributes:
        layer: name of the row.
        row: of the unit in its map.
        column: of the unit in its map.
        grid: rows and columns of units in a map.
        rows: first and last row of pixels, also those in the padding around the image.
        columns: first and last column.
        seen_rows: first and last row inside the image that the unit sees; a window that does not fit may have
            dropped pixels below it.
        seen_columns: first and last column inside the image that it sees.
        image: height and width of the input in pixels.
    """

    layer: str
    row: int
    column: int
    grid: tuple[int, int]
    rows: Span
    columns: Span
    seen_rows: Span
    seen_columns: Span
    image: tuple[int, int]

    @property
    def clipped_rows(self) -> Span | None:
        """First and last row inside the image; None where the unit sees padding only."""
        return self.seen_rows if self.seen_rows[0] <= self.seen_rows[1] else None

    @property
    def clipped_columns(self) -> Span | None:
        """First and last column inside the image; None where the unit sees padding only."""
        return self.seen_columns if self.seen_columns[0] <= self.seen_columns[1] else None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the box in pixels, padding included."""
        return _length(self.rows), _length(self.columns)

    @property
    def clipped_size(self) -> tuple[int, int]:
        """Height and width of the part inside the image in pixels; 0 x 0 where there is none."""
        if self.clipped_rows is None or self.clipped_columns is None:
            return (0, 0)
        return _length(self.clipped_rows), _length(self.clipped_columns)

    def in_words(self) -> str:
        """Say it in two sentences."""
        units = "one unit" if self.grid == (1, 1) else f"one of {_by(self.grid)} units"
        text = (
            f"{self.layer} at row {self.row}, column {self.column} ({units}) sees {_by(self.size)} px:"
            f" rows {_span(self.rows)}, columns {_span(self.columns)}."
        )
        if self.clipped_rows is None or self.clipped_columns is None:
            return f"{text} All of it is padding: nothing of the {_by(self.image)} px image."
        if self.clipped_size == self.size:
            return f"{text} All of it lies inside the {_by(self.image)} px image."
        return (
            f"{text} Inside the {_by(self.image)} px image lie {_by(self.clipped_size)} px:"
            f" rows {_span(self.clipped_rows)}, columns {_span(self.clipped_columns)}; the rest is padding."
        )

    def to_json(self) -> dict[str, object]:
        """Return plain values; pixel spans are [first, last], both included."""
        return {
            "layer": self.layer,
            "row": self.row,
            "column": self.column,
            "units": list(self.grid),
            "rows": list(self.rows),
            "columns": list(self.columns),
            "clipped_rows": None if self.clipped_rows is None else list(self.clipped_rows),
            "clipped_columns": None if self.clipped_columns is None else list(self.clipped_columns),
            "size_px": list(self.size),
            "clipped_size_px": list(self.clipped_size),
            "image_px": list(self.image),
        }


def grid_of(layer: Layer) -> tuple[int, int]:
    """Return rows and columns of units in a map of a row; 1 x 1 where units have no place."""
    return (layer.output[-2], layer.output[-1]) if len(layer.output) >= 3 else (1, 1)


def unit_box(anatomy: Anatomy, layer: str, row: int = 0, column: int = 0) -> UnitBox:
    """Return the pixels that a unit sees, by arithmetic.

    Args:
        anatomy: of the network.
        layer: name of a row.
        row: of the unit, from 0 at the top.
        column: of the unit, from 0 at the left.

    Raises:
        UsageError: no such row or unit, or the row's field is not known.
    """
    found = _find(anatomy, layer)
    grid = grid_of(found)
    if not (0 <= row < grid[0] and 0 <= column < grid[1]):
        raise UsageError(
            f"expected a unit of {layer} in rows 0 to {grid[0] - 1} and columns 0 to {grid[1] - 1},"
            f" got {row},{column}"
        )
    if found.field is None:
        raise UsageError(f"{layer} has no receptive field to show: {found.note or 'it comes from no pixels'}")
    return UnitBox(
        layer=layer,
        row=row,
        column=column,
        grid=grid,
        rows=found.field.rows.box(row),
        columns=found.field.columns.box(column),
        seen_rows=found.field.rows.box(row, anatomy.input_shape[1]),
        seen_columns=found.field.columns.box(column, anatomy.input_shape[2]),
        image=anatomy.input_shape[1:],
    )


def read_unit(text: str) -> tuple[str, int, int]:
    """Read ``LAYER:ROW,COL``; a bare ``LAYER`` is its unit 0,0.

    Raises:
        UsageError: row and column are not two whole numbers.
    """
    layer, colon, place = text.rpartition(":")
    if not colon:
        return text, 0, 0
    words = place.split(",")
    try:
        row, column = (int(word) for word in words)
    except ValueError:
        raise UsageError(f"expected a unit as LAYER:ROW,COL, such as pool5:3,3, got {text!r}") from None
    return layer, row, column


def _find(anatomy: Anatomy, name: str) -> Layer:
    try:
        return anatomy[name]
    except KeyError:
        names = [layer.name for layer in anatomy]
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"they go from {names[0]} to {names[-1]}"
        raise UsageError(f"expected the name of a row of {anatomy.name}, got {name!r}: {hint}") from None


def _length(span: Span) -> int:
    return span[1] - span[0] + 1


def _span(span: Span) -> str:
    return f"{span[0]} to {span[1]}"


def _by(sizes: tuple[int, int]) -> str:
    return f"{sizes[0]}x{sizes[1]}"
