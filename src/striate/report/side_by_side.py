"""Several runs on one page: what they are, how far they differ, and what that can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from string import ascii_uppercase
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from striate.core.errors import DataError, UsageError
from striate.metrics.calibration import calibration
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.paired import Paired, format_p, holm, paired, paired_by_class, verdict
from striate.metrics.predictions import Predictions, on_same_images
from striate.metrics.scores import Scores
from striate.metrics.seeds import compare_seeds, summarise
from striate.report import words as say
from striate.report.curve_figures import Series, line_chart
from striate.report.rate_figures import DotRow, difference_dots, rate_dots
from striate.report.record import RunReport
from striate.report.run_page import epoch_of, finite, run_page
from striate.report.svg import format_number

_NUM_COLOURS = 8
_MOST_VALUES = 8  # curves up to this number have their last value written at their end
_CLASSES = 10
_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class _Difference:
    """One run against the first, on the same images."""

    place: int
    found: Paired
    p_holm: float


def side_by_side_page(runs: Sequence[RunReport], title: str) -> dict[str, Any]:
    """Turn several records into what the template of a comparison sets.

    Args:
        runs: 2 to 26; the first is the one that the others are compared with.
        title: heading of the page.

    Raises:
        UsageError: another number of runs.
        DataError: a record can't be told (see ``run_page``).
    """
    if not 2 <= len(runs) <= len(ascii_uppercase):
        raise UsageError(
            f"expected 2 to {len(ascii_uppercase)} runs side by side, got {len(runs)}: leave some out"
        )
    differences, apart = _differences(runs)
    return {
        "title": title,
        "runs": [
            {
                "letter": letter,
                "colour": _colour(k),
                "name": run.name or run.title,
                "page": run_page(run, f"{letter}-"),
            }
            for k, (run, letter) in enumerate(zip(runs, ascii_uppercase, strict=False))
        ],
        "headline": _headline(runs, apart),
        "verdicts": [_verdict(one, len(differences)) for one in differences],
        "results": [_result_row(k, run) for k, run in enumerate(runs)],
        "multi": any(isinstance(run.test, MultiLabelScores) for run in runs),
        "top5": any(isinstance(run.test, Scores) and run.test.top5 is not None for run in runs),
        "set_up": [_set_up_row(k, run) for k, run in enumerate(runs)],
        "dots": _accuracy_dots(runs),
        "differences": [_difference_row(one) for one in differences],
        "difference_dots": _difference_figure(runs, differences),
        "apart": apart,
        "classes": _class_table(runs, [one.place for one in differences]),
        "curves": _curves(runs),
        "curve_note": _curve_note(runs),
        "seeds": _seed_groups(runs),
        "recipes": _recipe_differences(runs),
    }


def _colour(place: int) -> str:
    return f"var(--run{place % _NUM_COLOURS + 1})"


def _label(place: int, run: RunReport) -> str:
    return f"{ascii_uppercase[place]} · {run.name or run.title}"


def _headline(runs: Sequence[RunReport], apart: Sequence[str]) -> dict[str, str]:
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
        low_written, high_written = say.percent(low, num), say.percent(high, num)
        spread = low_written if low_written == high_written else f"{low_written} to {high_written}"
        splits = {run.test_split for run in runs if run.test}
        split = splits.pop() if len(splits) == 1 else "held-out"
        images = f"the same {num:,} {split} images" if not apart else f"their {split} images"
        return {"claim": f"{claim}: they name", "result": spread, "rest": f"of {images} correctly."}
    if means:
        spread = f"{min(means):.3f} to {max(means):.3f}"
        return {"claim": f"{claim}: they reach a mean average precision of", "result": spread, "rest": ""}
    return {"claim": f"{claim}.", "result": "", "rest": "None of them has been tested."}


def _result_row(place: int, run: RunReport) -> dict[str, Any]:
    row = {"letter": ascii_uppercase[place], "colour": _colour(place), "name": run.name or run.title}
    row |= {"accuracy": "-", "interval": "-", "top5": "-", "loss": "-", "ece": "-", "images": "-", "map": "-"}
    scores = run.test
    if scores is None:
        return row
    num = scores.num_images
    row |= {"images": f"{num:,}", "loss": format_number(run.loss, digits=3)}
    if isinstance(scores, Scores):
        row |= {
            "accuracy": say.percent(scores.top1, num),
            "interval": say.interval(scores.top1_interval, num),
            "top5": say.percent(scores.top5, num),
        }
    else:
        mean = scores.mean_average_precision
        row["map"] = "-" if mean is None else f"{mean:.3f}"
    if run.answers is not None:
        row["ece"] = say.percent(calibration(run.answers.logits, run.answers.labels, run.temperature).ece)
    return row


def _set_up_row(place: int, run: RunReport) -> dict[str, str]:
    recipe = str(run.recipe.get("recipe", "-"))
    return {
        "letter": ascii_uppercase[place],
        "colour": _colour(place),
        "net": run.net or "-",
        "parameters": say.short_amount(run.num_parameters),
        "macs": say.short_amount(run.macs),
        "recipe": f"blend of {len(run.ingredients)}" if run.ingredients else recipe,
        "seed": "-" if run.seed is None else str(run.seed),
        "epochs": "-" if run.history is None else f"{len(run.history):,}",
        "time": say.duration(run.wall_s),
    }


def _accuracy_dots(runs: Sequence[RunReport]) -> Markup | None:
    rows = []
    for place, run in enumerate(runs):
        scores = run.test
        if not isinstance(scores, Scores):
            continue
        found, num = scores.top1_interval, scores.num_images
        rows.append(
            DotRow(
                name=_label(place, run),
                value=100 * scores.top1,
                low=100 * found.low,
                high=100 * found.high,
                written=say.percent(scores.top1, num),
                told=f"{_label(place, run)}: {say.percent(scores.top1, num)} of {num:,} images,"
                f" 95% interval {say.interval(found, num)}",
                colour=_colour(place),
            )
        )
    if not rows:
        return None
    return Markup(
        rate_dots(rows, axis_name="accuracy, %", spoken=f"accuracy of {len(rows)} runs with 95% intervals")
    )


def _differences(runs: Sequence[RunReport]) -> tuple[list[_Difference], list[str]]:
    """Compare each run with the first where both answered the same images; say where they didn't."""
    found: list[tuple[int, Paired]] = []
    apart = []
    first = runs[0].answers
    for place, run in enumerate(runs[1:], start=1):
        pair = f"A and {ascii_uppercase[place]}"
        if first is None or run.answers is None:
            lacking = ascii_uppercase[0 if first is None else place]
            apart.append(f"{pair} can't be paired: the single answers of {lacking} are not at hand.")
        elif first.multi_label or run.answers.multi_label:
            apart.append(f"{pair} are not paired: their images may carry several labels.")
        else:
            try:
                a, b = on_same_images((first, run.answers))
            except DataError:
                apart.append(f"{pair} can't be paired: they were not tested on the same images and classes.")
                continue
            found.append((place, paired(right(a), right(b))))
    corrected = holm([one.p_exact for _, one in found])
    return (
        [_Difference(place, one, p) for (place, one), p in zip(found, corrected, strict=True)],
        list(dict.fromkeys(apart)),
    )


def right(answers: Predictions) -> NDArray[np.bool_]:
    """Say of each image of single-label answers whether its most probable class is the true one."""
    return np.asarray(answers.logits.argmax(axis=1) == answers.labels, np.bool_)


def _verdict(one: _Difference, num: int) -> str:
    told = verdict(one.found, "A", ascii_uppercase[one.place])
    if one.found.significant and one.p_holm >= 1 - _LEVEL:
        told += (
            f"; but after Holm\u2019s correction for {num} comparisons p is {format_p(one.p_holm)}, so it"
            " is not shown"
        )
    return f"A and {ascii_uppercase[one.place]}: {told}."


def _difference_row(one: _Difference) -> dict[str, str]:
    found, num = one.found, one.found.num_images
    return {
        "letter": ascii_uppercase[one.place],
        "colour": _colour(one.place),
        "both_right": f"{found.both_correct:,}",
        "only_a": f"{found.only_a:,}",
        "only_b": f"{found.only_b:,}",
        "both_wrong": f"{found.both_wrong:,}",
        "difference": say.points(found.difference, num),
        "interval": f"{say.points(found.low, num)} to {say.points(found.high, num)}",
        "p": format_p(one.p_holm),
    }


def _difference_figure(runs: Sequence[RunReport], differences: Sequence[_Difference]) -> Markup | None:
    if not differences:
        return None
    rows = [
        DotRow(
            name=f"{_label(one.place, runs[one.place])}",
            value=100 * one.found.difference,
            low=100 * one.found.low,
            high=100 * one.found.high,
            written=say.points(one.found.difference, one.found.num_images),
            colour=_colour(one.place),
        )
        for one in differences
    ]
    return Markup(
        difference_dots(
            rows,
            axis_name="accuracy minus that of A, points",
            spoken=f"differences of {len(rows)} accuracies from A's, with 95% intervals",
        )
    )


def _class_table(runs: Sequence[RunReport], places: Sequence[int]) -> dict[str, Any] | None:
    """Rank the classes by how far apart the recalls of runs that were tested on the same images are.

    ``places`` are those known to have A's images; where none are, runs with as many images will do.
    """
    chosen = [0, *places] if places else range(len(runs))
    tested = [(k, scores) for k in chosen if isinstance(scores := runs[k].test, Scores)]
    alike = {(scores.num_images, *sorted(scores.classes)) for _, scores in tested}
    if len(tested) < 2 or len(alike) > 1:
        return None
    by_name = [{entry.name: entry for entry in scores.per_class} for _, scores in tested]
    ranked = []
    for entry in tested[0][1].per_class:
        recalls = [entries[entry.name].recall for entries in by_name]
        known = [recall for recall in recalls if recall is not None]
        if len(known) == len(recalls) and max(known) > min(known):
            ranked.append((max(known) - min(known), entry, known))
    ranked.sort(key=lambda row: -row[0])
    p_of: dict[str, str] = {}
    pair = _pair(runs)
    if pair is not None:
        a, b = pair
        found = paired_by_class(right(a), right(b), a.labels, a.classes)
        p_of = {one.name: format_p(one.p_holm) for one in found}
    return {
        "letters": [(ascii_uppercase[k], _colour(k)) for k, _ in tested],
        "rows": [
            {
                "name": entry.name,
                "images": f"{entry.num_images:,}",
                "recalls": [say.percent(recall) for recall in recalls],
                "spread": f"{100 * apart:.1f}",
                "p": p_of.get(entry.name, ""),
            }
            for apart, entry, recalls in ranked[:_CLASSES]
        ],
        "paired": bool(p_of),
        "more": max(0, len(ranked) - _CLASSES),
    }


def _pair(runs: Sequence[RunReport]) -> tuple[Predictions, ...] | None:
    """Return the answers of exactly two runs to the same images, or None."""
    if len(runs) != 2 or runs[0].answers is None or runs[1].answers is None or runs[0].answers.multi_label:
        return None
    try:
        return on_same_images((runs[0].answers, runs[1].answers))
    except DataError:
        return None


def _curves(runs: Sequence[RunReport]) -> list[Markup]:
    key, name = _curve_key(runs)
    if key is None:
        return []
    told = [(k, run, run.history) for k, run in enumerate(runs) if run.history]
    told = [(k, run, rows) for k, run, rows in told if any(finite(row, key) is not None for row in rows)]
    seconds = [tuple(accumulate(finite(row, "seconds") or 0.0 for row in rows)) for _, _, rows in told]
    longest = max(one[-1] for one in seconds)
    unit, size = ("hours", 3600.0) if longest >= 7200 else ("min", 60.0) if longest >= 600 else ("s", 1.0)
    by_epoch, by_time = [], []
    for (place, _, rows), clock in zip(told, seconds, strict=True):
        values = tuple(None if v is None else 100 * v for v in (finite(row, key) for row in rows))
        letter, colour = ascii_uppercase[place], _colour(place)
        by_epoch.append(Series(letter, tuple(epoch_of(row) for row in rows), values, colour))
        by_time.append(Series(letter, tuple(second / size for second in clock), values, colour))
    few = len(told) <= _MOST_VALUES
    height = max(250, 90 + (30 if few else 14) * len(told))
    drawings = [
        line_chart(by_epoch, x_label="epoch", y_label=f"{name}, %", height=height, values_at_ends=few)
    ]
    if longest > 0:
        drawings.append(
            line_chart(
                by_time,
                x_label=f"training time, {unit}",
                y_label=f"{name}, %",
                height=height,
                integer_x=False,
                values_at_ends=few,
            )
        )
    return [Markup(drawing) for drawing in drawings]


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
        ascii_uppercase[k]
        for k, run in enumerate(runs)
        if all(finite(row, key) is None for row in run.history or ())
    ]
    told = "Letters are those of the table; time is that of the epochs alone. "
    if key == "train_error":
        told += "Too few runs set validation images aside, so these are errors on the training images. "
    if without:
        told += f"Without a {name}: {', '.join(without)}."
    return told.strip()


def _seed_groups(runs: Sequence[RunReport]) -> dict[str, Any] | None:
    """Summarise runs that differ in nothing but their seed."""
    groups: dict[tuple[str, str, str, str], list[int]] = {}
    for place, run in enumerate(runs):
        if run.net and run.seed is not None and isinstance(run.test, Scores) and not run.ingredients:
            key = (run.net, say.value_of(dict(run.recipe)), run.data, str(run.test.num_images))
            groups.setdefault(key, []).append(place)
    several = [places for places in groups.values() if len({runs[k].seed for k in places}) == len(places) > 1]
    if not several:
        return None
    rates = [[_accuracy(runs[k]) for k in places] for places in several]
    rows = []
    for places, values in zip(several, rates, strict=True):
        found, first = summarise(values), runs[places[0]]
        num = first.test.num_images if first.test else None
        low, high = found.interval or (found.mean, found.mean)
        rows.append(
            {
                "letters": [(ascii_uppercase[k], _colour(k)) for k in places],
                "net": first.net,
                "recipe": str(first.recipe.get("recipe", "-")),
                "num": str(found.num),
                "mean": say.percent(found.mean, num),
                "spread": f"{100 * (found.spread or 0.0):.2f}",
                "interval": f"{say.percent(low, num)} to {say.percent(min(high, 1.0), num)}",
                "range": f"{say.percent(found.smallest, num)} to {say.percent(found.largest, num)}",
            }
        )
    return {"rows": rows, "words": _seed_words(several, rates)}


def _seed_words(several: Sequence[Sequence[int]], rates: Sequence[Sequence[float]]) -> list[str]:
    told = []
    for places, values in zip(several[1:], rates[1:], strict=True):
        found = compare_seeds(rates[0], values)
        low, high = found.interval
        names = f"{_letters(places)} minus {_letters(several[0])}"
        size = f"{names}: {say.points(found.difference)} points ({say.points(low)} to {say.points(high)})"
        spread = f"{100 * found.spread:.1f} points"
        if found.within_spread:
            told.append(f"{size}, no more than the spread between seeds ({spread}).")
        elif low <= 0.0 <= high:
            told.append(f"{size}: more than the spread between seeds ({spread}), but so few show nothing.")
        else:
            told.append(f"{size}, with a spread between seeds of {spread}.")
    return told


def _letters(places: Sequence[int]) -> str:
    return "mean of " + ", ".join(ascii_uppercase[k] for k in places)


def _accuracy(run: RunReport) -> float:
    assert isinstance(run.test, Scores)
    return run.test.top1


def _recipe_differences(runs: Sequence[RunReport]) -> dict[str, Any] | None:
    told = [(k, run.recipe) for k, run in enumerate(runs) if run.recipe]
    if len(told) < 2:
        return None
    keys = dict.fromkeys(key for _, recipe in told for key in recipe)
    rows = []
    for key in keys:
        values = [say.value_of(recipe[key]) if key in recipe else "-" for _, recipe in told]
        if len(set(values)) > 1:
            rows.append((key, values))
    return {"letters": [(ascii_uppercase[k], _colour(k)) for k, _ in told], "rows": rows}
