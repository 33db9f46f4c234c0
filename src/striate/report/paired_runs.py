"""Runs that were tested on the same images: how far each differs from the first, also class by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from markupsafe import Markup

from striate.core.errors import DataError
from striate.metrics.paired import Paired, format_p, holm, paired, paired_by_class, verdict
from striate.metrics.predictions import Predictions, on_same_images
from striate.metrics.scores import Scores
from striate.report.numbers import percent, points
from striate.report.palette import run_colour
from striate.report.rate_charts import DotRow, difference_dots
from striate.report.run_report import RunReport

LETTERS = ascii_uppercase
_MOST_CLASSES = 10
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Difference:
    """One run against the first, on the same images.

    Attributes:
        index: of the run on the page.
        found: the paired comparison.
        p_holm: McNemar's exact p after Holm's correction for the number of comparisons.
    """

    index: int
    found: Paired
    p_holm: float


def label_of(index: int, run: RunReport) -> str:
    """Name a run in a chart: its letter, then its name."""
    return f"{LETTERS[index]} · {run.name or run.title}"


def badge_of(index: int) -> tuple[str, str]:
    """Return the letter and the colour of a run."""
    return LETTERS[index], run_colour(index)


def differences_of(runs: Sequence[RunReport]) -> tuple[list[Difference], list[str]]:
    """Compare each run with the first where both were tested on the same images; say where they weren't."""
    found: list[tuple[int, Paired]] = []
    unpaired = []
    for index in range(1, len(runs)):
        pair = f"A and {LETTERS[index]}"
        lacking = [LETTERS[k] for k in (0, index) if runs[k].predictions is None]
        both = [run.predictions for run in (runs[0], runs[index]) if run.predictions is not None]
        if lacking:
            unpaired.append(f"{pair} can't be paired: the predictions of {lacking[0]} are not known.")
        elif any(one.multi_label for one in both):
            unpaired.append(f"{pair} are not paired: their images may carry several labels.")
        else:
            try:
                a, b = on_same_images(both)
            except DataError:
                why = "they were not tested on the same images and classes"
                unpaired.append(f"{pair} can't be paired: {why}.")
                continue
            found.append((index, paired(a.correct, b.correct)))
    corrected = holm([one.p_exact for _, one in found])
    return (
        [Difference(index, one, p) for (index, one), p in zip(found, corrected, strict=True)],
        list(dict.fromkeys(unpaired)),
    )


def verdict_of(one: Difference, num_comparisons: int) -> str:
    """Say in a sentence which run is better, or that these images can't show it."""
    said = verdict(one.found, "A", LETTERS[one.index], p=one.p_holm)
    if one.found.significant and one.p_holm >= _ALPHA:
        said += (
            f"; but after Holm\u2019s correction for {num_comparisons} comparisons p is"
            f" {format_p(one.p_holm)}, so it is not shown"
        )
    return f"A and {LETTERS[one.index]}: {said}."


def difference_row(one: Difference) -> dict[str, Any]:
    """Set a comparison as a row of the table of differences."""
    found, num = one.found, one.found.num_images
    return {
        "badge": badge_of(one.index),
        "counts": [f"{n:,}" for n in (found.both_correct, found.only_a, found.only_b, found.both_wrong)],
        "difference": points(found.difference, num),
        "interval": f"{points(found.low, num)} to {points(found.high, num)}",
        "p": format_p(one.p_holm),
    }


def difference_chart(runs: Sequence[RunReport], differences: Sequence[Difference]) -> Markup | None:
    """Draw the differences of accuracy from the first run; None without any."""
    if not differences:
        return None
    rows = [
        DotRow(
            name=label_of(one.index, runs[one.index]),
            value=100 * one.found.difference,
            low=100 * one.found.low,
            high=100 * one.found.high,
            written=points(one.found.difference, one.found.num_images),
            colour=run_colour(one.index),
        )
        for one in differences
    ]
    spoken = f"differences of {len(rows)} accuracies from A's, with 95% intervals"
    return Markup(difference_dots(rows, axis_name="accuracy minus that of A, points", spoken=spoken))


def class_table(runs: Sequence[RunReport], same_images: Sequence[int]) -> dict[str, Any] | None:
    """Rank the classes by how far apart the recalls of runs that were tested on the same images are.

    Args:
        runs: of the page.
        same_images: indices of the runs known to have A's images; where there are none, runs with as many
            images will do.

    Returns:
        What the template sets; None where fewer than two runs can be compared.
    """
    chosen = [0, *same_images] if same_images else range(len(runs))
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
    if pair := _pair(runs):
        a, b = pair
        found = paired_by_class(a.correct, b.correct, a.labels, a.classes)
        p_of = {one.name: format_p(one.p_holm) for one in found}
    return {
        "badges": [badge_of(k) for k, _ in tested],
        "rows": [
            {
                "name": entry.name,
                "images": f"{entry.num_images:,}",
                "recalls": [percent(recall) for recall in recalls],
                "spread": f"{100 * apart:.1f}",
                "p": p_of.get(entry.name, ""),
            }
            for apart, entry, recalls in ranked[:_MOST_CLASSES]
        ],
        "paired": bool(p_of),
        "more": max(0, len(ranked) - _MOST_CLASSES),
    }


def _pair(runs: Sequence[RunReport]) -> tuple[Predictions, ...] | None:
    """Return the predictions of exactly two runs on the same images, or None."""
    both = [run.predictions for run in runs if run.predictions is not None]
    if len(runs) != 2 or len(both) != 2 or both[0].multi_label:
        return None
    try:
        return on_same_images(both)
    except DataError:
        return None
