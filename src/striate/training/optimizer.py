"""Optimizers: PyTorch's, and momentum exactly as Krizhevsky wrote it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from striate.core.errors import UsageError
from striate.recipes.recipe import Recipe


class KrizhevskySGD(Optimizer):
    """Stochastic gradient descent with momentum in the form of AlexNet's paper.

    ``v <- momentum v - weight_decay lr w - lr g``, then ``w <- w + v``.

    PyTorch's ``SGD`` keeps ``b <- momentum b + (g + weight_decay w)`` and steps ``w <- w - lr b``. The two
    walk the same path while ``lr`` is constant (``v = -lr b``). They part when ``lr`` changes: here the
    velocity keeps the scale that it had been gathered with, there it is rescaled at once. To imitate this
    form with the other, multiply PyTorch's buffers by ``old lr / new lr`` at the change.

    Args:
        params: parameters or groups.
        lr: learning rate, above 0.
        momentum: in [0, 1).
        weight_decay: L2 coefficient, at least 0.

    Paper: Krizhevsky, Sutskever, Hinton 2012, sec. 5.
    Departures: none.
    """

    def __init__(
        self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0005
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            for w in weights:
                if "velocity" not in self.state[w]:
                    self.state[w]["velocity"] = torch.zeros_like(w)
            velocities = [self.state[w]["velocity"] for w in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            if group["weight_decay"]:
                torch._foreach_add_(velocities, weights, alpha=-group["weight_decay"] * group["lr"])
            torch._foreach_add_(velocities, [w.grad for w in weights], alpha=-group["lr"])
            torch._foreach_add_(weights, velocities)
        return loss


def make_optimizer(net: nn.Module, recipe: Recipe) -> Optimizer:
    """Build the recipe's optimizer over the trainable parameters of a network.

    With ``decay_norm_and_bias`` off, parameters of one dimension (biases, batch norm) don't decay.

    Raises:
        UsageError: nothing to train.
    """
    trainable = [p for p in net.parameters() if p.requires_grad]
    if not trainable:
        raise UsageError("expected a network with weights to train, got none: add a convolution or FC layer")
    groups: list[dict[str, Any]] = [{"params": trainable, "weight_decay": recipe.weight_decay}]
    if not recipe.decay_norm_and_bias:
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "krizhevsky":
        return KrizhevskySGD(groups, lr=recipe.lr, momentum=recipe.momentum)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=_can_fuse(trainable))
    nesterov = recipe.optimizer == "nesterov"
    return torch.optim.SGD(
        groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=_can_fuse(trainable)
    )


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") for p in parameters)
