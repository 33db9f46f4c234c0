"""``striate train``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from striate.cli.arguments import pairs, value_of
from striate.cli.show import Listener, err, out, percent
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.training.result import TrainResult


def train(
    net: Annotated[
        str | None,
        typer.Argument(help="Name of a network (`striate nets`), or a .net file that you wrote."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            help="digits, mnist, fashion-mnist, cifar10, cifar100, a folder of class folders, a .tar,"
            " .tar.gz or .zip of one, or a .csv/.jsonl manifest. Several are united.",
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe; default: the network's own.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the recipe, e.g. --set lr=0.05. Repeatable."),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", help="An argument of the network, e.g. --arg input_px=64 for vgg16. Repeatable."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from these: a bundle, .pth, .safetensors, .caffemodel or .mat file, or the name of"
            " published ones: torchvision, timm:resnet50.a1_in1k."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--out", "-o", help="Run folder to create; default: under runs/.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run folder; needs nothing else.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, order, augmentation and dropout; default 0.")
    ] = None,
    snapshots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep so many networks of one training: the rate falls and restarts so many times"
            " (--set schedule=cyclic --set cycles=N), and each fall leaves a bundle in RUN/snapshots.",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    compile: Annotated[
        str,
        typer.Option(help="auto, on or off: torch.compile; auto does so where a long training gains by it."),
    ] = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a broken image instead of leaving it out.")
    ] = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Time between checkpoints, at least.")
    ] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network on labelled images, test it, and write a report.

    Example:  [bold]striate train lenet5_modern --data digits[/]

    Example:  [bold]striate train resnet20 --data photos/ --recipe photos --epochs 30 --set lr=0.0005[/]

    Example:  [bold]striate train resnet50_v1_5 --weights torchvision --data photos/ --epochs 5[/]

    Example:  [bold]striate train my.net --data cifar10[/]

    Example:  [bold]striate train lenet5_modern --data digits --epochs 30 --snapshots 5[/]

    Example:  [bold]striate train --resume runs/lenet5-digits-20260101-120000[/]
    """
    from striate.training.train import resume as run_resume
    from striate.training.train import train as run_train

    if resume is not None:
        given = [word for word, value in (("NET", net), ("--data", data), ("--out", run)) if value]
        given += [
            word for word, value in (("--recipe", recipe), ("--set", settings), ("--epochs", epochs)) if value
        ]
        given += [word for word, value in (("--arg", arguments), ("--strict", strict)) if value]
        given += ["--weights"] if weights is not None else []
        given += [] if seed is None else ["--seed"]
        given += [] if snapshots is None else ["--snapshots"]
        for word, value in (("--precision", precision), ("--device", device), ("--compile", compile)):
            given += [word] if value != "auto" else []
        if given:
            raise UsageError(
                f"--resume goes on with the run as it was begun, so it takes no {', '.join(given)}"
            )
        with Listener() as listener:
            result = run_resume(resume, checkpoint_s=checkpoint_seconds, progress=listener)
    else:
        if net is None:
            raise UsageError("expected the name of a network: striate train lenet5_modern --data digits")
        if not data:
            raise UsageError(
                f"expected images to learn from: striate train {net} --data FOLDER (or --data digits)"
            )
        changes = pairs("--set", settings or [])
        if snapshots is not None:
            for key in {"schedule", "cycles"} & changes.keys():
                raise UsageError(f"--snapshots sets {key} itself: leave out --set {key}={changes[key]}")
            changes |= {"schedule": "cyclic", "cycles": str(snapshots)}
        with Listener() as listener:
            result = run_train(
                net,
                data,
                recipe=recipe,
                settings=changes,
                epochs=epochs,
                net_arguments={key: value_of(text) for key, text in pairs("--arg", arguments or []).items()},
                weights=weights,
                out=run,
                seed=seed or 0,
                precision=precision,  # type: ignore[arg-type]
                device=device,  # type: ignore[arg-type]
                compile=compile,  # type: ignore[arg-type]
                strict=strict,
                checkpoint_s=checkpoint_seconds,
                progress=listener,
            )
    if json:
        print(json_module.dumps(_to_json(result), indent=2, ensure_ascii=False))
    else:
        _print(result)


def _print(result: "TrainResult") -> None:
    from striate.metrics.scores import Scores

    parts = ", ".join(f"{count:,} {name}" for name, count in result.num_images.items() if count)
    out.print(
        f"[bold]{escape(str(result.run))}[/]: {parts} images, {result.seconds:,.0f} s of training",
        highlight=False,
    )
    scores = result.scores
    if isinstance(scores, Scores):
        interval = scores.top1_interval
        out.print(
            f"[bold]{result.split} accuracy {percent(scores.top1, scores.num_images)}[/]"
            f"  (95% interval {percent(interval.low, scores.num_images)}"
            f" to {percent(interval.high, scores.num_images)},"
            f" {scores.num_images:,} images)"
            + (f", top-5 {percent(scores.top5, scores.num_images)}" if scores.top5 is not None else ""),
            highlight=False,
        )
    elif scores is not None and scores.mean_average_precision is not None:
        out.print(
            f"[bold]{result.split} mean average precision {scores.mean_average_precision:.3f}[/]"
            f"  ({scores.num_images:,} images)",
            highlight=False,
        )
    out.print(f"[dim]{result.note}; weights of epoch {result.selected_epoch}[/]", highlight=False)
    if result.broken:
        err.print(
            f"[yellow]{len(result.broken)} broken files were left out[/] (named in the report):",
            highlight=False,
        )
        for file, reason in result.broken[:5]:
            err.print(f"  {file}: {reason}", highlight=False, markup=False)
    out.print(f"report  {escape(str(result.report))}", highlight=False, soft_wrap=True)
    out.print(f"bundle  {escape(str(result.bundle))}", highlight=False, soft_wrap=True)
    if result.last is not None:
        out.print(
            f"last    {escape(str(result.last))}  (the last weights; the bundle holds an average)",
            highlight=False,
            soft_wrap=True,
        )
    if result.snapshots:
        out.print(
            f"snapshots  {len(result.snapshots)} in {escape(str(result.snapshots[0].parent))}",
            highlight=False,
            soft_wrap=True,
        )


def _to_json(result: "TrainResult") -> dict[str, Any]:
    return {
        "run": str(result.run),
        "bundle": str(result.bundle),
        "report": str(result.report),
        "last": None if result.last is None else str(result.last),
        "snapshots": [str(path) for path in result.snapshots],
        "split": result.split,
        "note": result.note,
        "scores": None if result.scores is None else result.scores.to_json(),
        "selected_epoch": result.selected_epoch,
        "num_images": result.num_images,
        "broken": [{"file": file, "reason": reason} for file, reason in result.broken],
        "seconds": result.seconds,
        "history": result.history,
    }
