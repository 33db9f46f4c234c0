"""Axes of charts: which ticks to write, and where a value lies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to user units along one side of a chart."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the position of a value, in user units."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        above = (math.log10(value) if self.log else value) - low
        return self.start + (self.end - self.start) * (above / (high - low))


def count_axis(low: float, high: float, start: float, end: float, *, integer: bool) -> Axis:
    """Make a linear axis from ``low`` to ``high`` that ends exactly there.

    Args:
        low: first value.
        high: last value; equal ones put the only value in the middle.
        start: position of ``low`` in user units.
        end: position of ``high``.
        integer: whether ticks must be whole numbers.
    """
    if low == high:
        return Axis(low - 1, high + 1, start, end, False, (low,))
    ticks = nice_ticks(low, high, 5, whole=integer)
    return Axis(low, high, start, end, False, ticks)


def value_axis(values: Sequence[float], start: float, end: float, *, max_ticks: int, may_log: bool) -> Axis:
    """Make an axis that holds all values with some room above.

    It is logarithmic where ``may_log`` and all values are positive and span a factor of 20 or more;
    otherwise it is linear and contains 0.
    """
    low, high = min(values), max(values)
    if may_log and low > 0 and high >= 20 * low:
        bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        first, last = low / 1.15, high * 1.15
        decades = [e for e in range(bottom, top + 1) if first <= 10.0**e <= last]
        for inner in ((1, 2, 5), (1, 3)):
            marks = [m * 10.0**e for e in range(bottom, top + 1) for m in inner]
            marks = [mark for mark in marks if first <= mark <= last]
            if len(marks) <= max_ticks:
                return Axis(first, last, start, end, True, tuple(marks))
        every = math.ceil(len(decades) / max_ticks)
        return Axis(first, last, start, end, True, tuple(10.0**e for e in decades[::-every][::-1]))
    low = min(0.0, low)
    if low == high:
        high = low + 1.0
    ticks = nice_ticks(low, high + 0.02 * (high - low), min(5, max_ticks))
    return Axis(min(low, ticks[0]), high + 0.06 * (high - low), start, end, False, ticks)


def nice_ticks(low: float, high: float, num: int, *, whole: bool = False) -> tuple[float, ...]:
    """Return about ``num`` round values from ``low`` to ``high``; with ``whole`` also the first, if apart."""
    step = step_of(high - low, num)
    if whole:
        step = max(1.0, round(step)) if step >= 1 else 1.0
    first = math.ceil(low / step - 1e-9)
    ticks = [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    if whole and low not in ticks and (not ticks or ticks[0] - low > 0.4 * step):
        ticks.insert(0, low)
    return tuple(ticks) or (low,)


def step_of(span: float, num: int) -> float:
    """Return the smallest of 1, 2, 5 times a power of ten that goes at most ``num`` times into ``span``."""
    rough = max(span, 1e-12) / num
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
