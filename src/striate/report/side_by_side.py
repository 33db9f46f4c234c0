"""Several runs on one page: what they are, how far they differ, and what that can show."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from striate.core.errors import UsageError
from striate.metrics.calibration import calibration
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores
from striate.metrics.seeds import compare_seeds, summarise
from striate.report import numbers
from striate.report.history import epoch_of, finite
from striate.report.line_chart import Series, line_chart
from striate.report.numbers import format_number, percent, points
from striate.report.paired_runs import (
    LETTERS,
    badge_of,
    class_table,
    difference_chart,
    difference_row,
    differences_of,
    label_of,
    verdict_of,
)
from striate.report.palette import run_colour
from striate.report.rate_charts import DotRow, rate_dots
from striate.report.run_page import run_page
from striate.report.run_report import RunReport

_MOST_VALUES = 8  # curves up to this number have their last value written at their end


def side_by_side_page(runs: Sequence[RunReport], title: str) -> dict[str, Any]:
    """Turn several runs into what the template of a comparison sets.

    Args:
        runs: 2 to 26; the first is the one that the others are compared with.
        title: heading of the page.

    Raises:
        UsageError: another number of runs.
        DataError: a run can't be shown (see ``run_page``).
    """
    if not 2 <= len(runs) <= len(LETTERS):
        raise UsageError(f"expected 2 to {len(LETTERS)} runs side by side, got {len(runs)}: leave some out")
    differences, unpaired = differences_of(runs)
    return {
        "title": title,
        "runs": [
            {"badge": badge_of(k), "name": run.name or run.title, "page": run_page(run, f"{LETTERS[k]}-")}
            for k, run in enumerate(runs)
        ],
        "headline": _headline(runs, unpaired),
        "verdicts": [verdict_of(one, len(differences)) for one in differences],
        "results": [_result_row(k, run) for k, run in enumerate(runs)],
        "multi": any(isinstance(run.test, MultiLabelScores) for run in runs),
        "top5": any(isinstance(run.test, Scores) and run.test.top5 is not None for run in runs),
        "set_up": [_set_up_row(k, run) for k, run in enumerate(runs)],
        "accuracies": _accuracy_chart(runs),
        "differences": [difference_row(one) for one in differences],
        "difference_chart": difference_chart(runs, differences),
        "unpaired": unpaired,
        "classes": class_table(runs, [one.index for one in differences]),
        "curves": _curves(runs),
        "curve_note": _curve_note(runs),
        "seeds": _seed_groups(runs),
        "recipes": _recipe_differences(runs),
    }


def _headline(runs: Sequence[RunReport], unpaired: Sequence[str]) -> dict[str, str]:
    rates = [(run.test.top1, run.test.num_images) for run in runs if isinstance(run.test, Scores)]
    means = [
        run.test.mean_average_precision
        for run in runs
        if isinstance(run.test, MultiLabelScores) and run.test.mean_average_precision is not None
    ]
    claim = f"{len(runs)} runs side by side"
    if rates:
        num = min(size for _, size in rates)
        low, high = min(rates)[0], max(rates)[0]
        low_written, high_written = percent(low, num), percent(high, num)
        spread = low_written if low_written == high_written else f"{low_written} to {high_written}"
        splits = {run.test_split for run in runs if run.test}
        split = splits.pop() if len(splits) == 1 else "held-out"
        images = f"the same {num:,} {split} images" if not unpaired else f"their {split} images"
        return {"claim": f"{claim}: they name", "result": spread, "rest": f"of {images} correctly."}
    if means:
        spread = f"{min(means):.3f} to {max(means):.3f}"
        return {"claim": f"{claim}: they reach a mean average precision of", "result": spread, "rest": ""}
    return {"claim": f"{claim}.", "result": "", "rest": "None of them has been tested."}


def _result_row(index: int, run: RunReport) -> dict[str, Any]:
    row: dict[str, Any] = {"badge": badge_of(index), "name": run.name or run.title}
    row |= {"accuracy": "-", "interval": "-", "top5": "-", "loss": "-", "ece": "-", "images": "-", "map": "-"}
    scores = run.test
    if scores is None:
        return row
    num = scores.num_images
    row |= {"images": f"{num:,}", "loss": format_number(run.loss, digits=3)}
    if isinstance(scores, Scores):
        row |= {
            "accuracy": percent(scores.top1, num),
            "interval": numbers.interval(scores.top1_interval, num),
            "top5": percent(scores.top5, num),
        }
    else:
        mean = scores.mean_average_precision
        row["map"] = "-" if mean is None else f"{mean:.3f}"
    if run.predictions is not None:
        found = calibration(run.predictions.logits, run.predictions.labels, run.temperature)
        row["ece"] = percent(found.ece)
    return row


def _set_up_row(index: int, run: RunReport) -> dict[str, Any]:
    recipe = str(run.recipe.get("recipe", "-"))
    return {
        "badge": badge_of(index),
        "net": run.net or "-",
        "parameters": numbers.short_amount(run.num_parameters),
        "macs": numbers.short_amount(run.macs),
        "recipe": f"blend of {len(run.ingredients)}" if run.ingredients else recipe,
        "seed": "-" if run.seed is None else str(run.seed),
        "epochs": "-" if run.history is None else f"{len(run.history):,}",
        "time": numbers.duration(run.wall_s),
    }


def _accuracy_chart(runs: Sequence[RunReport]) -> Markup | None:
    rows = []
    for index, run in enumerate(runs):
        scores = run.test
        if not isinstance(scores, Scores):
            continue
        found, num = scores.top1_interval, scores.num_images
        name, written = label_of(index, run), percent(scores.top1, num)
        rows.append(
            DotRow(
                name=name,
                value=100 * scores.top1,
                low=100 * found.low,
                high=100 * found.high,
                written=written,
                hover=f"{name}: {written} of {num:,} images, 95% interval {numbers.interval(found, num)}",
                colour=run_colour(index),
            )
        )
    if not rows:
        return None
    spoken = f"accuracy of {len(rows)} runs with 95% intervals"
    return Markup(rate_dots(rows, axis_name="accuracy, %", spoken=spoken))


def _curves(runs: Sequence[RunReport]) -> list[Markup]:
    key, name = _curve_key(runs)
    if key is None:
        return []
    known = [(k, run.history) for k, run in enumerate(runs) if run.history]
    known = [(k, rows) for k, rows in known if any(finite(row, key) is not None for row in rows)]
    seconds = [tuple(accumulate(finite(row, "seconds") or 0.0 for row in rows)) for _, rows in known]
    longest = max(one[-1] for one in seconds)
    unit, size = ("hours", 3600.0) if longest >= 7200 else ("min", 60.0) if longest >= 600 else ("s", 1.0)
    by_epoch, by_time = [], []
    for (index, rows), clock in zip(known, seconds, strict=True):
        values = tuple(None if v is None else 100 * v for v in (finite(row, key) for row in rows))
        letter, colour = badge_of(index)
        by_epoch.append(Series(letter, tuple(epoch_of(row) for row in rows), values, colour))
        by_time.append(Series(letter, tuple(second / size for second in clock), values, colour))
    few = len(known) <= _MOST_VALUES
    chart = partial(
        line_chart,
        y_label=f"{name}, %",
        height=max(250, 90 + (30 if few else 14) * len(known)),
        values_at_ends=few,
    )
    drawn = [chart(by_epoch, x_label="epoch")]
    if longest > 0:
        drawn.append(chart(by_time, x_label=f"training time, {unit}", integer_x=False))
    return [Markup(one) for one in drawn]


def _curve_key(runs: Sequence[RunReport]) -> tuple[str | None, str]:
    for key, name in (("val_error", "validation error"), ("train_error", "training error")):
        known = [any(finite(row, key) is not None for row in run.history or ()) for run in runs]
        if sum(known) >= 2 or (any(known) and key == "train_error"):
            return key, name
    return None, ""


def _curve_note(runs: Sequence[RunReport]) -> str:
    key, name = _curve_key(runs)
    if key is None:
        return ""
    without = [
        LETTERS[k] for k, run in enumerate(runs) if all(finite(row, key) is None for row in run.history or ())
    ]
    note = "Letters are those of the table; time is that of the epochs alone. "
    if key == "train_error":
        note += "Too few runs set validation images aside, so these are errors on the training images. "
    if without:
        note += f"Without a {name}: {', '.join(without)}."
    return note.strip()


def _seed_groups(runs: Sequence[RunReport]) -> dict[str, Any] | None:
    """Summarise runs that differ only in their seed."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for index, run in enumerate(runs):
        if run.net and run.seed is not None and isinstance(run.test, Scores) and not run.ingredients:
            key = (run.net, numbers.value_of(dict(run.recipe)), run.data, str(run.test.num_images))
            groups.setdefault(key, []).append(index)
    several = [group for group in groups.values() if len({runs[k].seed for k in group}) == len(group) > 1]
    if not several:
        return None
    rates = [[_accuracy(runs[k]) for k in group] for group in several]
    rows = []
    for group, values in zip(several, rates, strict=True):
        found, first = summarise(values), runs[group[0]]
        num = first.test.num_images if first.test else None
        low, high = found.interval or (found.mean, found.mean)
        rows.append(
            {
                "badges": [badge_of(k) for k in group],
                "net": first.net,
                "recipe": str(first.recipe.get("recipe", "-")),
                "num": str(found.num),
                "mean": percent(found.mean, num),
                "spread": f"{100 * (found.spread or 0.0):.2f}",
                "interval": f"{percent(low, num)} to {percent(min(high, 1.0), num)}",
                "range": f"{percent(found.smallest, num)} to {percent(found.largest, num)}",
            }
        )
    return {"rows": rows, "notes": _seed_notes(several, rates)}


def _seed_notes(several: Sequence[Sequence[int]], rates: Sequence[Sequence[float]]) -> list[str]:
    notes = []
    for group, values in zip(several[1:], rates[1:], strict=True):
        found = compare_seeds(rates[0], values)
        low, high = found.interval
        names = f"{_letters(group)} minus {_letters(several[0])}"
        size = f"{names}: {points(found.difference)} points ({points(low)} to {points(high)})"
        spread = f"{100 * found.spread:.1f} points"
        if found.within_spread:
            notes.append(f"{size}, no more than the spread between seeds ({spread}).")
        elif low <= 0.0 <= high:
            notes.append(
                f"{size}: more than the spread between seeds ({spread}), but too few runs to show it."
            )
        else:
            notes.append(f"{size}, with a spread between seeds of {spread}.")
    return notes


def _letters(group: Sequence[int]) -> str:
    return "mean of " + ", ".join(LETTERS[k] for k in group)


def _accuracy(run: RunReport) -> float:
    assert isinstance(run.test, Scores)
    return run.test.top1


def _recipe_differences(runs: Sequence[RunReport]) -> dict[str, Any] | None:
    known = [(k, run.recipe) for k, run in enumerate(runs) if run.recipe]
    if len(known) < 2:
        return None
    rows = []
    for key in dict.fromkeys(key for _, recipe in known for key in recipe):
        values = [numbers.value_of(recipe[key]) if key in recipe else "-" for _, recipe in known]
        if len(set(values)) > 1:
            rows.append((key, values))
    return {"badges": [badge_of(k) for k, _ in known], "rows": rows}
