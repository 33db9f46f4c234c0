"""Running a network repeatedly, and only as far as the layers that are looked at."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.look.layers import find_layer, untouched

Take = Callable[[str, Tensor], None]
Hook = Callable[[nn.Module, Any, Any], Any]


class _SeenEnough(BaseException):
    """Ends a forward pass once all layers have been read; ``except Exception`` does not catch it."""


@contextmanager
def reading(net: nn.Module, layers: Sequence[str], probe: Tensor) -> Iterator[Callable[[Tensor, Take], None]]:
    """Yield a function ``run(images, take)`` that calls ``take(layer, output)`` for each layer, once.

    A layer's output is handed over the moment it exists, before anything that comes later can change it in
    place. Of a module that is used several times its last use counts. The forward pass ends there: layers
    above are not computed. Without gradients; the network is left as it was.

    Args:
        net: the network.
        layers: paths of modules.
        probe: an image, ``1 x C x H x W``: it is run once to see how often each module is used.

    Raises:
        UsageError: no such layer; or the probe does not reach it, or it gives no tensor.
    """
    uses = dict.fromkeys(layers, 0)
    seen = dict.fromkeys(layers, 0)
    taker: Take | None = None

    def hook_of(name: str) -> Hook:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not isinstance(output, Tensor):
                return
            seen[name] += 1
            if taker is not None and seen[name] == uses[name]:
                taker(name, output)
                if all(seen[each] == uses[each] for each in uses):
                    raise _SeenEnough

        return hook

    def run(images: Tensor, take: Take) -> None:
        nonlocal taker
        taker = take
        for name in seen:
            seen[name] = 0
        try:
            net(images)
        except _SeenEnough:
            pass
        finally:
            taker = None

    handles = []
    try:
        with untouched(net), torch.no_grad():
            for name in uses:
                handles.append(find_layer(net, name).register_forward_hook(hook_of(name)))
            net(probe)
            uses.update(seen)
            missing = [name for name, count in uses.items() if not count]
            if missing:
                raise UsageError(
                    f"expected layers that give a tensor for these images, got {', '.join(missing)}:"
                    " such a layer is not used at test time"
                )
            yield run
    finally:
        for handle in handles:
            handle.remove()


def map_of(layer: str, maps: Tensor, unit: int) -> Tensor:
    """Return a unit's map of a layer's output, ``N x H x W``: a view.

    Raises:
        UsageError: no such unit, or a layer without maps.
    """
    if maps.ndim != 4:
        raise UsageError(f"expected a layer with maps, got {layer}: fully connected units see all pixels")
    if not 0 <= unit < maps.shape[1]:
        raise UsageError(f"expected a unit of {layer} from 0 to {maps.shape[1] - 1}, got {unit}")
    return maps[:, unit]
