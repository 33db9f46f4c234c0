"""The learning rate as a function of the step: stairs, curves, cycles, and the division by ten at a stall."""

import math
from dataclasses import dataclass

from striate.recipes.recipe import Recipe

_ONE_CYCLE_START = 1 / 25  # of the peak rate
_ONE_CYCLE_END = 1e-4


@dataclass(frozen=True, slots=True)
class Plateau:
    """What the plateau schedule remembers: best error so far, epochs since, drops made."""

    best_error: float = math.inf
    stalled_epochs: int = 0
    drops: int = 0


def after_epoch(plateau: Plateau, error: float | None, recipe: Recipe) -> Plateau:
    """Update the memory with an epoch's validation error (a fraction).

    The rate is divided once the error hasn't fallen for ``plateau_patience_epochs`` epochs, ``plateau_drops``
    times at most: AlexNet's and VGG's "divide by ten when the validation error stops improving", three times.
    """
    if error is None or error < plateau.best_error:
        return Plateau(plateau.best_error if error is None else error, 0, plateau.drops)
    stalled = plateau.stalled_epochs + 1
    if stalled >= recipe.plateau_patience_epochs and plateau.drops < recipe.plateau_drops:
        return Plateau(plateau.best_error, 0, plateau.drops + 1)
    return Plateau(plateau.best_error, stalled, plateau.drops)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int, plateau: Plateau) -> float:
    """Return the learning rate of a step.

    Args:
        recipe: schedule and its numbers.
        step: counted from 0 over the whole training.
        steps_per_epoch: steps in an epoch.
        plateau: memory of the plateau schedule.

    Paper: ``polynomial`` (1 - t)^power as in Caffe's quick GoogLeNet solver; ``cosine`` Loshchilov and Hutter
        2017, eq. 5 without restarts; ``one_cycle`` Smith and Topin 2018; ``cyclic`` Huang et al. 2017
        (snapshot ensembles), eq. 2: M cycles over T steps, each from ``lr`` down a cosine.
    Departures: ``one_cycle`` rises linearly from lr/25 and falls by a cosine to lr/10,000 (the paper falls
        linearly), and leaves the momentum constant. ``cyclic``: none; steps here count from 0, the paper's t
        from 1.
    """
    epoch = step / steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "one_cycle":
        rise = warmup or round(0.3 * total)
        if step < rise:
            return recipe.lr * (_ONE_CYCLE_START + (1 - _ONE_CYCLE_START) * step / rise)
        fall = (step - rise) / max(1, total - 1 - rise)
        return recipe.lr * (
            _ONE_CYCLE_END + (1 - _ONE_CYCLE_END) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
        )
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    if recipe.schedule == "steps":
        return recipe.lr * recipe.step_factor ** sum(epoch >= edge for edge in recipe.step_epochs)
    if recipe.schedule == "plateau":
        return recipe.lr * recipe.step_factor**plateau.drops
    if recipe.schedule == "polynomial":
        return recipe.lr * (1 - progress) ** recipe.polynomial_power
    if recipe.schedule == "cosine":
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "cyclic":
        length = -(-total // recipe.cycles)
        return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step % length) / length))
    return recipe.lr


def cycle_ended(recipe: Recipe, epoch: int) -> int:
    """Return the number (from 1) of the cycle that an epoch is the last one of, or 0.

    Args:
        recipe: only ``cyclic`` has cycles.
        epoch: counted from 1.
    """
    if recipe.schedule != "cyclic":
        return 0
    number, rest = divmod(epoch, recipe.epochs // recipe.cycles)
    return 0 if rest else number
