"""``striate serve``."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.show import Listener, err, out


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; the default is reachable from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    engine: Annotated[str, typer.Option(help="auto, torch or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or int8.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps (the torch engine).")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads that decode and compute. Default: the cores.")
    ] = None,
    topk: Annotated[int, typer.Option(min=1, help="Classes to name unless a client asks for ?topk=.")] = 5,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Most images in a batch; 16 to 64 if not given.")
    ] = None,
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
        int, typer.Option(rich_help_panel="Limits", help="Requests that may wait; one more is told 503.")
    ] = 64,
    max_held_mb: Annotated[
        float, typer.Option(rich_help_panel="Limits", help="Most MB of bodies in memory at once.")
    ] = 256.0,
    connections: Annotated[int, typer.Option(rich_help_panel="Limits", help="Most open connections.")] = 512,
    upload_timeout_s: Annotated[
        float,
        typer.Option(
            rich_help_panel="Limits",
            help="Seconds a client may take to send a request's head, and again its body.",
        ),
    ] = 30.0,
    timeout_s: Annotated[
        float, typer.Option(rich_help_panel="Limits", help="Seconds a request may wait for its answer.")
    ] = 10.0,
    json: Annotated[
        bool, typer.Option("--json", help="Print the address and what is served as one line of JSON.")
    ] = False,
) -> None:
    """Answer images over HTTP: POST /predict gives classes and probabilities as JSON.

    It is for this machine alone: before others can reach it, put a web server with passwords in front.

    Ctrl-C or SIGTERM answers what has come in, then stops.

    Example:  [bold]striate serve runs/demo[/]

    Example:  [bold]curl -F image=@photo.jpg 127.0.0.1:8000/predict[/]
    """
    from striate.serve.http.requirements import check_serve

    check_serve()
    from striate.serve.engine import open_engine
    from striate.serve.http.limits import Limits
    from striate.serve.http.server import is_local
    from striate.serve.http.server import serve as run
    from striate.serve.http.service import printable_net
    from striate.weights.open import open_bundle

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
    net, record = open_bundle(bundle)
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

    def ready(url: str) -> None:
        if not is_local(host):
            err.print(
                f"[yellow]{escape(host)} is open to other machines, without password or encryption: put a"
                " web server in front[/]",
                highlight=False,
                soft_wrap=True,
            )
        if json:
            what = {"url": url, "net": record.net, "engine": opened.name, "precision": opened.precision}
            print(json_module.dumps(what), flush=True)
            return
        who = "this machine only" if is_local(host) else "everyone who can reach this machine"
        out.print(
            f"[bold]{escape(url)}[/]  {escape(printable_net(record))}, {len(record.classes)} classes,"
            f" {opened.name} {opened.precision}; open to {who}; Ctrl-C stops",
            highlight=False,
            soft_wrap=True,
        )

    try:
        whole = run(
            opened,
            record,
            host=host,
            port=port,
            limits=limits,
            topk=topk,
            wait_ms=batch_wait_ms,
            threads=threads,
            ready=ready,
        )
    finally:
        opened.close()
    words = "every request that had come in was answered" if whole else "requests were left without answer"
    err.print(f"stopped; {words}", highlight=False)
