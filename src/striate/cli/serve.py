"""``striate serve``."""

import json as json_module
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from striate.cli.options import (
    BatchOption,
    DeviceOption,
    EngineOption,
    EnginePrecisionOption,
    NetworkArgument,
    ThreadsOption,
    compute_of,
)
from striate.cli.show import Listener, err, out

if TYPE_CHECKING:
    from striate.serve.engine import Engine

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    network: NetworkArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    engine: EngineOption = "auto",
    precision: EnginePrecisionOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="Classes to name unless a client asks for ?topk=.")
    ] = 5,
    batch: BatchOption = None,
    batch_wait_ms: Annotated[
        float, typer.Option(min=0, help="How long a batch waits for images that are being decoded.")
    ] = 2.0,
    max_request_mb: Annotated[
        float, typer.Option(rich_help_panel="Limits", help="Largest body of a request (MB).")
    ] = 16.0,
    max_images: Annotated[int, typer.Option(rich_help_panel="Limits", help="Most images in a request.")] = 64,
    max_pixels: Annotated[
        int, typer.Option(rich_help_panel="Limits", help="Largest width x height of an image.")
    ] = 50_000_000,
    queue: Annotated[
        int, typer.Option(rich_help_panel="Limits", help="Requests that may wait; the next gets 503.")
    ] = 64,
    max_held_mb: Annotated[
        float, typer.Option(rich_help_panel="Limits", help="Most MB of bodies in memory at once.")
    ] = 256.0,
    connections: Annotated[int, typer.Option(rich_help_panel="Limits", help="Most open connections.")] = 512,
    upload_timeout_s: Annotated[
        float,
        typer.Option(
            rich_help_panel="Limits",
            help="Seconds for a request's head to come in, and again for its body.",
        ),
    ] = 30.0,
    timeout_s: Annotated[
        float, typer.Option(rich_help_panel="Limits", help="Seconds a request may wait for its response.")
    ] = 10.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the address and what is served as one line of JSON.")
    ] = False,
) -> None:
    """Answer images over HTTP: POST /predict gives classes and probabilities as JSON.

    Only this machine can reach it: for others, put a web server with passwords in front.

    Ctrl-C or SIGTERM: it answers what has come in, then stops.

    Example:  [bold]striate serve runs/demo[/]

    Example:  [bold]curl -F image=@photo.jpg 127.0.0.1:8000/predict[/]
    """
    from striate.serve.packages import check_packages

    check_packages("serving", *PACKAGES, install="'striate[serve]'")
    from striate.serve.http.limits import Limits
    from striate.serve.http.server import is_local
    from striate.serve.http.server import serve as run
    from striate.serve.http.service import printable_net
    from striate.weights.open import open_network

    limits = Limits(
        request_mb=max_request_mb,
        request_images=max_images,
        pixels=max_pixels,
        queue_requests=queue,
        held_mb=max_held_mb,
        connections=connections,
        upload_s=upload_timeout_s,
        wait_s=timeout_s,
    )
    opened = open_network(network)
    if not opened.trained:
        err.print(
            f"[yellow]{escape(opened.name)} has random weights: its answers mean nothing[/]", highlight=False
        )

    def ready(url: str, running: "Engine") -> None:
        if not is_local(host):
            err.print(
                f"[yellow]{escape(host)} is open to other machines, without password or encryption: put a"
                " web server in front[/]",
                highlight=False,
                soft_wrap=True,
            )
        bundle = opened.bundle
        if json:
            what = {"url": url, "net": bundle.net, "engine": running.name, "precision": running.precision}
            print(json_module.dumps(what), flush=True)
            return
        who = "this machine only" if is_local(host) else "everyone who can reach this machine"
        out.print(
            f"[bold]{escape(url)}[/]  {escape(printable_net(bundle))}, {len(bundle.classes)} classes,"
            f" {running.name} {running.precision}; open to {who}; Ctrl-C stops",
            highlight=False,
            soft_wrap=True,
        )

    whole = run(
        opened,
        host=host,
        port=port,
        engine=engine,
        compute=compute_of(device, precision, batch, threads),
        limits=limits,
        top=top,
        wait_ms=batch_wait_ms,
        ready=ready,
        progress=Listener(),
    )
    words = "every request that had come in was answered" if whole else "some requests were left unanswered"
    err.print(f"stopped; {words}", highlight=False)
