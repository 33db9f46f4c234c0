"""The training loop: steps, validation, checkpoints, and how it stops."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.core.compute import Precision, autocast_dtype, keep_freed_memory
from striate.core.errors import DataError, InterruptedRunError, NonFiniteLossError
from striate.core.finite import first_non_finite
from striate.core.progress import Progress, silent
from striate.data.batch import Batch
from striate.data.batches import Loader, in_order, num_training_batches, shuffled
from striate.data.dataset import ColourStatistics
from striate.evaluation.evaluate import Evaluation, evaluate
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores
from striate.recipes.recipe import Recipe
from striate.training.average import WeightAverage, make_average
from striate.training.checkpoint import Position, load_checkpoint, save_checkpoint
from striate.training.loss import Loss, Outputs, total_loss
from striate.training.optimizer import make_optimizer
from striate.training.schedule import after_epoch, cycle_ended, learning_rate
from striate.training.stop_requests import stop_requests
from striate.weights.run_folder import RunFolder, write_metrics

State = Mapping[str, torch.Tensor]
SaveWeights = Callable[[Path, State, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Everything that a training needs, put together by the caller.

    Attributes:
        net: to train, on the CPU; it is moved to ``device``. In training mode it may return (scores,
            auxiliary scores, ...); its ``auxiliary_weight`` then says how much these count in the loss.
        train: training images.
        val: validation images, or None when there are none.
        colours: statistics of the training images, for augmentation.
        recipe: how.
        loss: objective.
        run: where the files go.
        save: called with (path in ``run``, state, metrics) to write weights: the selected ones whenever they
            change, a snapshot at the end of each cycle, the last ones where an average is selected. The
            metrics are ``epoch`` (from 1), ``val_error`` (a fraction, or None), ``weights`` (``raw``, ``ema``
            or ``polyak``) and, of a snapshot, its number ``snapshot``.
        key: what a checkpoint must match to be resumed.
        seed: of order, augmentation and dropout.
        device: to train on.
        precision: of the forward and backward pass; weights stay float32.
        compiled: whether full batches run through ``torch.compile`` (needs a C++ compiler; falls back without
            one).
        checkpoint_s: at least this many seconds pass between two checkpoints, and fifty times what one takes.
        progress: is told about every step (stage ``train``) and epoch (stage ``epoch``).
    """

    net: nn.Module
    train: Loader
    val: Loader | None
    colours: ColourStatistics
    recipe: Recipe
    loss: Loss
    run: RunFolder
    save: SaveWeights
    key: str
    seed: int
    device: torch.device
    precision: Precision
    compiled: bool = False
    checkpoint_s: float = 10.0
    progress: Progress = silent


class _Forward:
    """The network as the loop calls it: compiled for full batches, plain for a last small one."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._compiled: Callable[[torch.Tensor], Outputs] | None = None
        if training.compiled:
            self._compiled = torch.compile(training.net, dynamic=False)

    def __call__(self, images: torch.Tensor) -> Outputs:
        """Map ``N x C x H x W`` images to ``N x K`` scores, or to a tuple of them (auxiliary classifiers)."""
        if self._compiled is None or len(images) != self._training.train.batch_images:
            return self._training.net(images)
        try:
            return self._compiled(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._compiled = None
            first = (str(error).splitlines() or [type(error).__name__])[0]
            self._training.progress(
                "note", 0, None, f"torch.compile does not work here, training without it ({first})"
            )
            return self._training.net(images)


@dataclass(frozen=True, slots=True)
class _Step:
    """What a step leaves to be written down; tensors, so that a GPU need not be waited for.

    Attributes:
        objective: what was minimised, with auxiliary classifiers.
        loss: of the main classifier.
        wrong: wrong answers of the main classifier.
        images: images in the step.
    """

    objective: torch.Tensor
    loss: torch.Tensor
    wrong: torch.Tensor
    images: int


@dataclass(slots=True)
class _Clock:
    """When the last checkpoint was written, how long it took, and when the last word was said."""

    saved_at: float = field(default_factory=time.perf_counter)
    save_s: float = 0.0
    told_at: float = 0.0


def fit(training: Training, *, resume: bool = False) -> Position:
    """Train to the end of the recipe.

    Args:
        training: what and how.
        resume: go on from the run folder's checkpoint, if there is one.

    Returns:
        The final position, whose history holds a row for each epoch.

    Raises:
        NonFiniteLossError: a loss or a weight is not finite; nothing was written since the last good
            checkpoint.
        InterruptedRunError: Ctrl-C or SIGTERM; the state was saved first.
        CheckpointError: ``resume`` from something damaged or foreign.
    """
    net, recipe = training.net, training.recipe
    if training.device.type == "cpu":
        keep_freed_memory()
    net.to(training.device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(net, recipe)
    average = make_average(net, recipe)
    position = Position()
    torch.manual_seed(training.seed)
    if resume and training.run.checkpoint.exists():
        position = load_checkpoint(training.run.checkpoint, net, optimizer, average, training.key)
        position.resumed += 1
    clock = _Clock()
    forward = _Forward(training)
    net.train()
    with stop_requests() as stopped:
        while position.epoch < recipe.epochs:
            _train_epoch(training, forward, optimizer, average, position, clock, stopped)
            _end_epoch(training, average, position)
            last = position.epoch == recipe.epochs
            if last and (training.val is None or recipe.select == "last"):
                position.best_epoch = position.epoch
                _save_selected(training, average, position.epoch, position.history[-1]["val_error"])
            if last or _is_due(training, clock):
                _save(training, optimizer, average, position, clock)
            write_metrics(training.run, position.history)
    if average is not None and not training.run.last.exists():
        error = None if training.val is None else _error(_validate(training, training.val).scores)
        metrics = {"epoch": position.epoch, "val_error": error, "weights": "raw"}
        training.save(training.run.last, net.state_dict(), metrics)
    write_metrics(training.run, position.history)
    return position


def _train_epoch(
    training: Training,
    forward: _Forward,
    optimizer: Optimizer,
    average: WeightAverage | None,
    position: Position,
    clock: _Clock,
    stopped: threading.Event,
) -> None:
    recipe, device = training.recipe, training.device
    steps = num_training_batches(training.train)
    dtype = autocast_dtype(training.precision)
    batches = shuffled(
        training.train,
        recipe.augmentation,
        training.colours,
        seed=training.seed,
        epoch=position.epoch,
        first=position.batch,
    )
    unread: list[_Step] = []
    read_every = 50 if device.type == "cuda" else 1
    started = time.perf_counter()
    try:
        for batch in batches:
            lr = learning_rate(recipe, position.epoch * steps + position.batch, steps, position.plateau)
            for group in optimizer.param_groups:
                group["lr"] = lr
            objective, step = _objective(training, forward, batch, dtype)
            unread.append(step)
            if len(unread) >= read_every:
                _read(unread, position, lr, training)
            objective.backward()
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(training.net.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # now: a forward pass with gradients in memory takes more
            if average is not None:
                average.update(training.net, position.epoch)
            position.batch += 1
            now = time.perf_counter()
            if now - clock.told_at > 0.1:
                clock.told_at = now
                _tell(training, position, started, steps)
            if stopped.is_set() or _is_due(training, clock):
                _read(unread, position, lr, training)
                position.seconds += time.perf_counter() - started
                _save(training, optimizer, average, position, clock)
                started = time.perf_counter()
            if stopped.is_set():
                raise InterruptedRunError(
                    f"stopped in epoch {position.epoch + 1} of {recipe.epochs}, everything is saved;"
                    f" go on with: striate train --resume {training.run.path}"
                )
        _read(unread, position, 0.0, training)
    except DataError as error:
        _save(training, optimizer, average, position, clock)
        raise DataError(
            f"{error}; the state is saved: bring the file back, then go on with"
            f" `striate train --resume {training.run.path}`"
        ) from None
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
    _tell(training, position, started, steps)
    position.seconds += time.perf_counter() - started


def _objective(
    training: Training, forward: _Forward, batch: Batch, dtype: torch.dtype | None
) -> tuple[torch.Tensor, _Step]:
    """Return what a step minimises, and what is written down of it, on the device.

    Auxiliary classifiers count in the objective; loss and answers are the main scores' alone, as they are in
    validation.
    """
    images = batch.images.to(training.device, non_blocking=True)
    labels = batch.labels.to(training.device, non_blocking=True)
    with torch.autocast(training.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        outputs = forward(images)
    objective = total_loss(training.loss, training.net, outputs, labels)
    alone = isinstance(outputs, torch.Tensor)
    scores = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    with torch.no_grad():
        loss = objective.detach() if alone else training.loss(scores.float(), labels)
        if labels.ndim == 1:
            wrong = (scores.argmax(1) != labels).sum()
        else:
            wrong = ((scores > 0) != (labels > 0.5)).any(1).sum()
    return objective, _Step(objective.detach(), loss, wrong, len(batch.indices))


def _read(unread: list[_Step], position: Position, lr: float, training: Training) -> None:
    """Move finished steps' losses into the position, and stop at one that is not a finite number."""
    for step in unread:
        objective = float(step.objective)
        if not math.isfinite(objective):
            raise NonFiniteLossError(_advice(training, position, f"the loss became {objective}", lr))
        position.loss_sum += float(step.loss) * step.images
        position.wrong += float(step.wrong)
        position.images += step.images
    unread.clear()


def _advice(training: Training, position: Position, what: str, lr: float) -> str:
    kept = (
        f"the last good checkpoint is kept in {training.run.path}"
        if training.run.checkpoint.exists()
        else "no checkpoint had been written yet"
    )
    tries = [f"--set lr={training.recipe.lr / 10:g}"]
    if training.recipe.clip_norm is None:
        tries.append("--set clip_norm=1")
    if training.recipe.warmup_epochs == 0:
        tries.append("--set warmup_epochs=1")
    if training.precision == "bf16":
        tries.append("--precision fp32")
    return (
        f"{what} in epoch {position.epoch + 1}, step {position.batch + 1} (learning rate {lr:g}); {kept};"
        f" try {', or '.join(tries)}, in a new --out"
    )


def _tell(training: Training, position: Position, started: float, steps: int) -> None:
    size = training.train.batch_images
    speed = position.images / max(1e-9, position.seconds + time.perf_counter() - started)
    training.progress(
        "train",
        min((position.epoch * steps + position.batch) * size, training.recipe.epochs * len(training.train)),
        training.recipe.epochs * len(training.train),
        f"epoch {position.epoch + 1}/{training.recipe.epochs}"
        f"  loss {position.loss_sum / max(1, position.images):.4f}  {speed:,.0f} images/s",
    )


def _end_epoch(training: Training, average: WeightAverage | None, position: Position) -> None:
    """Validate, keep the best weights, add a row to the history, and move on to the next epoch."""
    recipe = training.recipe
    _refuse_non_finite(training, position)
    steps = num_training_batches(training.train)
    row: dict[str, float | int | None] = {
        "epoch": position.epoch + 1,
        "lr": learning_rate(recipe, position.epoch * steps, steps, position.plateau),
        "train_loss": position.loss_sum / max(1, position.images),
        "train_error": position.wrong / max(1, position.images),
        "val_loss": None,
        "val_error": None,
        "images_per_s": position.images / max(1e-9, position.seconds),
        "seconds": position.seconds,
    }
    if training.val is not None:
        with _weights(training.net, average):
            answers = _validate(training, training.val)
        error = _error(answers.scores)
        row["val_loss"], row["val_error"] = answers.scores.loss, error
        if recipe.select == "best" and (position.best_error is None or error < position.best_error):
            position.best_error, position.best_epoch = error, position.epoch + 1
            _save_selected(training, average, position.best_epoch, position.best_error)
    val_error = row["val_error"]
    position.plateau = after_epoch(position.plateau, None if val_error is None else float(val_error), recipe)
    position.history.append(row)
    position.epoch += 1
    _save_snapshot(training, average, position)
    position.batch = position.images = 0
    position.loss_sum = position.wrong = position.seconds = 0.0
    training.progress("epoch", position.epoch, recipe.epochs, _row_in_words(row))


def _validate(training: Training, val: Loader) -> Evaluation:
    """Answer the validation images with the network as it is."""
    return evaluate(
        training.net,
        in_order(val),
        val.dataset.classes,
        device=training.device,
        autocast_dtype=autocast_dtype(training.precision),
    )


def _save_selected(
    training: Training, average: WeightAverage | None, epoch: int, error: float | int | None
) -> None:
    """Write the selected weights: the average where there is one, else the network's own."""
    state: State = training.net.state_dict() if average is None else average.state
    kind = "raw" if average is None else training.recipe.average
    training.save(training.run.bundle, state, {"epoch": epoch, "val_error": error, "weights": kind})


def _save_snapshot(training: Training, average: WeightAverage | None, position: Position) -> None:
    """Write the network's own weights where a cycle of the learning rate has ended."""
    number = cycle_ended(training.recipe, position.epoch)
    if not number:
        return
    error = position.history[-1]["val_error"]
    if average is not None and training.val is not None:  # the row is about the average
        error = _error(_validate(training, training.val).scores)
    metrics = {"epoch": position.epoch, "val_error": error, "weights": "raw", "snapshot": number}
    training.save(training.run.snapshot(number), training.net.state_dict(), metrics)


def _refuse_non_finite(training: Training, position: Position) -> None:
    """Raise before weights that are not finite overwrite good ones."""
    name = first_non_finite(training.net.state_dict())
    if name is not None:
        what = f"{name} holds numbers that are not finite"
        raise NonFiniteLossError(_advice(training, position, what, training.recipe.lr))


def _error(scores: Scores | MultiLabelScores) -> float:
    """Return the share of images with a wrong answer; with several labels, one wrong label makes it wrong."""
    return 1.0 - scores.exact_match if isinstance(scores, MultiLabelScores) else scores.top1_error


def _row_in_words(row: Mapping[str, float | int | None]) -> str:
    words = f"train loss {row['train_loss']:.4f}, error {row['train_error']:.2%}"
    if row["val_error"] is not None:
        words += f"; validation loss {row['val_loss']:.4f}, error {row['val_error']:.2%}"
    return f"{words}; {row['images_per_s']:,.0f} images/s"


@contextmanager
def _weights(net: nn.Module, average: WeightAverage | None) -> Iterator[None]:
    """Put the averaged weights into the network for a while."""
    if average is None:
        yield
        return
    own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    net.load_state_dict(average.state)
    try:
        yield
    finally:
        net.load_state_dict(own)


def _is_due(training: Training, clock: _Clock) -> bool:
    return time.perf_counter() - clock.saved_at >= max(training.checkpoint_s, 50 * clock.save_s)


def _save(
    training: Training, optimizer: Optimizer, average: WeightAverage | None, position: Position, clock: _Clock
) -> None:
    _refuse_non_finite(training, position)
    started = time.perf_counter()
    save_checkpoint(training.run.checkpoint, position, training.net, optimizer, average, training.key)
    clock.saved_at = time.perf_counter()
    clock.save_s = clock.saved_at - started
