"""What a training leaves behind."""

from dataclasses import dataclass
from pathlib import Path

from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores


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
        last: the file with the last weights as they were trained, where the bundle holds an average.
        snapshots: files with the weights at the ends of the cycles of a cyclic schedule, first one first.
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
    last: Path | None = None
    snapshots: tuple[Path, ...] = ()
