"""Sending one activation back to the pixels: by the gradient, the deconvnet, or guided backpropagation.

The three differ at the ReLU alone. With its input x and the signal R from above, it passes on

- gradient: ``1[x > 0] R``,
- deconvnet: ``1[R > 0] R``,
- guided: ``1[x > 0] 1[R > 0] R``.

The network runs as it is; only its calls of ReLU are replaced meanwhile (modules, functional, in place,
reused). Autograd then takes the signal down: through a convolution by its transposed filters without the
bias, through a max pool by its switches. The steps between the activation and the pixels are read from
autograd's graph: those that the deconvnet's paper does not define are named in ``Projection.extensions``, and
those that no rule covers are refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from striate.core.choices import Rule
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import find_layer, untouched
from striate.look.rules import ReluMode, bypass_norms, label_of
from striate.look.running import Hook

__all__ = ["Place", "Projection", "Record", "Rule", "project", "project_units", "recorded"]

Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One unit of a layer, sent back to the pixels of each image.

    Attributes:
        maps: ``N x C x H x W``, on the scale of normed pixels; its sign is the signal's.
        values: ``N`` activations of the unit at its place.
        places: row and column of the unit in its map, for each image; None where the layer has no maps.
        layer: the layer's path; None for the network's output.
        channel: the unit's map, or its feature.
        rule: at ReLUs.
        extensions: steps that the paper of the deconvnet does not define, with what was done; () for the
            gradient, which needs no definition.
    """

    maps: Tensor
    values: Tensor
    places: tuple[Place | None, ...]
    layer: str | None
    channel: int
    rule: Rule
    extensions: tuple[str, ...]


def project(
    net: nn.Module,
    images: Tensor,
    layer: str | None,
    *,
    channel: int,
    at: Place | Sequence[Place] | None = None,
    rule: Rule = "deconvnet",
    batch_images: int = 16,
    progress: Progress = silent,
) -> Projection:
    """Send one unit of a layer back to the pixels.

    The deconvnet starts from the activation's own value and zeros elsewhere, as its paper says. Gradient and
    guided start from 1: they are derivatives. All rules scale with what they start from, if it is positive.

    Args:
        net: the network; it is run in eval mode and left as it was.
        images: ``N x C x H x W``, normed, on the network's device.
        layer: path of a module: a convolution (its sums, before the ReLU), a ReLU, a pool, a block, or a
            fully connected layer. Of a module used several times, its last use counts. None: the network's
            output.
        channel: number of the map, or of the feature.
        at: row and column of the unit in its map, for all images or for each; None: where the map is largest
            in each image.
        rule: at ReLUs.
        batch_images: images that run at a time; it changes memory, not results.
        progress: listener: images done.

    Returns:
        Maps, values and places.

    Raises:
        UsageError: no such layer, channel, place or rule; or the signal meets a step that the rule does not
            cover, such as GELU or a product of activations.

    Paper: Zeiler and Fergus 2013, section 2.1 (deconvnet); Simonyan, Vedaldi, Zisserman 2013, section 3
        (gradient); Springenberg et al. 2014, section 3.4 and Fig. 1 (guided).
    Departures: what ``extensions`` names. Ties in a pool go to the first place, row by row.
    """
    return project_units(
        net, images, layer, channels=[channel], at=at, rule=rule, batch_images=batch_images, progress=progress
    )[0]


def project_units(
    net: nn.Module,
    images: Tensor,
    layer: str | None,
    *,
    channels: Sequence[int],
    at: Place | Sequence[Place] | None = None,
    rule: Rule = "deconvnet",
    batch_images: int = 16,
    progress: Progress = silent,
) -> list[Projection]:
    """Send several units of a layer back, as ``project`` does each, with one forward pass for all.

    Raises:
        UsageError: as ``project``.
    """
    _check(images, rule, batch_images)
    if not channels:
        raise UsageError("expected at least one channel to project, got none")
    places = _places(at, len(images))
    name = "the output" if layer is None else layer
    maps: list[list[Tensor]] = [[] for _ in channels]
    values: list[list[Tensor]] = [[] for _ in channels]
    found: list[list[Place | None]] = [[] for _ in channels]
    extensions: dict[str, None] = {}
    for first in range(0, len(images), batch_images):
        batch = images[first : first + batch_images]
        given = None if places is None else places[first : first + batch_images]
        with recorded(net, batch, [layer], rule=rule) as record:
            kept = record.outputs[layer]
            if kept.ndim not in (2, 4):
                raise UsageError(
                    f"expected a layer that gives maps or features, got {name} with {tuple(kept.shape)}:"
                    " take another layer"
                )
            extensions |= dict.fromkeys(record.extensions(layer))
            for number, channel in enumerate(channels):
                start, value, own = _start(kept, channel, given, name, rule)
                maps[number].append(record.back(layer, start))
                values[number].append(value)
                found[number] += own
                progress(f"{rule} of {name}", first * len(channels) + number + 1, len(images) * len(channels))
    return [
        Projection(
            maps=torch.cat(maps[number]),
            values=torch.cat(values[number]),
            places=tuple(found[number]),
            layer=layer,
            channel=channel,
            rule=rule,
            extensions=tuple(sorted(extensions)),
        )
        for number, channel in enumerate(channels)
    ]


class Record:
    """One forward pass under a rule, ready to send signals back from its layers.

    Attributes:
        outputs: what the layers gave, by path; None is the network's output.
        rule: at ReLUs.
    """

    def __init__(
        self, rule: Rule, pixels: Tensor, outputs: dict[str | None, Tensor], known: dict[Any, str | None]
    ) -> None:
        self.rule = rule
        self.outputs = outputs
        self._pixels = pixels
        self._known = known

    def back(self, layer: str | None, start: Tensor) -> Tensor:
        """Send a signal, of the shape of a layer's output, back to the pixels: ``N x C x H x W``.

        Raises:
            UsageError: the layer does not depend on the pixels.
        """
        kept = self.outputs[layer]
        (maps,) = torch.autograd.grad(
            kept, self._pixels, start, retain_graph=True, allow_unused=True, materialize_grads=False
        )
        if maps is None:
            raise UsageError(f"expected a layer that depends on the pixels, got {layer}: take another layer")
        return maps.detach()

    def extensions(self, layer: str | None) -> tuple[str, ...]:
        """Name the steps between a layer and the pixels that the deconvnet's paper does not define.

        Raises:
            UsageError: a step that the rule does not cover, or one that mixes the images of a batch.
        """
        used: dict[str, None] = {}
        waiting, seen = [self.outputs[layer].grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            label = label_of(node, self.rule, self._known)
            if label:
                used[label] = None
            waiting += [following for following, _ in node.next_functions]
        return tuple(sorted(used))


@contextmanager
def recorded(
    net: nn.Module, images: Tensor, layers: Sequence[str | None], *, rule: Rule = "gradient"
) -> Iterator[Record]:
    """Run images through a network under a rule and keep what some layers give, inside a block.

    What the layers gave is a copy: a ReLU that works in place behind them does not change it. In the block
    the network is in eval mode with its parameters frozen; afterwards it is as before.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed.
        layers: paths of modules; None is the network itself.
        rule: at ReLUs; ``gradient`` changes nothing.

    Raises:
        UsageError: no such layer, one that the images do not reach, or that gives no tensor.
    """
    known: dict[Any, str | None] = {}
    outputs: dict[str | None, Tensor] = {}
    handles = []

    def keeper(layer: str | None) -> Hook:
        def keep(module: nn.Module, inputs: object, output: object) -> Tensor | None:
            if not isinstance(output, Tensor):
                return None
            outputs[layer] = output
            return output.clone()

        return keep

    with torch.inference_mode(False), torch.enable_grad(), untouched(net):
        pixels = images.detach().clone().requires_grad_(True)
        try:
            if rule != "gradient":
                handles += bypass_norms(net, known)
            for layer in layers:
                module = net if layer is None else find_layer(net, layer)
                handles.append(module.register_forward_hook(keeper(layer)))
            if rule == "gradient":
                net(pixels.clone())  # a copy: the network may change it in place
            else:
                with ReluMode(rule, known):
                    net(pixels.clone())
        finally:
            for handle in handles:
                handle.remove()
        missing = ["the output" if layer is None else layer for layer in layers if layer not in outputs]
        if missing:
            raise UsageError(
                f"expected layers that give a tensor for these images, got {', '.join(missing)}:"
                " such a layer is not used at test time, or gives several"
            )
        for layer, output in outputs.items():
            if not output.requires_grad:
                raise UsageError(
                    f"expected a layer that gradients reach, got {layer or 'the output'}: it is computed"
                    " without gradients, or from something other than the pixels"
                )
        yield Record(rule, pixels, outputs, known)


def _check(images: Tensor, rule: str, batch_images: int) -> None:
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise UsageError(f"expected normed images, N x C x H x W, got {images.dtype} {tuple(images.shape)}")
    if rule not in get_args(Rule):
        raise UsageError(f"expected a rule of {', '.join(get_args(Rule))}, got {rule!r}")
    if batch_images < 1:
        raise UsageError(f"expected `batch_images` of at least 1, got {batch_images}")


def _places(at: Place | Sequence[Place] | None, count: int) -> list[Place] | None:
    if at is None:
        return None
    pairs: Any = [at] * count if len(at) == 2 and isinstance(at[0], int) else list(at)
    if len(pairs) != count:
        raise UsageError(f"expected one place, or one for each of {count} images, got {len(pairs)}")
    return [(int(row), int(column)) for row, column in pairs]


def _start(
    kept: Tensor, channel: int, places: list[Place] | None, name: str, rule: Rule
) -> tuple[Tensor, Tensor, list[Place | None]]:
    """Return the signal to start from, the activations, and where they are."""
    if not 0 <= channel < kept.shape[1]:
        raise UsageError(f"expected a unit of {name} from 0 to {kept.shape[1] - 1}, got {channel}")
    start = torch.zeros_like(kept)
    units = kept.detach()[:, channel]
    if kept.ndim == 2:
        if places is not None:
            raise UsageError(f"expected no place for a unit of {name}, which has no maps: leave it out")
        start[:, channel] = units if rule == "deconvnet" else 1
        return start, units, [None] * len(kept)
    height, width = kept.shape[2:]
    if places is None:
        found = units.flatten(1).argmax(1).tolist()
        places = [divmod(place, width) for place in found]
    for row, column in places:
        if not (0 <= row < height and 0 <= column < width):
            raise UsageError(
                f"expected a place in rows 0 to {height - 1} and columns 0 to {width - 1} of {name},"
                f" got {row},{column}"
            )
    numbers = torch.arange(len(kept), device=kept.device)
    rows, columns = (torch.tensor(values, device=kept.device) for values in zip(*places, strict=True))
    values = units[numbers, rows, columns]
    start[numbers, channel, rows, columns] = values if rule == "deconvnet" else torch.ones_like(values)
    return start, values, list(places)
