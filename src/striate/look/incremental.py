"""Computing only what a covered window can change: the first layers of a chain, on a part of their maps.

A unit whose receptive field does not touch the window keeps the value that it has on the whole image. So the
first layers, whose fields are small and whose maps are large, run on crops around the window, and their
results are laid into the whole image's maps. The numbers are those of the whole computation up to rounding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate.anatomy import Axis, Field, trace
from striate.core.errors import UsageError
from striate.nets.modules import Chain

_WORTH = 0.6  # of a layer's maps: larger crops cost more copying than they save


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisStep:
    """What one layer reads and gives along one axis, for each place of the window.

    Attributes:
        crop_starts: first unit of the crop of the layer's input.
        crop: units in a crop.
        kept_starts: first unit of the layer's output that is kept, counted in the whole output.
        kept: units that are kept; they hold all that the window can change.
        jump: units of the input between neighbouring units of the output.
    """

    crop_starts: tuple[int, ...]
    crop: int
    kept_starts: tuple[int, ...]
    kept: int
    jump: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer on crops.

    Attributes:
        layer: of the chain.
        rows: along the rows.
        columns: along the columns.
        pointwise: whether the layer reads no neighbours, so that it needs no crop around the window.
    """

    layer: nn.Module
    rows: AxisStep
    columns: AxisStep
    pointwise: bool


def plan(
    net: nn.Module,
    input_shape: tuple[int, int, int],
    tops: Sequence[int],
    lefts: Sequence[int],
    size: tuple[int, int],
    *,
    whole: str | None = None,
) -> list[Step]:
    """Say which first layers of a network can run on crops; none if it is not known to be a plain chain.

    Args:
        net: the network.
        input_shape: channels, height and width of the images.
        tops: first rows of the windows.
        lefts: first columns of the windows.
        size: height and width of a window.
        whole: a layer whose whole maps are wanted: it and all after it run whole.
    """
    if not _is_plain_chain(net):
        return []
    steps: list[Step] = []
    shape = input_shape
    rows, columns, (height, width) = tuple(tops), tuple(lefts), size
    for name, layer in net.named_children():
        if whole is not None and (whole == name or whole.startswith(f"{name}.")):
            break
        try:
            traced = trace(nn.Sequential(layer), shape)
        except UsageError:
            break
        last = traced[traced.outputs[0]]
        if len(last.output) != 3 or last.field is None:
            break
        down = axis_step(last.field.rows, shape[1], last.output[1], rows, height)
        right = axis_step(last.field.columns, shape[2], last.output[2], columns, width)
        if down is None or right is None or down.crop * right.crop > _WORTH * shape[1] * shape[2]:
            break
        alone = last.field == Field(Axis(1, 1, 0), Axis(1, 1, 0))
        same = alone and last.output[1:] == shape[1:]
        steps.append(Step(layer=layer, rows=down, columns=right, pointwise=same))
        rows, height, columns, width = down.kept_starts, down.kept, right.kept_starts, right.kept
        shape = (last.output[0], last.output[1], last.output[2])
    return steps


def axis_step(field: Axis, units: int, outputs: int, starts: Sequence[int], length: int) -> AxisStep | None:
    """Work out one layer along one axis.

    A crop begins at a multiple of the jump, where the layer's windows fall as on the whole axis; it ends as
    far from the end as a multiple of the jump. A kept unit sees only what is in the crop, or, where the crop
    ends at the axis' border, that border's padding.

    Args:
        field: of the layer's units, on its own input.
        units: of its input.
        outputs: of the layer.
        starts: first changed unit of the input, for each place of the window.
        length: how many units change.

    Returns:
        None for a layer whose units see everything.
    """
    jump, size, origin = field.jump_px, field.size_px, field.start_px
    if jump is None:
        return None
    changed = [
        (
            max(0, -(-(start - origin - size + 1) // jump)),
            min(outputs - 1, (start + length - 1 - origin) // jump),
        )
        for start in starts
    ]
    kept = max(1, max(last - first + 1 for first, last in changed))
    kept_starts = tuple(max(0, min(first, outputs - kept)) for first, _ in changed)
    seen = [
        (max(0, origin + start * jump), min(units, origin + (start + kept - 1) * jump + size))
        for start in kept_starts
    ]
    begins = [first // jump * jump for first, _ in seen]
    crop = max(end - begin for (_, end), begin in zip(seen, begins, strict=True))
    crop = min(units, crop + (units - crop) % jump)
    crop_starts = tuple(
        units - crop if end == units else min(begin, units - crop)
        for (_, end), begin in zip(seen, begins, strict=True)
    )
    return AxisStep(crop_starts=crop_starts, crop=crop, kept_starts=kept_starts, kept=kept, jump=jump)


class Changed:
    """The first layers of a chain for windows over given images."""

    def __init__(self, net: nn.Module, steps: Sequence[Step]) -> None:
        """Split a chain.

        Args:
            net: the network.
            steps: of ``plan``, at least one.
        """
        self.steps = list(steps)
        self.rest = nn.Sequential(*list(net.children())[len(self.steps) :])
        self._maps: dict[int, list[Tensor]] = {}

    def maps(
        self,
        images: Tensor,
        fills: Tensor,
        group: Sequence[tuple[int, int, int]],
        tops: Sequence[int],
        lefts: Sequence[int],
        size: tuple[int, int],
    ) -> Tensor:
        """Return what the first layers give for occluded images; ``rest`` takes it from there.

        Args:
            images: ``N x C x H x W``.
            fills: what the windows show, of the same shape.
            group: for each result the number of its image, and of its place among ``tops`` and ``lefts``.
                Over all calls the numbers of images rise.
            tops: first rows of the windows.
            lefts: first columns of the windows.
            size: height and width of a window.
        """
        for gone in [owner for owner in self._maps if owner < group[0][0]]:
            del self._maps[gone]
        for owner in {owner for owner, _, _ in group} - set(self._maps):
            self._maps[owner] = list(self._whole(images[owner : owner + 1]))
        whole = [self._maps[owner] for owner, _, _ in group]
        places = [(tops[row], lefts[column]) for _, row, column in group]
        parts = torch.stack(
            [
                fills[owner, :, top : top + size[0], left : left + size[1]]
                for (owner, _, _), (top, left) in zip(group, places, strict=True)
            ]
        )
        for number, step in enumerate(self.steps):
            if step.pointwise:
                parts = step.layer(parts)
                continue
            corners = [
                (step.rows.crop_starts[row], step.columns.crop_starts[column]) for _, row, column in group
            ]
            crop = (step.rows.crop, step.columns.crop)
            given = step.layer(_laid([maps[number] for maps in whole], parts, places, corners, crop))
            places = [
                (step.rows.kept_starts[row], step.columns.kept_starts[column]) for _, row, column in group
            ]
            parts = torch.stack(
                [
                    one.narrow(1, top - corner[0] // step.rows.jump, step.rows.kept).narrow(
                        2, left - corner[1] // step.columns.jump, step.columns.kept
                    )
                    for one, (top, left), corner in zip(given, places, corners, strict=True)
                ]
            )
        ends = [maps[-1] for maps in whole]
        return _laid(ends, parts, places, [(0, 0)] * len(group), (ends[0].shape[2], ends[0].shape[3]))

    def _whole(self, image: Tensor) -> Iterator[Tensor]:
        yield image
        for step in self.steps:
            image = step.layer(image.clone())  # the layer may work in place
            yield image


def _laid(
    whole: Sequence[Tensor],
    parts: Tensor,
    places: Sequence[tuple[int, int]],
    corners: Sequence[tuple[int, int]],
    crop: tuple[int, int],
) -> Tensor:
    """Cut crops out of whole maps and lay the changed parts over them."""
    last = whole[0].is_contiguous(memory_format=torch.channels_last)
    crops = torch.empty(
        (len(whole), whole[0].shape[1], *crop),
        dtype=whole[0].dtype,
        device=whole[0].device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    for out, maps, part, (top, left), (row, column) in zip(crops, whole, parts, places, corners, strict=True):
        out.copy_(maps[0, :, row : row + crop[0], column : column + crop[1]])
        first, begin = max(top, row), max(left, column)
        end, stop = min(top + part.shape[1], row + crop[0]), min(left + part.shape[2], column + crop[1])
        if end > first and stop > begin:
            out[:, first - row : end - row, begin - column : stop - column] = part[
                :, first - top : end - top, begin - left : stop - left
            ]
    return crops


def _is_plain_chain(net: nn.Module) -> bool:
    """Say whether a network is layers in a row, all of kinds that are known to treat every place alike."""
    if type(net) not in (Chain, nn.Sequential) or len(set(net.children())) != len(list(net.children())):
        return False
    for module in net.modules():
        own = type(module).__module__
        if not own.startswith(("torch.nn.modules.", "striate.nets.")):
            return False
        if getattr(module, "padding_mode", "zeros") != "zeros":
            return False
        if "Pad" in type(module).__name__ and not isinstance(module, nn.ZeroPad2d):
            return False
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    return True
