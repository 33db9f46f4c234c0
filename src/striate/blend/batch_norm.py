"""Batch norm's statistics after weights were mixed: measured again, on training images."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from striate.core.errors import DataError
from striate.data.batch import Batch


@dataclass(slots=True)
class _Moments:
    """Mean and summed squared deviations of ``count`` values in each channel, in float64."""

    count: int = 0
    mean: Tensor | None = None
    deviations: Tensor | None = None

    def take_in(self, values: Tensor) -> None:
        """Merge in a batch's ``N x C x ...`` values (Chan, Golub and LeVeque's update)."""
        flat = values.detach().transpose(0, 1).reshape(values.shape[1], -1).to(torch.float64)
        more = flat.shape[1]
        mean = flat.mean(1)
        deviations = (flat - mean[:, None]).square().sum(1)
        if self.mean is None or self.deviations is None:
            self.count, self.mean, self.deviations = more, mean, deviations
            return
        total = self.count + more
        gap = mean - self.mean
        self.mean = self.mean + gap * (more / total)
        self.deviations = self.deviations + deviations + gap.square() * (self.count * more / total)
        self.count = total


def has_batch_norm(net: nn.Module) -> bool:
    """Return whether a network keeps running statistics, which mixing its weights invalidates."""
    return bool(_norms(net))


@torch.no_grad()
def recompute_batch_norm(
    net: nn.Module,
    batches: Iterable[Batch],
    *,
    device: str | torch.device = "cpu",
    autocast_dtype: torch.dtype | None = None,
) -> int:
    """Measure the running mean and variance of every batch norm again, in place; nothing else changes.

    One pass: each batch is normalised by its own statistics, as in training, and the means and variances
    are pooled over all images (deviations between batches count, so that the size of the batches hardly
    matters; variances are unbiased, as PyTorch's are). With one batch they are exactly those of a training
    step. Dropout is off. Layers that the pass never reaches, such as auxiliary classifiers, keep theirs.

    Args:
        net: on ``device``.
        batches: training images, prepared as for prediction (no augmentation); at least one batch, the
            larger the better: 1,000 images or more are usual. Sorted by class they would mislead.
        device: where the network is.
        autocast_dtype: lower precision for the forward pass; statistics are summed in float64.

    Returns:
        The number of images.

    Raises:
        DataError: no images.

    Paper: Izmailov et al. 2018, "Averaging weights leads to wider optima", sec. 3.2 (the pass over the
        data); Wu and Johnson 2021, "Rethinking Batch in BatchNorm", sec. 3 (pooled moments).
    Departures: the former averages the batches' variances, which leaves out what lies between batches.
    """
    device = torch.device(device)
    norms = _norms(net)
    moments = {module: _Moments() for module in norms}
    kept = {
        m: (m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone())
        for m in norms
    }

    def watch(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(module, _BatchNorm)
        moments[module].take_in(inputs[0])

    modes = [(module, module.training) for module in net.modules()]
    hooks = [module.register_forward_pre_hook(watch) for module in norms]
    num_images = 0
    try:
        net.eval()
        for norm in norms:
            norm.train()
            norm.momentum = 0.0  # the pass itself must leave the old statistics alone
        with nullcontext() if autocast_dtype is None else torch.autocast(device.type, dtype=autocast_dtype):
            for batch in batches:
                net(batch.images.to(device, non_blocking=True))
                num_images += len(batch.images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
        for norm, (momentum, counter) in kept.items():
            norm.momentum = momentum
            if counter is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(counter)
    if num_images == 0:
        raise DataError(
            "expected training images to measure batch norm's statistics on, got none: name more data"
        )
    for norm, seen in moments.items():
        if seen.mean is None or seen.deviations is None:
            continue
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(seen.mean)
        norm.running_var.copy_(seen.deviations / max(1, seen.count - 1))
    return num_images


def _norms(net: nn.Module) -> list[_BatchNorm]:
    """Find the batch norms that keep running statistics."""
    found = (module for module in net.modules() if isinstance(module, _BatchNorm))
    return [module for module in found if module.running_mean is not None]
