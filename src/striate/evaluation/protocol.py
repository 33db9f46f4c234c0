"""The published evaluation protocols: several views of an image, and how their predictions are combined."""

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batches import ordered_map
from striate.data.dataset import fetch_pixels
from striate.data.pixels import ImageOrPixels
from striate.data.preprocess import Preprocessing, normalise
from striate.data.sources import Source
from striate.data.views import (
    Canvas,
    Pixels,
    choose_canvas,
    in_proportion,
    input_side_px,
    many_crops,
    many_scales,
    mirrored,
    single_crop,
    ten_crops,
    whole_image,
)
from striate.evaluation.dense import fully_convolutional, in_eval_mode
from striate.metrics.predictions import logits_of

ProtocolKind = Literal["single", "flip", "ten-crop", "144-crop", "dense", "multi-scale"]

_TEST_PX = 256
_STEP_PX = 32  # between the scales of VGG's multi-scale evaluation, for crops of 224 px
_TAKERS: dict[str, tuple[ProtocolKind, ...]] = {
    "scales_px": ("ten-crop", "144-crop", "dense", "multi-scale"),
    "canvas_px": ("ten-crop",),
    "pad_px": ("ten-crop", "dense"),
}
_HELD_BATCHES = 4  # views that wait for others of their size, in full batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a network is shown an image.

    Attributes:
        kind: ``single``: one crop. ``flip``: it and its mirror image. ``ten-crop``: Krizhevsky et al. 2012.
            ``144-crop``: Szegedy et al. 2014. ``dense``: the whole image at one scale, Simonyan and Zisserman
            2015. ``multi-scale``: the same at three scales.
        scales_px: shorter sides in pixels to average over; empty for the protocol's own.
        canvas_px: side of the square that ten crops are cut from, or None for the network's own.
        pad_px: border in pixels that is put around the single crop instead, or None.
    """

    kind: ProtocolKind = "single"
    scales_px: tuple[int, ...] = ()
    canvas_px: int | None = None
    pad_px: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that do not fit together."""
        kinds = get_args(ProtocolKind)
        if self.kind not in kinds:
            raise UsageError(f"expected a protocol out of {', '.join(kinds)}; got {self.kind!r}")
        for name, takers in _TAKERS.items():
            if getattr(self, name) and self.kind not in takers:
                raise UsageError(f"expected `{name}` with {_listed(takers)}, got it with {self.kind}")
        if any(not isinstance(px, int) or px < 1 for px in self.scales_px):
            raise UsageError(f"expected scales in pixels, such as 256,384,512, got {self.scales_px}")
        if len(set(self.scales_px)) != len(self.scales_px):
            raise UsageError(f"expected each scale once, got {', '.join(map(str, self.scales_px))}")
        if sum((bool(self.scales_px), self.canvas_px is not None, self.pad_px is not None)) > 1:
            raise UsageError("expected one of `scales_px`, `canvas_px` and `pad_px`, got several: choose one")


SINGLE = Protocol()


@dataclass(frozen=True, slots=True)
class Showing:
    """A protocol prepared for one network.

    Attributes:
        cut: from a decoded image to its views, groups of ``V x H x W x C`` *u8* pixels of one size each.
        num_views: views of an image, over all groups; for dense protocols, images that the network slides
            over.
        dense: whether the network slides over each view.
        decode_px: shorter side that a JPEG may be decoded at, or None for all of it.
        words: what is done, for people.
    """

    cut: Callable[[ImageOrPixels], list[Pixels]]
    num_views: int
    dense: bool
    decode_px: int | None
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class ProtocolRun:
    """What a network predicts by a protocol.

    Attributes:
        logits: ``N x K`` float32: the logarithms of the averaged probabilities; log-odds of the averaged
            sigmoids for multi-label networks. Of a single crop without flips and scales, likewise.
        showing: what was done.
        seconds: wall-clock time, decoding included.
    """

    logits: NDArray[np.float32]
    showing: Showing
    seconds: float


def read_protocols(
    words: Sequence[str],
    *,
    scales: str | None = None,
    canvas_px: int | None = None,
    pad_px: int | None = None,
) -> tuple[Protocol, ...]:
    """Read protocols by their names, with settings for those that take them.

    Args:
        words: names, also several in one text, ``ten-crop,dense``; each protocol is taken once.
        scales: shorter sides in pixels, ``256,384,512``. Scales, canvas and border go to each of the
            protocols that takes them.
        canvas_px: as ``Protocol``.
        pad_px: as ``Protocol``.

    Raises:
        UsageError: an unknown name, a bad number, or a setting that none of the protocols takes.
    """
    names = dict.fromkeys(name.strip() for word in words for name in word.split(","))
    known: dict[str, ProtocolKind] = {kind: kind for kind in get_args(ProtocolKind)}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"expected a protocol out of {', '.join(known)}; got {unknown[0]!r}")
    kinds = [known[name] for name in names]
    sides: tuple[int, ...] = ()
    if scales is not None:
        parts = [part.strip() for part in scales.split(",")]
        if not all(part.isdecimal() and 0 < int(part) < 100_000 for part in parts):
            raise UsageError(f"expected `scales` in pixels, such as 256,384,512, got {scales!r}")
        sides = tuple(int(part) for part in parts)
    for name, given in (("scales_px", sides), ("canvas_px", canvas_px), ("pad_px", pad_px)):
        takers = _TAKERS[name]
        if given and not set(kinds) & set(takers):
            raise UsageError(f"expected `{name}` with {_listed(takers)}, got {_listed(kinds)}: leave it out")
    return tuple(
        Protocol(
            kind=kind,
            scales_px=sides if kind in _TAKERS["scales_px"] else (),
            canvas_px=canvas_px if kind in _TAKERS["canvas_px"] else None,
            pad_px=pad_px if kind in _TAKERS["pad_px"] else None,
        )
        for kind in kinds
    )


def make_showing(protocol: Protocol, preprocessing: Preprocessing) -> Showing:
    """Prepare a protocol for the images of one network.

    Where the protocol leaves sizes open they are: for ten crops ``data.views.choose_canvas``; for 144 crops
    256, 288, 320 and 352 px; for dense evaluation the shorter side that the network is tested at, Q (the one
    its preprocessing resizes to, else the canvas of its ten crops); for multi-scale {Q - 32, Q, Q + 32}, none
    below the network's input. Numbers are for inputs of 224 px and in proportion for others.

    Raises:
        UsageError: a scale is smaller than the network's input.

    Paper: Krizhevsky et al. 2012, section 4.1; Szegedy et al. 2014, section 7; Simonyan and Zisserman 2015,
        sections 3.2 and 4.2 (multi-scale for a network trained at a fixed scale).
    Departures: other sizes in proportion; the smallest of the three scales is not below the network's input.
    """
    pre, kind = preprocessing, protocol.kind
    crop = input_side_px(pre)
    too_small = [px for px in protocol.scales_px if px < crop]
    if too_small:
        raise UsageError(
            f"expected `scales_px` of at least {crop} px, the network's input, got {too_small[0]}:"
            f" {in_proportion(_TEST_PX, pre)} is usual"
        )
    size = f"{pre.width_px}x{pre.height_px}"
    whole = None if pre.resize_px is None else 2 * pre.resize_px
    single = f"the image as {size} px"
    if pre.resize_px is not None:
        single = f"shorter side {pre.resize_px} px, the {size} px centre"
    if kind == "single":
        return Showing(lambda image: [single_crop(image, pre)], 1, False, whole, single)
    if kind == "flip":
        words = f"{single}, and its mirror image"
        return Showing(lambda image: [mirrored(single_crop(image, pre))], 2, False, whole, words)
    if kind == "144-crop":
        sides = protocol.scales_px or many_scales(pre)
        words = (
            f"shorter side {_px(sides)}: of 3 squares the corners, the centre and the whole as {size} px,"
            " and mirrors"
        )
        return Showing(
            lambda image: [many_crops(image, pre, sides)], 36 * len(sides), False, 2 * max(sides), words
        )
    if kind == "ten-crop":
        canvases = _canvases(protocol, pre)
        words = f"corners and centre, {size} px, of {_words(canvases)}, and mirrors"
        return Showing(
            lambda image: [ten_crops(image, pre, canvas) for canvas in canvases],
            10 * len(canvases),
            False,
            _decode_px(canvases, whole),
            words,
        )
    canvases = _canvases(protocol, pre)
    if kind == "multi-scale" and not protocol.scales_px:
        middle = pre.resize_px if (pre.resize_px or 0) > crop else in_proportion(_TEST_PX, pre)
        assert middle is not None
        step = in_proportion(_STEP_PX, pre)
        sides = tuple(dict.fromkeys((max(crop, middle - step), middle, middle + step)))
        canvases = tuple(Canvas(px) for px in sides)
    words = f"slid over {_words(canvases, square=False)}, and mirrors; scores averaged over places"
    return Showing(
        lambda image: [whole_image(image, pre, canvas) for canvas in canvases],
        2 * len(canvases),
        True,
        _decode_px(canvases, whole),
        words,
    )


def evaluate_protocol(
    net: nn.Module,
    source: Source,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    protocol: Protocol,
    *,
    multi_label: bool = False,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> ProtocolRun:
    """Show images to a network by a protocol and average its predictions.

    The softmax outputs (sigmoids for multi-label networks) of all views, mirrors and scales of an image are
    averaged. Where the network slides, its class scores are first averaged over places, and the softmax is
    taken of that. Neither the order of the images nor the batch size changes a prediction, beyond the
    rounding of the network's arithmetic. Memory does not grow with the number of images.

    Args:
        net: maps ``N x C x H x W`` normed images to ``N x K`` scores; it is moved to the device. Its mode is
            restored.
        source: the images.
        indices: which of them, in the order of the predictions.
        preprocessing: of the network.
        protocol: what to do.
        multi_label: the network gives independent probabilities.
        compute: where and how; 64 crops in a forward pass, of larger views as many fewer as they have more
            pixels; its threads decode and cut.
        progress: listener; counts images, as stage ``"evaluate"``.

    Raises:
        UsageError: the network can't be slid over images, or the protocol does not fit its input.
        DataError: no images, or one can't be decoded.

    Paper: Krizhevsky et al. 2012, section 4.1 and Szegedy et al. 2014, section 7 (averaged softmax);
        Simonyan and Zisserman 2015, section 3.2 (averaged class score map).
    Departures: none.
    """
    if not len(indices):
        raise DataError("expected at least one image to evaluate, got none: check the data and its split")
    device = compute.torch_device
    net = net.to(device)
    started = time.perf_counter()
    showing = make_showing(protocol, preprocessing)
    shape = (preprocessing.channels, preprocessing.height_px, preprocessing.width_px)
    shown_to = fully_convolutional(net, shape) if showing.dense else net

    def views(i: int) -> tuple[int, list[Pixels]]:
        return i, showing.cut(fetch_pixels(source, int(indices[i]), showing.decode_px))

    shown = ordered_map(views, range(len(indices)), compute.threads or os.cpu_count() or 1)
    sums: NDArray[np.float64] | None = None
    missing = np.full(len(indices), showing.num_views)
    with in_eval_mode(net), _autocast(device, compute.autocast_dtype):
        for pixels, rows in _same_sized(shown, compute.batch(64), preprocessing):
            with torch.inference_mode():
                images = normalise(torch.from_numpy(pixels).to(device), preprocessing)
                found = _posteriors(shown_to(images), multi_label).cpu().numpy()
            if sums is None:
                sums = np.zeros((len(indices), found.shape[1]))
            np.add.at(sums, rows, found)
            np.subtract.at(missing, rows, 1)
            progress("evaluate", int((missing == 0).sum()), len(indices))
    assert sums is not None
    logits = logits_of(sums / showing.num_views, multi_label=multi_label)
    return ProtocolRun(logits, showing, time.perf_counter() - started)


def _posteriors(scores: Tensor, multi_label: bool) -> Tensor:
    """Return ``N x K`` float64 probabilities of ``N x K`` scores, or of ``N x K x h x w`` maps of them."""
    if not isinstance(scores, Tensor) or scores.ndim not in (2, 4):
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UsageError(f"expected scores of shape N x K from the network, got {got}: use a classifier")
    exact = scores.double()
    if exact.ndim == 4:
        exact = exact.mean(dim=(2, 3))
    return exact.sigmoid() if multi_label else exact.softmax(dim=1)


def _same_sized(
    shown: Iterator[tuple[int, list[Pixels]]], batch_views: int, preprocessing: Preprocessing
) -> Iterator[tuple[Pixels, NDArray[np.int64]]]:
    """Gather views of equal size into batches, each with the rows of their images.

    Views that wait for others of their size hold at most a few batches' worth of pixels.
    """
    crop = preprocessing.height_px * preprocessing.width_px
    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}

    def limit(shape: tuple[int, ...]) -> int:
        return max(1, batch_views * crop // math.prod(shape[:2]))

    def take(shape: tuple[int, ...]) -> tuple[Pixels, NDArray[np.int64]]:
        chosen, rest = waiting[shape][: limit(shape)], waiting[shape][limit(shape) :]
        if rest:
            waiting[shape] = rest
        else:
            del waiting[shape]
        return np.stack([view for _, view in chosen]), np.array([row for row, _ in chosen], np.int64)

    def held() -> int:
        return sum(len(views) * math.prod(shape[:2]) for shape, views in waiting.items())

    for row, groups in shown:
        for views in groups:
            shape = views.shape[1:]
            waiting.setdefault(shape, []).extend((row, view) for view in views)
            while len(waiting.get(shape, ())) >= limit(shape):
                yield take(shape)
        while held() > _HELD_BATCHES * batch_views * crop:
            yield take(max(waiting, key=lambda one: len(waiting[one]) * math.prod(one[:2])))
    while waiting:
        yield take(next(iter(waiting)))


def _canvases(protocol: Protocol, preprocessing: Preprocessing) -> tuple[Canvas, ...]:
    if protocol.scales_px:
        return tuple(Canvas(px) for px in protocol.scales_px)
    return (choose_canvas(preprocessing, side_px=protocol.canvas_px, pad_px=protocol.pad_px),)


def _decode_px(canvases: Sequence[Canvas], single_px: int | None) -> int | None:
    """Return how small a JPEG may be decoded: twice the largest side that is needed, or as for one crop."""
    sides = [canvas.side_px for canvas in canvases if canvas.side_px is not None]
    return 2 * max(sides) if sides else single_px


def _words(canvases: Sequence[Canvas], *, square: bool = True) -> str:
    padded = canvases[0].pad_px
    if padded:
        return f"the image with a border of {padded} px"
    if canvases[0].side_px is None:
        return "the image"
    sides = _px([canvas.side_px or 0 for canvas in canvases])
    return f"the central square of {sides}" if square else f"the whole image, shorter side {sides}"


def _px(sides: Sequence[int]) -> str:
    return f"{_listed([str(px) for px in sides], 'and')} px"


def _listed(words: Sequence[str], last: str = "or") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
