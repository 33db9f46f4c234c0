"""What a report is made from: one record for each run, and one for each picture in it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.metrics.calibration import negative_log_likelihood
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.predictions import Predictions
from striate.metrics.scores import Scores

EpochRow = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, eq=False)
class MistakePicture:
    """An image with its label and an answer, to be shown.

    Attributes:
        image: ``H x W x 3`` or ``H x W`` in the *u8* state.
        file: name of the file, or of the image in its source.
        true: name of the class that it is labelled with.
        predicted: name of the class that was answered, or, for a likely label error, that is suggested.
        p_predicted: probability given to ``predicted``, in [0, 1].
        p_true: probability given to ``true``, in [0, 1].
    """

    image: NDArray[np.uint8]
    file: str
    true: str
    predicted: str
    p_predicted: float
    p_true: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunReport:
    """All that a report tells about one training run, bundle or file of predictions.

    Attributes:
        title: heading of the page.
        classes: class names.
        name: what to call it beside others; empty: the title.
        net: name of the network; empty where only its answers are known.
        num_parameters: number of learned values, or None where unknown.
        input_shape: channels, height and width of one image, in pixels, or None.
        data: name of the data set.
        num_images: images per split; the key ``train`` is named in the headline.
        history: one row per epoch with the keys ``epoch``, ``lr``, ``train_loss``, ``val_loss`` (nats),
            ``train_error``, ``val_error`` (fractions), ``images_per_s``, ``seconds``. A value may be None,
            missing or not finite, except ``epoch``. None: there are no records of the training.
        command: the exact command that repeats the run; empty where unknown.
        seed: random seed of the run, or None.
        wall_s: duration in seconds, all resumed parts together, or None.
        created: when the run ended, in ISO 8601; empty where unknown.
        origin: what the page was made from, in words.
        macs: multiply-accumulates for one image, or None.
        paper: where the network was published, or None.
        notes: what the page lacks or what it was made from instead, one sentence each.
        split_notes: how the splits were made, one sentence each.
        quarantined: files left out, each with the reason.
        selected_epoch: the epoch whose weights were kept, or None.
        selection_rule: why that epoch, in a few words such as "lowest validation error".
        test: scores of the kept weights on images that took no part in training or selection, or None.
        test_split: name of the split that ``test`` was measured on.
        test_note: what a reader must know to trust the result (who saw these images, how often).
        answers: every answer behind ``test``; None: no calibration and no paired comparison is shown.
        temperature: what logits are divided by before they become probabilities; 1: nothing was fitted.
        protocols: results of other ways of testing, one record each with ``protocol``, ``top1``,
            ``top1_interval``, ``gain`` and ``gain_interval``.
        mistakes: the surest wrong answers, worst first.
        suspects: likely label errors, likeliest first; ``predicted`` is the suggested label.
        losses: images of the largest losses that are not among the mistakes, largest first.
        filters: weights of the first convolution, ``out x in x k x k``, or None.
        recipe: every value of the recipe.
        environment: versions, hardware, precision, threads.
        num_resumes: how often the run was interrupted and resumed.
        ingredients: of a blend: what it was made from, one record each.
    """

    title: str
    classes: tuple[str, ...]
    name: str = ""
    net: str = ""
    num_parameters: int | None = None
    input_shape: tuple[int, int, int] | None = None
    data: str = ""
    num_images: Mapping[str, int] = field(default_factory=dict)
    history: Sequence[EpochRow] | None = None
    command: str = ""
    seed: int | None = None
    wall_s: float | None = None
    created: str = ""
    origin: str = "its run folder"
    macs: int | None = None
    paper: str | None = None
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()
    quarantined: tuple[tuple[str, str], ...] = ()
    selected_epoch: int | None = None
    selection_rule: str = ""
    test: Scores | MultiLabelScores | None = None
    test_split: str = "test"
    test_note: str = ""
    answers: Predictions | None = None
    temperature: float = 1.0
    protocols: tuple[Mapping[str, Any], ...] = ()
    mistakes: tuple[MistakePicture, ...] = ()
    suspects: tuple[MistakePicture, ...] = ()
    losses: tuple[MistakePicture, ...] = ()
    filters: NDArray[np.floating] | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    num_resumes: int = 0
    ingredients: tuple[Mapping[str, Any], ...] = ()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, at ``temperature`` where the answers are known; NaN without a test."""
        if self.answers is not None:
            return negative_log_likelihood(self.answers.logits, self.answers.labels, self.temperature)
        return math.nan if self.test is None else self.test.loss
