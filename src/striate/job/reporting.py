"""What the report of a training says, gathered from all rooms."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.devices import (
    describe_machine,
)
from striate.data.batches import network_pixels
from striate.data.dataset import (
    Dataset,
)
from striate.fit.checkpoint import Position
from striate.job.members import input_shape, pictures_of
from striate.job.plan import Plan, versions
from striate.job.result import TrainResult
from striate.nets import describe, find
from striate.score.evaluate import Evaluation, worst_mistakes
from striate.score.metrics import MultiLabelScores, Scores
from striate.score.report import MistakePicture, RunReport

_MISTAKES = 24


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
    by_val = plan.recipe.select == "best" and len(dataset.splits.val) > 0
    rule = "lowest validation error" if by_val else "the last one, as the recipe says"
    if plan.recipe.average != "none":
        rule += f", {plan.recipe.average} average of the weights"
    return RunReport(
        title=f"{entry.title} on {_data_name(plan)}",
        net=entry.name,
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
    channels, height, width = input_shape(net)
    shown = replace(
        dataset.canvas,
        height_px=height,
        width_px=width,
        channels=channels,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    members = np.array([mistake.index for mistake in worst], np.int64)
    pixels = network_pixels(pictures_of(dataset, members, shown, len(members), torch.device("cpu")), members)
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


def _data_name(plan: Plan) -> str:
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
