"""``striate export``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import OUT, BundleArgument, ForceOption, JsonOption
from striate.cli.show import Listener, out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.serve.export_network import Exported


def export(
    bundle: BundleArgument,
    to: Annotated[Literal["onnx", "openvino", "torch-export"], typer.Option("--to", help="The format.")],
    target: Annotated[
        Path | None,
        typer.Option(
            *OUT, metavar="FILE", help="File to write: .onnx, .xml or .pt2; default: beside the bundle."
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(metavar="dynamic|N", help="dynamic allows any number of images; or a fixed number.")
    ] = "dynamic",
    precision: Annotated[
        Literal["auto", "fp32", "int8"], typer.Option(help="auto takes int8 for a quantized bundle.")
    ] = "auto",
    check: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES",
            help="Images, folders or archives to check the file with; default: scikit-learn's. Repeatable.",
        ),
    ] = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Write a network as a file that runs without striate, with its normalisation inside.

    It takes uint8 RGB images N x H x W x 3 (grey: x 1), gives logits and
    probabilities, and is kept only if its own runtime gives the network's logits.
    FILE.example.py classifies an image with the runtime alone.

    Example:  [bold]striate export runs/demo --to onnx -o digits.onnx[/]
    """
    from striate.serve.export import export

    number = _number(batch)
    with Listener() as listener:
        made = export(
            bundle,
            to,
            target,
            batch_images=number,
            precision=precision,
            check=check or None,
            force=force,
            progress=listener,
        )
    if json:
        print(json_module.dumps(_to_json(made), indent=2, ensure_ascii=False))
    else:
        _print(made)


def _number(batch: str) -> int | None:
    if batch == "dynamic":
        return None
    if not (batch.isascii() and batch.isdigit() and int(batch) > 0):
        raise UsageError(f"expected `batch` dynamic or a number of at least 1, got {batch!r}")
    return int(batch)


def _print(made: "Exported") -> None:
    size = sum(file.stat().st_size for file in made.files[:-1])
    out.print(
        f"[bold]{escape(str(made.path))}[/]  {made.to}, {made.precision}, {size / 1e6:,.1f} MB",
        highlight=False,
        soft_wrap=True,
    )
    number, *pixels = made.pixels
    many = "N" if number is None else number
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim")
    rows.add_column()
    colours = "grey" if pixels[-1] == 1 else "RGB"
    rows.add_row("takes", f"pixels: {many} x {' x '.join(map(str, pixels))} uint8, {colours}")
    rows.add_row("gives", f"logits, probabilities: {many} x {made.num_classes:,} float32 each")
    rows.add_row("before it", made.outside)
    origin = "torch fp32" if made.precision == "fp32" else "the bundle's int8 network"
    rows.add_row(
        "checked",
        f"on {made.num_images} images ({escape(made.images)}): logits of up to {made.largest_logit:.3g}"
        f" differ from {origin} by at most {made.difference:.1e} (allowed {made.tolerance:.1e})",
    )
    if made.precision == "int8":
        rows.add_row("", f"same class as torch fp32 on {made.agreement:.1%} of them")
    rows.add_row("versions", ", ".join(f"{name} {value}" for name, value in made.versions.items()))
    rows.add_row("example", f"python {escape(str(made.files[-1]))} PHOTO")
    out.print(rows, highlight=False)


def _to_json(made: "Exported") -> dict[str, Any]:
    return {
        "file": str(made.path),
        "files": [str(file) for file in made.files],
        "to": made.to,
        "precision": made.precision,
        "pixels": ["N" if size is None else size for size in made.pixels],
        "num_classes": made.num_classes,
        "before": made.outside,
        "check": {
            "num_images": made.num_images,
            "images": made.images,
            "difference": made.difference,
            "tolerance": made.tolerance,
            "largest_logit": made.largest_logit,
            "agreement_with_fp32": made.agreement,
        },
        "versions": made.versions,
        "example": made.example,
    }
