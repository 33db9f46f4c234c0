"""The deconvnet: what in the image made a unit fire, beside two other backward rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.core.choices import Rule
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import field_of, pixel_box
from striate.look.running import reading
from striate.look.signals import Place, Projection, project_units

RULES: tuple[Rule, ...] = ("deconvnet", "guided", "gradient")
"""The backward rules in the order of the pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """One unit of a layer in some images, by several rules.

    Attributes:
        channel: its map or feature.
        projections: by rule; values and places are the same in all.
        boxes: for each image: first row, first column, last row, last column of the pixels that the unit at
            its place sees.
    """

    channel: int
    projections: Mapping[Rule, Projection]
    boxes: tuple[tuple[int, int, int, int], ...]

    @property
    def values(self) -> Tensor:
        """The activations, ``N``."""
        return next(iter(self.projections.values())).values

    @property
    def places(self) -> tuple[Place | None, ...]:
        """Row and column in the map, for each image; None where the layer has no maps."""
        return next(iter(self.projections.values())).places

    @property
    def extensions(self) -> tuple[str, ...]:
        """Steps that the paper does not define, with what was done."""
        return tuple(sorted({name for found in self.projections.values() for name in found.extensions}))


def compare_rules(
    net: nn.Module,
    images: Tensor,
    layer: str,
    *,
    channels: Sequence[int],
    at: Place | Sequence[Place] | None = None,
    rules: Sequence[Rule] = RULES,
    batch_images: int = 16,
    progress: Progress = silent,
) -> list[UnitView]:
    """Project units by several rules, with the box of pixels that each sees.

    Arguments as ``signals.project_units``, with several ``rules``; one view for each channel.

    Raises:
        UsageError: no rule, or as ``signals.project``.
    """
    if not rules:
        raise UsageError(f"expected at least one rule of {', '.join(RULES)}, got none")
    by_rule = {
        rule: project_units(
            net,
            images,
            layer,
            channels=channels,
            at=at,
            rule=rule,
            batch_images=batch_images,
            progress=progress,
        )
        for rule in rules
    }
    _, *shape = images.shape
    input_shape = (shape[0], shape[1], shape[2])
    field = field_of(net, input_shape, layer)
    views = []
    for number, channel in enumerate(channels):
        projections = {rule: found[number] for rule, found in by_rule.items()}
        places = projections[rules[0]].places
        boxes = tuple(
            pixel_box(None if place is None else field, *(place or (0, 0)), input_shape) for place in places
        )
        views.append(UnitView(channel=channel, projections=projections, boxes=boxes))
    return views


def strongest_channels(net: nn.Module, image: Tensor, layer: str, count: int) -> list[int]:
    """Return the units whose largest activation in one image is largest, strongest first.

    Args:
        net: the network.
        image: ``1 x C x H x W``, normed.
        layer: path of a module.
        count: how many at most.

    Raises:
        UsageError: the layer gives neither maps nor features.
    """
    peaks = torch.zeros(0)

    def take(layer: str, kept: Tensor) -> None:
        nonlocal peaks
        if kept.ndim not in (2, 4):
            raise UsageError(f"expected a layer that gives maps or features, got {layer}: take another layer")
        peaks = kept[0].flatten(1).amax(1) if kept.ndim == 4 else kept[0].clone()

    with reading(net, [layer], image) as run:
        run(image, take)
    return torch.argsort(peaks, descending=True, stable=True)[:count].tolist()
