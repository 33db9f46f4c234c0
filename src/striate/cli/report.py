"""``striate report``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import (
    OUT,
    BatchOption,
    BundlesArgument,
    DataOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    SplitOption,
)
from striate.cli.show import Listener, out, percent

if TYPE_CHECKING:
    from striate.report.render import RunReport


def report(
    bundles: BundlesArgument,
    output: Annotated[Path, typer.Option(*OUT, metavar="FILE", help="The page to write (.html).")] = Path(
        "report.html"
    ),
    data: DataOption = None,
    split: SplitOption = "auto",
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write a page about one run, or about several side by side.

    Curves, classes, confusions, calibration, mistakes, suspect labels; several
    runs are compared with the first by paired differences. Each run is tested
    again: on the images given, or on those that its training held out.

    Example:  [bold]striate report runs/a runs/b -o report.html[/]
    """
    from striate.report.write import write_report

    with Listener() as listener:
        result = write_report(
            bundles,
            output,
            data=data,
            split=split,
            batch_images=128 if batch is None else batch,
            precision=precision,
            device=device,
            progress=listener,
        )
    if json:
        record = {
            "page": str(result.page),
            "runs": [_record(path, run) for path, run in zip(bundles, result.runs, strict=True)],
        }
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for heading in ("network", "seed", "images", "result", "95% interval"):
        table.add_column(heading, justify="left" if heading == "network" else "right", no_wrap=True)
    for run in result.runs:
        table.add_row(escape(run.name), escape(run.net or "-"), *_cells(run))
    out.print(table)
    print(result.page)


def _cells(run: "RunReport") -> tuple[str, str, str, str]:
    from striate.metrics.scores import Scores

    seed = "-" if run.seed is None else str(run.seed)
    scores = run.test
    if scores is None:
        return seed, "-", "not tested", ""
    num = scores.num_images
    if isinstance(scores, Scores):
        low, high = (percent(rate, num) for rate in (scores.top1_interval.low, scores.top1_interval.high))
        return seed, f"{num:,}", percent(scores.top1, num), f"{low} to {high}"
    mean = scores.mean_average_precision
    return seed, f"{num:,}", "-" if mean is None else f"mAP {mean:.3f}", ""


def _record(path: Path, run: "RunReport") -> dict[str, Any]:
    return {
        "run": str(path),
        "net": run.net or None,
        "parameters": run.num_parameters,
        "macs": run.macs,
        "recipe": run.recipe.get("recipe"),
        "seed": run.seed,
        "epochs": None if run.history is None else len(run.history),
        "seconds": run.wall_s,
        "split": run.test_split if run.test else None,
        "temperature": run.temperature,
        "notes": list(run.notes),
        "scores": run.test and run.test.to_json(),
    }
