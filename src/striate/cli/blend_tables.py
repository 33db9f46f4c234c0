"""What the commands of ``striate blend`` print."""

import csv as csv_module
import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from striate.cli.options import in_options
from striate.cli.show import err, out, percent

if TYPE_CHECKING:
    from striate.blend.ensemble import EnsembleResult
    from striate.blend.merge_bundles import BlendResult
    from striate.blend.table import BlendTable, TableRow
    from striate.evaluation.compare_runs import ModelScore
    from striate.metrics.paired import Paired


def _points(value: float, num_images: int) -> str:
    return f"{100 * value:+z.{2 if num_images >= 1000 else 1}f}"


def _gain(found: "Paired") -> str:
    num = found.num_images
    low, high = _points(found.low, num), _points(found.high, num)
    return f"{_points(found.difference, num)} ({low} to {high})"


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        err.print(f"[yellow]note[/] {escape(in_options(note))}", highlight=False)


def _print_rule(multi_label: bool) -> None:
    if multi_label:
        out.print("an image counts as correct when every label of it is", highlight=False)


def _macs(value: int | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:,.1f} M" if value >= 10_000_000 else f"{value / 1e6:.2f} M"


def in_json(result: "EnsembleResult | BlendResult | BlendTable", **more: Any) -> dict[str, Any]:
    """Return what ``--json`` prints; notes come last and name options."""
    return {**result.to_json(), **more, "notes": [in_options(note) for note in result.notes]}


def print_ensemble(result: "EnsembleResult", save: Path | None) -> None:
    """Print an ensemble beside its networks."""
    from striate.metrics.paired import verdict

    num = len(result.predictions.files)
    out.print(f"{num:,} images: {escape(result.split or 'saved predictions')}", highlight=False)
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("network", overflow="fold")
    measure = "every label correct" if result.predictions.multi_label else "accuracy"
    for heading in (measure, "95% interval", "loss", "MACs"):
        rows.add_column(heading, justify="right", no_wrap=True)

    def add(one: "ModelScore", style: str) -> None:
        low, high = percent(one.interval.low, num), percent(one.interval.high, num)
        cells = (escape(one.name), percent(one.accuracy, num), f"{low} to {high}", f"{one.loss:.4f}")
        rows.add_row(*cells, _macs(one.macs), style=style)

    for one in result.models:
        add(one, "")
    add(result.ensemble, "bold")
    out.print(rows, highlight=False)
    mean = result.over_mean
    out.print(
        f"gain over the mean member: {_points(mean.difference, num)} points"
        f" ({_points(mean.low, num)} to {_points(mean.high, num)})",
        highlight=False,
    )
    best = result.models[result.best].name
    out.print(
        f"gain over the best member ({escape(best)}): {_gain(result.over_best)} points", highlight=False
    )
    out.print(escape(verdict(result.over_best, best, "the ensemble")), highlight=False)
    out.print(
        f"averaged: {result.of}; cost O(k): {len(result.models)} forward passes an image", highlight=False
    )
    if save is not None:
        out.print(f"predictions  {escape(str(save))}", highlight=False, soft_wrap=True)
    _print_notes(result.notes)


def print_blend(result: "BlendResult", json: bool) -> None:
    """Print an average or a soup."""
    num = 0 if result.test is None else len(result.test.files)
    if json:
        warning = result.warning and in_options(result.warning)
        record = in_json(result) | {"warning": warning}
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    if result.split:
        chosen = "chosen by" if result.kind in ("greedy", "learned") else "held out:"
        tested = f", tested on {num:,} others" if num else ", no test images"
        out.print(f"{chosen} {escape(result.split)}{tested}", highlight=False)
        _print_rule(result.multi_label)
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("network", overflow="fold")
    for heading in ("share", *(("held out",) if result.split else ()), *(("test",) if num else ())):
        rows.add_column(heading, justify="right", no_wrap=True)

    def cells(held: float | None, test: float | None) -> list[str]:
        values = ([(held, result.num_held_out)] if result.split else []) + ([(test, num)] if num else [])
        return ["-" if rate is None else percent(rate, many) for rate, many in values]

    for one in result.ingredients:
        share = f"{one.coefficient:.3f}" if one.coefficient else "left out"
        rows.add_row(escape(one.name), share, *cells(one.held_out, one.test))
    name = "average" if result.kind == "average" else f"{result.kind} soup"
    test = None if result.gain is None else result.gain.accuracy_b
    total = sum(one.coefficient for one in result.ingredients)
    rows.add_row(name, f"{total:.3f}", *cells(result.held_out, test), style="bold")
    out.print(rows, highlight=False)
    if result.gain is not None and result.best is not None:
        from striate.metrics.paired import verdict

        best = result.ingredients[result.best].name
        out.print(
            f"gain over the best on held-out images ({escape(best)}): {_gain(result.gain)} points",
            highlight=False,
        )
        out.print(escape(verdict(result.gain, best, f"the {name}")), highlight=False)
    if result.kind == "learned":
        out.print(f"temperature {result.temperature:.3f}, stored in the bundle", highlight=False)
    if result.statistics_images:
        out.print(
            f"batch norm's statistics measured on {result.statistics_images:,} training images",
            highlight=False,
        )
    if result.warning is not None:
        out.print(f"[yellow]{escape(in_options(result.warning))}[/]", highlight=False)
    if result.bundle is not None:
        out.print(f"bundle  {escape(str(result.bundle))}", highlight=False, soft_wrap=True)
    _print_notes(result.notes)


def print_table(result: "BlendTable") -> None:
    """Print the ways to use a set of networks."""
    num = result.num_test
    tested = f", tested on {num:,} others" if num else ", no test images"
    out.print(f"chosen by {escape(result.held_out_words)}{tested}", highlight=False)
    _print_rule(result.multi_label)
    held = [value for _, value, _ in result.ingredients]
    test = [value for _, _, value in result.ingredients if value is not None]
    chosen = result.num_held_out
    spread = f"held out {percent(min(held), chosen)} to {percent(max(held), chosen)}"
    if test:
        spread += f", test {percent(min(test), num)} to {percent(max(test), num)}"
    out.print(f"{len(held)} networks, one by one: {spread}", highlight=False)
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("method", overflow="fold")
    for heading in ("held out", "test (95% interval)", "gain in points", "cost"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for row in result.rows:
        rows.add_row(*_cells(row, chosen, num))
    out.print(rows, highlight=False)
    _print_notes(result.notes)


def _cells(row: "TableRow", num_held_out: int, num: int) -> list[str]:
    test = "-"
    if row.test is not None and row.interval is not None:
        low, high = percent(row.interval.low, num), percent(row.interval.high, num)
        test = f"{percent(row.test, num)} ({low[:-1]} to {high[:-1]})"
    return [
        escape(row.method),
        percent(row.held_out, num_held_out),
        test,
        "" if row.gain is None else _gain(row.gain),
        "O(1)" if row.passes == 1 else f"O(k) {row.cost:.3g}x",
    ]


def print_csv(result: "BlendTable") -> None:
    """Print the same rows as CSV."""
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    heads = ["method", "held_out", "test", "test_low", "test_high", "gain", "gain_low", "gain_high"]
    writer.writerow([*heads, "p_exact", "passes", "macs", "cost"])
    for row in result.rows:
        low, high = ("", "") if row.interval is None else (row.interval.low, row.interval.high)
        gain = row.gain
        paired = ("", "", "", "") if gain is None else (gain.difference, gain.low, gain.high, gain.p_exact)
        test = "" if row.test is None else row.test
        writer.writerow([row.method, row.held_out, test, low, high, *paired, row.passes, row.macs, row.cost])
