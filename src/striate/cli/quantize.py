"""``striate quantize``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.show import Listener, out, percent

if TYPE_CHECKING:
    from striate.serve.quantize import QuantizeResult


def quantize(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Labelled images, as for `striate train`.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write, .safetensors.")],
    calibration_images: Annotated[
        int, typer.Option(min=1, help="Training images on which the ranges of values are measured.")
    ] = 300,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage points of top-1 that int8 may lose.")
    ] = 0.5,
    split: Annotated[str, typer.Option(help="What to measure on: auto, train, val, test or all.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 16,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a broken image instead of leaving it out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Add an int8 network to a bundle: smaller, and faster on a CPU. Refuses if it answers worse.

    Ranges are measured on training images, accuracy on held-out ones.
    Above a loss of --max-drop points nothing is written; the exit code is 1.
    The new bundle keeps the fp32 weights; `striate predict` takes its int8.

    Example:  [bold]striate quantize runs/demo --data digits -o digits-int8.safetensors[/]
    """
    from striate.serve.quantize import quantize_bundle

    with Listener() as listener:
        made = quantize_bundle(
            bundle,
            data,
            target,
            calibration_images=calibration_images,
            max_drop_points=max_drop,
            split=split,  # type: ignore[arg-type]
            batch_images=batch,
            strict=strict,
            force=force,
            progress=listener,
        )
    if json:
        record = {"file": str(made.path), **made.bundle.metrics["int8"], "paired": made.paired.to_json()}
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
    else:
        _print(made, max_drop)


def _print(made: "QuantizeResult", max_drop: float) -> None:
    from striate.metrics.interval import wilson
    from striate.metrics.paired import verdict

    found = made.paired
    num = found.num_images
    size = sum(len(content) for content in made.bundle.graphs.values())
    out.print(
        f"[bold]{escape(str(made.path))}[/]  int8 network of {size / 1e6:,.1f} MB beside the fp32 weights",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", made.measure, "95% interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, correct in (
        ("fp32", found.both_correct + found.only_a),
        ("int8", found.both_correct + found.only_b),
    ):
        interval = wilson(correct, num)
        spread = f"{percent(interval.low, num)} to {percent(interval.high, num)}"
        table.add_row(name, percent(correct / num, num), spread)
    out.print(table)
    low, high, digits = 100 * found.low, 100 * found.high, 2 if num >= 1000 else 1
    out.print(
        f"int8 minus fp32: {100 * found.difference:+z.{digits}f} points (95% paired interval"
        f" {low:+z.{digits}f} to {high:+z.{digits}f})",
        highlight=False,
    )
    out.print(f"{verdict(found, 'fp32', 'int8')}", highlight=False)
    if -low > max_drop:
        out.print(
            f"[yellow]The interval reaches beyond the allowed {max_drop:g}: more held-out images would"
            " tell.[/]",
            highlight=False,
        )
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column()
    rows.add_row("measured on", f"{num:,} image{'s' * (num > 1)}: {escape(made.split)}")
    rows.add_row("calibrated on", f"{made.num_calibration_images:,} {escape(made.calibration)}")
    rows.add_row("versions", ", ".join(f"{name} {value}" for name, value in made.versions.items()))
    out.print(rows, highlight=False)
