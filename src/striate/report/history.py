"""How a run learned, epoch by epoch: curves, notes on them, and the rows of a table."""

import math

from markupsafe import Markup

from striate.core.errors import DataError
from striate.report.line_chart import Series, line_chart
from striate.report.numbers import format_number, percent
from striate.report.palette import GOOD, SOFT
from striate.report.run_report import EpochRow, RunReport


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


def selected_row(run: RunReport) -> EpochRow | None:
    """Return the row of the epoch whose weights were kept, or None where there is none."""
    return next((row for row in run.history or () if epoch_of(row) == run.selected_epoch), None)


def charts(run: RunReport) -> list[tuple[str, Markup]]:
    """Draw loss, error, learning rate and speed over the epochs, each with the class that sets its size."""
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
    drawn = []
    for quantity, unit, factor in (("loss", "nats", 1.0), ("error", "%", 100.0)):
        if has(f"train_{quantity}", f"val_{quantity}"):
            both = [
                curve("training", f"train_{quantity}", SOFT, factor),
                curve("validation", f"val_{quantity}", GOOD, factor),
            ]
            axis = f"{quantity}, {unit}"
            chart = line_chart(both, x_label="epoch", y_label=axis, marked_x=marked, mark_label=label)
            drawn.append(("", Markup(chart)))
    for key, axis in (("lr", "learning rate"), ("images_per_s", "training speed, images/s")):
        if has(key):
            series = [curve("", key, SOFT)]
            chart = line_chart(series, x_label="epoch", y_label=axis, height=150, log_if_wide=key == "lr")
            drawn.append(("small", Markup(chart)))
    return drawn


def notes(run: RunReport) -> list[str]:
    """Say which epoch was kept and why, and what the curves do not show."""
    said, history = [], run.history or ()
    row = selected_row(run)
    if row is not None:
        rule = f" ({run.selection_rule})" if run.selection_rule else ""
        errors = [
            f"{name} error {percent(value)}"
            for name, key in (("training", "train_error"), ("validation", "val_error"))
            if (value := finite(row, key)) is not None
        ]
        at = f": {', '.join(errors)}" if errors else ""
        said.append(f"The weights of epoch {epoch_of(row):g} were kept{rule}{at}.")
    if history and not any(finite(r, k) is not None for r in history for k in ("val_loss", "val_error")):
        said.append("No validation images were set aside, so the curves show nothing about new images.")
    broken = [
        f"{epoch_of(r):g}" for r in history if any(v is not None and not math.isfinite(v) for v in r.values())
    ]
    if broken:
        shown = ", ".join(broken[:8]) + (", …" if len(broken) > 8 else "")
        said.append(f"Values that are not finite numbers are left out of the curves (epoch {shown}).")
    return said


def cells(row: EpochRow) -> list[str]:
    """Write a row of the table of epochs."""
    written = [f"{epoch_of(row):g}"]
    for key in ("lr", "train_loss", "val_loss", "train_error", "val_error", "images_per_s", "seconds"):
        value = row.get(key)
        if value is None:
            written.append("-")
        elif not math.isfinite(value):
            written.append(str(value))
        elif key.endswith("error"):
            written.append(f"{100 * value:.2f}")
        else:
            written.append(f"{value:,.0f}" if value >= 1000 else format_number(value, digits=4))
    return written
