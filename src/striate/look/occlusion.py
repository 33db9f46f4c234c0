"""Occlusion: cover a part of the image and see what the network makes of the rest, part after part.

``_perturbed`` covers the windows of a grid, batch by batch; ``_measuring`` runs the network on such a batch;
``occlude`` puts the two together.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from striate.core.choices import Fill
from striate.core.compute import Precision, autocast_dtype
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing, normalise
from striate.look.incremental import Changed, plan
from striate.look.layers import find_layer, untouched
from striate.look.top import TopLayer, top_layer

# For images of 224 x 224: size and step of the occluder, and images in a forward pass. A CPU is fastest while
# a batch's maps stay in its cache.
_SIZE_224, _STRIDE_224, _BATCH_224_CPU, _BATCH_224_GPU, _LARGEST_BATCH = 50, 10, 8, 128, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the occluder is put: in rows and columns of windows inside the image, in pixels from 0.

    Attributes:
        tops: R, first row of the occluder.
        lefts: C, first column of the occluder.
        size_px: height and width of the occluder.
        stride_px: step from one place to the next, down and right; the last step may be shorter.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    size_px: tuple[int, int]
    stride_px: tuple[int, int]

    @property
    def rows(self) -> tuple[float, ...]:
        """Rows of the occluder's centres; halves lie between two pixels."""
        return tuple(top + (self.size_px[0] - 1) / 2 for top in self.tops)

    @property
    def columns(self) -> tuple[float, ...]:
        """Columns of the occluder's centres; halves lie between two pixels."""
        return tuple(left + (self.size_px[1] - 1) / 2 for left in self.lefts)

    def window(self, row: int, column: int) -> tuple[slice, slice]:
        """Return the pixels under the occluder at one place of the grid."""
        top, left = self.tops[row], self.lefts[column]
        return slice(top, top + self.size_px[0]), slice(left, left + self.size_px[1])

    def on_pixels(self, values: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
        """Lay an ``R x C`` map over an image: each pixel gets the value of the nearest centre."""
        rows = np.abs(np.arange(height)[:, None] - np.asarray(self.rows)[None]).argmin(axis=1)
        columns = np.abs(np.arange(width)[:, None] - np.asarray(self.columns)[None]).argmin(axis=1)
        return values[rows][:, columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One quantity of N images, on the CPU.

    Attributes:
        map: ``N x R x C``, with the occluder at each place of the grid.
        whole: N, without the occluder.
    """

    map: Tensor
    whole: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSum(Measure):
    """The sum of one feature map of each image.

    Attributes:
        layer: path of the layer.
        rectified: whether the sum is taken after max(0, x), because the ReLU that follows the layer is no
            module.
        unit: N, int64, the feature map: the one with the largest sum without the occluder.
    """

    layer: str
    rectified: bool
    unit: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class OcclusionMaps:
    """What a network says of N images while an occluder is at R x C places.

    Attributes:
        grid: the places.
        target: N, int64, the class to explain.
        probability: of the target class, 0..1.
        score: of the target class, before softmax or sigmoid.
        label: int64, the most probable class.
        activation: sum of the strongest feature map; None where the network has no convolution.
    """

    grid: Grid
    target: Tensor
    probability: Measure
    score: Measure
    label: Measure
    activation: MapSum | None


def occlude(
    net: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    size_px: int | tuple[int, int] | None = None,
    stride_px: int | tuple[int, int] | None = None,
    fill: float | Tensor = 0.0,
    layer: str | None = None,
    multi_label: bool = False,
    temperature: float = 1.0,
    batch_images: int | None = None,
    precision: Precision = "fp32",
    progress: Progress = silent,
) -> OcclusionMaps:
    """Slide an occluder over images and measure what the network makes of them.

    The occluder always lies inside the image. It starts at the top left corner and moves by ``stride_px``;
    the last place of each row and column touches the far border, so the last step may be shorter.

    The first layers of a plain chain of known layers run on crops around the occluder only
    (``incremental.py``); the numbers are the same up to rounding.

    Args:
        net: any network that maps ``N x C x H x W`` images to ``N x classes`` scores; it is left as it was.
        images: ``N x C x H x W``, normed, on the network's device.
        target: the class to explain: one for all, or one for each image; None takes for each image the class
            that is most probable without the occluder.
        size_px: side of the occluder, or its height and width; None: 50 of 224 px, in proportion.
        stride_px: step, or the steps down and to the right; None: 10 of 224 px, in proportion.
        fill: what the occluder shows, normed: a number, a value for each channel (C), or an image that is
            seen where the occluder is (``C x H x W`` or ``N x C x H x W``); see ``fill_of``.
        layer: whose feature map is summed: a module that gives maps (of one that is used several times, its
            last use); None takes ``top_layer``.
        multi_label: whether scores are independent (sigmoid) instead of one distribution (softmax).
        temperature: what scores are divided by before they become probabilities, above 0: the bundle's.
        batch_images: images in a forward pass; None takes as many as are fast.
        precision: ``fp32``; or ``bf16``, faster where the hardware has it, with 3 digits.
        progress: listener of the stage ``occluding``.

    Returns:
        The maps. They don't depend on the batch size beyond rounding.

    Raises:
        UsageError: an occluder, step, fill, class or layer that does not fit the images or the network.

    Paper: Zeiler and Fergus 2013 (arXiv 1311.2901), section 4.2 and Fig. 7: (b) the total activation of the
        top convolution layer's feature map that is strongest without the occluder, (d) the probability of the
        correct class, (e) the most probable label, each as a function of the occluder's place.
    Departures: the paper gives neither size nor step nor what happens at the border. "Strongest" is the
        largest sum, which is what the map shows. Without a target the predicted class is taken for the
        correct one.
    """
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise UsageError(
            f"expected normed images N x C x H x W, got {images.dtype} of shape {tuple(images.shape)}"
        )
    height, width = images.shape[2:]
    grid = grid_of(height, width, size_px, stride_px)
    fills = _spread(fill, images)
    if batch_images is None:
        at_224 = _BATCH_224_CPU if images.device.type == "cpu" else _BATCH_224_GPU
        batch_images = min(max(1, at_224 * 224 * 224 // (height * width)), _LARGEST_BATCH)
    if batch_images < 1:
        raise UsageError(f"expected at least 1 image in a batch, got `batch_images={batch_images}`")
    shape = (int(images.shape[1]), int(height), int(width))
    with _default_dtype(images.dtype):  # of the images that the network is read with
        top = top_layer(net, shape) if layer is None else TopLayer(layer, False)
        steps = plan(net, shape, grid.tops, grid.lefts, grid.size_px, whole=None if top is None else top.name)
    changed = Changed(net, steps) if steps else None
    with _measuring(net, top, precision) as measure:
        images = _fastest_layout(measure, images)
        parts = [measure(batch, None) for batch in images.split(batch_images)]
        scores = torch.cat([part[0] for part in parts])
        sums = None if parts[0][1] is None else torch.cat([part[1] for part in parts if part[1] is not None])
        targets = _targets(target, scores)
        units = None if sums is None else sums.argmax(dim=1)

        def read(scores: Tensor, sums: Tensor | None, owners: Tensor) -> dict[str, Tensor]:
            """Pick what counts for each image: of its class, and of its feature map."""
            scaled = scores / temperature
            probability = scaled.sigmoid() if multi_label else scaled.softmax(dim=1)
            wanted = targets[owners][:, None]
            found = {
                "probability": probability.gather(1, wanted)[:, 0],
                "score": scores.gather(1, wanted)[:, 0],
                "label": scores.argmax(dim=1),
            }
            if sums is not None and units is not None:
                found["activation"] = sums.gather(1, units[owners][:, None])[:, 0]
            return found

        whole = read(scores, sums, torch.arange(len(images)))
        occluded: dict[str, list[Tensor]] = {name: [] for name in whole}
        done, total = 0, len(images) * len(grid.tops) * len(grid.lefts)
        for owners, batch in _perturbed(images, fills, grid, changed, batch_images, precision):
            found = read(*measure(batch, None if changed is None else changed.rest), owners)
            for name, values in found.items():
                occluded[name].append(values)
            done += len(owners)
            progress("occluding", done, total)
    shape_of_maps = (len(images), len(grid.tops), len(grid.lefts))
    maps = {name: torch.cat(values).reshape(shape_of_maps) for name, values in occluded.items()}
    activation = None
    if top is not None and units is not None:
        activation = MapSum(
            map=maps["activation"],
            whole=whole["activation"],
            layer=top.name,
            rectified=top.rectified,
            unit=units,
        )
    return OcclusionMaps(
        grid=grid,
        target=targets,
        probability=Measure(map=maps["probability"], whole=whole["probability"]),
        score=Measure(map=maps["score"], whole=whole["score"]),
        label=Measure(map=maps["label"], whole=whole["label"]),
        activation=activation,
    )


def grid_of(
    height: int,
    width: int,
    size_px: int | tuple[int, int] | None = None,
    stride_px: int | tuple[int, int] | None = None,
) -> Grid:
    """Lay the occluder's places out over an image; arguments as ``occlude``.

    Raises:
        UsageError: an occluder or a step that does not fit the image.
    """
    share = min(height, width) / 224
    size = _pair(max(1, round(_SIZE_224 * share)) if size_px is None else size_px, "size_px")
    stride = _pair(max(1, round(_STRIDE_224 * share)) if stride_px is None else stride_px, "stride_px")
    tops, lefts = places(height, size[0], stride[0]), places(width, size[1], stride[1])
    return Grid(tops=tops, lefts=lefts, size_px=size, stride_px=stride)


def places(side_px: int, size_px: int, stride_px: int) -> tuple[int, ...]:
    """Return where the occluder begins along one side: by steps from 0, and the last place at the border.

    Raises:
        UsageError: the occluder is larger than the image, or a number is not positive.
    """
    if not 1 <= size_px <= side_px:
        raise UsageError(
            f"expected an occluder of 1 to {side_px} px for images of {side_px} px, got {size_px}"
        )
    if stride_px < 1:
        raise UsageError(f"expected a step of at least 1 px, got `stride_px={stride_px}`")
    return (*range(0, side_px - size_px, stride_px), side_px - size_px)


def fill_of(kind: Fill, images: Tensor, preprocessing: Preprocessing, *, blur_px: float = 10.0) -> Tensor:
    """Return what an occluder shows, in the state that the network takes.

    Args:
        kind: ``grey``, the middle of the scale, 0.5 of 0..1; ``mean``, the colour that the preprocessing
            subtracts, zero once normed; ``blur``, the image itself without its details.
        images: ``N x C x H x W``, normed.
        preprocessing: what the images went through.
        blur_px: standard deviation of the Gaussian of ``blur`` in pixels.

    Returns:
        C values, or for ``blur`` images ``N x C x H x W``.

    Raises:
        UsageError: an unknown kind.

    Paper: Zeiler and Fergus 2013, section 4.2, "a gray square": ``grey``.
    Departures: the paper does not say which grey. ``mean`` and ``blur`` are not in it.
    """
    if kind not in get_args(Fill):
        raise UsageError(f"expected a fill of {', '.join(get_args(Fill))}, got {kind!r}")
    if kind == "blur":
        return _blurred(images, blur_px)
    level = torch.full((1, 1, 1, preprocessing.channels), 0.5)
    if kind == "mean":
        level[:] = torch.tensor(preprocessing.mean)
    return normalise(level, preprocessing).flatten().to(images)


# Perturbing


def _perturbed(
    images: Tensor,
    fills: Tensor,
    grid: Grid,
    changed: Changed | None,
    batch_images: int,
    precision: Precision,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of occluded images, image by image, row by row, each with the numbers of its images.

    With ``changed`` a batch is what the first layers give; ``changed.rest`` takes it from there.
    """
    rows, columns = range(len(grid.tops)), range(len(grid.lefts))
    windows = [(owner, row, column) for owner in range(len(images)) for row in rows for column in columns]
    for start in range(0, len(windows), batch_images):
        group = windows[start : start + batch_images]
        if changed is None:
            batch = _covered(images, fills, grid, group)
        else:
            with _autocast(images.device, precision):
                batch = changed.maps(images, fills, group, grid.tops, grid.lefts, grid.size_px)
        yield torch.tensor([owner for owner, _, _ in group]), batch


def _covered(images: Tensor, fills: Tensor, grid: Grid, group: Sequence[tuple[int, int, int]]) -> Tensor:
    """Return copies of images with the occluder on them: for each its image's number, and its place's."""
    last = images.is_contiguous(memory_format=torch.channels_last)
    batch = torch.empty(
        (len(group), *images.shape[1:]),
        dtype=images.dtype,
        device=images.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )
    for image, (owner, row, column) in zip(batch, group, strict=True):
        image.copy_(images[owner])
        down, right = grid.window(row, column)
        image[:, down, right] = fills[owner][:, down, right]
    return batch


def _spread(fill: float | Tensor, images: Tensor) -> Tensor:
    """Return the fill for every pixel of every image, without taking memory for it."""
    value = torch.as_tensor(fill, dtype=images.dtype, device=images.device)
    if value.ndim == 1 and len(value) == images.shape[1]:
        value = value[:, None, None]
    if value.ndim not in (0, 3, 4) or (value.ndim >= 3 and value.shape[-3] != images.shape[1]):
        value = torch.empty(0)
    try:
        return value.expand(images.shape)
    except RuntimeError:
        raise UsageError(
            f"expected a fill of one number, {images.shape[1]} numbers or an image for"
            f" {tuple(images.shape)}, got shape {tuple(torch.as_tensor(fill).shape)}"
        ) from None


def _pair(number: int | tuple[int, int], name: str) -> tuple[int, int]:
    pair = number if isinstance(number, tuple) else (number, number)
    if len(pair) != 2 or not all(isinstance(each, int) for each in pair):
        raise UsageError(f"expected `{name}` in whole pixels, or height and width, got {number!r}")
    return pair


def _blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Blur with a Gaussian; beyond the border the outermost pixels are repeated."""
    if not sigma_px > 0:
        raise UsageError(f"expected a blur of more than 0 px, got {sigma_px}")
    reach = max(1, round(3 * sigma_px))
    blurred = gaussian_filter(
        images.cpu().numpy(), (0, 0, sigma_px, sigma_px), mode="nearest", radius=(0, 0, reach, reach)
    )
    return torch.from_numpy(blurred).to(images)


# Measuring

Run = Callable[[Tensor, nn.Module | None], tuple[Tensor, Tensor | None]]
"""Maps images, or what the first layers gave and the layers that are left, to scores (``N x classes``) and
sums of the layer's maps (``N x maps``)."""


@contextmanager
def _measuring(net: nn.Module, top: TopLayer | None, precision: Precision) -> Iterator[Run]:
    """Yield a function that runs the network; it is left as it was.

    A map is summed the moment it exists, before anything later can change it in place.
    """
    sums: Tensor | None = None

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal sums
        if isinstance(output, Tensor) and output.ndim >= 2:
            values = _exact(output).clamp(min=0) if top is not None and top.rectified else _exact(output)
            sums = values.flatten(2).sum(dim=2) if values.ndim > 2 else values

    def run(images: Tensor, through: nn.Module | None) -> tuple[Tensor, Tensor | None]:
        nonlocal sums
        sums = None
        with _autocast(images.device, precision):
            scores = (net if through is None else through)(images)
        if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images):
            got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise UsageError(
                f"expected a network that gives N x classes scores, got {got} for {len(images)} images"
            )
        if top is not None and (sums is None or len(sums) != len(images)):
            raise UsageError(f"expected a layer that gives maps for each image, got {top.name}: name another")
        return _exact(scores).cpu(), None if sums is None else sums.cpu()

    handle = None
    try:
        with untouched(net), torch.no_grad():
            if top is not None:
                handle = find_layer(net, top.name).register_forward_hook(keep)
            yield run
    finally:
        if handle is not None:
            handle.remove()


def _exact(tensor: Tensor) -> Tensor:
    """Return float32 or float64 numbers."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    dtype = autocast_dtype(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _fastest_layout(run: Run, images: Tensor) -> Tensor:
    """Return the images with the channels last in memory, or as they are if the network can't take that.

    Convolutions are faster so; code such as ``x.view(len(x), -1)`` refuses it.
    """
    faster = images.contiguous(memory_format=torch.channels_last)
    try:
        run(faster[:1], None)
    except RuntimeError:
        return images.contiguous()
    return faster


def _targets(target: int | Sequence[int] | Tensor | None, scores: Tensor) -> Tensor:
    if target is None:
        return scores.argmax(dim=1)
    targets = torch.as_tensor(target, dtype=torch.int64).cpu()
    if targets.ndim == 0:
        targets = targets.expand(len(scores))
    if targets.shape != (len(scores),):
        raise UsageError(f"expected one class, or one for each of {len(scores)} images, got {target!r}")
    if not bool(((targets >= 0) & (targets < scores.shape[1])).all()):
        raise UsageError(f"expected classes 0 to {scores.shape[1] - 1}, got {target!r}")
    return targets
