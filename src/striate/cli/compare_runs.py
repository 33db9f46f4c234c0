"""``striate compare-runs``."""

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import (
    BatchOption,
    BundlesArgument,
    DataOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    SplitOption,
    compute_of,
    in_options,
)
from striate.cli.show import Listener, err, out, percent

if TYPE_CHECKING:
    from striate.evaluation.compare_runs import Comparison, GroupDifference, Pair
    from striate.metrics.seeds import SeedSummary

_CLASSES = 5


def compare_runs(
    runs: BundlesArgument,
    data: DataOption = None,
    split: SplitOption = "auto",
    seeds: Annotated[
        bool, typer.Option("--seeds", help="Take runs that differ only in their seed together.")
    ] = False,
    images: Annotated[int, typer.Option(min=0, help="Images that differ to list for each pair.")] = 5,
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Compare trained networks on the same images, and say how far the difference can be trusted.

    Paired: McNemar's exact test and a bootstrap interval, each network against the first. Without --data, run
    folders are compared on the data that they were trained on.

    Example:  [bold]striate compare-runs runs/a runs/b[/]
    """
    from striate.evaluation.compare_runs import compare

    with Listener() as listener:
        found = compare(
            *runs,
            data=data,
            split=split,
            seeds=seeds,
            compute=compute_of(device, precision, batch),
            progress=listener,
        )
    if json:
        record = {**found.to_json(), "notes": [in_options(note) for note in found.notes]}
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    for note in found.notes:
        err.print(f"[yellow]{escape(in_options(note))}[/]", highlight=False)
    _print_networks(found)
    for pair in found.pairs:
        _print_pair(found, pair, images)
    if found.groups:
        _print_groups(found)
        for difference in found.group_differences:
            _print_group_difference(found, difference)


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"#{index + 1}"


def _print_networks(found: "Comparison") -> None:
    num = found.num_images
    what = "every label correct" if found.multi_label else "accuracy"
    out.print(f"[bold]{num:,} images[/]: {escape(found.split or 'as saved')}\n", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("network", overflow="fold")
    for heading in (what, "95% interval", "loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, one in enumerate(found.models):
        low, high = percent(one.interval.low, num), percent(one.interval.high, num)
        table.add_row(
            _letter(index),
            escape(one.name),
            percent(one.accuracy, num),
            f"{low} to {high}",
            f"{one.loss:.4f}",
        )
    out.print(table)


def _print_pair(found: "Comparison", pair: "Pair", images: int) -> None:
    from striate.metrics.paired import format_p, verdict

    a, b, one = _letter(pair.a), _letter(pair.b), pair.paired
    digits = 2 if one.num_images >= 1000 else 1
    out.print(f"\n[bold]{b} against {a}[/]", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    for words, count in (
        ("both correct", one.both_correct),
        (f"only {a} correct", one.only_a),
        (f"only {b} correct", one.only_b),
        ("both wrong", one.both_wrong),
    ):
        table.add_row(words, f"{count:,}", percent(count / one.num_images, one.num_images))
    out.print(table)
    loss = pair.loss
    out.print(
        f"accuracy, {b} minus {a}: {100 * one.difference:+z.{digits}f} points, 95% interval"
        f" {100 * one.low:z.{digits}f} to {100 * one.high:z.{digits}f}",
        highlight=False,
    )
    out.print(
        f"loss, {b} minus {a}: {loss.difference:+z.4f} nats, 95% interval {loss.low:z.4f} to"
        f" {loss.high:z.4f}",
        highlight=False,
    )
    several = ""
    if len(found.pairs) > 1:
        several = f"; corrected for {len(found.pairs)} pairs (Holm) {format_p(pair.p_holm)}"
    out.print(
        f"McNemar's exact p {format_p(one.p_exact)}, mid-p {format_p(one.p_mid)}{several}", highlight=False
    )
    out.print(f"[bold]{_sentence(verdict(one, a, b))}.[/]", highlight=False)
    if one.significant and pair.p_holm >= 1 - one.level:
        out.print(
            f"Among {len(found.pairs)} pairs such a difference may be chance: corrected for their number, p"
            f" is {format_p(pair.p_holm)}.",
            highlight=False,
        )
    _print_classes(pair, a, b, found.multi_label)
    _print_disagreements(pair, a, b, images)


def _print_classes(pair: "Pair", a: str, b: str, multi_label: bool) -> None:
    from striate.metrics.paired import format_p

    differing = [entry for entry in pair.by_class if entry.paired.only_a + entry.paired.only_b]
    if len(pair.by_class) < 2 or not differing:
        return
    rate = "correct" if multi_label else "recall"
    shown = f", {_CLASSES} of {len(differing)}" if len(differing) > _CLASSES else ""
    out.print(
        f"\nClasses that differ most{shown}; p corrected for {len(pair.by_class)} classes (Holm)",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for heading in ("images", f"{rate} {a}", f"{rate} {b}", "difference", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for entry in differing[:_CLASSES]:
        one = entry.paired
        table.add_row(
            escape(entry.name),
            f"{one.num_images:,}",
            f"{one.accuracy_a:.1%}",
            f"{one.accuracy_b:.1%}",
            f"{100 * one.difference:+z.1f}",
            format_p(entry.p_holm),
        )
    out.print(table)


def _print_disagreements(pair: "Pair", a: str, b: str, images: int) -> None:
    num = len(pair.disagreements)
    if not num or not images:
        return
    shown = f", {images} of {num:,}" if num > images else ""
    out.print(f"\nImages that only one classifies correctly{shown}", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("image", "is", f"{a} says", f"{b} says"):
        table.add_column(heading, overflow="fold")
    for one in pair.disagreements[:images]:
        table.add_row(escape(one.file), escape(one.true), escape(one.answer_a), escape(one.answer_b))
    out.print(table)


def _print_groups(found: "Comparison") -> None:
    num = found.num_images
    out.print("\nSeeds of one recipe together")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("recipe", overflow="fold")
    for heading in ("seeds", "mean", "spread", "95% interval", "lowest", "highest"):
        table.add_column(heading, justify="right", no_wrap=True)
    for index, group in enumerate(found.groups):
        table.add_row(f"{index + 1}", escape(group.name), *_summary_cells(group.accuracy, num))
    out.print(table)
    for index, group in enumerate(found.groups):
        listed = ", ".join(
            f"{_letter(k)}" + ("" if found.models[k].seed is None else f" (seed {found.models[k].seed})")
            for k in group.indices
        )
        out.print(f"{index + 1}: {listed}", highlight=False)
    if any(group.accuracy.num < 2 for group in found.groups):
        out.print("One seed says nothing of the spread between seeds: train again with another --seed.")


def _summary_cells(summary: "SeedSummary", num_images: int) -> list[str]:
    spread = "-" if summary.spread is None else percent(summary.spread, num_images)
    interval = "-"
    if summary.interval is not None:
        interval = " to ".join(percent(min(max(end, 0.0), 1.0), num_images) for end in summary.interval)
    ends = [percent(summary.smallest, num_images), percent(summary.largest, num_images)]
    return [f"{summary.num}", percent(summary.mean, num_images), spread, interval, *ends]


def _print_group_difference(found: "Comparison", one: "GroupDifference") -> None:
    from striate.metrics.seeds import seed_verdict

    digits = 2 if found.num_images >= 1000 else 1
    a, b = f"{one.a + 1}", f"{one.b + 1}"
    out.print(f"\n[bold]recipe {b} against recipe {a}[/]", highlight=False)
    difference = 100 * one.images.difference
    out.print(f"mean accuracy, {b} minus {a}: {difference:+z.{digits}f} points", highlight=False)
    ranges = [("over other images", one.images.low, one.images.high)]
    if one.seeds is not None:
        ranges.insert(0, ("over other seeds", *one.seeds.interval))
    for words, low, high in ranges:
        out.print(
            f"  95% interval {words}: {100 * low:z.{digits}f} to {100 * high:z.{digits}f}", highlight=False
        )
    if one.seeds is None:
        out.print("[bold]One seed says nothing of the spread, and so nothing of the recipes.[/]")
        return
    words = seed_verdict(one.seeds, f"recipe {a}", f"recipe {b}", digits=digits)
    if one.seeds.interval[0] * one.seeds.interval[1] > 0 and one.images.low <= 0 <= one.images.high:
        words += "; other test images may show it otherwise"
    out.print(f"[bold]{_sentence(words)}.[/]", highlight=False)


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]
