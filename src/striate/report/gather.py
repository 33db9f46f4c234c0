"""What the report says about a run folder or bundle: the one place that makes a ``RunReport`` of weights."""

import csv
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.anatomy import trace
from striate.core.errors import DataError, UsageError
from striate.data.dataset import Dataset, fetch_pixels
from striate.data.preprocess import decode_side_px, to_pixels
from striate.evaluation.evaluate import Evaluation
from striate.metrics.multilabel import MultiLabelScores, choose_thresholds, score_multilabel
from striate.metrics.predictions import Predictions
from striate.metrics.scores import Scores
from striate.nets import describe, find
from striate.recipes.recipe import Recipe
from striate.report.mistakes import choose_images
from striate.report.run_report import EpochRow, RunReport
from striate.weights.bundle import Bundle
from striate.weights.open import is_own
from striate.weights.run_folder import RunFolder, read_settings

_SPLITS = {"test": "test", "val": "validation", "train": "training"}


def gather(
    path: Path,
    net: nn.Module,
    bundle: Bundle,
    dataset: Dataset | None = None,
    evaluation: Evaluation | None = None,
    *,
    split: str = "",
    on_val: Evaluation | None = None,
    num_resumes: int = 0,
) -> RunReport:
    """Gather everything that the report says about a run folder or a bundle.

    Args:
        path: the run folder, whose ``run.json`` and ``metrics.csv`` are read, or the bundle's file.
        net: the network with the bundle's weights.
        bundle: that of ``path``.
        dataset: images that it was tested on; None leaves what is stored with the weights.
        evaluation: of images of ``dataset``; None where none was held out.
        split: which images these are, in words.
        on_val: of the validation images, which choose the thresholds of several labels an image.
        num_resumes: how often the training was resumed.

    Raises:
        CheckpointError: the folder is no run.
        DataError: ``metrics.csv`` is damaged.
    """
    settings = read_settings(RunFolder(path)) if path.is_dir() else {}
    run = replace(_stored(path, settings, net, bundle), filters=_first_filters(net), num_resumes=num_resumes)
    if dataset is None:
        return run
    own = bundle.data.get("fingerprint") == dataset.fingerprint
    run = replace(run, quarantined=dataset.broken_files)
    if own:
        counts = {name: count for name, count in dataset.num_images.items() if count}
        run = replace(run, num_images=counts, split_notes=_split_notes(dataset))
    return run if evaluation is None else _tested(run, bundle, dataset, evaluation, split, on_val, own)


def _tested(
    run: RunReport,
    bundle: Bundle,
    dataset: Dataset,
    evaluation: Evaluation,
    split: str,
    on_val: Evaluation | None,
    own: bool,
) -> RunReport:
    """Add a test, and the images that it makes worth a look."""
    predictions = Predictions(
        name=run.name,
        classes=bundle.classes,
        files=tuple(dataset.source.files[i] for i in evaluation.indices.tolist()),
        labels=evaluation.labels,
        logits=evaluation.logits,
        split=split,
    )
    scores = evaluation.scores
    if isinstance(scores, MultiLabelScores) and on_val is not None:
        thresholds = choose_thresholds(on_val.probabilities, on_val.labels)
        scores = score_multilabel(
            evaluation.probabilities, evaluation.labels, bundle.classes, thresholds=thresholds
        )

    def images(rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        """Show images as the network sees them, before normalisation."""
        side = decode_side_px(bundle.preprocessing)
        indices = evaluation.indices[list(rows)].tolist()
        return [to_pixels(fetch_pixels(dataset.source, i, side), bundle.preprocessing) for i in indices]

    chosen = choose_images(predictions, bundle.temperature, images)
    # What the training noted holds for its own images only.
    noted = own and run.test_note and split_name(split) == split_name(str(bundle.metrics.get("split", "")))
    return replace(
        run,
        test=scores,
        test_split=split_name(split),
        test_note=run.test_note if noted else sentence(split),
        predictions=predictions,
        mistakes=chosen.mistakes,
        suspects=chosen.suspects,
        losses=chosen.losses,
    )


def _stored(path: Path, settings: Mapping[str, Any], net: nn.Module, bundle: Bundle) -> RunReport:
    """Say what a bundle and, for a run, its folder hold; nothing is tested."""
    title, name, paper, parameters, macs = _about(net, bundle)
    pre = bundle.preprocessing
    data = _data_name(data_of(settings) or str(bundle.data.get("name", "")).split(" + "))
    counts = bundle.data.get("num_images")
    counts = counts if isinstance(counts, dict) else {}
    is_run = path.is_dir()
    history = _history(RunFolder(path)) if is_run else None
    recipe = Recipe.from_json(bundle.recipe) if bundle.recipe else None
    epoch = bundle.metrics.get("epoch")
    protocols = bundle.metrics.get("protocols")
    # A run may have been resumed by newer software than it was started with: the bundle names the last.
    environment = {**(settings.get("environment") or {}), **bundle.versions}
    if "precision" in settings:
        environment["precision"] = settings["precision"]
    return RunReport(
        title=f"{title} on {data}" if data else title,
        classes=bundle.classes,
        name=path.name,
        net=name,
        num_parameters=parameters,
        macs=macs,
        input_shape=(pre.channels, pre.height_px, pre.width_px),
        paper=paper,
        data=data,
        num_images={str(name): int(count) for name, count in counts.items() if count},
        history=history,
        selected_epoch=epoch if isinstance(epoch, int) else None,
        selection_rule=_selection_rule(recipe, has_val=bool(counts.get("val"))) if recipe else "",
        test=_stored_scores(bundle),
        test_split=split_name(str(bundle.metrics.get("split", ""))),
        test_note=sentence(str(bundle.metrics.get("note") or "")),
        temperature=bundle.temperature,
        protocols=tuple(one for one in protocols if isinstance(one, dict))
        if isinstance(protocols, list)
        else (),
        recipe=_recipe_rows(recipe.to_json()) if recipe else {},
        environment=environment,
        command=str(settings.get("command", "")),
        seed=bundle.seed,
        wall_s=math.fsum(row["seconds"] or 0.0 for row in history) if history else None,
        origin="its run folder" if is_run else "a bundle",
        ingredients=bundle.ingredients,
    )


def _about(net: nn.Module, bundle: Bundle) -> tuple[str, str, str, int | None, int | None]:
    """Return a network's title, name and paper, its parameters and multiply-accumulates."""
    if not is_own(bundle.net):
        entry = find(bundle.net)
        summary = describe(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
        return entry.title, entry.name, entry.paper, summary.parameters, summary.macs
    name = bundle.net.strip("<>")
    pre = bundle.preprocessing
    try:
        counted = trace(net, (pre.channels, pre.height_px, pre.width_px))
    except UsageError:  # it can't be read on shapes alone
        return name, name, "", None, None
    return name, name, "", counted.parameters, counted.macs


def data_of(settings: Mapping[str, Any]) -> list[str] | None:
    """Return the data that ``run.json`` names, if any."""
    where = settings.get("data")
    return [str(part) for part in where] if isinstance(where, list) and where else None


def split_name(words: str) -> str:
    """Name a split in one word; "given" for images that are none."""
    first = words.partition(" ")[0]
    return _SPLITS.get(first, first if first in _SPLITS.values() else "given")


def sentence(words: str) -> str:
    """Make a sentence of a note."""
    return f"{words[0].upper()}{words[1:]}." if words and not words.endswith(".") else words


def _stored_scores(bundle: Bundle) -> Scores | MultiLabelScores | None:
    stored = bundle.metrics.get("scores")
    if not isinstance(stored, dict):
        return None
    with suppress(DataError):  # scores of another kind or from a newer striate: as if there were none
        return MultiLabelScores.from_json(stored) if bundle.multi_label else Scores.from_json(stored)
    return None


def _history(run: RunFolder) -> list[EpochRow]:
    """Read ``metrics.csv``; an absent one is an empty history."""
    try:
        with open(run.metrics, encoding="utf-8", newline="") as file:
            return [
                {key: float(text) if text else None for key, text in row.items() if key}
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(
            f"{run.metrics}: expected a table of numbers as `striate train` writes it, got one that can't be"
            f" read ({error}): restore it from a backup, or remove it"
        ) from None


def _selection_rule(recipe: Recipe, *, has_val: bool) -> str:
    """Say in a few words why the weights of an epoch were kept."""
    best = recipe.select == "best" and has_val
    rule = "lowest validation error" if best else "the last one, as the recipe says"
    if recipe.average == "none":
        return rule
    return f"{rule}, {recipe.average} average of the weights (last.safetensors has the last ones)"


def _recipe_rows(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's values with its name at the end."""
    return {**{key: value for key, value in recipe.items() if key != "name"}, "recipe": recipe["name"]}


def _first_filters(net: nn.Module) -> NDArray[np.floating[Any]] | None:
    """Return the weights of a network's first convolution, ``out x in x k x k``; None where it has none."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.weight.detach().float().cpu().numpy()


def _data_name(where: Sequence[str]) -> str:
    """Name data without the folders they are in."""
    return " and ".join(Path(part).name for part in where)


def _split_notes(dataset: Dataset) -> tuple[str, ...]:
    """Say how the splits were made, one sentence each."""
    made = dataset.splits.made
    notes = (*dataset.notes, *dataset.source.notes)
    if not made:
        return notes
    parts = " and ".join(made) if len(made) < 3 else f"{', '.join(made[:-1])} and {made[-1]}"
    verb = "splits were" if len(made) > 1 else "split was"
    how = "made by striate from each image's content: equal images stay on one side."
    return (f"The {parts} {verb} {how}", *notes)
