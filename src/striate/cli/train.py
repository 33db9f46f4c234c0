"""``striate train``."""

import json as json_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from striate.cli.arguments import arguments_of, pairs, read_size
from striate.cli.options import (
    OUT,
    UNTRAINED_HELP,
    DataOption,
    DeviceOption,
    InputOption,
    JsonOption,
    PrecisionOption,
    StrictOption,
    compute_of,
)
from striate.cli.show import Listener, err, out, percent
from striate.core.choices import CompileChoice
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.recipes.recipe import RecipeChanges
    from striate.training.result import TrainResult


def train(
    net: Annotated[
        str | None,
        typer.Argument(metavar="NETWORK", help=UNTRAINED_HELP),
    ] = None,
    data: DataOption = None,
    recipe: Annotated[str | None, typer.Option(help="Name of a recipe; default: the network's own.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a field of the recipe, e.g. --set lr=0.05. Repeatable."
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None,
        typer.Option(
            "--arg",
            metavar="KEY=VALUE",
            help="An argument of the network, e.g. --arg input_px=64 for vgg16. Repeatable.",
        ),
    ] = None,
    input: InputOption = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Start from these: a bundle, .pth, .safetensors, .caffemodel or .mat file, or the name of"
            " published ones: torchvision, timm:resnet50.a1_in1k."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(*OUT, metavar="RUN", help="Run folder to create; default: under runs/.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue a run folder; needs nothing else.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, order, augmentation and dropout; default 0.")
    ] = None,
    snapshots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep this number of networks from one training: the rate falls and restarts as often"
            " (--set schedule=cyclic --set cycles=N), and each fall leaves a bundle in RUN/snapshots.",
        ),
    ] = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    compile: Annotated[
        CompileChoice,
        typer.Option(help="torch.compile; auto does so where a long training gains by it."),
    ] = "auto",
    strict: StrictOption = False,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Time between checkpoints, at least.")
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    """Train a network on labelled images, test it, and write a report.

    Example:  [bold]striate train lenet5_modern --data digits[/]

    Example:  [bold]striate train resnet20 --data photos/ --recipe photos --epochs 30 --set lr=0.0005[/]

    Example:  [bold]striate train resnet50_v1_5 --weights torchvision -d photos/ --recipe photos --epochs 5[/]

    Example:  [bold]striate train my.net --data cifar10[/]

    Example:  [bold]striate train lenet5_modern --data digits --epochs 30 --snapshots 5[/]

    Example:  [bold]striate train --resume runs/lenet5-digits-20260101-120000[/]
    """
    from striate.training.train import resume as run_resume
    from striate.training.train import train as run_train

    own = net if net is not None and resume is not None and ":" in net else None
    if resume is not None:
        given = {
            "NETWORK": net if own is None else None,
            "--data": data,
            "--recipe": recipe,
            "--set": settings,
            "--epochs": epochs,
            "--arg": arguments,
            "--input": input,
            "--weights": weights,
            "--out": run,
            "--seed": seed,
            "--snapshots": snapshots,
            "--strict": strict or None,
            "--precision": None if precision == "auto" else precision,
            "--device": None if device == "auto" else device,
            "--compile": None if compile == "auto" else compile,
        }
        if words := [word for word, value in given.items() if value is not None and value != []]:
            raise UsageError(
                f"--resume continues the run as it was started, so it takes no {', '.join(words)}"
            )
        with Listener() as listener:
            result = run_resume(resume, net=own, checkpoint_s=checkpoint_seconds, progress=listener)
    else:
        if net is None:
            raise UsageError("expected the name of a network: striate train lenet5_modern --data digits")
        if not data:
            raise UsageError(
                f"expected images to learn from: striate train {net} --data FOLDER (or --data digits)"
            )
        texts = pairs("--set", settings or [])
        if snapshots is not None:
            for key in {"schedule", "cycles"} & texts.keys():
                raise UsageError(f"--snapshots sets {key} itself: leave out --set {key}={texts[key]}")
            texts |= {"schedule": "cyclic", "cycles": str(snapshots)}
        changes = _changes(texts, epochs)
        repeated = {
            "set": [f"{key}={value}" for key, value in texts.items()],
            "arg": arguments,
            "input": input,
            "weights": weights,
            "epochs": epochs,
            "seed": seed or 0,
            "precision": precision,
            "device": device,
            "compile": compile,
        }
        with Listener() as listener:
            result = run_train(
                net,
                data,
                recipe=recipe,
                input=_size(input),
                arguments=arguments_of(arguments),
                weights=weights,
                out=run,
                seed=seed or 0,
                compute=compute_of(device, precision),
                compile=compile,
                strict=strict,
                checkpoint_s=checkpoint_seconds,
                command=_command(net, data, recipe, repeated) + (" --strict" if strict else ""),
                progress=listener,
                **changes,
            )
    if json:
        print(json_module.dumps(_to_json(result), indent=2, ensure_ascii=False))
    else:
        _print(result)


def _changes(texts: Mapping[str, str], epochs: int | None) -> "RecipeChanges":
    from striate.recipes.recipe import parse_changes

    found = parse_changes(texts)
    return found if epochs is None else {**found, "epochs": epochs}


def _size(text: str | None) -> tuple[int, int, int] | None:
    size = read_size(text)
    if size is None:
        return None
    if len(size) != 3:
        raise UsageError(f"expected --input as CxHxW, such as 3x64x64, got {text!r}")
    return (size[0], size[1], size[2])


def _command(
    net: str, data: Sequence[str], recipe: str | None, options: Mapping[str, str | int | Sequence[str] | None]
) -> str:
    """Write the command that repeats a training, also when the network's recipe becomes another.

    Args:
        net: the network.
        data: the images.
        recipe: its name, or None for the network's own.
        options: by name; None, ``auto`` and empty lists are left out, and a list repeats its option.
    """
    import shlex

    from striate.nets import find
    from striate.weights.open import is_own

    if recipe is None and not is_own(net):
        recipe = find(net).recipe
    words = ["striate", "train", net]
    for option, value in {"data": data, "recipe": recipe, **options}.items():
        values = [value] if isinstance(value, str | int) else value or ()
        words += [word for one in values if one != "auto" for word in (f"--{option}", str(one))]
    return shlex.join(words)


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
