"""Occlusion: cover a part of the image, see what the network makes of the rest, part after part."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from striate.core.compute import Precision, autocast_dtype
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing, normalise
from striate.look.incremental import Changed, plan
from striate.look.layers import find_layer, untouched
from striate.look.top import TopLayer, top_layer

Fill = Literal["grey", "mean", "blur"]

# Images of 224 x 224 in a forward pass: a CPU is fastest while a batch's maps stay in its cache.
_BATCH_224_CPU, _BATCH_224_GPU, _LARGEST_BATCH = 8, 128, 512


@dataclass(frozen=True, slots=True, kw_only=True)
class OcclusionMaps:
    """What a network says of N images while an occluder is at R x C places.

    All tensors are on the CPU. Rows and columns are pixels of the network's input, counted from 0.

    Attributes:
        activation: ``N x R x C``, sum of one feature map with the occluder there; None where the network has
            no convolution.
        probability: ``N x R x C``, of the target class, 0..1.
        score: ``N x R x C``, of the target class, before softmax or sigmoid.
        label: ``N x R x C``, int64, the most probable class.
        whole_activation: N, without the occluder; None where ``activation`` is.
        whole_probability: N, without the occluder.
        whole_score: N, without the occluder.
        whole_label: N, int64, without the occluder.
        target: N, int64, the target class.
        layer: the layer of the feature map; "" where there is none.
        rectified: whether ``layer`` is a convolution whose sum was taken after max(0, x), because the ReLU
            that follows it is no module.
        unit: N, int64, the feature map: the one with the largest sum without the occluder.
        tops: R, first row of the occluder.
        lefts: C, first column of the occluder.
        size_px: height and width of the occluder.
        stride_px: step from one place to the next; the last step may be shorter.
    """

    activation: Tensor | None
    probability: Tensor
    score: Tensor
    label: Tensor
    whole_activation: Tensor | None
    whole_probability: Tensor
    whole_score: Tensor
    whole_label: Tensor
    target: Tensor
    layer: str
    rectified: bool
    unit: Tensor | None
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


def occlude(
    net: nn.Module,
    images: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    *,
    size_px: int | tuple[int, int] = 50,
    stride_px: int | tuple[int, int] = 10,
    fill: float | Tensor = 0.0,
    layer: str | None = None,
    multi_label: bool = False,
    temperature: float = 1.0,
    batch_images: int | None = None,
    precision: Precision = "fp32",
    progress: Progress = silent,
) -> OcclusionMaps:
    """Slide an occluder over images and record what the network makes of them.

    The occluder always lies inside the image. It starts at the top left corner and goes on by
    ``stride_px``; the last place of each row and column is the one that touches the far border, so the last
    step may be shorter.

    Of a plain chain of known layers the first run on crops around the occluder only (``changed.py``); the
    numbers are the same up to rounding.

    Args:
        net: any network that maps ``N x C x H x W`` images to ``N x classes`` scores; it is left as it was.
        images: ``N x C x H x W``, normed, on the network's device.
        target: the class whose probability is recorded: one for all, or one for each image; None takes for
            each image the class that is most probable without the occluder.
        size_px: side of the occluder, or its height and width.
        stride_px: step, or the steps down and to the right.
        fill: what the occluder shows, normed: a number, a value for each channel (C), or an image that is
            seen where the occluder is (``C x H x W`` or ``N x C x H x W``); see ``fill_of``.
        layer: whose feature map is summed: a module that gives maps (of one that is used several times, its
            last use); None takes ``top_layer``.
        multi_label: whether scores are independent (sigmoid) instead of one distribution (softmax).
        temperature: what scores are divided by before they become probabilities, above 0: the bundle's.
        batch_images: images in a forward pass; None takes as many as are fast.
        precision: ``fp32``; or ``bf16``, faster where the hardware has it, with 3 digits.
        progress: told about the stage ``occluding``.

    Returns:
        The maps. They don't depend on the batch size beyond rounding.

    Raises:
        UsageError: an occluder, step, fill, class or layer that does not go with the images and the network.

    Paper: Zeiler and Fergus 2013 (arXiv 1311.2901), section 4.2 and Fig. 7: (b) the total activation of the
        top convolution layer's feature map that is strongest without the occluder, (d) the probability of the
        correct class, (e) the most probable label, each as a function of the occluder's place.
    Departures: the paper gives neither size nor step nor what happens at the border. "Strongest" is the
        largest sum, which is what the map shows. Without a target the predicted class stands for the correct
        one.
    """
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise UsageError(
            f"expected normed images N x C x H x W, got {images.dtype} of shape {tuple(images.shape)}"
        )
    height, width = images.shape[2:]
    size = _pair(size_px, "an occluder's size")
    stride = _pair(stride_px, "a step")
    tops, lefts = places(height, size[0], stride[0]), places(width, size[1], stride[1])
    fills = _spread(fill, images)
    if batch_images is None:
        at_224 = _BATCH_224_CPU if images.device.type == "cpu" else _BATCH_224_GPU
        batch_images = min(max(1, at_224 * 224 * 224 // (height * width)), _LARGEST_BATCH)
    if batch_images < 1:
        raise UsageError(f"expected at least 1 image in a batch, got {batch_images}")
    shape = (int(images.shape[1]), int(height), int(width))
    with _default_dtype(images.dtype):  # of the images that the network is read with
        top = top_layer(net, shape) if layer is None else TopLayer(layer, False)
        steps = plan(net, shape, tops, lefts, size, whole=None if top is None else top.name)
    num_images = len(images)
    changed = Changed(net, steps) if steps else None
    windows = [(n, i, j) for n in range(num_images) for i in range(len(tops)) for j in range(len(lefts))]
    with _running(net, top, precision) as run:
        images = _fastest_layout(run, images)
        whole = _Parts()
        for start in range(0, num_images, batch_images):
            whole.add(run(images[start : start + batch_images]))
        scores, sums = whole.together()
        targets = _targets(target, scores)
        units = None if sums is None else sums.argmax(dim=1)
        occluded = _Parts()
        for start in range(0, len(windows), batch_images):
            group = windows[start : start + batch_images]
            owners = torch.tensor([owner for owner, _, _ in group])
            if changed is None:
                found, maps = run(_occluded(images, fills, group, tops, lefts, size))
            else:
                with _autocast(images.device, precision):
                    first = changed.maps(images, fills, group, tops, lefts, size)
                found, maps = run(first, changed.rest)
            chosen = None if units is None or maps is None else maps.gather(1, units[owners][:, None])
            probability, label = _read(found, multi_label, temperature)
            wanted = targets[owners][:, None]
            occluded.add(
                (
                    torch.stack([probability.gather(1, wanted)[:, 0], found.gather(1, wanted)[:, 0]], dim=1),
                    chosen,
                ),
                label,
            )
            progress("occluding", start + len(group), len(windows))
    numbers, chosen_sums = occluded.together()
    grid = (num_images, len(tops), len(lefts))
    probability, whole_label = _read(scores, multi_label, temperature)
    return OcclusionMaps(
        activation=None if chosen_sums is None else chosen_sums.reshape(grid),
        probability=numbers[:, 0].reshape(grid),
        score=numbers[:, 1].reshape(grid),
        label=torch.cat(occluded.labels).reshape(grid),
        whole_activation=None if sums is None or units is None else sums.gather(1, units[:, None])[:, 0],
        whole_probability=probability.gather(1, targets[:, None])[:, 0],
        whole_score=scores.gather(1, targets[:, None])[:, 0],
        whole_label=whole_label,
        target=targets,
        layer="" if top is None else top.name,
        rectified=top is not None and top.rectified,
        unit=units,
        tops=tops,
        lefts=lefts,
        size_px=size,
        stride_px=stride,
    )


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
        raise UsageError(f"expected a step of at least 1 px, got {stride_px}: give --stride")
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


def on_pixels(
    values: NDArray[np.generic], maps: OcclusionMaps, height: int, width: int
) -> NDArray[np.generic]:
    """Lay an ``R x C`` map over the image: each pixel gets the value of the nearest place of the centre.

    Returns:
        ``height x width``.
    """
    rows = np.abs(np.arange(height)[:, None] - np.asarray(maps.rows)[None]).argmin(axis=1)
    columns = np.abs(np.arange(width)[:, None] - np.asarray(maps.columns)[None]).argmin(axis=1)
    return values[rows][:, columns]


class Run(Protocol):
    """From images to scores (``N x classes``) and sums of the layer's maps (``N x maps``)."""

    def __call__(self, images: Tensor, through: nn.Module | None = None) -> tuple[Tensor, Tensor | None]:
        """Run images through the network, or what its first layers gave ``through`` the rest."""


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    dtype = autocast_dtype(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def _running(net: nn.Module, top: TopLayer | None, precision: Precision) -> Iterator[Run]:
    """Yield a function that runs the network.

    A map is summed the moment it exists, before anything that comes later can change it in place.
    """
    sums: Tensor | None = None

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal sums
        if isinstance(output, Tensor) and output.ndim >= 2:
            values = _exact(output).clamp(min=0) if top is not None and top.rectified else _exact(output)
            sums = values.flatten(2).sum(dim=2) if values.ndim > 2 else values

    def run(images: Tensor, through: nn.Module | None = None) -> tuple[Tensor, Tensor | None]:
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
        run(faster[:1])
    except RuntimeError:
        return images.contiguous()
    return faster


def _occluded(
    images: Tensor,
    fills: Tensor,
    group: Sequence[tuple[int, int, int]],
    tops: Sequence[int],
    lefts: Sequence[int],
    size: tuple[int, int],
) -> Tensor:
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
        down = slice(tops[row], tops[row] + size[0])
        right = slice(lefts[column], lefts[column] + size[1])
        image[:, down, right] = fills[owner][:, down, right]
    return batch


class _Parts:
    """Results of batches, put together at the end."""

    def __init__(self) -> None:
        self.numbers: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, found: tuple[Tensor, Tensor | None], labels: Tensor | None = None) -> None:
        self.numbers.append(found[0])
        if found[1] is not None:
            self.sums.append(found[1])
        if labels is not None:
            self.labels.append(labels)

    def together(self) -> tuple[Tensor, Tensor | None]:
        return torch.cat(self.numbers), torch.cat(self.sums) if self.sums else None


def _read(scores: Tensor, multi_label: bool, temperature: float) -> tuple[Tensor, Tensor]:
    """Return probabilities, ``N x classes``, and the most probable class of each image."""
    scaled = scores / temperature
    return (scaled.sigmoid() if multi_label else scaled.softmax(dim=1)), scores.argmax(dim=1)


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


def _pair(number: int | tuple[int, int], what: str) -> tuple[int, int]:
    pair = number if isinstance(number, tuple) else (number, number)
    if len(pair) != 2 or not all(isinstance(each, int) for each in pair):
        raise UsageError(f"expected {what} in whole pixels, or height and width, got {number!r}")
    return pair


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


def _blurred(images: Tensor, sigma_px: float) -> Tensor:
    """Blur with a Gaussian; beyond the border the outermost pixels go on."""
    if not sigma_px > 0:
        raise UsageError(f"expected a blur of more than 0 px, got {sigma_px}")
    reach = max(1, round(3 * sigma_px))
    offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    weights = (-0.5 * (offsets / sigma_px) ** 2).exp()
    weights = weights / weights.sum()
    channels = images.shape[1]
    down = weights[:, None].expand(channels, 1, -1, 1)
    right = weights[None].expand(channels, 1, 1, -1)
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, down, groups=channels), right, groups=channels)
