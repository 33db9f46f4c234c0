"""``striate evaluate``."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.show import Listener, err, out, percent


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Labelled images, as for `striate train`.")],
    split: Annotated[str, typer.Option(help="auto, train, val, test or all.")] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a broken image instead of leaving it out.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a trained network: top-1, top-5, loss and every class, with 95% Wilson intervals.

    Example:  [bold]striate evaluate runs/demo --data digits[/]
    """
    from striate import job
    from striate.score.metrics import MultiLabelScores

    with Listener() as listener:
        result = job.evaluate_bundle(
            bundle,
            data,
            split=split,  # type: ignore[arg-type]
            batch_images=batch,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            strict=strict,
            progress=listener,
        )
    scores = result.evaluation.scores
    if json:
        broken = [{"file": file, "reason": reason} for file, reason in result.broken]
        record = {"bundle": str(bundle), "split": result.split, "broken": broken, **scores.to_json()}
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    out.print(f"[bold]{escape(str(bundle))}[/] on {escape(', '.join(data))}: {result.split}", highlight=False)
    num = scores.num_images
    table = Table(box=None, pad_edge=False, header_style="bold")
    if isinstance(scores, MultiLabelScores):
        out.print(
            f"{num:,} images, loss {scores.loss:.4f} nats,"
            f" all labels right {percent(scores.exact_match, num)}"
        )
        table.add_column("class")
        table.add_column("average precision", justify="right")
        for name, value in zip(scores.classes, scores.average_precision, strict=True):
            table.add_row(escape(name), "-" if value is None else f"{value:.3f}")
        mean = scores.mean_average_precision
        table.add_row("[bold]mean[/]", "-" if mean is None else f"[bold]{mean:.3f}[/]")
        out.print(table)
    else:
        for words, rate, interval in (
            ("top-1", scores.top1, scores.top1_interval),
            ("top-5", scores.top5, scores.top5_interval),
        ):
            if rate is not None and interval is not None:
                low, high = percent(interval.low, num), percent(interval.high, num)
                out.print(
                    f"[bold]{words} {percent(rate, num)}[/]  (95% interval {low} to {high})", highlight=False
                )
        out.print(f"{num:,} images, loss {scores.loss:.4f} nats", highlight=False)
        for heading in ("class", "images", "recall", "95% interval", "precision", "F1"):
            table.add_column(heading, justify="left" if heading == "class" else "right")
        for entry in scores.per_class:
            interval = entry.recall_interval
            values = (entry.recall, entry.precision, entry.f1)
            recall, precise, f1 = ("-" if v is None else f"{v:.1%}" for v in values)
            table.add_row(
                escape(entry.name),
                f"{entry.num_images:,}",
                recall,
                f"{interval.low:.1%} to {interval.high:.1%}",
                precise,
                f1,
            )
        out.print(table)
    if result.broken:
        err.print(f"[yellow]{len(result.broken)} broken files were left out[/]; `striate data` names them")
