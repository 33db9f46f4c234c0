"""Receptive fields: which input pixels a unit can see, by arithmetic.

Along each image axis a layer's units lie on a grid: unit 0 sees ``size_px`` pixels from ``start_px``, and
each next unit sees the same window ``jump_px`` further. Pixels may lie outside the image: there is padding.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """The receptive fields of a layer's units along one axis of the image.

    Attributes:
        size_px: pixels that one unit sees.
        jump_px: pixels between the windows of neighbouring units; None where all units see the same window
            (fully connected layers, global pooling).
        start_px: first pixel of unit 0's window; negative in the padding.
        reach_px: first and last pixel that these units can see at all; None where nothing but the image's
            border limits them. A layer that loses pixels (windows that don't fit, cropping) hides them from
            all layers above, also where the padding of those lies over them.
    """

    size_px: int
    jump_px: int | None
    start_px: int
    reach_px: tuple[int, int] | None = dataclasses.field(default=None, compare=False, repr=False)

    def window(self, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Axis":
        """Return the field of units that each read a window of these units.

        Formula: ``r += d (k - 1) j; a -= p j; j *= s``.
        """
        if self.jump_px is None:
            return self
        return Axis(
            self.size_px + dilation * (kernel - 1) * self.jump_px,
            self.jump_px * stride,
            self.start_px - padding * self.jump_px,
            self.reach_px,
        )

    def everything(self, units: int) -> "Axis":
        """Return the field of something that reads all ``units``."""
        if self.jump_px is None:
            return self
        return Axis(
            self.size_px + (units - 1) * self.jump_px, None, self.start_px, self.reached(units).reach_px
        )

    def reached(self, units: int) -> "Axis":
        """Return the same field with ``reach_px`` as far as the first and the last of ``units`` see."""
        first, last = self.box(0)[0], self.box(units - 1)[1]
        low, high = self.reach_px or (first, last)
        return dataclasses.replace(self, reach_px=(max(first, low), min(last, high)))

    def box(self, unit: int, input_px: int | None = None) -> tuple[int, int]:
        """Return the first and the last pixel that a unit sees; with ``input_px``, clipped to the image.

        A unit that sees nothing but padding has a clipped box whose last pixel is before its first.
        """
        first = self.start_px + unit * (self.jump_px or 0)
        last = first + self.size_px - 1
        if input_px is None:
            return first, last
        low, high = self.reach_px or (0, input_px - 1)
        return max(first, low, 0), min(last, high, input_px - 1)

    def covers(self, input_px: int) -> bool:
        """Whether every unit sees the whole axis."""
        return self.jump_px is None and self.start_px <= 0 and self.start_px + self.size_px >= input_px


@dataclass(frozen=True, slots=True)
class Field:
    """The receptive fields of a layer: rows and columns of the image apart."""

    rows: Axis
    columns: Axis


PIXELS = Field(Axis(1, 1, 0), Axis(1, 1, 0))
"""The field of the input itself: each unit is a pixel."""


def join(fields: Sequence[Axis], units: Sequence[int]) -> Axis | None:
    """Return the field of units that see what several inputs see: a sum, a concatenation.

    ``a = min a_b`` and ``r = max(a_b + r_b) - a``; never the largest size alone, for branches may be offset.

    Args:
        fields: of the inputs.
        units: number of units of each input along this axis; a single unit is seen by all (broadcasting).

    Returns:
        None where the inputs' grids differ, so that no one size describes all units.
    """
    jumps = {
        field.jump_px for field, n in zip(fields, units, strict=True) if field.jump_px is not None and n > 1
    }
    if len(jumps) > 1:
        return None
    grid = max(units) > 1
    if grid and any(field.jump_px is None or n == 1 for field, n in zip(fields, units, strict=True)):
        # Something that sees a fixed window joins a grid: every unit sees that window and its own.
        parts = [field.everything(n) for field, n in zip(fields, units, strict=True)]
        start = min(part.start_px for part in parts)
        size = max(part.start_px + part.size_px for part in parts) - start
        return Axis(size, None, start, _union(fields, units))
    start = min(field.start_px for field in fields)
    size = max(field.start_px + field.size_px for field in fields) - start
    reach = _union(fields, units)
    if jumps:
        return Axis(size, jumps.pop(), start, reach)
    single = {field.jump_px for field in fields}
    return Axis(size, single.pop() if len(single) == 1 else None, start, reach)


def _union(fields: Sequence[Axis], units: Sequence[int]) -> tuple[int, int]:
    ends = [field.reached(n).reach_px or (0, 0) for field, n in zip(fields, units, strict=True)]
    return min(low for low, _ in ends), max(high for _, high in ends)
