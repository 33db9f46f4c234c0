"""What a run is: the settings in ``run.json``, the key of its checkpoints, the command that repeats it."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from striate.core.choices import CompileChoice, DeviceChoice
from striate.core.compute import Precision
from striate.core.environment import describe_machine, versions
from striate.core.errors import CheckpointError, UsageError
from striate.data.dataset import (
    Dataset,
)
from striate.data.named import NAMES
from striate.recipes import find_recipe
from striate.recipes.recipe import Recipe
from striate.weights.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A run's settings as ``run.json`` holds them."""

    net: str
    net_arguments: dict[str, Any]
    input: tuple[int, int, int] | None
    weights: str | None
    data: list[str]
    recipe: Recipe
    seed: int
    device: DeviceChoice
    precision: Precision
    threads: int
    compile: CompileChoice
    strict: bool
    command: str


def net_arguments_of(recipe: Recipe, arguments: dict[str, Any], *, own: bool = False) -> dict[str, Any]:
    """Add the recipe's dropout to the arguments of a network.

    Raises:
        UsageError: the number of classes is among them: it comes from the data.
    """
    if "num_classes" in arguments:
        raise UsageError(
            f"expected no num_classes, got {arguments['num_classes']}: the data's classes are counted"
        )
    if recipe.dropout is not None and not own:
        arguments.setdefault("dropout", recipe.dropout)
    return arguments


def run_key(plan: Plan, dataset: Dataset) -> str:
    """Name the experiment: a checkpoint resumes only under the same one."""
    # Order and augmentation go by an image's place in the source, so the order of the images counts too.
    order = hashlib.blake2b(np.ascontiguousarray(dataset.scan.digests).data, digest_size=16)
    order.update(np.ascontiguousarray(dataset.source.labels).data)
    recipe = plan.recipe.to_json()
    if plan.recipe.schedule != "cyclic":
        del recipe["cycles"]  # it counts for nothing, and runs started before it existed resume
    parts = [plan.net, plan.net_arguments, recipe, plan.seed, plan.precision]
    parts += [dataset.fingerprint, order.hexdigest()]
    if plan.weights is not None:
        parts.append(plan.weights)
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def absolute(part: str | Path) -> str:
    """Make a path independent of the current folder; names of data sets stay as they are."""
    if str(part) in NAMES:
        return str(part)
    path = Path(part)
    return str(path.absolute()) if path.exists() else str(part)


def default_out(net: str, where: Sequence[str | Path]) -> Path:
    """Choose a run folder that is not there yet: ``runs/NET-DATA-TIME``."""
    stem = Path(where[0]).name.split(".")[0] or "data"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    first = Path("runs") / f"{net}-{stem}-{stamp}"
    tries = (first, *(first.with_name(f"{first.name}-{n}") for n in range(2, 1000)))
    return next(path for path in tries if not path.exists())


def call_of(
    net: str,
    where: Sequence[str | Path],
    chosen: Recipe,
    published: Recipe,
    recipe: str | Recipe | None,
    options: Mapping[str, object],
) -> str:
    """Write the call that repeats a training."""
    data = [str(part) for part in where]
    words = [net, repr(data[0] if len(data) == 1 else data), f"recipe={chosen.name!r}"]
    words += [f"{key}={value!r}" for key, value in options.items() if value]
    start = published if not isinstance(recipe, Recipe) else _published(recipe)
    before = {} if start is None else start.to_json()
    words += [
        f"{key}={value!r}"
        for key, value in chosen.to_json().items()
        if key != "name" and before.get(key, value) != value
    ]
    return f"striate.train({', '.join(words)})"


def _published(recipe: Recipe) -> Recipe | None:
    try:
        return find_recipe(recipe.name)
    except UsageError:
        return None


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Write a plan, and the machine it runs on, as ``run.json`` holds it."""
    return {
        "net": plan.net,
        "net_arguments": plan.net_arguments,
        **({} if plan.input is None else {"input": list(plan.input)}),
        "weights": plan.weights,
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
        "environment": {**versions(), **describe_machine(torch.device(plan.device))},
    }


def _three(sizes: Any) -> tuple[int, int, int]:
    channels, height, width = map(int, sizes)
    return channels, height, width


def plan_from_json(record: Mapping[str, Any], folder: RunFolder) -> Plan:
    """Read a plan back.

    Raises:
        CheckpointError: a field is missing or of the wrong type.
    """
    try:
        return Plan(
            net=str(record["net"]),
            net_arguments=dict(record["net_arguments"]),
            input=None if record.get("input") is None else _three(record["input"]),
            weights=None if record.get("weights") is None else str(record["weights"]),
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
            f"{folder.settings}: damaged ({error}): start anew with another `out`"
        ) from None
