"""Averages of the weights along training: exponential (EMA) and uniform (Polyak)."""

import torch
from torch import nn

from striate.recipes.recipe import Recipe


class WeightAverage:
    """A running average of a network's parameters and floating-point buffers.

    ``ema``: ``a <- d a + (1 - d) w`` after every step, with d rising as (1 + t) / (10 + t) up to
    ``ema_decay`` so that the first steps are forgotten. ``polyak``: the mean of all iterates from
    ``polyak_start_epoch`` on. Batch-norm statistics are averaged like weights; integer buffers are
    copied.

    Paper: Polyak and Juditsky 1992 (the uniform mean); the exponential form is common practice.
    """

    def __init__(self, net: nn.Module, recipe: Recipe) -> None:
        self._recipe = recipe
        self.state = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
        self.num_updates = 0

    @torch.no_grad()
    def update(self, net: nn.Module, epoch: int) -> None:
        """Take in the weights after a step of ``epoch`` (counted from 0)."""
        share = self._share(epoch)
        current = net.state_dict()
        floating = [name for name, tensor in self.state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.state[n] for n in floating], [current[n] for n in floating], share)
        for name, tensor in self.state.items():
            if not tensor.is_floating_point():
                tensor.copy_(current[name])

    def _share(self, epoch: int) -> float:
        if self._recipe.average == "polyak":
            if epoch < self._recipe.polyak_start_epoch:
                return 1.0
            self.num_updates += 1
            return 1.0 / self.num_updates
        self.num_updates += 1
        t = self.num_updates
        return 1.0 - min(self._recipe.ema_decay, (1 + t) / (10 + t))


def make_average(net: nn.Module, recipe: Recipe) -> WeightAverage | None:
    """Return the recipe's average, or None if it wants none."""
    return None if recipe.average == "none" else WeightAverage(net, recipe)
