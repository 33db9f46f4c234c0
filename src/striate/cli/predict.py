"""``striate predict``."""

import csv
import json as json_module
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from striate.cli.show import err, out
from striate.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from striate.serve.predict import Prediction


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, folders, archives (.tar, .tar.gz, .zip).")],
    topk: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    format: Annotated[str, typer.Option(help="table, csv or jsonl; all three stream.")] = "table",
    batch: Annotated[int, typer.Option(min=1, help="Images in a forward pass.")] = 32,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Short for --format jsonl.")] = False,
) -> None:
    """Classify images: any number of files, folders and archives, in constant memory.

    Broken images are named with their reason and don't stop the others; the exit code is then 1.

    Example:  [bold]striate predict runs/demo photo.jpg holiday/ --topk 3 --format csv[/]
    """
    from striate.core.devices import pick_device, pick_precision
    from striate.job import open_bundle
    from striate.serve.predict import find_images
    from striate.serve.predict import predict as run

    if format not in ("table", "csv", "jsonl"):
        raise UsageError(f"expected --format table, csv or jsonl, got {format!r}")
    net, record = open_bundle(bundle)
    place = pick_device(device)  # type: ignore[arg-type]
    predictions = run(
        net.to(place),
        record,
        find_images(paths),
        topk=topk,
        batch_images=batch,
        device=place,
        precision=pick_precision(precision, place),  # type: ignore[arg-type]
    )
    kind: Literal["table", "csv", "jsonl"] = "jsonl" if json else format  # type: ignore[assignment]
    good, broken = _write(predictions, kind, min(topk, len(record.classes)))
    if broken:
        err.print(f"[yellow]{broken} of {good + broken} images could not be read[/]", highlight=False)
        raise typer.Exit(1)
    if not good:
        raise DataError(f"no images in {', '.join(map(str, paths))}: expected files such as .jpg or .png")


def _write(predictions: "Iterable[Prediction]", kind: str, columns: int) -> tuple[int, int]:
    """Print predictions as they come; return how many were good and how many broken."""
    good = broken = 0
    table = csv.writer(sys.stdout, lineterminator="\n")
    if kind == "csv":
        heads = [f"{what}_{k}" for k in range(1, columns + 1) for what in ("class", "probability")]
        table.writerow(["file", *heads, "error"])
    for prediction in predictions:
        broken += prediction.error is not None
        good += prediction.error is None
        if kind == "jsonl":
            ranked = [{"class": name, "probability": round(p, 6)} for name, p in prediction.ranked]
            record = {"file": prediction.file, "predictions": ranked, "error": prediction.error}
            print(json_module.dumps(record, ensure_ascii=False), flush=True)
        elif kind == "csv":
            cells = [cell for name, p in prediction.ranked for cell in (name, f"{p:.6f}")]
            cells += [""] * (2 * columns - len(cells))
            table.writerow([prediction.file, *cells, prediction.error or ""])
        elif prediction.error is not None:
            out.print(
                f"{escape(prediction.file)}  [red]{escape(prediction.error)}[/]",
                highlight=False,
                soft_wrap=True,
            )
        else:
            (first, p), *others = prediction.ranked
            rest = "  ".join(f"{escape(name)} {q:.1%}" for name, q in others)
            line = f"{escape(prediction.file)}  [bold]{escape(first)} {p:.1%}[/]  [dim]{rest}[/]"
            out.print(line, highlight=False, soft_wrap=True)
    return good, broken
