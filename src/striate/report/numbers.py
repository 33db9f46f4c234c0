"""How pages write numbers: rates, counts, durations, times."""

import json
import math
from collections.abc import Mapping
from datetime import datetime

from striate.metrics.interval import Interval


def percent(rate: float | None, num_images: int | None = None) -> str:
    """Write a rate with as many decimals as the number of images supports; "-" where it is undefined."""
    if rate is None:
        return "-"
    return f"{100 * rate:.{_decimals(num_images)}f}%"


def points(difference: float, num_images: int | None = None) -> str:
    """Write a difference of two rates in percentage points, with its sign."""
    return f"{100 * difference:+z.{_decimals(num_images)}f}".replace("-", "\u2212")


def error(accuracy: float, num_images: int) -> str:
    """Write 1 - accuracy so that it and the printed accuracy add up to 100%."""
    printed = percent(accuracy, num_images).removesuffix("%")
    return f"{100 - float(printed):.{len(printed.partition('.')[2])}f}%"


def interval(found: Interval, num_images: int) -> str:
    """Write an interval of a rate."""
    return f"{percent(found.low, num_images)} to {percent(found.high, num_images)}"


def format_number(value: float, digits: int = 6) -> str:
    """Write a number for people: ``digits`` significant ones, powers of ten instead of ``e-05``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if 1e-3 <= abs(value) < 1e6:
        text = f"{value:.{digits}g}"
        return f"{float(text):,.0f}" if "e" in text or abs(value) >= 10_000 else text
    mantissa, exponent = f"{value:.{max(digits - 1, 0)}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def amount(value: int) -> str:
    """Write a count: 61,706 in full, a million or more with three digits: 25.6 million, 4.09 billion."""
    for size, unit in ((1_000_000_000, "billion"), (1_000_000, "million")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:,.0f} {unit}"
    return f"{value:,}"


def short_amount(value: int | None) -> str:
    """Write a count for a narrow column: 61.7 k, 25.6 M, 4.09 G; "-" where it is unknown."""
    if value is None:
        return "-"
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}" if value < 1000 * size else f"{value / size:,.0f} {unit}"
    return str(value)


def duration(seconds: float | None) -> str:
    """Write a duration: seconds below 100 s, then minutes, then hours."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def readable_time(created: str) -> str:
    """Write an ISO 8601 time for people; any other text stays as it is."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M}" + (f" {moment:%Z}" if moment.tzinfo else "")


def rows_of(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Write named values: text as it is, everything else as JSON."""
    return [(key, value_of(value)) for key, value in values.items()]


def value_of(value: object) -> str:
    """Write one value: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _decimals(num_images: int | None) -> int:
    return 2 if num_images is not None and num_images >= 2000 else 1
