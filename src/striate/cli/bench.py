"""``striate bench``."""

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import NETWORK_HELP, DeviceOption, JsonOption, ThreadsOption, compute_of
from striate.cli.show import Listener, err, out
from striate.core.choices import DeviceChoice
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.core.compute import Precision
    from striate.serve.bench import Benched
    from striate.serve.bench_slide import Row, Times

Precisions = Literal["all", "auto", "fp32", "bf16", "int8"]


def bench(
    network: Annotated[str | None, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)] = None,
    engine: Annotated[
        Literal["all", "auto", "torch", "openvino"], typer.Option(help="What runs the network.")
    ] = "all",
    precision: Annotated[Precisions, typer.Option(help="int8 needs a quantized bundle.")] = "all",
    batch: Annotated[
        str, typer.Option(metavar="N,N...", help="Images in a batch, several with commas.")
    ] = "1,16",
    folder: Annotated[
        Path | None, typer.Option(help="Also predict the images of a folder or archive, decoding included.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds for each measurement.")] = 3.0,
    threads: ThreadsOption = None,
    device: DeviceOption = "auto",
    slide: Annotated[
        bool,
        typer.Option(
            "--slide", help="The lectures' slide instead: nine networks forward and backward, here."
        ),
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="--slide: how often each is measured.")] = 3,
    json: JsonOption = False,
) -> None:
    """Measure how fast a network runs here: images a second, latency, memory, share of the machine's ceiling.

    Each engine and precision runs in a process of its own.
    The ceiling is what a large matrix product reaches in the same precision.

    Example:  [bold]striate bench resnet50[/]

    Example:  [bold]striate bench runs/demo --folder photos[/]

    Example:  [bold]striate bench --slide[/]  (the lectures' CPU-against-GPU slide, here)
    """
    if slide == (network is not None):
        raise UsageError(
            "expected either a network to measure or --slide, got"
            f" {'both' if slide else 'neither'}: striate bench resnet50, or striate bench --slide"
        )
    if network is None:
        _slide(device, precision, rounds, json)
        return
    from striate.serve.bench import bench
    from striate.weights.open import is_file_word

    if not is_file_word(network):
        err.print(f"[yellow]{escape(network)} has random weights[/]", highlight=False)
    with Listener() as listener:
        results = bench(
            network,
            engine=engine,
            precision=precision,
            batches=_sizes(batch),
            seconds=seconds,
            folder=folder,
            compute=compute_of(device, "auto", None, threads),
            progress=listener,
        )
    if json:
        print(json_module.dumps({"target": network, "results": [_record(one) for one in results]}, indent=2))
    else:
        _print(network, results, device, folder is not None)
    if all(one.error is not None for one in results):
        raise typer.Exit(1)


def _print(network: str, results: "tuple[Benched, ...]", device: DeviceChoice, folder: bool) -> None:
    out.print(_heading(network, results, device), highlight=False)
    if any(one.speeds for one in results):
        out.print(_table(results))
    out.print(
        "[dim]ms, p99 ms: one batch alone, median and 99th percentile; images/s: several batches in flight;"
        " ceiling: share of the matrix product's rate in this precision; opens: from a network in memory"
        " to the first logits" + ("; folder: images/s from files to labels" if folder else "") + "[/]",
        highlight=False,
    )
    for one in results:
        if one.error is not None:
            err.print(f"[yellow]{one.engine} {one.precision}:[/] {escape(one.error)}", highlight=False)


def _sizes(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"expected `batch` as whole numbers of at least 1, such as 1,16, got {text!r}")
    return tuple(int(word) for word in words)


def _record(one: "Benched") -> dict[str, object]:
    speeds = [{**asdict(speed), "share_of_ceiling": one.share(speed)} for speed in one.speeds]
    return {**asdict(one), "speeds": speeds}


def _heading(network: str, results: "tuple[Benched, ...]", device: DeviceChoice) -> str:
    from striate.core.compute import pick_device
    from striate.core.environment import describe_machine

    machine = describe_machine(pick_device(device))
    macs = max((one.macs for one in results), default=0)
    where = machine.get("gpu", f"{machine['cores']} cores, {machine['processor']}")
    return f"[bold]{escape(network)}[/], {2 * macs / 1e9:.3g} GFLOP an image; {escape(str(where))}"


def _table(results: "tuple[Benched, ...]") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    folder = any(one.folder_images_per_s is not None for one in results)
    for heading in ("engine", "", "batch", "images/s", "ms", "p99 ms", "ceiling", "peak MiB", "opens"):
        table.add_column(heading, justify="left" if heading in ("engine", "") else "right", no_wrap=True)
    if folder:
        table.add_column("folder", justify="right", no_wrap=True)
    for one in results:
        for number, speed in enumerate(one.speeds):
            first = number == 0
            p50, _, p99 = speed.latency_ms
            row = [one.engine if first else "", one.precision if first else "", str(speed.batch_images)]
            row += [_short(speed.images_per_s), _short(p50), _short(p99), f"{one.share(speed):.0%}"]
            row.append("" if one.peak_mib is None or not first else f"{one.peak_mib:,.0f}")
            row.append(f"{one.open_s:.1f} s" if first else "")
            if folder:
                rate = one.folder_images_per_s
                row.append(_short(rate) if first and rate is not None else "")
            table.add_row(*row)
    return table


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _slide(device: DeviceChoice, precision: Precisions, rounds: int, json: bool) -> None:
    from striate.core.compute import Compute
    from striate.core.environment import describe_machine
    from striate.serve.bench_slide import SLIDE, measure_slide

    auto = Compute(device=device).forward_precision
    found = sorted({"fp32", auto}, reverse=True) if precision == "all" else [precision]
    here: dict[Precision, tuple[Times, ...]] = {}
    with Listener() as listener:
        for one in found:
            compute = Compute(device=device, precision=one)
            here[compute.forward_precision] = measure_slide(
                SLIDE, compute=compute, rounds=rounds, progress=listener
            )
    machine = describe_machine(compute.torch_device)
    if json:
        print(json_module.dumps({"machine": machine, "networks": _slide_records(SLIDE, here)}, indent=2))
        return
    name = machine.get("gpu", f"{machine['cores']} cores, {machine['processor']}")
    out.print("[bold]Forward + backward, milliseconds[/], 16 images of 224 x 224", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("network")
    for heading in ("Titan X", "dual Xeon", *(f"here, {one}" for one in here)):
        table.add_column(heading, justify="right")
    for number, row in enumerate(SLIDE):
        cells = [_ms(row.titan), "-" if row.xeon is None else _ms(row.xeon)]
        table.add_row(row.title, *cells, *(_ms(times[number]) for times in here.values()))
    out.print(table)
    out.print(
        f"[dim]here: {escape(str(name))}, median of {rounds}. Titan X (Pascal, cuDNN 5.1) and dual Xeon"
        " E5-2630 v3: published in jcjohnson/cnn-benchmarks (Torch 7, float32); it has no Xeon times for"
        " AlexNet and Inception-V1[/]",
        highlight=False,
    )


def _ms(times: "Times") -> str:
    return f"{times.forward_ms:,.0f} + {times.backward_ms:,.0f}"


def _slide_records(
    rows: "tuple[Row, ...]", here: "dict[Precision, tuple[Times, ...]]"
) -> list[dict[str, object]]:
    return [
        {
            **asdict(row),
            "here": {precision: asdict(times[number]) for precision, times in here.items()},
        }
        for number, row in enumerate(rows)
    ]
