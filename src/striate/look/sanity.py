"""Sanity check: does a picture of a network change when the network's weights become random?"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional

from striate.anatomy import trace
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.saliency import Target, targets

_MANY = 20  # layers; a network of more is made random block by block


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a method shows when the layers from the top down to one are random.

    Attributes:
        layer: the last layer that was made random; "" for the network unchanged.
        maps: ``N x C x H x W``.
        rank_correlation: Spearman's, of the maps' magnitudes with those of the unchanged network, ``N``; NaN
            where a map is constant: it is not defined there.
        similarity: SSIM of the magnitudes, each scaled to 0..1, ``N``.
    """

    layer: str
    maps: Tensor
    rank_correlation: Tensor
    similarity: Tensor


def sanity(
    net: nn.Module,
    images: Tensor,
    target: Target,
    *,
    method: Callable[[nn.Module, Tensor, Tensor], Tensor],
    layers: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Stage]:
    """Make the layers of a network random one after another, from the top, and run a method each time.

    Weights are drawn anew from a normal distribution with mean zero and the standard deviation of the trained
    ones; biases, scales and shifts are shuffled within their layer. All is done on a copy of the network.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed.
        target: class number, one for all images or one for each; None: each image's best class in the
            unchanged network. It stays the same in all stages.
        method: what makes the maps, such as ``saliency.gradient``, from network, images and classes.
        layers: paths of modules from the bottom to the top; None: ``weighted_layers``.
        seed: of the random weights.
        progress: listener: stages done.

    Returns:
        The unchanged network, then one stage for each layer, from the top down: cascading.

    Raises:
        UsageError: no layer with weights, or as the method.

    Paper: Adebayo et al. 2018, section 3.1 (cascading randomisation); the rank correlation of magnitudes and
        SSIM are two of its three measures.
    Departures: the paper initialises layers as before training; here each keeps its trained spread, because a
        user's network does not say how it was initialised. Running statistics of batch normalisation stay.
    """
    if layers is None:
        _, *shape = images.shape
        layers = weighted_layers(net, (shape[0], shape[1], shape[2]))
    if not layers:
        raise UsageError("expected layers with weights to make random, got none")
    classes = targets(net, images, target)
    changed = copy.deepcopy(net)
    modules = dict(changed.named_modules())
    generator = torch.Generator().manual_seed(seed)
    stages: list[Stage] = []
    first = method(changed, images, classes)
    for number, layer in enumerate(["", *reversed(layers)]):
        if layer:
            if layer not in modules:
                raise UsageError(f"expected the name of a layer, got {layer!r}: `striate anatomy` lists them")
            randomise(modules[layer], generator)
        maps = method(changed, images, classes) if layer else first
        stages.append(
            Stage(
                layer=layer,
                maps=maps,
                rank_correlation=rank_correlation(first.abs(), maps.abs()),
                similarity=structural_similarity(first.abs(), maps.abs()),
            )
        )
        progress("sanity", number + 1, len(layers) + 1)
    return stages


def weighted_layers(net: nn.Module, input_shape: tuple[int, int, int]) -> list[str]:
    """Name the layers with weights in the order of computation; of deep networks, the blocks.

    Raises:
        UsageError: the network can't be read.
    """
    used: dict[str, None] = {}
    owners = {path for path, module in net.named_modules() if any(True for _ in module.parameters(False))}
    for row in trace(net, input_shape):
        path = row.name.partition("#")[0]
        while path and path not in owners:
            path = path.rpartition(".")[0]
        if path:
            used[path] = None
    if len(used) <= _MANY:
        return list(used)
    return list(dict.fromkeys(_block(path, net) for path in used))


def _block(path: str, net: nn.Module) -> str:
    """Return the block that a layer is in: the child of the network, or the grandchild if that is a row."""
    first, _, rest = path.partition(".")
    child = net.get_submodule(first)
    if isinstance(child, nn.Sequential | nn.ModuleList) and rest:
        return f"{first}.{rest.partition('.')[0]}"
    return first


@torch.no_grad()
def randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of a module, and of all in it, anew; see ``sanity``. It changes the module."""
    for parameter in module.parameters():
        if parameter.ndim > 1:
            spread = float(parameter.std()) if parameter.numel() > 1 else 1.0
            drawn = torch.randn(parameter.shape, generator=generator) * spread
        else:
            drawn = parameter.detach().cpu()[torch.randperm(parameter.numel(), generator=generator)]
        parameter.copy_(drawn)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation of maps, image by image: ``N`` in [-1, 1].

    Of a constant map it is not defined: NaN.

    Args:
        first: ``N x ...``.
        second: of the same shape.
    """
    pairs = zip(first.flatten(1).cpu().numpy(), second.flatten(1).cpu().numpy(), strict=True)
    return torch.tensor(
        [spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else math.nan for a, b in pairs],
        dtype=torch.float64,
    )


def structural_similarity(first: Tensor, second: Tensor, *, window_px: int = 7) -> Tensor:
    """Return SSIM of maps, image by image: ``N`` in [-1, 1].

    Each image's maps are scaled to 0..1 by their own smallest and largest value.

    Args:
        first: ``N x C x H x W``.
        second: of the same shape.
        window_px: side of the window; smaller maps take a window of their own size.

    Paper: Wang, Bovik, Sheikh, Simoncelli 2004, equation 13, K1 = 0.01, K2 = 0.03.
    Departures: a uniform window instead of a Gaussian one.
    """
    side = min(window_px, *first.shape[2:])
    a, b = _to_unit(first), _to_unit(second)

    def mean(maps: Tensor) -> Tensor:
        return functional.avg_pool2d(maps, side, stride=1)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    ssim = ssim / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return ssim.mean((1, 2, 3))


def _to_unit(maps: Tensor) -> Tensor:
    flat = maps.double().cpu().flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    return (maps.double().cpu() - low[:, None, None, None]) / span[:, None, None, None]
