"""The training job: open the data, build the network, train it, test it, write the report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.atomic import write_text_atomic
from striate.core.compute import (
    Compute,
    DeviceChoice,
    PrecisionChoice,
    autocast_dtype,
    has_compiler,
    pick_device,
    pick_precision,
)
from striate.core.environment import versions
from striate.core.errors import CheckpointError, UsageError, WriteError
from striate.core.progress import Progress, silent
from striate.data.batches import in_order, loader_for
from striate.data.dataset import (
    ColourStatistics,
    Dataset,
    colour_statistics,
    fit_preprocessing,
    for_network,
    open_dataset,
)
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from striate.data.sources import Source, open_source
from striate.evaluation.calibrate import fit_on_validation
from striate.evaluation.evaluate import evaluate
from striate.nets import build, describe, find
from striate.recipes import find_recipe
from striate.recipes.recipe import Normalisation, Recipe, change
from striate.report.render import render_report
from striate.report.run_record import report_of
from striate.training.checkpoint import Position
from striate.training.loop import Training, fit
from striate.training.loss import make_loss
from striate.training.plan import (
    CompileChoice,
    Plan,
    absolute,
    command_of,
    default_out,
    net_arguments_of,
    plan_from_json,
    plan_to_json,
    run_key,
)
from striate.training.result import TrainResult
from striate.weights.bundle import Bundle, fill_network, load_bundle, save_bundle
from striate.weights.convert import open_weights
from striate.weights.load import input_shape, load_weights
from striate.weights.open import open_bundle
from striate.weights.run_folder import RunFolder, abandon_run, create_run, read_settings, snapshot_files

# Levels -0.1 (0) to 1.175 (255), LeCun et al. 1998 sec. II.B: 1.275 u - 0.1 = (u - 0.1 / 1.275) / (1 /
# 1.275).
_LENET_MEAN, _LENET_STD = 0.1 / 1.275, 1 / 1.275
_TEST_BATCH = 256
# Below this many multiply-accumulates in all, compiling (about a minute) costs more than it saves on a CPU.
_WORTH_COMPILING_MACS = 2e13


def train(
    net: str,
    data: str | Path | Sequence[str | Path],
    *,
    recipe: str | Recipe | None = None,
    settings: Mapping[str, str] | None = None,
    epochs: int | None = None,
    net_arguments: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
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
        net: name of the network (``striate nets``), a ``.net`` file, or a text in the lectures' notation.
        data: name of a data set, a folder, an archive or a manifest; several are united.
        recipe: name or value; None takes the network's own.
        settings: recipe fields to change, as text (``{"lr": "0.05"}``).
        epochs: overrides the recipe's.
        net_arguments: for the network's builder, such as ``{"input_px": 64}`` for vgg16.
        weights: to start from: a bundle or run folder, a file of another program, or the name of published
            ones (see ``job.weights.open_weights``). A last layer for other classes starts anew; images are
            normalised as these weights expect.
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
    # At once: a cyclic schedule is refused where its cycles and epochs don't go together.
    chosen = change(chosen, {**(settings or {}), **({} if epochs is None else {"epochs": str(epochs)})})
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected a seed from 0 to 2**63 - 1, got {seed}")
    if compile not in ("auto", "on", "off"):
        raise UsageError(f"expected --compile auto, on or off, got {compile!r}")
    where = [data] if isinstance(data, str | Path) else list(data)
    if not where:
        raise UsageError("expected at least one data source, got none: --data FOLDER")
    place = pick_device(device)
    plan = Plan(
        net=entry.reference,
        net_arguments=net_arguments_of(chosen, dict(net_arguments or {})),
        weights=None if weights is None else absolute(weights),
        data=[absolute(part) for part in where],
        recipe=chosen,
        seed=seed,
        device=place.type,
        precision=pick_precision(precision, place),
        threads=torch.get_num_threads(),
        compile=compile,
        strict=strict,
        command=command_of(
            net,
            where,
            recipe,
            chosen,
            settings or {},
            epochs,
            net_arguments or {},
            weights,
            {"seed": seed, "precision": precision, "device": device, "compile": compile, "strict": strict},
        ),
    )
    describe(plan.net, num_classes=2, **plan.net_arguments)  # refuses wrong arguments before anything is read
    folder = Path(out) if out is not None else default_out(entry.name, where)
    source = open_source(where, progress=progress)
    run = create_run(folder, plan_to_json(plan))
    try:
        return _carry_out(plan, run, source, resume=False, checkpoint_s=checkpoint_s, progress=progress)
    except Exception:
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
    plan = plan_from_json(read_settings(folder), folder)
    source = open_source(plan.data, progress=progress)
    return _carry_out(plan, folder, source, resume=True, checkpoint_s=checkpoint_s, progress=progress)


def _carry_out(
    plan: Plan, run: RunFolder, source: Source, *, resume: bool, checkpoint_s: float, progress: Progress
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
        shape = input_shape(net)
        expected = None if plan.weights is None else _begin_with(net, plan, run, resume, progress)
        canvas = fit_preprocessing(source, shape, canvas_px=recipe.canvas_px)
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
        if expected is not None:
            preprocessing = _normalised_alike(preprocessing, expected)
        train_pictures = loader_for(dataset, dataset.splits.train, preprocessing, recipe.batch_images, device)
        val_pictures = None
        if len(dataset.splits.val):
            size = min(_TEST_BATCH, recipe.batch_images)
            val_pictures = loader_for(dataset, dataset.splits.val, preprocessing, size, device)
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
                "num_images": dataset.num_images,
                "started_from": plan.weights,
            },
            versions=versions(),
            seed=plan.seed,
            state={},
        )

        if plan.weights is not None and not run.start.exists():
            save_bundle(replace(template, state=net.state_dict()), run.start)

        def save(path: Path, state: Mapping[str, torch.Tensor], metrics: dict[str, Any]) -> None:
            save_bundle(replace(template, state=dict(state), metrics=metrics), path)

        training = Training(
            net=net,
            train=train_pictures,
            val=val_pictures,
            colours=colours,
            recipe=recipe,
            loss=make_loss(recipe, source.labels[dataset.splits.train], num_classes, device, entry.loss),
            run=run,
            save=save,
            key=run_key(plan, dataset),
            seed=plan.seed,
            device=device,
            precision=plan.precision,  # type: ignore[arg-type]
            compiled=_compiles(plan, net, num_classes, len(dataset.splits.train)),
            checkpoint_s=checkpoint_s,
            progress=progress,
        )
        try:
            position = fit(training, resume=resume)
        except WriteError as error:
            raise WriteError(f"{error}; then go on with `striate train --resume {run.path}`") from None
        result = _finish(plan, run, dataset, preprocessing, position, device, progress)
        last = run.last if recipe.average != "none" else None
        return replace(result, last=last, snapshots=snapshot_files(run))


def _begin_with(
    net: nn.Module, plan: Plan, run: RunFolder, resume: bool, progress: Progress
) -> Preprocessing | None:
    """Load the weights that a run starts from; return how they expect images, if that is known.

    A run keeps them in its folder, so that going on does not depend on a file elsewhere.
    """
    assert plan.weights is not None
    if resume and run.start.exists():
        kept = load_bundle(run.start)
        fill_network(net, kept.state, str(run.start))
        return kept.preprocessing
    file = open_weights(plan.weights, plan.net, progress=progress)
    loaded = load_weights(net, plan.net, file)
    told = [f"{loaded.used} of {len(file.tensors)} tensors used", *loaded.notes, *loaded.replaced]
    told += [f"left over: {', '.join(loaded.left_over)}"] if loaded.left_over else []
    for note in told:
        progress("note", 0, None, f"{Path(plan.weights).name}: {note}")
    return loaded.preprocessing


def _finish(
    plan: Plan,
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
        size = min(_TEST_BATCH, plan.recipe.batch_images)
        evaluation = evaluate(
            net.to(device),
            in_order(loader_for(dataset, members, preprocessing, size, device)),
            dataset.classes,
            device=device,
            autocast_dtype=autocast_dtype(plan.precision),  # type: ignore[arg-type]
            total=len(members),
            progress=progress,
        )
    scores = None if evaluation is None else evaluation.scores
    fitted = fit_on_validation(
        net.to(device),
        dataset,
        preprocessing,
        compute=Compute(
            device=device.type,  # type: ignore[arg-type]
            precision=plan.precision,  # type: ignore[arg-type]
            batch_images=min(_TEST_BATCH, plan.recipe.batch_images),
        ),
        progress=progress,
    )
    metrics = {
        **bundle.metrics,
        "split": split,
        "note": note,
        "scores": None if scores is None else scores.to_json(),
    }
    if fitted is not None:
        metrics["calibration"] = {**fitted.to_json(), "split": "val"}
        bundle = replace(bundle, temperature=fitted.temperature)
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
        num_images=dataset.num_images,
        broken=dataset.broken_files,
        seconds=sum(float(row["seconds"] or 0) for row in position.history),
    )
    write_text_atomic(run.report, render_report(report_of(plan, dataset, net, result, evaluation, position)))
    return result


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


def _compiles(plan: Plan, net: nn.Module, num_classes: int, num_train: int) -> bool:
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


def _normalised(pre: Preprocessing, choice: Normalisation, colours: ColourStatistics) -> Preprocessing:
    if choice == "dataset":
        return replace(pre, mean=colours.mean, std=colours.std)
    if choice == "mean":
        return replace(pre, mean=colours.mean, std=(1 / 255,) * pre.channels)
    if choice == "lenet":
        return replace(pre, mean=(_LENET_MEAN,) * pre.channels, std=(_LENET_STD,) * pre.channels)
    if choice == "half":
        return replace(pre, mean=(0.5,) * pre.channels, std=(0.5,) * pre.channels)
    if pre.channels != 3:
        raise UsageError("recipe normalise imagenet is for colour images: --set normalise=dataset")
    return replace(pre, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _normalised_alike(pre: Preprocessing, weights: Preprocessing) -> Preprocessing:
    """Give images the levels that pretrained weights expect."""
    if pre.channels != weights.channels:
        return pre
    return replace(pre, mean=weights.mean, std=weights.std, colour_order=weights.colour_order)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with as many threads as the run began with: sums in another order are other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
