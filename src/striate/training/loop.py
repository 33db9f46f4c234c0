"""The training loop: a ``Trainer`` with its steps, validation, checkpoints, and how it stops."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
from striate.training.average import make_average
from striate.training.checkpoint import Position, load_checkpoint, save_checkpoint
from striate.training.loss import Loss, Outputs, total_loss
from striate.training.optimizer import make_optimizer
from striate.training.schedule import after_epoch, cycle_ended, learning_rate
from striate.training.stop_requests import stop_requests
from striate.weights.run_folder import RunFolder, write_metrics

State = Mapping[str, torch.Tensor]
SaveWeights = Callable[[Path, State, dict[str, Any]], None]

_PROGRESS_S = 0.1  # between two calls of the listener


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
        progress: called for steps (stage ``train``) and epochs (stage ``epoch``).
        after_step: called with the trainer after every step; for watching, it must change nothing.
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
    after_step: Callable[["Trainer"], None] | None = None


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
    """What a step leaves for the history; tensors, so that a GPU need not be waited for.

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


class Trainer:
    """A training under way: network, optimizer, average of the weights, and how far it is.

    Args:
        training: what and how. The network is moved to its device.

    Attributes:
        training: the same.
        optimizer: over the network's parameters.
        average: of the weights, or None where the recipe wants none.
        position: how far the training is, with the history of its epochs.
    """

    def __init__(self, training: Training) -> None:
        self.training = training
        if training.device.type == "cpu":
            keep_freed_memory()
        training.net.to(training.device)
        training.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(training.net, training.recipe)
        self.average = make_average(training.net, training.recipe)
        self.position = Position()
        self._dtype = autocast_dtype(training.precision)
        self._steps = num_training_batches(training.train)  # in an epoch
        self._unread: list[_Step] = []
        self._saved_at, self._save_s, self._reported_at = time.perf_counter(), 0.0, 0.0

    def run(self, *, resume: bool = False) -> Position:
        """Train to the end of the recipe.

        Args:
            resume: continue from the run folder's checkpoint, if there is one.

        Returns:
            The final position, whose history holds a row for each epoch.

        Raises:
            NonFiniteLossError: a loss or a weight is not finite; nothing was written since the last good
                checkpoint.
            InterruptedRunError: Ctrl-C or SIGTERM; the state was saved first.
            CheckpointError: ``resume`` from something damaged or foreign.
        """
        training, recipe = self.training, self.training.recipe
        torch.manual_seed(training.seed)
        if resume and training.run.checkpoint.exists():
            self.position = load_checkpoint(
                training.run.checkpoint, training.net, self.optimizer, self.average, training.key
            )
            self.position.resumed += 1
        self._saved_at = time.perf_counter()
        self._forward = _Forward(training)
        training.net.train()
        with stop_requests() as stopped:
            while self.position.epoch < recipe.epochs:
                self.train_epoch(stopped)
                self._end_epoch()
                last = self.position.epoch == recipe.epochs
                if last and (training.val is None or recipe.select == "last"):
                    self.position.best_epoch = self.position.epoch
                    self._save_selected(self.position.epoch, self.position.history[-1]["val_error"])
                if last or self._save_is_due():
                    self.save()
                write_metrics(training.run, self.position.history)
        if self.average is not None and not training.run.last.exists():
            error = None if training.val is None else _error(self._validate(training.val).scores)
            metrics = {"epoch": self.position.epoch, "val_error": error, "weights": "raw"}
            training.save(training.run.last, training.net.state_dict(), metrics)
        write_metrics(training.run, self.position.history)
        return self.position

    def train_epoch(self, stopped: threading.Event) -> None:
        """Train from the position to the end of its epoch.

        Args:
            stopped: once set, the state is saved after the step under way.

        Raises:
            NonFiniteLossError: a loss is not finite.
            InterruptedRunError: ``stopped`` was set.
            DataError: an image can't be read any more; the state was saved.
        """
        training, position = self.training, self.position
        batches = shuffled(
            training.train,
            training.recipe.augmentation,
            training.colours,
            seed=training.seed,
            epoch=position.epoch,
            first=position.batch,
        )
        started = time.perf_counter()
        try:
            for batch in batches:
                lr = self.train_step(batch)
                now = time.perf_counter()
                if now - self._reported_at > _PROGRESS_S:
                    self._reported_at = now
                    self._report(started)
                if stopped.is_set() or self._save_is_due():
                    self._read(lr)
                    position.seconds += time.perf_counter() - started
                    self.save()
                    started = time.perf_counter()
                if stopped.is_set():
                    raise InterruptedRunError(
                        f"stopped in epoch {position.epoch + 1} of {training.recipe.epochs}, everything is"
                        f' saved; continue with `resume("{training.run.path}")`'
                    )
            self._read(0.0)
        except DataError as error:
            self.save()
            raise DataError(
                f"{error}; the state is saved: bring the file back, then continue with"
                f' `resume("{training.run.path}")`'
            ) from None
        finally:
            close = getattr(batches, "close", None)
            if close is not None:
                close()
        self._report(started)
        position.seconds += time.perf_counter() - started

    def train_step(self, batch: Batch) -> float:
        """Take one step; return its learning rate.

        Raises:
            NonFiniteLossError: the loss is not finite (on a GPU, that of one of the last 50 steps).
        """
        training, recipe, position = self.training, self.training.recipe, self.position
        lr = learning_rate(
            recipe, position.epoch * self._steps + position.batch, self._steps, position.plateau
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        objective, step = self._objective(batch)
        self._unread.append(step)
        if len(self._unread) >= (50 if training.device.type == "cuda" else 1):
            self._read(lr)
        objective.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(training.net.parameters(), recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # now: a forward pass with gradients in memory takes more
        if self.average is not None:
            self.average.update(training.net, position.epoch)
        position.batch += 1
        if training.after_step is not None:
            training.after_step(self)
        return lr

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            NonFiniteLossError: a weight is not finite; the checkpoint before stays.
        """
        self._refuse_non_finite()
        started = time.perf_counter()
        save_checkpoint(
            self.training.run.checkpoint,
            self.position,
            self.training.net,
            self.optimizer,
            self.average,
            self.training.key,
        )
        self._saved_at = time.perf_counter()
        self._save_s = self._saved_at - started

    def _objective(self, batch: Batch) -> tuple[torch.Tensor, _Step]:
        """Return what a step minimises, and what the history keeps of it, on the device.

        Auxiliary classifiers count in the objective; loss and predictions are the main scores' alone, as they
        are in validation.
        """
        training = self.training
        images = batch.images.to(training.device, non_blocking=True)
        labels = batch.labels.to(training.device, non_blocking=True)
        with torch.autocast(
            training.device.type, self._dtype or torch.bfloat16, enabled=self._dtype is not None
        ):
            outputs = self._forward(images)
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

    def _read(self, lr: float) -> None:
        """Move finished steps' losses into the position, and stop at one that is not a finite number."""
        for step in self._unread:
            objective = float(step.objective)
            if not math.isfinite(objective):
                raise NonFiniteLossError(self._advice(f"the loss became {objective}", lr))
            self.position.loss_sum += float(step.loss) * step.images
            self.position.wrong += float(step.wrong)
            self.position.images += step.images
        self._unread.clear()

    def _advice(self, what: str, lr: float) -> str:
        training, position = self.training, self.position
        kept = (
            f"the last good checkpoint is kept in {training.run.path}"
            if training.run.checkpoint.exists()
            else "no checkpoint had been written yet"
        )
        tries = [f"`lr={training.recipe.lr / 10:g}`"]
        if training.recipe.clip_norm is None:
            tries.append("`clip_norm=1`")
        if training.recipe.warmup_epochs == 0:
            tries.append("`warmup_epochs=1`")
        if training.precision == "bf16":
            tries.append("`precision=fp32`")
        return (
            f"{what} in epoch {position.epoch + 1}, step {position.batch + 1} (learning rate {lr:g}); {kept};"
            f" try {', or '.join(tries)}, in a new `out`"
        )

    def _report(self, started: float) -> None:
        training, position, recipe = self.training, self.position, self.training.recipe
        size = training.train.batch_images
        speed = position.images / max(1e-9, position.seconds + time.perf_counter() - started)
        training.progress(
            "train",
            min((position.epoch * self._steps + position.batch) * size, recipe.epochs * len(training.train)),
            recipe.epochs * len(training.train),
            f"epoch {position.epoch + 1}/{recipe.epochs}"
            f"  loss {position.loss_sum / max(1, position.images):.4f}  {speed:,.0f} images/s",
        )

    def _end_epoch(self) -> None:
        """Validate, keep the best weights, add a row to the history, and move on to the next epoch."""
        training, recipe, position = self.training, self.training.recipe, self.position
        self._refuse_non_finite()
        row: dict[str, float | int | None] = {
            "epoch": position.epoch + 1,
            "lr": learning_rate(recipe, position.epoch * self._steps, self._steps, position.plateau),
            "train_loss": position.loss_sum / max(1, position.images),
            "train_error": position.wrong / max(1, position.images),
            "val_loss": None,
            "val_error": None,
            "images_per_s": position.images / max(1e-9, position.seconds),
            "seconds": position.seconds,
        }
        error: float | None = None
        if training.val is not None:
            with self._averaged_weights():
                scores = self._validate(training.val).scores
            error = _error(scores)
            row["val_loss"], row["val_error"] = scores.loss, error
            if recipe.select == "best" and (position.best_error is None or error < position.best_error):
                position.best_error, position.best_epoch = error, position.epoch + 1
                self._save_selected(position.best_epoch, position.best_error)
        position.plateau = after_epoch(position.plateau, error, recipe)
        position.history.append(row)
        position.epoch += 1
        self._save_snapshot()
        position.batch = position.images = 0
        position.loss_sum = position.wrong = position.seconds = 0.0
        training.progress("epoch", position.epoch, recipe.epochs, _row_in_words(row))

    def _validate(self, val: Loader) -> Evaluation:
        """Evaluate the network as it is on the validation images."""
        return evaluate(
            self.training.net,
            in_order(val),
            val.dataset.classes,
            device=self.training.device,
            autocast_dtype=self._dtype,
        )

    def _save_selected(self, epoch: int, error: float | int | None) -> None:
        """Write the selected weights: the average where there is one, else the network's own."""
        training = self.training
        state: State = training.net.state_dict() if self.average is None else self.average.state
        kind = "raw" if self.average is None else training.recipe.average
        training.save(training.run.bundle, state, {"epoch": epoch, "val_error": error, "weights": kind})

    def _save_snapshot(self) -> None:
        """Write the network's own weights where a cycle of the learning rate has ended."""
        training, position = self.training, self.position
        number = cycle_ended(training.recipe, position.epoch)
        if not number:
            return
        error = position.history[-1]["val_error"]
        if self.average is not None and training.val is not None:  # the row is about the average
            error = _error(self._validate(training.val).scores)
        metrics = {"epoch": position.epoch, "val_error": error, "weights": "raw", "snapshot": number}
        training.save(training.run.snapshot(number), training.net.state_dict(), metrics)

    def _refuse_non_finite(self) -> None:
        """Raise before weights that are not finite overwrite good ones."""
        name = first_non_finite(self.training.net.state_dict())
        if name is not None:
            what = f"{name} holds numbers that are not finite"
            raise NonFiniteLossError(self._advice(what, self.training.recipe.lr))

    def _save_is_due(self) -> bool:
        since = time.perf_counter() - self._saved_at
        return since >= max(self.training.checkpoint_s, 50 * self._save_s)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Put the averaged weights into the network for a while."""
        if self.average is None:
            yield
            return
        net = self.training.net
        own = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        net.load_state_dict(self.average.state)
        try:
            yield
        finally:
            net.load_state_dict(own)


def _error(scores: Scores | MultiLabelScores) -> float:
    """Return the share of images with a wrong answer; with several labels, one wrong label makes it wrong."""
    return 1.0 - scores.exact_match if isinstance(scores, MultiLabelScores) else scores.top1_error


def _row_in_words(row: Mapping[str, float | int | None]) -> str:
    words = f"train loss {row['train_loss']:.4f}, error {row['train_error']:.2%}"
    if row["val_error"] is not None:
        words += f"; validation loss {row['val_loss']:.4f}, error {row['val_error']:.2%}"
    return f"{words}; {row['images_per_s']:,.0f} images/s"
