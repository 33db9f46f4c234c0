"""What a report is made from: a value for each run, and one for each image that it shows."""

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
class ShownImage:
    """An image that the page shows, with its label and a prediction.

    Attributes:
        image: ``H x W x 3`` or ``H x W`` in the *u8* state.
        file: name of the file, or of the image in its source.
        true: name of the class that it is labelled with.
        predicted: name of the predicted class, or, for a likely label error, of the suggested one.
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
    """Everything that a report says about one run, bundle or file of predictions.

    Attributes:
        title: heading of the page.
        classes: class names.
        name: what to call it beside others; empty: the title.
        net: name of the network; empty where only its predictions are known.
        num_parameters: number of learned values, or None where unknown.
        input_shape: channels, height and width of one image, in pixels, or None.
        data: name of the data set.
        num_images: images per split; the key ``train`` is named in the headline.
        history: one row per epoch with the keys ``epoch``, ``lr``, ``train_loss``, ``val_loss`` (nats),
            ``train_error``, ``val_error`` (fractions), ``images_per_s``, ``seconds``. A value may be None,
            missing or not finite, except ``epoch``. None: nothing is known of the training.
        command: what repeats the run; empty where unknown.
        seed: random seed of the run, or None.
        wall_s: duration in seconds, all resumed parts together, or None.
        created: when the run ended, in ISO 8601; empty where unknown.
        origin: what the page was made from, in a few words.
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
        predictions: those behind ``test``; None: no calibration and no paired comparison is shown.
        temperature: what logits are divided by before they become probabilities; 1: nothing was fitted.
        protocols: results of other ways of testing, each with the keys ``protocol``, ``top1``,
            ``top1_interval``, ``gain`` and ``gain_interval``.
        mistakes: the most confident wrong predictions, worst first.
        suspects: likely label errors, likeliest first; ``predicted`` is the suggested label.
        losses: images of the largest losses that are not among the mistakes, largest first.
        filters: weights of the first convolution, ``out x in x k x k``, or None.
        recipe: every value of the recipe.
        environment: versions, hardware, precision, threads.
        num_resumes: how often the run was interrupted and resumed.
        ingredients: of a blend: what each network that it was made from is.
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
    predictions: Predictions | None = None
    temperature: float = 1.0
    protocols: tuple[Mapping[str, Any], ...] = ()
    mistakes: tuple[ShownImage, ...] = ()
    suspects: tuple[ShownImage, ...] = ()
    losses: tuple[ShownImage, ...] = ()
    filters: NDArray[np.floating] | None = None
    recipe: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, object] = field(default_factory=dict)
    num_resumes: int = 0
    ingredients: tuple[Mapping[str, Any], ...] = ()

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats, at ``temperature`` where predictions are known; NaN without a test."""
        if self.predictions is not None:
            return negative_log_likelihood(self.predictions.logits, self.predictions.labels, self.temperature)
        return math.nan if self.test is None else self.test.loss
