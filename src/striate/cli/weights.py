"""``striate weights``: look into files of weights, and convert them."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.arguments import pairs, value_of
from striate.cli.show import Listener, out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.weights.weight_file import WeightFile

app = typer.Typer(no_args_is_help=True, help="Look into files of weights, and convert them.")

_KINDS = (
    "a bundle, .pth, .safetensors, .caffemodel, MatConvNet .mat, .onnx or OpenVINO .xml/.bin file, or the"
    " name of published weights: torchvision, timm:resnet50.a1_in1k"
)


@app.command("show")
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help=f"{_KINDS[0].upper()}{_KINDS[1:]}.")],
    net: Annotated[
        str | None, typer.Option("--net", help="The network, needed for the name of published weights.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """List the tensors in a file of weights, and say which networks they fit. Nothing in it is executed.

    Example:  [bold]striate weights show resnet50-0676ba61.pth[/]

    Example:  [bold]striate weights show VGG_ILSVRC_16_layers.caffemodel[/]
    """
    from striate.job import open_weights
    from striate.weights.layouts import guess

    with Listener() as listener:
        content = open_weights(file, net, progress=listener)
        fitting = guess(content)
    if json:
        print(json_module.dumps(_to_json(content, fitting), indent=2, ensure_ascii=False))
    else:
        _print(content, fitting)


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help=f"{_KINDS[0].upper()}{_KINDS[1:]}.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: a .safetensors bundle; see --to.")
    ],
    net: Annotated[
        str | None, typer.Option("--net", help="The network; default: the one that the tensors fit.")
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--arg", help="An argument of the network, e.g. --arg input_px=64. Repeatable."),
    ] = None,
    to: Annotated[
        str,
        typer.Option(help="bundle, or torchvision: a bundle's weights under torchvision's names."),
    ] = "bundle",
) -> None:
    """Turn weights of other programs into a bundle for every command, or a bundle into torchvision's form.

    Every tensor must find its place, with its shape; the preprocessing that belongs to the weights goes into
    the bundle.

    Example:  [bold]striate weights convert vgg16-397923af.pth vgg16.safetensors --net vgg16[/]

    Example:  [bold]striate weights convert torchvision resnet50.safetensors --net resnet50_v1_5[/]

    Example:  [bold]striate weights convert runs/mine resnet18.pth --to torchvision[/]
    """
    from striate.job import convert_weights, export_torchvision

    if to not in ("bundle", "torchvision"):
        raise UsageError(f"expected --to bundle or torchvision, got {to!r}")
    if to == "torchvision":
        if net is not None or arguments:
            raise UsageError("--to torchvision takes a bundle, which names its network: no --net, no --arg")
        count = export_torchvision(source, target)
        out.print(f"{escape(str(target))}: {count} tensors under torchvision's names", highlight=False)
        return
    with Listener() as listener:
        bundle = convert_weights(
            source,
            target,
            net=net,
            net_arguments={key: value_of(text) for key, text in pairs("--arg", arguments or []).items()},
            progress=listener,
        )
    pre = bundle.preprocessing
    count = sum(tensor.numel() for tensor in bundle.state.values())
    out.print(
        f"[bold]{escape(str(target))}[/]: {bundle.net}, {len(bundle.state)} tensors, {count:,} values,"
        f" {len(bundle.classes):,} classes",
        highlight=False,
    )
    sizes = f"shorter side to {pre.resize_px}, " if pre.resize_px else ""
    out.print(
        f"[dim]pictures: {sizes}centre {pre.height_px}x{pre.width_px}, {pre.interpolation},"
        f" mean {_numbers(pre.mean)}, std {_numbers(pre.std)} (0..1), {pre.colour_order}[/]",
        highlight=False,
    )
    out.print(f"next: striate predict {escape(str(target))} PICTURE", highlight=False)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _print(file: "WeightFile", fitting: tuple[str, ...]) -> None:
    total = sum(tensor.numel() for tensor in file.tensors.values())
    stored = sum(tensor.numel() * tensor.element_size() for tensor in file.tensors.values())
    out.print(
        f"[bold]{escape(str(file.path))}[/]: {file.kind}, {len(file.tensors)} tensors, {total:,} values,"
        f" {stored / 1e6:,.1f} MB",
        highlight=False,
    )
    for note in file.notes:
        out.print(f"[dim]{escape(note)}[/]", highlight=False)
    for key, text in sorted(file.metadata.items()):
        short = text if len(text) <= 100 else f"{text[:97]}..."
        out.print(f"[dim]{escape(key)}: {escape(short)}[/]", highlight=False)
    if file.classes is not None:
        shown = ", ".join(file.classes[:5]) + (", ..." if len(file.classes) > 5 else "")
        out.print(f"{len(file.classes):,} classes: {escape(shown)}", highlight=False)
    if file.mean_rgb is not None:
        out.print(f"mean of the training images (RGB, 0..255): {_numbers(file.mean_rgb)}", highlight=False)
    out.print(
        f"fits {' or '.join(fitting)}" if fitting else "fits none of striate's networks", highlight=False
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tensor", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("values", justify="right", no_wrap=True)
    table.add_column("type", no_wrap=True)
    for name, tensor in file.tensors.items():
        shape = "x".join(map(str, tensor.shape)) or "one value"
        dtype = str(tensor.dtype).removeprefix("torch.")
        table.add_row(escape(name), shape, f"{tensor.numel():,}", dtype)
    out.print(table, highlight=False)


def _to_json(file: "WeightFile", fitting: tuple[str, ...]) -> dict[str, object]:
    return {
        "file": str(file.path),
        "kind": file.kind,
        "fits": list(fitting),
        "notes": list(file.notes),
        "metadata": file.metadata,
        "mean_rgb": file.mean_rgb,
        "classes": file.classes,
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in file.tensors.items()
        ],
    }
