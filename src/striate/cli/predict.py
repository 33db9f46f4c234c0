"""``striate predict``."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from striate.cli.show import Listener, err, out
from striate.core.errors import DataError, InterruptedRunError, UsageError, WriteError

if TYPE_CHECKING:
    from striate.serve.predict import Prediction


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    paths: Annotated[list[Path], typer.Argument(help="Images, folders, archives (.tar, .tar.gz, .zip).")],
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write a .csv or .jsonl file; the same command again goes on with it."
        ),
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 5,
    format: Annotated[
        str, typer.Option(help="table, csv or jsonl on the screen; a file's name says it for --out.")
    ] = "table",
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images in a forward pass; 16 to 64 if not given.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to decode and to compute with; all cores if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json: Annotated[
        bool,
        typer.Option("--json", help="Short for --format jsonl; with --out what was done, as one object."),
    ] = False,
) -> None:
    """Classify images: any number of files, folders and archives, in constant memory.

    Broken images are named with their reason and don't stop the others; the exit code is then 1.

    With --out a run that was killed goes on where it stopped: one row for each image, none twice.

    Example:  [bold]striate predict runs/demo photo.jpg holiday/ --topk 3 --format csv[/]

    Example:  [bold]striate predict runs/demo holiday/ --out predictions.csv[/]
    """
    if format not in ("table", "csv", "jsonl"):
        raise UsageError(f"expected --format table, csv or jsonl, got {format!r}")
    if out_file is not None:
        if format != "table" and out_file.suffix != f".{format}":
            raise UsageError(f"expected --out with a name that ends in .{format}, got {out_file}")
        _to_file(
            bundle,
            paths,
            out_file,
            topk=topk,
            engine=engine,
            precision=precision,
            batch=batch,
            threads=threads,
            device=device,
            json=json,
        )
        return
    from striate.data.find import find_images
    from striate.serve.engine import open_engine
    from striate.serve.predict import predict_with
    from striate.weights.open import open_bundle

    net, record = open_bundle(bundle)
    items = find_images(paths)
    opened = open_engine(
        net,
        record,
        engine=engine,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        batch_images=batch,
        threads=threads,
        device=device,  # type: ignore[arg-type]
        progress=Listener(),
    )
    kind: Literal["table", "csv", "jsonl"] = "jsonl" if json else format  # type: ignore[assignment]
    started = time.perf_counter()
    with (
        closing(opened),
        closing(predict_with(opened, record, items, topk=topk, threads=threads)) as predictions,
    ):
        good, broken = _write(predictions, kind, min(topk, len(record.classes)))
    seconds = time.perf_counter() - started
    if broken:
        err.print(f"[yellow]{broken} of {good + broken} images could not be read[/]", highlight=False)
    if good:
        _print_speed(good + broken, seconds, opened.name, opened.precision)
    if broken:
        raise typer.Exit(1)
    if not good:
        raise _no_images(paths)


def _to_file(
    bundle: Path,
    paths: list[Path],
    path: Path,
    *,
    topk: int,
    engine: str,
    precision: str,
    batch: int | None,
    threads: int | None,
    device: str,
    json: bool,
) -> None:
    from striate.serve.predict_file import predict_to_file

    with Listener() as progress, _told_how_to_go_on(path):
        result = predict_to_file(
            bundle,
            paths,
            path,
            topk=topk,
            engine=engine,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            batch_images=batch,
            threads=threads,
            device=device,  # type: ignore[arg-type]
            progress=progress,
        )
    before = result.num_images - result.num_new
    if not result.num_images:
        raise _no_images(paths)
    if json:
        import json as json_module

        record = {
            "file": str(path),
            "num_images": result.num_images,
            "num_new": result.num_new,
            "num_broken": result.num_broken,
            "seconds": round(result.seconds, 3),
            "engine": result.engine,
            "precision": result.precision,
        }
        print(json_module.dumps(record))
    elif not result.num_new:
        line = f"{escape(str(path))} is complete: {_images(before)}, nothing to do"
        out.print(line, highlight=False, soft_wrap=True)
    else:
        earlier = f", {before:,} of them from before" if before else ""
        line = f"{escape(str(path))}: {_images(result.num_images)}{earlier}"
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
def _told_how_to_go_on(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the same command goes on with {path}") from None


def _print_speed(num_images: int, seconds: float, engine: str, precision: str) -> None:
    rate = num_images / max(seconds, 1e-9)
    line = f"{_images(num_images)} in {seconds:.1f} s: {rate:,.1f} images/s ({engine}, {precision})"
    err.print(f"[dim]{line}[/]", highlight=False)


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number:,} images"


def _no_images(paths: list[Path]) -> DataError:
    return DataError(f"no images in {', '.join(map(str, paths))}: expected files such as .jpg or .png")


def _write(predictions: "Iterable[Prediction]", kind: str, num_named: int) -> tuple[int, int]:
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
            f"can't write the answers ({error.strerror or error}): free some space, or name a file with"
            " --out, which can be gone on with"
        ) from None
