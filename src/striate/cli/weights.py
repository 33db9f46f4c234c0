"""``striate weights``: look into files of weights, and convert them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.arguments import pairs, value_of
from striate.cli.show import Listener, out, percent, print_json
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.data.preprocess import Preprocessing
    from striate.nets.entry import NetEntry
    from striate.weights.bundle import Header
    from striate.weights.layouts import Nearest
    from striate.weights.weight_file import WeightFile

app = typer.Typer(no_args_is_help=True, help="Look into files of weights, and convert them.")

_KINDS = (
    "a bundle, .pth, .safetensors, .caffemodel, MatConvNet .mat or .onnx file, or the name of published"
    " weights: torchvision, timm:resnet50.a1_in1k"
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
    from striate.weights.convert import open_weights
    from striate.weights.layouts import guess, nearest, network_in

    with Listener() as listener:
        content = open_weights(file, net, progress=listener)
        fitting = guess(content)
    if json:
        print_json(_to_json(content, fitting, network_in(content)))
        return
    _print_heading(content)
    if content.header is not None:
        _print_bundle(content, content.header, network_in(content))
    else:
        _print_facts(content, fitting, None if fitting else nearest(content))
    _print_tensors(content)


@app.command("convert")
def convert(
    source: Annotated[str, typer.Argument(metavar="IN", help=f"{_KINDS[0].upper()}{_KINDS[1:]}.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write: a .safetensors bundle; see --to.")
    ],
    net: Annotated[
        str | None,
        typer.Option(
            "--net", help="The network, by name or as a .net file; default: the one that the tensors fit."
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option("--arg", help="An argument of the network, e.g. --arg input_px=64. Repeatable."),
    ] = None,
    to: Annotated[
        str,
        typer.Option(help="bundle, or torchvision: a bundle's weights under torchvision's names."),
    ] = "bundle",
    mean: Annotated[
        str | None,
        typer.Option(
            metavar="R,G,B",
            help="Mean of the images that the weights expect, 0..1 scale, one number for grey ones; for files"
            " of which nothing is known, or instead of what is known.",
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="R,G,B", help="Standard deviation, 0..1 scale; goes with --mean."),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            min=1,
            help="Shorter side of an image before its centre is cut out; goes with --mean. Default: the"
            " network's own side, and small images keep their size.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Turn weights of other programs into a bundle for every command, or a bundle into torchvision's form.

    Every tensor must fit, with its shape; the preprocessing that belongs to the weights goes into the bundle.

    Example:  [bold]striate weights convert vgg16-397923af.pth vgg16.safetensors --net vgg16[/]

    Example:  [bold]striate weights convert torchvision resnet50.safetensors --net resnet50_v1_5[/]

    Example:  [bold]striate weights convert mine.pth mine.safetensors --net my.net --mean 0.5 --std 0.5[/]

    Example:  [bold]striate weights convert runs/mine resnet18.pth --to torchvision[/]
    """
    from striate.nets import find
    from striate.weights.convert import convert_weights, export_torchvision

    if to not in ("bundle", "torchvision"):
        raise UsageError(f"expected --to bundle or torchvision, got {to!r}")
    if to == "torchvision":
        if net is not None or arguments:
            raise UsageError("--to torchvision takes a bundle, which names its network: no --net, no --arg")
        if mean is not None or std is not None or resize is not None:
            raise UsageError("--to torchvision writes tensors alone: no --mean, no --std, no --resize")
        count = export_torchvision(source, target, force=force)
        out.print(f"{escape(str(target))}: {count} tensors under torchvision's names", highlight=False)
        return
    with Listener() as listener:
        bundle = convert_weights(
            source,
            target,
            net=net,
            net_arguments={key: value_of(text) for key, text in pairs("--arg", arguments or []).items()},
            mean=_levels("--mean", mean),
            std=_levels("--std", std),
            resize_px=resize,
            force=force,
            progress=listener,
        )
    count = sum(tensor.numel() for tensor in bundle.state.values())
    entry = find(bundle.net)
    name = entry.name if entry.notation is None else f"the written network {entry.name}"
    out.print(
        f"[bold]{escape(str(target))}[/]: {escape(name)}, {len(bundle.state)} tensors,"
        f" {count:,} values, {len(bundle.classes):,} classes",
        highlight=False,
    )
    out.print(f"[dim]{_images(bundle.preprocessing)}[/]", highlight=False)
    out.print(f"next: striate predict {escape(str(target))} IMAGE", highlight=False)


def _levels(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read numbers between commas."""
    if text is None:
        return None
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(
            f"{option}: expected numbers between commas, such as 0.485,0.456,0.406, got {text!r}"
        ) from None


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _images(pre: "Preprocessing") -> str:
    sizes = f"shorter side to {pre.resize_px}, " if pre.resize_px else ""
    return (
        f"images: {sizes}centre {pre.height_px}x{pre.width_px}, {pre.interpolation},"
        f" mean {_numbers(pre.mean)}, std {_numbers(pre.std)} (0..1),"
        f" {pre.colour_order if pre.channels == 3 else 'grey'}"
    )


def _print_heading(file: "WeightFile") -> None:
    total = sum(tensor.numel() for tensor in file.tensors.values())
    stored = sum(tensor.numel() * tensor.element_size() for tensor in file.tensors.values())
    out.print(
        f"[bold]{escape(str(file.path))}[/]: {file.kind}, {len(file.tensors)} tensors, {total:,} values,"
        f" {_size(stored)}",
        highlight=False,
    )
    for note in file.notes:
        out.print(f"[dim]{escape(note)}[/]", highlight=False)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:,.1f} kB"


def _print_facts(file: "WeightFile", fitting: tuple[str, ...], close: "Nearest | None") -> None:
    """Say what a foreign file says about itself, and which networks it fits."""
    for key, text in sorted(file.metadata.items()):
        short = text if len(text) <= 100 else f"{text[:97]}..."
        if len(text) > 100 and text.lstrip().startswith(("{", "[")):
            short = f"{len(text):,} characters of JSON (--json prints them)"
        out.print(f"[dim]{escape(key)}: {escape(short)}[/]", highlight=False)
    if file.classes is not None:
        out.print(escape(_classes(file.classes)), highlight=False)
    if file.mean_rgb is not None:
        out.print(f"mean of the training images (RGB, 0..255): {_numbers(file.mean_rgb)}", highlight=False)
    words = f"fits {' or '.join(fitting)}" if fitting else "fits none of striate's networks"
    if close is not None:
        words += f"; {close.net} is nearest, {close.num_alike} of {close.num_expected} tensors agree"
    elif file.kind == "onnx":
        words = "a graph, whose names say little: graphs are only shown"
    out.print(words, highlight=False)


def _print_bundle(file: "WeightFile", header: "Header", entry: "NetEntry | None") -> None:
    """Say in words what a bundle holds."""
    from striate.core.text import printable, short

    if entry is None:
        lines = [f"holds a network that is unknown here: {short(header.net.partition(chr(10))[0])}"]
    else:
        lines = [f"holds {'' if entry.notation is None else 'a written network: '}{entry.name}"]
    if header.net_arguments:
        given = ", ".join(f"{key}={short(str(value))}" for key, value in header.net_arguments.items())
        lines[0] += f" ({given})"
    lines.append(_classes(header.classes))
    data, recipe = header.data, header.recipe
    if "name" in data:
        counts = data.get("num_images")
        found = counts.items() if isinstance(counts, dict) else ()
        parts = [
            f"{number:,} {short(split)}{'' if number > 0 else _ODD}"
            for split, number in found
            if isinstance(number, int) and number and number <= _MOST
        ]
        images = f" ({', '.join(parts)} images)" if parts else ""
        with_recipe = f" with the recipe {short(str(recipe['name']))}" if "name" in recipe else ""
        lines.append(
            f"{'trained on' if recipe else 'from'} {printable(str(data['name']))[:300]}{images}{with_recipe}"
        )
    if isinstance(data.get("started_from"), str):
        lines.append(f"started from {printable(data['started_from'])[:300]}")
    lines += _measured(header.metrics)
    lines += [
        f"{name} network for OpenVINO, {_size(size)}{_int8_measured(header.metrics)}"
        for name, size in _networks(file).items()
    ]
    temperature = header.temperature
    does = "softens all probabilities" if temperature > 1 else "sharpens all probabilities"
    words = "changes no probabilities" if temperature == 1 else does
    lines.append(f"temperature {temperature:.4g} ({words})")
    notes = data.get("notes")
    lines += (
        [f"note: {one[:300]}" for one in notes if isinstance(one, str)] if isinstance(notes, list) else []
    )
    if header.versions:
        made = ", ".join(f"{key} {short(one)}" for key, one in header.versions.items())
        lines.append(f"made with {made}")
    for line in lines:
        out.print(escape(line), highlight=False)
    out.print(f"[dim]{_images(header.preprocessing)}[/]", highlight=False)
    _print_ingredients(header.ingredients)


_MOST = 10**15  # of images or epochs that a figure may speak of
_ODD = " (out of range: a damaged or altered bundle)"


def _measured(metrics: dict[str, Any]) -> list[str]:
    """Say what a bundle's metrics say: the figure with its split and number of images, and the remark."""
    lines = []
    scores, split = metrics.get("scores"), str(metrics.get("split", ""))[:20]
    match scores:
        case {"top1": float(rate), "top1_interval": [float(low), float(high)], "num_images": int(num)}:
            if 0 <= low <= rate <= high <= 1 and 0 < num <= _MOST:
                low_high = f"95% interval {percent(low, num)} to {percent(high, num)}"
                lines.append(f"{split} accuracy {percent(rate, num)} ({low_high}, {num:,} images)".strip())
            else:
                lines.append(
                    f"{split} accuracy {rate:g}, {low:g} to {high:g}, {_whole(num)} images{_ODD}".strip()
                )
        case {"mean_average_precision": float(mean), "num_images": int(num)}:
            odd = "" if 0 <= mean <= 1 and 0 < num <= _MOST else _ODD
            lines.append(f"{split} mean average precision {mean:.3f} ({_whole(num)} images){odd}".strip())
    epoch = metrics.get("epoch")
    if isinstance(epoch, int):
        error = metrics.get("val_error")
        known = f", validation error {error:.4g}" if isinstance(error, float) else ""
        odd = "" if 0 <= epoch <= _MOST and (not isinstance(error, float) or 0 <= error <= 1) else _ODD
        lines.append(f"weights of epoch {_whole(epoch)}{known}{odd}")
    if isinstance(metrics.get("note"), str):
        lines.append(metrics["note"][:200])
    return lines


def _whole(number: int) -> str:
    return f"{number:,}" if abs(number) <= _MOST else f"over {_MOST:,}"


def _networks(file: "WeightFile") -> dict[str, int]:
    """Return the bytes of each network that a bundle holds for another program, by precision."""
    names = sorted(Path(name).stem for name in file.graphs if name.endswith(".xml"))
    return {name: sum(size for one, size in file.graphs.items() if Path(one).stem == name) for name in names}


def _int8_measured(metrics: dict[str, Any]) -> str:
    match metrics.get("int8"):
        case {
            "measure": str(measure),
            "accuracy_int8": float(small),
            "accuracy_fp32": float(full),
            "num_images": int(num),
        }:
            odd = "" if 0 <= small <= 1 and 0 <= full <= 1 and 0 < num <= _MOST else _ODD
            rates = f"{percent(small, num)}, fp32 {percent(full, num)}"
            return f": {measure[:30]} {rates} ({_whole(num)} images){odd}"
    return ""


def _print_ingredients(found: "tuple[dict[str, Any], ...]") -> None:
    from striate.core.text import short
    from striate.data.source import counted

    if not found:
        return
    rates = [
        (heading, key)
        for heading, key in (("held out", "held_out_accuracy"), ("test", "test_accuracy"))
        if any(isinstance(one.get(key), float) for one in found)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"made of {counted(len(found), 'network')}", overflow="fold")
    for heading in ("share", *(heading for heading, _ in rates), "seed"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        share, seed = one.get("coefficient"), one.get("seed")
        cells = [
            "-"
            if not isinstance(rate := one.get(key), float)
            else percent(rate, 0)
            if 0 <= rate <= 1
            else f"{rate:g}{_ODD}"
            for _, key in rates
        ]
        used = "-" if not isinstance(share, float) else f"{share:.3f}" if share else "left out"
        table.add_row(
            escape(short(str(one.get("file", "?")))),
            used,
            *cells,
            str(seed) if isinstance(seed, int) else "-",
        )
    out.print(table, highlight=False)


def _classes(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes):,} classes: {shown}"


def _print_tensors(file: "WeightFile") -> None:
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


def _to_json(file: "WeightFile", fitting: tuple[str, ...], entry: "NetEntry | None") -> dict[str, object]:
    return {
        "file": str(file.path),
        "kind": file.kind,
        "net": None if entry is None else entry.name,
        "written": entry is not None and entry.notation is not None,
        "fits": list(fitting),
        "notes": list(file.notes),
        "metadata": file.metadata,
        "mean_rgb": file.mean_rgb,
        "classes": file.classes,
        "temperature": None if file.header is None else file.header.temperature,
        "ingredients": [] if file.header is None else file.header.ingredients,
        "graphs": [{"precision": name, "bytes": size} for name, size in _networks(file).items()],
        "tensors": [
            {"name": name, "shape": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch.")}
            for name, tensor in file.tensors.items()
        ],
    }
