"""The run folder: its files, what each holds, and how they are written."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.core.atomic import write_text_atomic
from striate.core.errors import CheckpointError, UsageError

COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "train_error",
    "val_loss",
    "val_error",
    "images_per_s",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of a run's files; every one is written to a temporary name, synced and renamed.

    ``run.json`` (recipe, data, seed, environment, command), ``metrics.csv`` (one row for each epoch),
    ``checkpoint.pt`` (the state to resume from), ``model.safetensors`` (the selected bundle),
    ``report.html``. With an average of the weights also ``last.safetensors`` (the last ones, not averaged);
    with a cyclic schedule ``snapshots/snapshot_1.safetensors`` and so on.
    """

    path: Path

    @property
    def settings(self) -> Path:
        """What the run is."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """One row for each epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint.pt"

    @property
    def bundle(self) -> Path:
        """The selected weights."""
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The last weights as they were trained, where the selected ones are an average."""
        return self.path / "last.safetensors"

    @property
    def snapshots(self) -> Path:
        """The folder of the weights at the ends of the cycles."""
        return self.path / "snapshots"

    def snapshot(self, number: int) -> Path:
        """Name the weights at the end of a cycle, counted from 1."""
        return self.snapshots / f"snapshot_{number}.safetensors"

    @property
    def start(self) -> Path:
        """The weights that the training began with, where it was given any."""
        return self.path / "start.safetensors"

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.path / "report.html"


def bundle_path(path: Path) -> Path:
    """Return a bundle's file: the one in a run folder that has one, else the path itself."""
    inside = RunFolder(path).bundle
    with suppress(OSError):  # what is wrong with the path, its reader says
        return inside if path.is_dir() else path
    return path


def snapshot_files(run: RunFolder) -> tuple[Path, ...]:
    """Return the snapshots that are there, first cycle first."""
    found = [
        (path.stem.removeprefix("snapshot_"), path) for path in run.snapshots.glob("snapshot_*.safetensors")
    ]
    return tuple(
        path for _, path in sorted((int(number), path) for number, path in found if number.isdecimal())
    )


def create_run(path: Path, settings: Mapping[str, Any]) -> RunFolder:
    """Start a run folder with its ``run.json``.

    Settings without a checkpoint and without weights are those of a run that never got anywhere; they are
    replaced.

    Raises:
        UsageError: a run is there already; nothing is overwritten.
        WriteError: the folder can't be written to.
    """
    run = RunFolder(path)
    if run.checkpoint.exists() or run.bundle.exists() or snapshot_files(run):
        raise UsageError(
            f'{path} already holds a run: continue it with `resume("{path}")` or name another `out`'
        )
    run.start.unlink(missing_ok=True)
    write_settings(run, settings)
    return run


def abandon_run(run: RunFolder) -> None:
    """Remove a run folder in which nothing was trained: a refused command leaves nothing."""
    with suppress(OSError):
        if run.snapshots.is_dir() and not any(run.snapshots.iterdir()):
            run.snapshots.rmdir()  # a first snapshot that could not be written
        if {entry.name for entry in run.path.iterdir()} <= {run.settings.name, run.start.name}:
            run.start.unlink(missing_ok=True)
            run.settings.unlink()
            run.path.rmdir()


def write_settings(run: RunFolder, settings: Mapping[str, Any]) -> None:
    """Write ``run.json``."""
    write_text_atomic(run.settings, json.dumps(settings, indent=2, ensure_ascii=True) + "\n")


def read_settings(run: RunFolder) -> dict[str, Any]:
    """Read ``run.json``.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        settings = json.loads(run.settings.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{run.path}: expected a run folder with run.json, found none: check the path"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{run.settings}: can't be read ({error}): start anew with another `out`"
        ) from None
    if not isinstance(settings, dict):
        raise CheckpointError(f"{run.settings}: expected a JSON object: start anew with another `out`")
    return settings


def write_metrics(run: RunFolder, history: Sequence[Mapping[str, float | int | None]]) -> None:
    """Write ``metrics.csv`` from the whole history, so that it never disagrees with the checkpoint."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _printed(row.get(key)) for key in COLUMNS} for row in history)
    write_text_atomic(run.metrics, text.getvalue())


def _printed(value: float | int | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.8g}"
