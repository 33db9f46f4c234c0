"""The whole job, room by room: images in, a trained, tested and reported network out.

This is what the command line calls and what ``import striate`` offers.
"""

import hashlib
import json
import platform
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import striate
from striate.core.atomic import write_text_atomic
from striate.core.devices import (
    DeviceChoice,
    PrecisionChoice,
    autocast_dtype,
    describe_machine,
    has_compiler,
    pick_device,
    pick_precision,
)
from striate.core.errors import CheckpointError, DataError, StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batches import Pictures, in_order, network_pixels
from striate.data.dataset import (
    ColourStatistics,
    Dataset,
    colour_statistics,
    fit_preprocessing,
    for_network,
    open_dataset,
)
from striate.data.named import NAMES
from striate.data.preprocess import Preprocessing
from striate.data.sources import Source, open_source
from striate.fit.checkpoint import Position
from striate.fit.loop import Training, fit
from striate.fit.loss import make_loss
from striate.fit.recipe import Normalisation, Recipe, change
from striate.fit.run_folder import RunFolder, abandon_run, create_run, read_settings
from striate.nets import build, describe, find
from striate.recipes import find_recipe
from striate.score.evaluate import Evaluation, evaluate, worst_mistakes
from striate.score.metrics import MultiLabelScores, Scores
from striate.score.report import MistakePicture, RunReport, render_report
from striate.weights.bundle import Bundle, fill_network, load_bundle, save_bundle

Split = Literal["auto", "train", "val", "test", "all"]
CompileChoice = Literal["auto", "on", "off"]

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Levels -0.1 (0) to 1.175 (255), LeCun et al. 1998 sec. II.B: 1.275 u - 0.1 = (u - 0.1 / 1.275) / (1 /
# 1.275).
_LENET_MEAN, _LENET_STD = 0.1 / 1.275, 1 / 1.275
_MISTAKES = 24
_TEST_BATCH = 256
# Below this many multiply-accumulates in all, compiling (about a minute) costs more than it saves on a CPU.
_WORTH_COMPILING_MACS = 2e13


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What a training left behind.

    Attributes:
        run: the run folder.
        bundle: the file with the selected weights.
        report: the page to open.
        scores: of the selected weights on the test images, or None when no image was held out.
        split: the split that ``scores`` was measured on.
        note: what to know before trusting ``scores``.
        selected_epoch: whose weights were selected (counted from 1).
        history: one row for each epoch.
        num_images: images for each split.
        broken: files left out, with reasons.
        seconds: training time, all resumed parts together.
    """

    run: Path
    bundle: Path
    report: Path
    scores: Scores | MultiLabelScores | None
    split: str
    note: str
    selected_epoch: int
    history: list[dict[str, float | int | None]]
    num_images: dict[str, int]
    broken: tuple[tuple[str, str], ...]
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A run's settings as ``run.json`` holds them."""

    net: str
    net_arguments: dict[str, Any]
    data: list[str]
    recipe: Recipe
    seed: int
    device: str
    precision: str
    threads: int
    compile: CompileChoice
    strict: bool
    command: str


def train(
    net: str,
    data: str | Path | Sequence[str | Path],
    *,
    recipe: str | Recipe | None = None,
    settings: Mapping[str, str] | None = None,
    epochs: int | None = None,
    net_arguments: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    compile: CompileChoice = "auto",
    strict: bool = False,
    checkpoint_s: float = 10.0,
    progress: Progress = silent,
) -> TrainResult:
    """Train a network on labelled images, test it, and write a run folder with a report.

    Args:
        net: name of the network (``striate nets``).
        data: name of a data set, a folder, an archive or a manifest; several are united.
        recipe: name or value; None takes the network's own.
        settings: recipe fields to change, as text (``{"lr": "0.05"}``).
        epochs: overrides the recipe's.
        net_arguments: for the network's builder, such as ``{"input_px": 64}`` for vgg16.
        out: run folder to create; None makes ``runs/NET-DATA-TIME``.
        seed: of weights, order, augmentation and dropout; 0 or more.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        compile: whether to compile the network with ``torch.compile``; ``auto`` does so for a long training
            (2e13 multiply-accumulates) of a network with batch normalisation in bf16 on a CPU with a C++
            compiler, where it was measured to pay.
        strict: a broken image is an error instead of being left out.
        checkpoint_s: seconds between checkpoints, at least.
        progress: listener.

    Returns:
        Where everything is, and the scores.

    Raises:
        UsageError: an unknown name or a setting that does not fit.
        DataError: no usable images.
        NonFiniteLossError: training diverged.
        InterruptedRunError: stopped by Ctrl-C after saving.
    """
    entry = find(net)
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(recipe or entry.recipe)
    chosen = change(chosen, settings or {})
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected a seed from 0 to 2**63 - 1, got {seed}")
    if compile not in ("auto", "on", "off"):
        raise UsageError(f"expected --compile auto, on or off, got {compile!r}")
    where = [data] if isinstance(data, str | Path) else list(data)
    if not where:
        raise UsageError("expected at least one data source, got none: --data FOLDER")
    place = pick_device(device)
    plan = _Plan(
        net=net,
        net_arguments=_net_arguments(net, chosen, dict(net_arguments or {})),
        data=[_absolute(part) for part in where],
        recipe=chosen,
        seed=seed,
        device=place.type,
        precision=pick_precision(precision, place),
        threads=torch.get_num_threads(),
        compile=compile,
        strict=strict,
        command=_command(
            net,
            where,
            recipe,
            chosen,
            settings or {},
            epochs,
            net_arguments or {},
            {"seed": seed, "precision": precision, "device": device, "compile": compile, "strict": strict},
        ),
    )
    describe(net, num_classes=2, **plan.net_arguments)  # refuses wrong arguments before anything is read
    folder = Path(out) if out is not None else _default_out(net, where)
    source = open_source(where, progress=progress)
    run = create_run(folder, _plan_to_json(plan))
    try:
        return _carry_out(plan, run, source, resume=False, checkpoint_s=checkpoint_s, progress=progress)
    except StriateError:
        abandon_run(run)
        raise


def resume(run: str | Path, *, checkpoint_s: float = 10.0, progress: Progress = silent) -> TrainResult:
    """Go on with a run that was stopped or killed; it ends with the weights it would have had anyway.

    Args:
        run: the run folder.
        checkpoint_s: seconds between checkpoints, at least.
        progress: listener.

    Raises:
        CheckpointError: the folder holds no run, or its data or files changed.
    """
    folder = RunFolder(Path(run))
    plan = _plan_from_json(read_settings(folder), folder)
    source = open_source(plan.data, progress=progress)
    return _carry_out(plan, folder, source, resume=True, checkpoint_s=checkpoint_s, progress=progress)


def open_bundle(path: str | Path) -> tuple[nn.Module, Bundle]:
    """Load a trained network from a bundle (or a run folder), in eval mode on the CPU.

    Raises:
        BundleError: the file is damaged or names a network that is not there.
    """
    bundle = load_bundle(Path(path))
    with torch.random.fork_rng(devices=[]):
        net = build(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
    fill_network(net, bundle.state, str(path))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval(), bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateResult:
    """A bundle's answers on labelled images.

    Attributes:
        evaluation: scores and every answer.
        files: name of each image, in the order of the answers.
        split: which images were taken, in words.
        broken: files left out, with reasons.
    """

    evaluation: Evaluation
    files: tuple[str, ...]
    split: str
    broken: tuple[tuple[str, str], ...]


def evaluate_bundle(
    bundle: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    strict: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Measure a trained network on labelled images.

    Args:
        bundle: file or run folder.
        data: as in ``train``.
        split: ``auto`` takes the source's test images, else its validation images; where the source has no
            splits, the test images that the training held out if the data are the same, else all.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        strict: a broken image is an error.
        progress: listener.

    Raises:
        BundleError: the bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    if split not in get_args(Split):
        raise UsageError(f"expected a split out of {', '.join(get_args(Split))}; got {split!r}")
    place = pick_device(device)
    chosen_precision = pick_precision(precision, place)
    net, record = open_bundle(bundle)
    source = _with_classes(
        open_source(data if isinstance(data, str | Path) else list(data), progress=progress), record
    )
    recipe = Recipe.from_json(record.recipe) if record.recipe else None
    dataset = open_dataset(
        source,
        record.preprocessing,
        val_fraction=recipe.val_fraction if recipe else 0.0,
        test_fraction=recipe.test_fraction if recipe else 0.0,
        strict=strict,
        progress=progress,
    )
    members, words = _choose_split(dataset, record, split)
    pictures = _pictures(dataset, members, record.preprocessing, batch_images, place)
    evaluation = evaluate(
        net.to(place),
        in_order(pictures),
        record.classes,
        device=place,
        autocast_dtype=autocast_dtype(chosen_precision),
        total=len(members),
        progress=progress,
    )
    files = tuple(source.files[i] for i in evaluation.indices.tolist())
    return EvaluateResult(evaluation=evaluation, files=files, split=words, broken=_broken(dataset))


# ---------------------------------------------------------------------------------------------------- the
# training job


def _carry_out(
    plan: _Plan, run: RunFolder, source: Source, *, resume: bool, checkpoint_s: float, progress: Progress
) -> TrainResult:
    entry, recipe = find(plan.net), plan.recipe
    device = torch.device(plan.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"{run.path}: began on a GPU and none is here: resume it where there is one")
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with _threads(plan.threads), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(plan.seed)
        num_classes = len(source.classes)
        net = build(plan.net, num_classes=num_classes, **plan.net_arguments)
        shape = _input_shape(net)
        canvas = fit_preprocessing(source, shape, canvas_px=recipe.canvas_px, resize=True)
        canvas = replace(canvas, interpolation=recipe.interpolation)
        dataset = open_dataset(
            source,
            canvas,
            val_fraction=recipe.val_fraction,
            test_fraction=recipe.test_fraction,
            strict=plan.strict,
            progress=progress,
        )
        colours = colour_statistics(dataset, dataset.splits.train)
        preprocessing = _normalised(for_network(canvas, shape), recipe.normalise, colours)
        train_pictures = _pictures(dataset, dataset.splits.train, preprocessing, recipe.batch_images, device)
        val_pictures = None
        if len(dataset.splits.val):
            size = min(_TEST_BATCH, recipe.batch_images)
            val_pictures = _pictures(dataset, dataset.splits.val, preprocessing, size, device)
        elif recipe.schedule == "plateau":
            raise UsageError(
                "recipe schedule plateau needs validation images and there are too few: use more images"
            )
        template = Bundle(
            net=plan.net,
            net_arguments=plan.net_arguments,
            classes=dataset.classes,
            multi_label=dataset.multi_label,
            preprocessing=preprocessing,
            recipe=recipe.to_json(),
            data={
                "name": source.name,
                "fingerprint": dataset.fingerprint,
                "num_images": _num_images(dataset),
            },
            versions=_versions(),
            seed=plan.seed,
            state={},
        )

        def save_best(state: Mapping[str, torch.Tensor], epoch: int, val_error: float | None) -> None:
            metrics = {"epoch": epoch, "val_error": val_error}
            save_bundle(replace(template, state=dict(state), metrics=metrics), run.bundle)

        training = Training(
            net=net,
            train=train_pictures,
            val=val_pictures,
            colours=colours,
            recipe=recipe,
            loss=make_loss(recipe, source.labels[dataset.splits.train], num_classes, device, entry.loss),
            run=run,
            save_best=save_best,
            key=_key(plan, dataset),
            seed=plan.seed,
            device=device,
            precision=plan.precision,  # type: ignore[arg-type]
            compiled=_compiles(plan, net, num_classes, len(dataset.splits.train)),
            checkpoint_s=checkpoint_s,
            progress=progress,
        )
        position = fit(training, resume=resume)
        return _finish(plan, run, dataset, preprocessing, position, device, progress)


def _finish(
    plan: _Plan,
    run: RunFolder,
    dataset: Dataset,
    preprocessing: Preprocessing,
    position: Position,
    device: torch.device,
    progress: Progress,
) -> TrainResult:
    """Test the selected weights, add the result to the bundle, and write the report."""
    net, bundle = open_bundle(run.bundle)
    members, split, note = _held_out(dataset, plan.recipe)
    evaluation = None
    if len(members):
        evaluation = evaluate(
            net.to(device),
            in_order(
                _pictures(dataset, members, preprocessing, min(_TEST_BATCH, plan.recipe.batch_images), device)
            ),
            dataset.classes,
            device=device,
            autocast_dtype=autocast_dtype(plan.precision),  # type: ignore[arg-type]
            total=len(members),
            progress=progress,
        )
    scores = None if evaluation is None else evaluation.scores
    metrics = {
        **bundle.metrics,
        "split": split,
        "note": note,
        "scores": None if scores is None else scores.to_json(),
    }
    save_bundle(replace(bundle, metrics=metrics), run.bundle)
    result = TrainResult(
        run=run.path,
        bundle=run.bundle,
        report=run.report,
        scores=scores,
        split=split,
        note=note,
        selected_epoch=position.best_epoch,
        history=position.history,
        num_images=_num_images(dataset),
        broken=_broken(dataset),
        seconds=sum(float(row["seconds"] or 0) for row in position.history),
    )
    write_text_atomic(run.report, render_report(_report(plan, dataset, net, result, evaluation, position)))
    return result


def _report(
    plan: _Plan,
    dataset: Dataset,
    net: nn.Module,
    result: TrainResult,
    evaluation: Evaluation | None,
    position: Position,
) -> RunReport:
    entry = find(plan.net)
    summary = describe(plan.net, num_classes=len(dataset.classes), **plan.net_arguments)
    by_val = plan.recipe.select == "best" and len(dataset.splits.val) > 0
    rule = "lowest validation error" if by_val else "the last one, as the recipe says"
    if plan.recipe.average != "none":
        rule += f", {plan.recipe.average} average of the weights"
    return RunReport(
        title=f"{entry.title} on {_data_name(plan)}",
        net=plan.net,
        num_parameters=summary.parameters,
        macs=summary.macs,
        input_shape=summary.input_shape,
        paper=entry.paper,
        data=_data_name(plan),
        num_images={name: count for name, count in result.num_images.items() if count},
        classes=dataset.classes,
        split_notes=(*_made(dataset), *dataset.notes, *dataset.source.notes),
        quarantined=result.broken,
        history=result.history,
        selected_epoch=result.selected_epoch,
        selection_rule=rule,
        test=result.scores if isinstance(result.scores, Scores) else None,
        test_split=result.split,
        test_note=result.note,
        test_summary=_multi_label_summary(result),
        mistakes=_mistakes(dataset, evaluation, net),
        filters=_first_filters(net),
        recipe={key: value for key, value in plan.recipe.to_json().items() if key != "name"}
        | {"recipe": plan.recipe.name},
        environment={
            **_versions(),
            **describe_machine(torch.device(plan.device)),
            "precision": plan.precision,
        },
        command=plan.command,
        seed=plan.seed,
        wall_s=result.seconds,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        num_resumes=position.resumed,
    )


def _multi_label_summary(result: TrainResult) -> str:
    scores = result.scores
    if not isinstance(scores, MultiLabelScores) or scores.mean_average_precision is None:
        return ""
    return (
        f"reaches a mean average precision of {scores.mean_average_precision:.3f} on {scores.num_images:,}"
        f" {result.split} images; every label is right on {scores.exact_match:.1%} of them"
    )


def _mistakes(dataset: Dataset, evaluation: Evaluation | None, net: nn.Module) -> tuple[MistakePicture, ...]:
    if evaluation is None or isinstance(evaluation.scores, MultiLabelScores):
        return ()
    worst = worst_mistakes(evaluation, _MISTAKES)
    if not worst:
        return ()
    channels, height, width = _input_shape(net)
    shown = replace(
        dataset.canvas,
        height_px=height,
        width_px=width,
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    members = np.array([mistake.index for mistake in worst], np.int64)
    pixels = network_pixels(_pictures(dataset, members, shown, len(members), torch.device("cpu")), members)
    return tuple(
        MistakePicture(
            image=np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image,
            file=dataset.source.files[mistake.index],
            true=dataset.classes[mistake.true],
            predicted=dataset.classes[mistake.predicted],
            p_predicted=mistake.p_predicted,
            p_true=mistake.p_true,
        )
        for image, mistake in zip(pixels, worst, strict=True)
    )


def _first_filters(net: nn.Module) -> NDArray[np.floating[Any]] | None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().float().cpu().numpy()
    return None


def _held_out(dataset: Dataset, recipe: Recipe) -> tuple[NDArray[np.int64], str, str]:
    """Return the images to test on, the split's name, and what to know about them."""
    splits = dataset.splits
    if len(splits.test):
        return splits.test, "test", "held out: never trained on, never used to choose anything"
    if len(splits.val):
        chosen = recipe.select == "best" or recipe.schedule == "plateau"
        note = (
            "these images also chose the epoch, so the figure is slightly optimistic"
            if chosen
            else "never trained on; the recipe chooses nothing by them"
        )
        return splits.val, "validation", note
    return splits.test, "none", "no image was held out, so nothing is known about new images"


def _choose_split(dataset: Dataset, record: Bundle, split: Split) -> tuple[NDArray[np.int64], str]:
    parts = {"train": dataset.splits.train, "val": dataset.splits.val, "test": dataset.splits.test}
    everything = np.sort(np.concatenate(list(parts.values())))
    if split == "all":
        return everything, "all images"
    if split != "auto":
        if not len(parts[split]):
            there = ", ".join(f"{name} {len(members):,}" for name, members in parts.items() if len(members))
            raise DataError(
                f"{dataset.source.name}: its {split} split is empty (there are: {there}): choose with --split"
            )
        return parts[split], f"{split} split"
    trained_on_this = record.data.get("fingerprint") == dataset.fingerprint
    official = set(np.unique(dataset.source.splits).tolist())
    for code, name in ((2, "test"), (1, "val")):
        if len(parts[name]) and (code in official or trained_on_this):
            made = "" if code in official else " (held out from this bundle's training)"
            return parts[name], f"{name} split{made}"
    if trained_on_this:
        return everything, "all images, those it was trained on included: this says nothing about new images"
    return (
        everything,
        "all images (the source names no test part; some may be among those the bundle was trained on)",
    )


def _with_classes(source: Source, record: Bundle) -> Source:
    """Renumber a source's labels to the bundle's classes."""
    if source.multi_label != record.multi_label:
        kinds = ("one label an image", "several labels an image")
        raise DataError(
            f"{source.name}: expected {kinds[record.multi_label]}, as the bundle was trained, got"
            f" {kinds[source.multi_label]}: use data of the same kind"
        )
    if source.classes == record.classes:
        return source
    unknown = sorted(set(source.classes) - set(record.classes))
    if unknown:
        raise DataError(
            f"{source.name}: the bundle knows {len(record.classes)} classes and not {', '.join(unknown[:5])}"
            f"{' ...' if len(unknown) > 5 else ''}: use images of its classes"
            f" ({', '.join(record.classes[:5])} ...)"
        )
    place = np.array([record.classes.index(name) for name in source.classes], np.int64)
    if source.labels.ndim == 1:
        labels: NDArray[Any] = place[source.labels]
    else:
        labels = np.zeros((len(source.labels), len(record.classes)), np.float32)
        labels[:, place] = source.labels
    return replace(source, labels=labels, classes=record.classes)


# ------------------------------------------------------------------------------------------------------ small
# decisions


def _net_arguments(net: str, recipe: Recipe, arguments: dict[str, Any]) -> dict[str, Any]:
    if recipe.dropout is not None:
        arguments.setdefault("dropout", recipe.dropout)
    return arguments


def _compiles(plan: _Plan, net: nn.Module, num_classes: int, num_train: int) -> bool:
    if plan.compile != "auto":
        return plan.compile == "on"
    macs = (
        describe(plan.net, num_classes=num_classes, **plan.net_arguments).macs
        * num_train
        * plan.recipe.epochs
    )
    normalised = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    fits = plan.device == "cpu" and plan.precision == "bf16" and normalised and has_compiler()
    return fits and macs >= _WORTH_COMPILING_MACS


def _input_shape(net: nn.Module) -> tuple[int, int, int]:
    shape = net.input_shape
    assert isinstance(shape, tuple)
    return shape


def _normalised(pre: Preprocessing, choice: Normalisation, colours: ColourStatistics) -> Preprocessing:
    if choice == "dataset":
        return replace(pre, mean=colours.mean, std=colours.std)
    if choice == "lenet":
        return replace(pre, mean=(_LENET_MEAN,) * pre.channels, std=(_LENET_STD,) * pre.channels)
    if choice == "half":
        return replace(pre, mean=(0.5,) * pre.channels, std=(0.5,) * pre.channels)
    if pre.channels != 3:
        raise UsageError("recipe normalise imagenet is for colour images: --set normalise=dataset")
    return replace(pre, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)


def _pictures(
    dataset: Dataset,
    members: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_images: int,
    device: torch.device,
) -> Pictures:
    # From the store a batch takes less than a millisecond, so threads pay only when a GPU must not wait or
    # files are decoded.
    threads = 2 if dataset.store is None or device.type == "cuda" else 0
    return Pictures(
        dataset=dataset,
        members=members,
        preprocessing=preprocessing,
        batch_images=batch_images,
        threads=threads,
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with as many threads as the run began with: sums in another order are other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _num_images(dataset: Dataset) -> dict[str, int]:
    splits = dataset.splits
    return {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}


def _data_name(plan: _Plan) -> str:
    """Name the data without the folders they are in."""
    return " and ".join(Path(part).name for part in plan.data)


def _made(dataset: Dataset) -> tuple[str, ...]:
    """Say in a sentence which splits are striate's own."""
    made = dataset.splits.made
    if not made:
        return ()
    parts = " and ".join(made) if len(made) < 3 else f"{', '.join(made[:-1])} and {made[-1]}"
    verb = "splits were" if len(made) > 1 else "split was"
    return (f"The {parts} {verb} made by striate, by each image's content: equal ones stay on one side.",)


def _broken(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    return tuple((broken.file, broken.reason) for broken in dataset.scan.broken)


def _versions() -> dict[str, str]:
    return {
        "striate": striate.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _key(plan: _Plan, dataset: Dataset) -> str:
    """Name the experiment: a checkpoint goes on only under the same one."""
    # Order and augmentation go by an image's place in the source, so the order of the images counts too.
    order = hashlib.blake2b(np.ascontiguousarray(dataset.scan.digests).data, digest_size=16)
    order.update(np.ascontiguousarray(dataset.source.labels).data)
    parts = [plan.net, plan.net_arguments, plan.recipe.to_json(), plan.seed, plan.precision]
    parts += [dataset.fingerprint, order.hexdigest()]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _absolute(part: str | Path) -> str:
    if str(part) in NAMES:
        return str(part)
    path = Path(part)
    return str(path.absolute()) if path.exists() else str(part)


def _default_out(net: str, where: Sequence[str | Path]) -> Path:
    stem = Path(where[0]).name.split(".")[0] or "data"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    first = Path("runs") / f"{net}-{stem}-{stamp}"
    tries = (first, *(first.with_name(f"{first.name}-{n}") for n in range(2, 1000)))
    return next(path for path in tries if not path.exists())


def _command(
    net: str,
    where: Sequence[str | Path],
    recipe: str | Recipe | None,
    chosen: Recipe,
    settings: Mapping[str, str],
    epochs: int | None,
    net_arguments: Mapping[str, Any],
    options: Mapping[str, object],
) -> str:
    words = ["striate", "train", net]
    for part in where:
        words += ["--data", str(part)]
    words += ["--recipe", chosen.name]
    if isinstance(recipe, Recipe):
        settings = {**_differences(recipe), **settings}
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    for key, value in net_arguments.items():
        words += ["--arg", f"{key}={value}"]
    if epochs is not None:
        words += ["--epochs", str(epochs)]
    for option, chosen_value in options.items():
        if isinstance(chosen_value, bool):
            words += [f"--{option}"] if chosen_value else []
        elif chosen_value != "auto":
            words += [f"--{option}", str(chosen_value)]
    return shlex.join(words)


def _differences(recipe: Recipe) -> dict[str, str]:
    """Say how a recipe value differs from the published one of its name, as settings."""
    try:
        published = find_recipe(recipe.name).to_json()
    except UsageError:
        return {}
    return {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
        for key, value in recipe.to_json().items()
        if published[key] != value
    }


def _plan_to_json(plan: _Plan) -> dict[str, Any]:
    return {
        "net": plan.net,
        "net_arguments": plan.net_arguments,
        "data": plan.data,
        "recipe": plan.recipe.to_json(),
        "seed": plan.seed,
        "device": plan.device,
        "precision": plan.precision,
        "threads": plan.threads,
        "compile": plan.compile,
        "strict": plan.strict,
        "command": plan.command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {**_versions(), **describe_machine(torch.device(plan.device))},
    }


def _plan_from_json(record: Mapping[str, Any], folder: RunFolder) -> _Plan:
    try:
        return _Plan(
            net=str(record["net"]),
            net_arguments=dict(record["net_arguments"]),
            data=[str(part) for part in list(record["data"])],
            recipe=Recipe.from_json(record["recipe"]),
            seed=int(record["seed"]),
            device=record["device"],
            precision=record["precision"],
            threads=max(1, int(record["threads"])),
            compile=record["compile"],
            strict=bool(record["strict"]),
            command=record["command"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder.settings}: damaged ({error}): start anew with another --out"
        ) from None
