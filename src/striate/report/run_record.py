"""What the report of a training says, gathered from all rooms."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.environment import describe_machine, versions
from striate.data.dataset import Dataset, fetch_pixels
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels
from striate.data.sources import Source
from striate.evaluation.evaluate import Evaluation
from striate.metrics.predictions import Predictions
from striate.nets import describe, find
from striate.recipes.recipe import Recipe
from striate.report.galleries import Galleries, galleries
from striate.report.render import RunReport
from striate.training.checkpoint import Position
from striate.training.plan import Plan
from striate.training.result import TrainResult
from striate.weights.bundle import Bundle, load_bundle


def report_of(
    plan: Plan,
    dataset: Dataset,
    net: nn.Module,
    result: TrainResult,
    evaluation: Evaluation | None,
    position: Position,
) -> RunReport:
    """Gather a finished training into the record that the report renders."""
    entry = find(plan.net)
    summary = describe(plan.net, num_classes=len(dataset.classes), **plan.net_arguments)
    bundle = load_bundle(result.bundle)
    answers, shown = None, Galleries()
    if evaluation is not None:
        source = dataset.source
        answers = Predictions(
            name=result.run.name,
            classes=dataset.classes,
            files=tuple(source.files[i] for i in evaluation.indices.tolist()),
            labels=evaluation.labels,
            logits=evaluation.logits,
            split=result.split,
        )
        pictures = pictures_from(source, evaluation.indices, bundle.preprocessing)
        shown = galleries(answers, bundle.temperature, pictures)
    return RunReport(
        title=f"{entry.title} on {data_name(plan.data)}",
        name=result.run.name,
        net=entry.name,
        num_parameters=summary.parameters,
        macs=summary.macs,
        input_shape=summary.input_shape,
        paper=entry.paper,
        data=data_name(plan.data),
        num_images={name: count for name, count in result.num_images.items() if count},
        classes=dataset.classes,
        split_notes=split_notes(dataset),
        quarantined=result.broken,
        history=result.history,
        selected_epoch=result.selected_epoch,
        selection_rule=selection_rule(plan.recipe, has_val=len(dataset.splits.val) > 0),
        test=result.scores,
        test_split=result.split,
        test_note=result.note,
        answers=answers,
        temperature=bundle.temperature,
        protocols=protocols_of(bundle),
        mistakes=shown.mistakes,
        suspects=shown.suspects,
        losses=shown.losses,
        filters=first_filters(net),
        recipe=recipe_rows(plan.recipe.to_json()),
        environment={
            **versions(),
            **describe_machine(torch.device(plan.device)),
            "precision": plan.precision,
        },
        command=plan.command,
        seed=plan.seed,
        wall_s=result.seconds,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        num_resumes=position.resumed,
    )


def pictures_from(
    source: Source, indices: NDArray[np.int64], preprocessing: Preprocessing
) -> Callable[[Sequence[int]], list[NDArray[np.uint8]]]:
    """Return a function that shows images as the network sees them, before normalisation.

    Args:
        source: where they come from.
        indices: place in the source of each row of the answers.
        preprocessing: of the network.
    """

    def pictures(rows: Sequence[int]) -> list[NDArray[np.uint8]]:
        side = decode_side_px(preprocessing)
        return [to_pixels(fetch_pixels(source, int(indices[row]), side), preprocessing) for row in rows]

    return pictures


def selection_rule(recipe: Recipe, *, has_val: bool) -> str:
    """Say in a few words why the weights of an epoch were kept."""
    rule = "lowest validation error" if recipe.select == "best" and has_val else ""
    rule = rule or "the last one, as the recipe says"
    return (
        rule
        if recipe.average == "none"
        else f"{rule}, {recipe.average} average of the weights (last.safetensors has the last ones)"
    )


def recipe_rows(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's values with its name at the end, as a report shows them."""
    values = {key: value for key, value in recipe.items() if key != "name"}
    return values | {"recipe": recipe["name"]} if "name" in recipe else values


def protocols_of(bundle: Bundle) -> tuple[dict[str, Any], ...]:
    """Return the results of other ways of testing that a bundle's metrics hold, if any."""
    kept = bundle.metrics.get("protocols")
    return tuple(one for one in kept if isinstance(one, dict)) if isinstance(kept, list) else ()


def first_filters(net: nn.Module) -> NDArray[np.floating[Any]] | None:
    """Return the weights of a network's first convolution, ``out x in x k x k``; None where it has none."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return module.weight.detach().float().cpu().numpy()
    return None


def data_name(where: Sequence[str | Path]) -> str:
    """Name data without the folders they are in."""
    return " and ".join(Path(part).name for part in where)


def split_notes(dataset: Dataset) -> tuple[str, ...]:
    """Say how the splits were made, one sentence each."""
    return (*_made(dataset), *dataset.notes, *dataset.source.notes)


def _made(dataset: Dataset) -> tuple[str, ...]:
    """Say in a sentence which splits are striate's own."""
    made = dataset.splits.made
    if not made:
        return ()
    parts = " and ".join(made) if len(made) < 3 else f"{', '.join(made[:-1])} and {made[-1]}"
    verb = "splits were" if len(made) > 1 else "split was"
    return (f"The {parts} {verb} made by striate, by each image's content: equal ones stay on one side.",)
