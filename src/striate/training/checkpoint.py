"""The checkpoint: everything that a run needs to go on as if it had never stopped."""

import io
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.core.atomic import write_atomic
from striate.core.errors import CheckpointError
from striate.training.average import WeightAverage
from striate.training.schedule import Plateau

_VERSION = 1


@dataclass(slots=True)
class Position:
    """Where a run is, and what it has seen so far.

    Attributes:
        epoch: epochs finished.
        batch: batches finished in the epoch under way.
        loss_sum: sum of the training loss over the images of the epoch under way.
        wrong: wrongly classified images of the epoch under way.
        images: images of the epoch under way.
        seconds: training time of the epoch under way.
        plateau: memory of the plateau schedule.
        best_error: lowest validation error so far (a fraction), or None.
        best_epoch: epoch (counted from 1) whose weights are in the best bundle, 0 when there is none.
        history: one row for each finished epoch.
        resumed: how often the run was resumed.
    """

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    wrong: float = 0.0
    images: int = 0
    seconds: float = 0.0
    plateau: Plateau = field(default_factory=Plateau)
    best_error: float | None = None
    best_epoch: int = 0
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    resumed: int = 0


def save_checkpoint(
    path: Path,
    position: Position,
    net: nn.Module,
    optimizer: Optimizer,
    average: WeightAverage | None,
    key: str,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: of the file.
        position: where the run is.
        net: weights and buffers are saved.
        optimizer: its buffers are saved.
        average: the running average, if any.
        key: what the run is (data fingerprint, recipe, seed); a checkpoint resumes only under the same key.
    """
    content = {
        "version": _VERSION,
        "key": key,
        "position": asdict(position),
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": None if average is None else {"state": average.state, "num_updates": average.num_updates},
        "rng_cpu": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    serialised = io.BytesIO()
    torch.save(content, serialised)
    write_atomic(path, lambda file: file.write(serialised.getbuffer()))


def load_checkpoint(
    path: Path, net: nn.Module, optimizer: Optimizer, average: WeightAverage | None, key: str
) -> Position:
    """Restore a run from its checkpoint, the state of the random generators included.

    Raises:
        CheckpointError: the file is damaged, holds more than tensors and plain values, or belongs to other
            data, another recipe or another seed.
    """
    remedy = "start anew with the same command and another `out`"
    content = _read(path, remedy)
    try:
        if content["version"] != _VERSION:
            raise CheckpointError(
                f"{path}: checkpoint version {content['version']}, expected {_VERSION}: {remedy}"
            )
        if content["key"] != key:
            raise CheckpointError(
                f"{path}: the data, the recipe or the network changed since this run began,"
                f" so resuming would mix two experiments: restore them, or {remedy}"
            )
        net.load_state_dict(content["net"])
        optimizer.load_state_dict(content["optimizer"])
        if average is not None:
            for name, tensor in average.state.items():
                tensor.copy_(content["average"]["state"][name])
            average.num_updates = content["average"]["num_updates"]
        torch.set_rng_state(content["rng_cpu"])
        if content["rng_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in content["rng_cuda"]])
        fields = dict(content["position"])
        fields["plateau"] = Plateau(**fields["plateau"])
        return Position(**fields)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_first_line(error)}): {remedy}") from None


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        stored = io.BytesIO(path.read_bytes())
        with zipfile.ZipFile(stored) as archive:  # torch compares no checksums
            if archive.testzip() is not None:
                raise ValueError("a checksum differs: a damaged disk or copy")
        stored.seek(0)
        content = torch.load(stored, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror or error}): {remedy}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: holds something that is neither a tensor nor a plain value, so it was not loaded"
            f" (nothing was executed): {remedy}"
        ) from None
    except Exception as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_first_line(error)}): {remedy}") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path}: expected a striate checkpoint, got {type(content).__name__}: {remedy}"
        )
    return content


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
