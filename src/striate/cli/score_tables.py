"""Scores as tables on the terminal and as rows of a CSV file: classes, confusions, imbalance, suspects."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from striate.core.choices import ClassOrder

if TYPE_CHECKING:
    from striate.metrics.by_class import ClassScore
    from striate.metrics.multilabel import MultiLabelScores
    from striate.metrics.scores import Scores
    from striate.metrics.suspects import Suspect

_MANY_CLASSES = 30
_SHOWN_ENDS = 10  # of many classes, this many from each end


def class_table(scores: "Scores", *, order: ClassOrder = "class", all_classes: bool = False) -> Table:
    """Lay out the rates of each class, with the macro and weighted averages below.

    Args:
        scores: of images with one label each.
        order: ``class`` keeps the order of the classes; ``hardest`` puts the lowest recall first. Classes
            without images come last.
        all_classes: show all classes; otherwise, of more than 30, the 10 hardest and the 10 easiest, hardest
            first.

    Returns:
        A table of fractions as percent; ``-`` is an undefined rate.
    """
    table = _new_table("class", "images", "recall", "95% interval", "precision", "F1")
    for entry in _chosen(scores, order, all_classes):
        if isinstance(entry, int):
            table.add_row(Text(f"... {entry:,} more", style="dim"))
            continue
        low_high = entry.recall_interval
        interval = f"{low_high.low:.1%} to {low_high.high:.1%}" if entry.num_images else "-"
        table.add_row(
            shown(entry.name),
            f"{entry.num_images:,}",
            _percent(entry.recall),
            interval,
            _percent(entry.precision),
            _percent(entry.f1),
        )
    table.add_section()
    counted = sum(entry.counts for entry in scores.per_class)
    averages = (
        ("macro average", f"{counted:,} classes", "macro"),
        ("weighted average", f"{scores.num_images:,}", "weighted"),
    )
    for words, amount, kind in averages:
        recall, precision, f1 = (getattr(scores, f"{kind}_{rate}") for rate in ("recall", "precision", "f1"))
        table.add_row(words, amount, _percent(recall), "", _percent(precision), _percent(f1), style="bold")
    left_out = len(scores.per_class) - counted
    if left_out:
        table.caption = f"The averages leave out {_classes(left_out)} that no image has or was given."
        table.caption_justify = "left"
    return table


def class_rows(scores: "Scores | MultiLabelScores") -> list[dict[str, str | int | float | None]]:
    """Return one flat record per class, for CSV; rates are fractions, None where undefined.

    Args:
        scores: of either kind. With several labels an image, each class also has its average precision and
            the threshold that the other rates are counted at.
    """
    from striate.metrics.multilabel import MultiLabelScores

    rows: list[dict[str, str | int | float | None]] = []
    for k, entry in enumerate(scores.per_class):
        interval = entry.recall_interval if entry.num_images else None
        row: dict[str, str | int | float | None] = {
            "class": entry.name,
            "images": entry.num_images,
            "predicted": entry.num_predicted,
            "correct": entry.num_correct,
            "recall": entry.recall,
            "recall_low": interval.low if interval else None,
            "recall_high": interval.high if interval else None,
            "precision": entry.precision,
            "f1": entry.f1,
        }
        if isinstance(scores, MultiLabelScores):
            row |= {"average_precision": scores.average_precision[k], "threshold": scores.thresholds[k]}
        rows.append(row)
    return rows


def confusion_pairs(scores: "Scores", n: int) -> Table:
    """Lay out the ``n`` commonest mistakes: which class was predicted as which, how often.

    Args:
        scores: of images with one label each.
        n: how many at most.
    """
    from striate.metrics.scores import top_confusions

    table = _new_table("class", "called", "images", "of the class", left=2)
    found = top_confusions(scores.confusion, n)
    for mistake in found:
        true, predicted = scores.classes[mistake.true], scores.classes[mistake.predicted]
        table.add_row(shown(true), shown(predicted), f"{mistake.count:,}", f"{mistake.share:.1%}")
    if not found and n > 0:
        table.caption, table.caption_justify = "No image was given a wrong class.", "left"
    return table


def imbalance_line(scores: "Scores | MultiLabelScores") -> Text:
    """Say how many images the classes have, and the accuracy of always predicting the largest."""
    from striate.metrics.scores import Scores

    if not any(entry.num_images for entry in scores.per_class):
        return Text("No image carries a label.")
    found = scores.imbalance
    largest, smallest = found.largest, found.smallest
    if found.num_classes == 1:
        words = f"All labels are one class: {shown(largest.name)} ({_images(largest.num_images)})."
    elif largest.num_images == smallest.num_images:
        words = f"{found.num_classes:,} classes of {_images(largest.num_images)} each."
    else:
        words = (
            f"{found.num_classes:,} classes of {smallest.num_images:,} ({shown(smallest.name)}) to"
            f" {_images(largest.num_images)} ({shown(largest.name)}), {_ratio(found.ratio)} times as many."
        )
    if found.num_empty:
        words += f" {_classes(found.num_empty)} without images."
    if isinstance(scores, Scores) and found.num_classes > 1:
        words += f" Always naming the largest would be correct on {found.majority_share:.1%}."
    return Text(words)


def multilabel_table(
    scores: "MultiLabelScores", *, order: ClassOrder = "class", all_classes: bool = False
) -> Table:
    """Lay out how each label fares where an image may carry several.

    Args:
        scores: of images with several labels.
        order: ``class`` keeps the order of the classes; ``hardest`` puts the lowest average precision first.
            Classes without images come last.
        all_classes: show all classes; otherwise, of more than 30, the 10 hardest and the 10 easiest, hardest
            first.

    Returns:
        A table; average precision and thresholds are fractions, rates at the thresholds percent.
    """
    table = _new_table("class", "images", "average\nprecision", "threshold", "recall", "precision", "F1")
    entries = _chosen(scores, order, all_classes)
    index = {id(entry): k for k, entry in enumerate(scores.per_class)}
    for entry in entries:
        if isinstance(entry, int):
            table.add_row(Text(f"... {entry:,} more", style="dim"))
            continue
        k = index[id(entry)]
        table.add_row(
            shown(entry.name),
            f"{entry.num_images:,}",
            _fraction(scores.average_precision[k]),
            f"{scores.thresholds[k]:.3f}",
            _percent(entry.recall),
            _percent(entry.precision),
            _percent(entry.f1),
        )
    table.add_section()
    table.add_row("mean", "", _fraction(scores.mean_average_precision), style="bold")
    for words, kind in (("macro average", "macro"), ("micro average", "micro")):
        recall, precision, f1 = (getattr(scores, f"{kind}_{rate}") for rate in ("recall", "precision", "f1"))
        table.add_row(words, "", "", "", _percent(recall), _percent(precision), _percent(f1), style="bold")
    return table


def suspects_table(suspects: Sequence["Suspect"], classes: Sequence[str]) -> Table:
    """Lay out images to look at: label, suggested class, and their probabilities.

    Args:
        suspects: of ``striate.metrics.suspects``.
        classes: the class names.
    """
    table = _new_table("image", "label", "suggested", "p(label)", "p(suggested)", "loss", left=3)
    for one in suspects:
        table.add_row(
            shown(one.file),
            shown(classes[one.given]),
            shown(classes[one.suggested]),
            f"{one.p_given:.1%}",
            f"{one.p_suggested:.1%}",
            f"{one.loss:.2f}",
        )
    if not suspects:
        table.caption, table.caption_justify = "No image is suspect.", "left"
    return table


def shown(name: str) -> Text:
    r"""Write a name so that it can't control the terminal: control characters become escapes."""
    return Text("".join(one if one.isprintable() else ascii(one)[1:-1] for one in name))


def _new_table(*headings: str, left: int = 1) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for k, heading in enumerate(headings):
        if k < left:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=True)
    return table


def _chosen(
    scores: "Scores | MultiLabelScores", order: ClassOrder, all_classes: bool
) -> list["ClassScore | int"]:
    """Return the entries to show; a number stands for that many left out."""
    everything: list[ClassScore | int] = [*scores.per_class]
    many = len(everything) > _MANY_CLASSES and not all_classes
    if order == "class" and not many:
        return everything
    ranked = _hardest_first(scores)
    filled = [entry for entry in ranked if entry.num_images]
    if not many:
        return [*ranked]
    if len(filled) <= 2 * _SHOWN_ENDS:
        return [*filled, len(ranked) - len(filled)]
    return [*filled[:_SHOWN_ENDS], len(ranked) - 2 * _SHOWN_ENDS, *filled[-_SHOWN_ENDS:]]


def _hardest_first(scores: "Scores | MultiLabelScores") -> list["ClassScore"]:
    from striate.metrics.scores import Scores, hardest_classes

    if isinstance(scores, Scores):
        filled = list(hardest_classes(scores, len(scores.per_class)))
    else:
        rated = [
            (value, -entry.num_images, k)
            for k, (value, entry) in enumerate(zip(scores.average_precision, scores.per_class, strict=True))
            if value is not None
        ]
        filled = [scores.per_class[k] for _, _, k in sorted(rated)]
    return filled + [entry for entry in scores.per_class if not entry.num_images]


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1%}"


def _fraction(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.3f}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"
