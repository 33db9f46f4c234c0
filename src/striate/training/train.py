"""The whole job: open the data, build the network, train it, test it, write the report."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.anatomy import trace
from striate.core.choices import CompileChoice, DeviceChoice
from striate.core.compute import Compute, has_compiler
from striate.core.environment import versions
from striate.core.errors import CheckpointError, UsageError, WriteError
from striate.core.lock import sole_writer
from striate.core.progress import Progress, silent
from striate.data.batches import loader_for
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
from striate.evaluation.evaluate import evaluate_images
from striate.nets import build, describe, find
from striate.recipes import find_recipe
from striate.recipes.recipe import Normalisation, Recipe, RecipeChanges, change
from striate.report.write import write_run_report
from striate.training.checkpoint import Position
from striate.training.loop import Trainer, Training
from striate.training.loss import make_loss
from striate.training.plan import (
    Plan,
    absolute,
    call_of,
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
from striate.weights.open import OpenNetwork, build_network, is_own, open_bundle, own_name
from striate.weights.run_folder import RunFolder, abandon_run, create_run, read_settings, snapshot_files

# Levels -0.1 (0) to 1.175 (255), LeCun et al. 1998 sec. II.B: 1.275 u - 0.1 = (u - 0.1 / 1.275) / (1 /
# 1.275).
_LENET_MEAN, _LENET_STD = 0.1 / 1.275, 1 / 1.275
_TEST_BATCH = 256
# Below this many multiply-accumulates in all, compiling (about a minute) costs more than it saves on a CPU.
_WORTH_COMPILING_MACS = 2e13
_RECIPE_OF_OWN = "photos"  # of networks of one's own, for which nothing was published


def train(
    net: str | nn.Module | OpenNetwork,
    data: str | Path | Sequence[str | Path],
    *,
    recipe: str | Recipe | None = None,
    input: tuple[int, int, int] | None = None,
    arguments: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    compute: Compute = Compute(),
    compile: CompileChoice = "auto",
    strict: bool = False,
    checkpoint_s: float = 10.0,
    command: str | None = None,
    progress: Progress = silent,
    **changes: Unpack[RecipeChanges],
) -> TrainResult:
    """Train a network on labelled images, test it, and write a run folder with a report.

    Args:
        net: name of a network (``striate.nets.NETS``), a ``.net`` file, a text in the lectures' notation, or
            ``module:factory`` of one's own; a module that maps ``N x C x H x W`` images to ``N x K`` scores,
            K being the number of classes, which holds the selected weights afterwards; or an open network
            (``striate.load(...).opened``), which is trained further.
        data: name of a data set, a folder, an archive or a manifest; several are united.
        recipe: name or value; None takes the network's own, ``photos`` for a module.
        input: channels, height and width in pixels that a module takes; None takes its ``input_shape``.
        arguments: for the network's builder, such as ``{"input_px": 64}`` for vgg16.
        weights: to start from: a bundle or run folder, a file of another program, or the name of published
            ones (``torchvision``). A last layer for other classes starts anew; images are normalised as these
            weights expect.
        out: run folder to create; None makes ``runs/NET-DATA-TIME``.
        seed: of weights, order, augmentation and dropout; 0 or more.
        compute: device and precision. The images in a step are the recipe's ``batch_images``.
        compile: whether to compile the network with ``torch.compile``; ``auto`` does so for a long training
            (2e13 multiply-accumulates) of a network with batch normalisation in bf16 on a CPU with a C++
            compiler, where it was measured to pay.
        strict: a broken image is an error instead of being left out.
        checkpoint_s: seconds between checkpoints, at least.
        command: what repeats the training, for the report; None writes the call.
        progress: listener.
        changes: fields of the recipe: ``lr=0.05, epochs=3, batch_images=64``.

    Returns:
        Where everything is, and the scores.

    Raises:
        UsageError: an unknown name, a value of the wrong type or range, or another process trains in ``out``.
        DataError: no usable images.
        NonFiniteLossError: training diverged.
        InterruptedRunError: stopped by Ctrl-C after saving.
    """
    opened = getattr(net, "opened", net)  # striate.Model
    module, reference, name, own_recipe = _named(opened)
    for wrong in {"precision", "device"} & changes.keys():
        raise UsageError(f"expected `compute=striate.Compute({wrong}=...)`, got `{wrong}`")
    if not isinstance(compute, Compute):
        raise UsageError(f"expected `compute` as a striate.Compute, got {compute!r}")
    if not isinstance(data, str | Path | list | tuple):
        raise UsageError(f"expected `data` as a name, a path or a list of them, got {data!r}")
    if not isinstance(arguments, Mapping | None):
        raise UsageError(f"expected `arguments` as a dict, got {arguments!r}")
    if arguments and module is not None:
        raise UsageError("expected no `arguments` with a module, which is built already, got some")
    if input is not None and module is None and not is_own(reference):
        raise UsageError(f"expected no `input`: {name} says its own, or takes it in `arguments`")
    if not isinstance(checkpoint_s, int | float) or isinstance(checkpoint_s, bool) or checkpoint_s < 0:
        raise UsageError(f"expected `checkpoint_s` of at least 0, got {checkpoint_s!r}")
    if compute.batch_images is not None:
        raise UsageError(
            "expected the images in a step as `batch_images`, a field of the recipe, got them in `compute`"
        )
    if recipe is not None and not isinstance(recipe, str | Recipe):
        raise UsageError(f"expected `recipe` as a name or a Recipe, got {type(recipe).__name__}")
    # At once: a cyclic schedule is refused where its cycles and epochs don't go together.
    published = recipe if isinstance(recipe, Recipe) else find_recipe(recipe or own_recipe)
    chosen = change(published, changes)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UsageError(f"expected `seed` from 0 to 2**63 - 1, got {seed!r}")
    if compile not in get_args(CompileChoice):
        raise UsageError(f"expected `compile` auto, on or off, got {compile!r}")
    where = [data] if isinstance(data, str | Path) else list(data)
    if not where:
        raise UsageError("expected at least one data source, got none: name images by `data`")
    given = dict(arguments or {})
    if command is None:
        said = {
            "input": input,
            "weights": None if weights is None else str(weights),
            "arguments": given,
            "seed": seed,
            "compute": None if compute == Compute() else compute,
            "compile": None if compile == "auto" else compile,
            "strict": strict,
        }
        network = repr(reference if is_own(reference) else name) if module is None else f"{name}()"
        command = call_of(network, where, chosen, published, recipe, said)
    plan = Plan(
        net=reference,
        net_arguments=net_arguments_of(chosen, given, own=is_own(reference)),
        input=_input_of(module, opened.input_shape if isinstance(opened, OpenNetwork) else input),
        weights=None if weights is None else absolute(weights),
        data=[absolute(part) for part in where],
        recipe=chosen,
        seed=seed,
        device=_device_name(compute.torch_device),
        precision=compute.forward_precision,
        threads=torch.get_num_threads(),
        compile=compile,
        strict=strict,
        command=command,
    )
    if not is_own(reference):
        describe(reference, num_classes=2, **plan.net_arguments)  # refuses wrong arguments at once
    folder = Path(out) if out is not None else default_out(name, where)
    source = open_source(where, progress=progress)
    with sole_writer(folder, "trained"):
        run = create_run(folder, plan_to_json(plan))
        try:
            return _carry_out(
                plan, run, source, module, resume=False, checkpoint_s=checkpoint_s, progress=progress
            )
        except Exception:
            abandon_run(run)
            raise


def resume(
    run: str | Path,
    *,
    net: nn.Module | str | None = None,
    checkpoint_s: float = 10.0,
    progress: Progress = silent,
) -> TrainResult:
    """Continue a run that was stopped or killed; it ends with the weights it would have had anyway.

    Args:
        run: the run folder.
        net: for a run of one's own network: the module, or ``module:factory``. A run folder never makes
            striate import code by itself.
        checkpoint_s: seconds between checkpoints, at least.
        progress: listener.

    Raises:
        CheckpointError: the folder holds no run, or its data or files changed.
        UsageError: another process trains in it.
    """
    folder = RunFolder(Path(run))
    plan = plan_from_json(read_settings(folder), folder)
    if is_own(plan.net) and net is None:
        wanted = "MODULE" if plan.net.startswith("<") else repr(plan.net)
        raise CheckpointError(
            f"{folder.path}: a run of {own_name(plan.net)}, which striate does not build by itself: pass it,"
            f" `striate.resume({str(run)!r}, net={wanted})`"
        )
    if isinstance(net, str):
        plan = replace(plan, net=net)
    module = net if isinstance(net, nn.Module) else None
    with sole_writer(folder.path, "trained"):
        source = open_source(plan.data, progress=progress)
        return _carry_out(
            plan, folder, source, module, resume=True, checkpoint_s=checkpoint_s, progress=progress
        )


def _device_name(device: torch.device) -> DeviceChoice:
    names: dict[str, DeviceChoice] = {"cpu": "cpu", "cuda": "cuda", "mps": "mps"}
    return names[device.type]


def _named(net: object) -> tuple[nn.Module | None, str, str, str]:
    """Return the module, if one was given, what finds the network again, its short name, and its recipe."""
    if isinstance(net, OpenNetwork):
        own = is_own(net.bundle.net)
        entry = None if own else find(net.bundle.net)
        name = net.bundle.net.strip("<>").rpartition(":")[2] if entry is None else entry.name
        return net.net, net.bundle.net, name, _RECIPE_OF_OWN if entry is None else entry.recipe
    if isinstance(net, nn.Module):
        name = type(net).__name__
        return net, f"<{name}>", name, _RECIPE_OF_OWN
    if not isinstance(net, str):
        raise UsageError(
            f"expected `net` as a name, a torch.nn.Module or an open network, got {type(net).__name__}"
        )
    if is_own(net):
        return None, net, net.rpartition(":")[2], _RECIPE_OF_OWN
    entry = find(net)
    return None, entry.reference, entry.name, entry.recipe


def _input_of(module: nn.Module | None, input: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """Return the input's shape where the builder does not say it."""
    shape = input if input is not None else getattr(module, "input_shape", None)
    if shape is None:
        if module is not None:
            raise UsageError(
                "expected to know what images the module takes: `input=(3, 64, 64)`, channels first"
            )
        return None
    fits = isinstance(shape, list | tuple) and len(shape) == 3
    if not fits or not all(isinstance(side, int) and side > 0 for side in shape):
        raise UsageError(
            f"expected `input` as channels, height and width, such as (3, 64, 64), got {shape!r}"
        )
    return (shape[0], shape[1], shape[2])


def _network(
    plan: Plan, num_classes: int, module: nn.Module | None
) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the network to train and its input's shape; a network of one's own is tried on one image."""
    if module is None and not is_own(plan.net):
        net = build(plan.net, num_classes=num_classes, **plan.net_arguments)
        return net, input_shape(net)
    if module is None:
        module, shape, _ = build_network(
            plan.net, size=plan.input, arguments=plan.net_arguments, num_classes=num_classes
        )
    else:
        assert plan.input is not None
        shape = plan.input
    modes = [(one, one.training) for one in module.modules()]
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            scores = module.eval()(torch.zeros(1, *shape, device=device))
    except Exception as error:
        raise UsageError(
            f"expected a module that takes images {shape}, got {type(error).__name__}: {error}"
        ) from error
    finally:
        for one, training in modes:
            one.training = training
    got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
    if got != (1, num_classes):
        raise UsageError(
            f"expected scores of shape (1, {num_classes}) from the module, one for each class of the data,"
            f" got {got}: change its last layer"
        )
    return module, shape


def _carry_out(
    plan: Plan,
    run: RunFolder,
    source: Source,
    module: nn.Module | None,
    *,
    resume: bool,
    checkpoint_s: float,
    progress: Progress,
) -> TrainResult:
    recipe = plan.recipe
    device = torch.device(plan.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(f"{run.path}: started on a GPU and none is here: resume it where there is one")
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with _threads(plan.threads), torch.random.fork_rng(devices=gpus):
        torch.manual_seed(plan.seed)
        num_classes = len(source.classes)
        net, shape = _network(plan, num_classes, module)
        expected = _start_weights(net, plan, run, module is not None, resume, progress)
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
        val = None
        if len(dataset.splits.val):
            size = min(_TEST_BATCH, recipe.batch_images)
            val = loader_for(dataset, dataset.splits.val, preprocessing, size, device)
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

        if (plan.weights is not None or module is not None) and not run.start.exists():
            save_bundle(replace(template, state=net.state_dict()), run.start)

        def save(path: Path, state: Mapping[str, torch.Tensor], metrics: dict[str, Any]) -> None:
            save_bundle(replace(template, state=dict(state), metrics=metrics), path)

        own_loss = None if is_own(plan.net) else find(plan.net).loss
        training = Training(
            net=net,
            train=loader_for(dataset, dataset.splits.train, preprocessing, recipe.batch_images, device),
            val=val,
            colours=colours,
            recipe=recipe,
            loss=make_loss(recipe, source.labels[dataset.splits.train], num_classes, device, own_loss),
            run=run,
            save=save,
            key=run_key(plan, dataset),
            seed=plan.seed,
            device=device,
            precision=plan.precision,
            compiled=_compiles(plan, net, shape, len(dataset.splits.train)),
            checkpoint_s=checkpoint_s,
            progress=progress,
        )
        try:
            position = Trainer(training).run(resume=resume)
        except WriteError as error:
            raise WriteError(f'{error}; then continue with `resume("{run.path}")`') from None
        result = _finish(plan, run, dataset, position, net if is_own(plan.net) else None, progress)
        last = run.last if recipe.average != "none" else None
        return replace(result, last=last, snapshots=snapshot_files(run))


def _start_weights(
    net: nn.Module, plan: Plan, run: RunFolder, given: bool, resume: bool, progress: Progress
) -> Preprocessing | None:
    """Load the weights that a run starts from; return how they expect images, if that is known.

    A run keeps them in its folder, so that resuming does not depend on a file or module elsewhere.
    """
    if resume and run.start.exists():
        kept = load_bundle(run.start)
        fill_network(net, kept.state, str(run.start))
        return kept.preprocessing
    if plan.weights is None:
        return None
    if is_own(plan.net):
        kept = load_bundle(Path(plan.weights))
        if not is_own(kept.net):
            raise UsageError(f"expected `weights` of {own_name(plan.net)}, got those of {kept.net}")
        fill_network(net, kept.state, plan.weights)
        return kept.preprocessing
    if given:
        raise UsageError("expected an open network, which has weights, or `weights`, got both")
    file = open_weights(plan.weights, plan.net, progress=progress)
    loaded = load_weights(net, plan.net, file)
    notes = [f"{loaded.used} of {len(file.tensors)} tensors used", *loaded.notes, *loaded.replaced]
    notes += [f"left over: {', '.join(loaded.left_over)}"] if loaded.left_over else []
    for note in notes:
        progress("note", 0, None, f"{Path(plan.weights).name}: {note}")
    return loaded.preprocessing


def _finish(
    plan: Plan,
    run: RunFolder,
    dataset: Dataset,
    position: Position,
    own: nn.Module | None,
    progress: Progress,
) -> TrainResult:
    """Test the selected weights, add the result to the bundle, and write the report."""
    net, bundle = open_bundle(run.bundle, own)
    indices, split, note = _held_out(dataset, plan.recipe)
    compute = Compute(
        device=plan.device, precision=plan.precision, batch_images=min(_TEST_BATCH, plan.recipe.batch_images)
    )
    evaluation = None
    if len(indices):
        evaluation = evaluate_images(
            net, dataset, indices, bundle.preprocessing, compute=compute, progress=progress
        )
    scores = None if evaluation is None else evaluation.scores
    fitted = fit_on_validation(
        net.to(compute.torch_device), dataset, bundle.preprocessing, compute=compute, progress=progress
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
    bundle = replace(bundle, metrics=metrics)
    save_bundle(bundle, run.bundle)
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
    write_run_report(run, net, bundle, dataset, evaluation, num_resumes=position.resumed)
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


def _compiles(plan: Plan, net: nn.Module, shape: tuple[int, int, int], num_train: int) -> bool:
    if plan.compile != "auto":
        return plan.compile == "on"
    normalised = any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    if not (plan.device == "cpu" and plan.precision == "bf16" and normalised and has_compiler()):
        return False
    try:
        macs = trace(net, shape).macs
    except UsageError:  # a network of one's own that can't be read on shapes alone
        return False
    return macs * num_train * plan.recipe.epochs >= _WORTH_COMPILING_MACS


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
        raise UsageError("recipe normalise imagenet is for colour images: set `normalise=dataset`")
    return replace(pre, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def _normalised_alike(pre: Preprocessing, weights: Preprocessing) -> Preprocessing:
    """Give images the levels that pretrained weights expect."""
    if pre.channels != weights.channels:
        return pre
    return replace(pre, mean=weights.mean, std=weights.std, colour_order=weights.colour_order)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with as many threads as the run started with: sums in another order are other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
