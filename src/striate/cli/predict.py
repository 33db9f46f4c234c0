"""``striate predict``."""

import json as json_module
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from striate.cli.options import (
    OUT,
    BatchOption,
    BundleArgument,
    DeviceOption,
    EngineOption,
    EnginePrecisionOption,
    ThreadsOption,
    compute_of,
)
from striate.cli.show import Listener, err, out
from striate.core.errors import DataError, InterruptedRunError, UsageError, WriteError

if TYPE_CHECKING:
    from striate.serve.predict import Prediction
    from striate.serve.predict_file import PredictResult

Format = Literal["table", "csv", "jsonl"]


def predict(
    bundle: BundleArgument,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Images, folders, archives (.tar, .tar.gz, .zip)."),
    ],
    out_file: Annotated[
        Path | None,
        typer.Option(
            *OUT, metavar="FILE", help="Write a .csv or .jsonl file; the same command again resumes it."
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to name.")] = 5,
    format: Annotated[
        Format, typer.Option(help="What to print; with --out the file's name decides.")
    ] = "table",
    engine: EngineOption = "auto",
    precision: EnginePrecisionOption = "auto",
    batch: BatchOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    json: Annotated[
        bool,
        typer.Option("--json", help="Short for --format jsonl; with --out a summary as one JSON object."),
    ] = False,
) -> None:
    """Classify images: any number of files, folders and archives, in constant memory.

    Broken images are named with their reason and don't stop the others; the exit code is then 1.

    With --out a run that was killed is resumed where it stopped: one row for each image, none twice.

    Example:  [bold]striate predict runs/demo photo.jpg holiday/ --top 3 --format csv[/]

    Example:  [bold]striate predict runs/demo holiday/ --out predictions.csv[/]
    """
    compute = compute_of(device, precision, batch, threads)
    if out_file is not None:
        from striate.serve.predict_file import predict_to_file

        if format != "table" and out_file.suffix != f".{format}":
            raise UsageError(f"expected `out` with a name that ends in .{format}, got {out_file}")
        with Listener() as progress, _resume_hint(out_file):
            result = predict_to_file(
                bundle, paths, out_file, top=top, engine=engine, compute=compute, progress=progress
            )
        _print_file(result, out_file, paths, json)
        return
    from striate.data.find import find_images
    from striate.serve.engine import engine_for, open_trained
    from striate.serve.predict import predict

    network = open_trained(bundle)
    items = find_images(paths)
    with engine_for(network, engine=engine, compute=compute, progress=Listener()) as running:
        started = time.perf_counter()
        with closing(predict(network, items, top=top, engine=running, compute=compute)) as predictions:
            good, broken = _write(predictions, "jsonl" if json else format, min(top, len(network.classes)))
    seconds = time.perf_counter() - started
    if broken:
        err.print(f"[yellow]{broken} of {good + broken} images could not be read[/]", highlight=False)
    if good:
        _print_speed(good + broken, seconds, running.name, running.precision)
    if broken:
        raise typer.Exit(1)
    if not good:
        raise _no_images(paths)


def _print_file(result: "PredictResult", path: Path, paths: list[Path], json: bool) -> None:
    """Print what was written, which images are broken, and the speed."""
    before = result.num_images - result.num_new
    if not result.num_images:
        raise _no_images(paths)
    if json:
        record = {"file": str(path), **asdict(result), "seconds": round(result.seconds, 3)}
        del record["broken"]
        print(json_module.dumps(record))
    else:
        shown = escape(str(path))
        earlier = f", {before:,} of them from before" if before else ""
        line = (
            f"{shown}: {_images(result.num_images)}{earlier}"
            if result.num_new
            else f"{shown} is complete: {_images(before)}, nothing to do"
        )
        out.print(line, highlight=False, soft_wrap=True)
    for one in result.broken:
        err.print(f"{escape(one.file)}  [red]{escape(one.error or '')}[/]", highlight=False, soft_wrap=True)
    if result.num_broken:
        of = f"{result.num_broken:,} of {result.num_images:,} images could not be read"
        err.print(f"[yellow]{of}[/] (column error of {escape(path.name)})", highlight=False, soft_wrap=True)
    if result.num_new:
        _print_speed(result.num_new, result.seconds, result.engine, result.precision)
    if result.num_broken:
        raise typer.Exit(1)


@contextmanager
def _resume_hint(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the same command resumes {path}") from None


def _print_speed(num_images: int, seconds: float, engine: str, precision: str) -> None:
    rate = num_images / max(seconds, 1e-9)
    line = f"{_images(num_images)} in {seconds:.1f} s: {rate:,.1f} images/s ({engine}, {precision})"
    err.print(f"[dim]{line}[/]", highlight=False)


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number:,} images"


def _no_images(paths: list[Path]) -> DataError:
    return DataError(f"no images in {', '.join(map(str, paths))}: expected files such as .jpg or .png")


def _write(predictions: "Iterable[Prediction]", kind: Format, num_named: int) -> tuple[int, int]:
    """Print predictions as they come; return how many were good and how many broken."""
    from striate.serve.output import CsvRows, JsonRows

    good = broken = 0
    rows = CsvRows(num_named) if kind == "csv" else JsonRows()
    with _writable():
        sys.stdout.write(rows.head() if kind != "table" else "")
    for prediction in predictions:
        broken += prediction.error is not None
        good += prediction.error is None
        with _writable():
            if kind == "table":
                out.print(_line(prediction), highlight=False, soft_wrap=True)
            else:
                sys.stdout.write(rows.line(prediction))
                if kind == "jsonl":
                    sys.stdout.flush()
    with _writable():
        sys.stdout.flush()
    return good, broken


def _line(prediction: "Prediction") -> str:
    if prediction.error is not None:
        return f"{escape(prediction.file)}  [red]{escape(prediction.error)}[/]"
    (first, p), *others = prediction.ranked
    rest = "  ".join(f"{escape(name)} {q:.1%}" for name, q in others)
    return f"{escape(prediction.file)}  [bold]{escape(first)} {p:.1%}[/]  [dim]{rest}[/]"


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise WriteError(
            f"can't write the predictions ({error.strerror or error}): free some space, or name a file with"
            " `out`, which can be resumed"
        ) from None
