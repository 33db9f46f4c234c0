"""``striate report``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import OUT, compute_of
from striate.cli.show import Listener, out, percent

if TYPE_CHECKING:
    from striate.report.run_report import RunReport


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, bundles (.safetensors) or predictions files (.csv, .parquet); several are"
            " compared with the first."
        ),
    ],
    output: Annotated[Path, typer.Option(*OUT, help="The page, ending in .html.")] = Path("report.html"),
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", help="Labelled images to test on. Default: those of the run folder."),
    ] = None,
    split: Annotated[str, typer.Option(help="auto, train, val, test or all.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print what the page compares as JSON.")] = False,
) -> None:
    """Make a page of one run, or of several side by side: one file for a screen, a phone or paper.

    Curves, classes, confusions, calibration, mistakes, labels that may be wrong; several runs with paired
    differences. The runs are tested again on their own held-out images.

    Example:  [bold]striate report runs/a runs/b -o report.html[/]
    """
    from striate.report.write import write_report

    with Listener() as listener:
        result = write_report(
            runs,
            output,
            data=data or None,
            split=split,  # type: ignore[arg-type]
            compute=compute_of(device, precision, batch),  # type: ignore[arg-type]
            progress=listener,
        )
    if json:
        record = {
            "page": str(result.page),
            "runs": [_record(path, run) for path, run in zip(runs, result.runs, strict=True)],
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
