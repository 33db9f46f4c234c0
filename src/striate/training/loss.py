"""The objective: cross-entropy for one label an image, binary cross-entropy for several.

A network with auxiliary classifiers adds theirs, at a weight of its own (``total_loss``).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from striate.core.errors import UsageError
from striate.recipes.recipe import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Outputs = torch.Tensor | tuple[torch.Tensor, ...]


def make_loss(
    recipe: Recipe,
    labels: NDArray[np.generic],
    num_classes: int,
    device: torch.device,
    own: Loss | None = None,
) -> Loss:
    """Build the function (outputs ``N x K``, labels) -> loss in nats.

    The loss is the mean over the images; with class weights, the weighted mean.

    Args:
        recipe: label smoothing and class weights.
        labels: of the training images, ``N`` int64 or ``N x K`` float (multi-label).
        num_classes: K.
        device: where the weights go.
        own: the network's own objective (LeNet-5's eq. 9), which takes no smoothing and no weights.

    Raises:
        UsageError: ``own`` together with label smoothing, class weights, or multi-label data.
    """
    multi_label = labels.ndim == 2
    if own is not None:
        if recipe.label_smoothing or recipe.class_weights != "none" or multi_label:
            raise UsageError(
                "this network has an objective of its own, for one label an image: set `label_smoothing=0`"
                " and `class_weights=none`, or take another network"
            )
        return own
    if multi_label:
        positives = labels.astype(np.float64).sum(0)
        weight = None
        if recipe.class_weights == "balanced":
            ratio = (len(labels) - positives) / np.maximum(positives, 1)
            weight = torch.tensor(ratio, dtype=torch.float32, device=device)
        smoothing = recipe.label_smoothing

        def binary(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            smooth = targets * (1 - smoothing) + smoothing / 2
            return F.binary_cross_entropy_with_logits(outputs.float(), smooth, pos_weight=weight)

        return binary
    class_weight = None
    if recipe.class_weights == "balanced":
        counts = np.bincount(labels.astype(np.int64), minlength=num_classes)
        class_weight = torch.tensor(
            len(labels) / (num_classes * np.maximum(counts, 1)), dtype=torch.float32, device=device
        )

    def categorical(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs.float(), targets, class_weight, label_smoothing=recipe.label_smoothing)

    return categorical


def total_loss(loss: Loss, net: nn.Module, outputs: Outputs, labels: torch.Tensor) -> torch.Tensor:
    """Return what a training step minimises: the loss of the scores and, weighted, of auxiliary scores.

    Args:
        loss: of one ``N x K`` tensor of scores.
        net: its ``auxiliary_weight`` multiplies each auxiliary loss; read only where there are such scores.
        outputs: of ``net`` in training mode: ``N x K`` scores, or the tuple (scores, first auxiliary scores,
            second, ...), each ``N x K``.
        labels: as ``loss`` takes them.

    Returns:
        ``loss(scores) + auxiliary_weight (loss(first) + loss(second) + ...)``, computed in float32.

    Raises:
        UsageError: a tuple from a network without the attribute ``auxiliary_weight``.

    Paper: Szegedy et al. 2014, arXiv 1409.4842, section 5: each auxiliary loss is weighted by 0.3.
    Departures: none.
    """
    if isinstance(outputs, torch.Tensor):
        return loss(outputs.float(), labels)
    weight = getattr(net, "auxiliary_weight", None)
    if not isinstance(weight, int | float):
        raise UsageError(
            f"expected a network that trains with {len(outputs)} outputs to have a number as"
            f" auxiliary_weight, got {weight!r} in {type(net).__name__}: set net.auxiliary_weight, 0.3 in"
            " GoogLeNet's paper"
        )
    total = loss(outputs[0].float(), labels)
    for auxiliary in outputs[1:]:
        total = total + weight * loss(auxiliary.float(), labels)
    return total
