"""Checking receptive fields without arithmetic: spoil pixels, and see which units notice.

A copy of the network gets equal positive weights in each layer, zero biases and batch normalisation that does
nothing. One whole row (then column) of pixels becomes not-a-number, the largest disturbance there is: what is
computed from it is not a number either, through any depth, squashing function or normalisation. A unit has
moved when it differs from what it gave for the clean image. Equal weights make the channels of a group equal,
so that a convolution of all channels costs no more than one of their sum. The arithmetic is in 64 bits, where
torch slides windows plainly; the fast algorithms for 32 bits mix neighbouring windows.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from striate.anatomy.field import Axis, Field
from striate.anatomy.layer import Layer
from striate.anatomy.ledger import ledger
from striate.anatomy.record import Anatomy
from striate.anatomy.trace import follow, trace
from striate.anatomy.units import UnitBox, grid_of, unit_box
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent

_MEMORY_BYTES = 2**30  # that a batch of disturbed images may take, about
_MOST_IMAGES = 32
_ROUNDING = 1e-9

Probe = tuple[int, int]
"""Axis (0: rows, 1: columns) and the pixel row or column that is disturbed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A unit that does not see what the arithmetic says.

    Attributes:
        predicted: its box by arithmetic.
        found_rows: first and last row of pixels that move it; None where none does.
        found_columns: first and last column.
    """

    predicted: UnitBox
    found_rows: tuple[int, int] | None
    found_columns: tuple[int, int] | None

    @property
    def explained_by_gaps(self) -> bool:
        """Whether the pixels found fill the box up to those of its ends that lie in the image."""
        box = self.predicted
        if box.clipped_rows is None or box.clipped_columns is None:
            return self.found_rows is None and self.found_columns is None
        return _fills(self.found_rows, box.rows, box.image[0]) and _fills(
            self.found_columns, box.columns, box.image[1]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCheck:
    """What the check of one row found.

    Attributes:
        layer: name of the row.
        units: number of units that were looked at.
        ok: whether all behave as predicted; None where the row could not be checked.
        reason: why it could not be, or "".
        differences: the units that do not.
    """

    layer: str
    units: int
    ok: bool | None
    reason: str = ""
    differences: tuple[Difference, ...] = ()


def check_fields(
    net: nn.Module, input_shape: tuple[int, int, int] | None = None, *, progress: Progress = silent
) -> tuple[FieldCheck, ...]:
    """Check the receptive field of every row of a network by perturbation.

    Of each row the units at the corners, the centre and the middles of the edges are looked at. The pixel
    rows at both ends of the predicted box must move a unit where they lie in the image, those next to it
    outside must not; so also for columns. Inside the box there may be gaps: dilated windows leave some.

    Args:
        net: the network; it is left as it is. Its buffers must have values: not built on ``meta``.
        input_shape: as ``trace``.
        progress: gets the number of disturbed images done, stage ``check``.

    Returns:
        One result a row, in the order of computation.

    Raises:
        UsageError: as ``trace``; or buffers without values.
    """
    anatomy = trace(net, input_shape)
    stand_in = _stand_in(net)
    plans = [_plan(layer, anatomy) for layer in anatomy if layer.field is not None]
    runner = _Runner(stand_in, anatomy, progress)
    clean = runner.run_clean()
    seen = runner.run([(probe, plan.layer.name) for plan in plans for probe in plan.probes], clean)
    suspects = {
        plan.layer.name: units
        for plan in plans
        if clean.get(plan.layer.name) is not None and (units := _suspects(plan, seen))
    }
    if suspects:
        height, width = anatomy.input_shape[1:]
        every = [(0, p) for p in range(height)] + [(1, p) for p in range(width)]
        seen = runner.run([(probe, name) for name in suspects for probe in every], clean)
    results = []
    for layer in anatomy:
        if layer.field is None:
            reason = layer.note or "no receptive field"
            results.append(FieldCheck(layer=layer.name, units=0, ok=None, reason=reason))
        elif clean.get(layer.name) is None:
            reason = "its units could not be read, or are not finite numbers"
            results.append(FieldCheck(layer=layer.name, units=0, ok=None, reason=reason))
        else:
            found = [_difference(layer, unit, anatomy, seen) for unit in suspects.get(layer.name, ())]
            differences = tuple(one for one in found if not one.explained_by_gaps)
            rows, columns = _ranks(layer)
            results.append(
                FieldCheck(
                    layer=layer.name,
                    units=len(rows) * len(columns),
                    ok=not differences,
                    differences=differences,
                )
            )
    return tuple(results)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which pixels are to move which units of a row."""

    layer: Layer
    field: Field
    image: tuple[int, int]
    probes: tuple[Probe, ...]

    def expected(self, probe: Probe, unit: tuple[int, int]) -> bool:
        """Whether disturbing whole rows (columns) of pixels must move a unit."""
        axis, pixel = probe
        for number, along in enumerate((self.field.rows, self.field.columns)):
            first, last = along.box(unit[number], self.image[number])
            if first > last or (number == axis and not first <= pixel <= last):
                return False
        return True


def _ranks(layer: Layer) -> tuple[list[int], list[int]]:
    """Rows and columns of the units to look at."""
    rows, columns = (sorted({0, count // 2, count - 1}) for count in grid_of(layer))
    return rows, columns


def _plan(layer: Layer, anatomy: Anatomy) -> _Plan:
    assert layer.field is not None
    image = anatomy.input_shape[1:]
    probes: dict[Probe, None] = {}
    ranks: Sequence[list[int]] = _ranks(layer)
    fields: tuple[Axis, Axis] = (layer.field.rows, layer.field.columns)
    for axis, along in enumerate(fields):
        for unit in ranks[axis]:
            for first, last in (along.box(unit), along.box(unit, image[axis])):
                for pixel in (first - 1, first, last, last + 1):
                    if 0 <= pixel < image[axis]:
                        probes[(axis, pixel)] = None
    return _Plan(layer, layer.field, image, tuple(probes))


Seen = dict[tuple[Probe, str], Tensor]
"""By probe and row: which of the row's chosen units moved, ``rows x columns``, bool."""


def _suspects(plan: _Plan, seen: Seen) -> list[tuple[int, int]]:
    rows, columns = _ranks(plan.layer)
    wrong: dict[tuple[int, int], None] = {}
    for probe in plan.probes:
        moved = seen[(probe, plan.layer.name)].tolist()
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                if moved[i][j] != plan.expected(probe, (row, column)):
                    wrong[(row, column)] = None
    return list(wrong)


def _difference(layer: Layer, unit: tuple[int, int], anatomy: Anatomy, seen: Seen) -> Difference:
    rows, columns = _ranks(layer)
    i, j = rows.index(unit[0]), columns.index(unit[1])

    def span(axis: int) -> tuple[int, int] | None:
        pixels = range(anatomy.input_shape[1 + axis])
        moved = [pixel for pixel in pixels if bool(seen[((axis, pixel), layer.name)][i, j])]
        return (moved[0], moved[-1]) if moved else None

    return Difference(
        predicted=unit_box(anatomy, layer.name, *unit), found_rows=span(0), found_columns=span(1)
    )


def _stand_in(net: nn.Module) -> nn.Module:
    """Copy a network without its weights: each new weight is one number, repeated."""
    memo: dict[int, Any] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 1
        value = 0.0 if name.rpartition(".")[2] == "bias" else 1 / fan_in
        values = torch.full((), value, dtype=torch.float64, device="cpu").expand(parameter.shape)
        memo.setdefault(id(parameter), nn.Parameter(values, requires_grad=False))
    for name, buffer in net.named_buffers(remove_duplicate=False):
        last = name.rpartition(".")[2]
        if last in ("running_mean", "running_var"):
            start = torch.zeros if last == "running_mean" else torch.ones
            memo[id(buffer)] = start(buffer.shape, dtype=torch.float64, device="cpu")
        elif last == "num_batches_tracked":
            memo[id(buffer)] = torch.zeros(buffer.shape, dtype=buffer.dtype, device="cpu")
        elif buffer.device.type == "meta":
            raise UsageError(
                f"expected a network whose buffers have values, got {name} on meta: build it on cpu"
            )
        else:
            values = buffer.detach().to("cpu", copy=True)
            memo[id(buffer)] = values.double() if values.is_floating_point() else values
    return copy.deepcopy(net, memo)


def _fills(found: tuple[int, int] | None, box: tuple[int, int], size_px: int) -> bool:
    if found is None:
        return False
    first = found[0] == box[0] if box[0] >= 0 else found[0] >= 0
    last = found[1] == box[1] if box[1] < size_px else found[1] < size_px
    return first and last


class _EnoughError(Exception):
    """All rows that a batch of disturbed images is for have been seen."""


class _EqualWeights(TorchDispatchMode):
    """Computes layers whose weights are all one number from the sum of their inputs."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation."""
        if func is torch.ops.aten.convolution.default and _is_one_number(args[1]) and args[1].dim() == 4:
            source, weight, bias, stride, padding, dilation, transposed, _, groups = args
            if not transposed:
                sums = source.unflatten(1, (groups, -1)).sum(2)
                kernel = weight[:1, :1].expand(groups, 1, *weight.shape[2:])
                one = func(sums, kernel, None, stride, padding, dilation, False, [0, 0], groups)
                maps = one.repeat_interleave(weight.shape[0] // groups, dim=1)
                return maps if bias is None else maps + bias[:, None, None]
        if func is torch.ops.aten.addmm.default and _is_one_number(args[2]) and not kwargs:
            bias, source, weight = args
            return bias + source.sum(1, keepdim=True) * weight[0, 0].expand(weight.shape[1])
        return func(*args, **(kwargs or {}))


def _is_one_number(weight: Tensor) -> bool:
    return weight.numel() > 1 and not any(weight.stride())


class _Runner:
    """Runs a network on disturbed images."""

    def __init__(self, net: nn.Module, anatomy: Anatomy, progress: Progress) -> None:
        self.net, self.anatomy, self.progress = net, anatomy, progress
        self.order = {layer.name: number for number, layer in enumerate(anatomy)}
        bytes_of_image = 4 * ledger(anatomy, "separate").activation_bytes  # 64 bits, and what lies between
        self.most_images = max(1, min(_MOST_IMAGES, _MEMORY_BYTES // bytes_of_image))

    def run_clean(self) -> dict[str, Tensor | None]:
        """Return the chosen units of each row for the clean image; None where they are not usable."""
        clean: dict[str, Tensor | None] = {}

        def watch(name: str, tensor: Tensor) -> None:
            units = self._units(name, tensor, 1)
            clean[name] = units if units is not None and bool(units.isfinite().all()) else None

        self._forward(torch.ones(1, *self.anatomy.input_shape, dtype=torch.float64), watch)
        return clean

    def run(self, wanted: Iterable[tuple[Probe, str]], clean: dict[str, Tensor | None]) -> Seen:
        """Disturb each wanted row of pixels; return which units of the wanted rows moved."""
        readers: dict[Probe, set[str]] = {}
        for probe, name in wanted:
            if clean.get(name) is not None:
                readers.setdefault(probe, set()).add(name)
        depth = {probe: max(self.order[name] for name in names) for probe, names in readers.items()}
        probes = sorted(readers, key=lambda probe: depth[probe])
        seen: Seen = {}
        for start in range(0, len(probes), self.most_images):
            self.progress("check", start, len(probes))
            group = probes[start : start + self.most_images]
            self._forward(self._disturbed(group), self._reader(group, readers, depth, clean, seen))
        self.progress("check", len(probes), len(probes))
        return seen

    def _reader(
        self,
        group: list[Probe],
        readers: dict[Probe, set[str]],
        depth: dict[Probe, int],
        clean: dict[str, Tensor | None],
        seen: Seen,
    ) -> Callable[[str, Tensor], None]:
        deepest = max(depth[probe] for probe in group)

        def watch(name: str, tensor: Tensor) -> None:
            undisturbed = clean.get(name)
            units = self._units(name, tensor, len(group))
            if undisturbed is not None and units is not None:
                # Not-a-number is not within any tolerance. Rounding may differ with the place in a batch.
                tolerance = _ROUNDING * (1 + undisturbed.abs())
                moved = ~((units - undisturbed).abs() <= tolerance).all(dim=1)
                for probe, one in zip(group, moved, strict=True):
                    if name in readers[probe]:
                        seen[(probe, name)] = one
            if self.order.get(name) == deepest:
                raise _EnoughError

        return watch

    def _disturbed(self, group: list[Probe]) -> Tensor:
        images = torch.ones(len(group), *self.anatomy.input_shape, dtype=torch.float64)
        for image, (axis, pixel) in zip(images, group, strict=True):
            image.select(1 + axis, pixel).fill_(torch.nan)
        return images

    def _units(self, name: str, tensor: Tensor, num_images: int) -> Tensor | None:
        """Pick the chosen units: ``images x channels x rows x columns``."""
        if name not in self.order:
            return None
        layer = self.anatomy[name]
        if tuple(tensor.shape) != (num_images, *layer.output):
            return None
        if len(layer.output) < 3:
            return tensor.reshape(num_images, -1, 1, 1)
        rows, columns = _ranks(layer)
        return tensor[..., rows, :][..., columns].reshape(num_images, -1, len(rows), len(columns))

    def _forward(self, images: Tensor, watch: Callable[[str, Tensor], None]) -> None:
        with _EqualWeights(), suppress(_EnoughError):
            follow(self.net, images, watch)
