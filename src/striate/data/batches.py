"""From a dataset to batches: ordered, prefetched, and a pure function of (seed, epoch)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.random import permutation
from striate.data.augment import (
    Augmentation,
    changes_colour,
    draw_area,
    flips,
    random_crop,
    resized_crop,
    shift_colours,
)
from striate.data.batch import Batch
from striate.data.dataset import ColourStatistics, Dataset, fetch_pixels
from striate.data.preprocess import (
    Preprocessing,
    centre,
    decode_side_px,
    normalise,
    to_pixels,
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_ORDER = 1001  # the random stream of the epoch's order; augmentation uses the small numbers


def ordered_map(
    function: Callable[[_In], _Out], items: Iterable[_In], threads: int, ahead: int | None = None
) -> Iterator[_Out]:
    """Apply a function in threads and yield its results in the order of the items.

    At most ``ahead`` results (``threads + 1`` if None) exist at a time, however slowly they are taken. 0
    threads: the caller's own. An error is raised where its result would have come.
    """
    if threads <= 0:
        yield from map(function, items)
        return
    todo = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="striate-batch") as pool:
        pending: deque[Future[_Out]] = deque(
            pool.submit(function, item) for item in islice(todo, ahead or threads + 1)
        )
        try:
            while pending:
                result = pending.popleft().result()
                for item in islice(todo, 1):
                    pending.append(pool.submit(function, item))
                yield result
        finally:
            for future in pending:
                future.cancel()


@dataclass(frozen=True, kw_only=True, slots=True)
class Loader:
    """The images of one split, on their way to a network.

    Attributes:
        dataset: where they come from.
        members: their indices in the source.
        preprocessing: what the network takes; validation, prediction and export use the same value.
        batch_images: images in a batch.
        threads: threads that prepare batches; 0 prepares them when they are asked for.
    """

    dataset: Dataset
    members: NDArray[np.int64]
    preprocessing: Preprocessing
    batch_images: int
    threads: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.members)

    @property
    def num_batches(self) -> int:
        """Batches in one pass over all images, a last small one included."""
        return -(-len(self.members) // self.batch_images)


def in_order(pictures: Loader) -> Iterator[Batch]:
    """Yield every image once, in the source's order, unchanged by augmentation."""
    chunks = np.split(pictures.members, range(pictures.batch_images, len(pictures), pictures.batch_images))
    return ordered_map(lambda members: _plain_batch(pictures, members), chunks, pictures.threads)


def shuffled(
    pictures: Loader,
    augmentation: Augmentation,
    colours: ColourStatistics,
    *,
    seed: int,
    epoch: int,
    first: int = 0,
) -> Iterator[Batch]:
    """Yield a training epoch from batch ``first`` on.

    The order depends on (seed, epoch), what happens to an image on (seed, epoch, image); the number of
    threads changes nothing. A last batch of a single image is left out: batch normalisation can't train on
    it.
    """
    order = pictures.members[permutation(len(pictures), seed, _ORDER, epoch)]
    starts = range(first * pictures.batch_images, len(order), pictures.batch_images)
    chunks = [order[start : start + pictures.batch_images] for start in starts]
    if pictures.batch_images > 1 and len(order) > 1 and chunks and len(chunks[-1]) == 1:
        chunks.pop()
    return ordered_map(
        lambda members: _training_batch(pictures, augmentation, colours, members, seed, epoch),
        chunks,
        pictures.threads,
    )


def num_training_batches(pictures: Loader) -> int:
    """Say how many batches ``shuffled`` yields in an epoch."""
    lone = pictures.batch_images > 1 and len(pictures) > 1 and len(pictures) % pictures.batch_images == 1
    return pictures.num_batches - int(lone)


def canvases(pictures: Loader, members: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the training canvases of some images, from the store if any; ``N x H x W x C`` uint8."""
    dataset = pictures.dataset
    if dataset.store is not None:
        return dataset.store.read(members)
    side = decode_side_px(dataset.canvas)
    return np.stack(
        [to_pixels(fetch_pixels(dataset.source, i, side), dataset.canvas) for i in members.tolist()]
    )


def network_pixels(pictures: Loader, members: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return what the network sees before normalisation: ``N x H x W x C`` uint8, RGB order."""
    pre = pictures.preprocessing
    pixels = canvases(pictures, members)
    if pixels.shape[1:3] == (pre.height_px, pre.width_px):
        return pixels
    return np.stack([centre(image, pre.height_px, pre.width_px, pre.fill) for image in pixels])


def _labels(pictures: Loader, members: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(pictures.dataset.source.labels[members])


def _plain_batch(pictures: Loader, members: NDArray[np.int64]) -> Batch:
    pixels = torch.from_numpy(network_pixels(pictures, members))
    return Batch(normalise(pixels, pictures.preprocessing), _labels(pictures, members), members)


def _training_batch(
    pictures: Loader,
    augmentation: Augmentation,
    colours: ColourStatistics,
    members: NDArray[np.int64],
    seed: int,
    epoch: int,
) -> Batch:
    pre = pictures.preprocessing
    if augmentation.resized_crop_area is not None:
        mirrored = flips(seed, epoch, members) if augmentation.flip else np.zeros(len(members), bool)
        cut = []
        for index, mirror in zip(members.tolist(), mirrored.tolist(), strict=True):
            area = draw_area(augmentation.resized_crop_area, seed, epoch, index)
            smallest = max(pre.height_px, pre.width_px) / area.draws[:, 0].min() ** 0.5
            image = fetch_pixels(pictures.dataset.source, index, int(smallest) + 1)
            cut.append(resized_crop(image, area, pre, mirror))
        pixels = np.stack(cut)
    else:
        fill = np.rint(np.array(colours.mean) * 255.0).astype(np.uint8)
        canvas = canvases(pictures, members)
        size = (pre.height_px, pre.width_px)
        pixels = random_crop(canvas, size, augmentation, fill, seed, epoch, members)
    images = torch.from_numpy(pixels)
    if changes_colour(augmentation):
        unit = images.to(torch.float32).div_(255.0)
        images = shift_colours(unit, augmentation, colours.principal, seed, epoch, members)
    return Batch(normalise(images, pre), _labels(pictures, members), members)
