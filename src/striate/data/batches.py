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
        indices: their places in the source.
        preprocessing: what the network takes; validation, prediction and export use the same value.
        batch_images: images in a batch.
        threads: threads that prepare batches; 0 prepares them when they are asked for.
    """

    dataset: Dataset
    indices: NDArray[np.int64]
    preprocessing: Preprocessing
    batch_images: int
    threads: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    @property
    def num_batches(self) -> int:
        """Batches in one pass over all images, a last small one included."""
        return -(-len(self.indices) // self.batch_images)


def loader_for(
    dataset: Dataset,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_images: int,
    device: torch.device,
) -> Loader:
    """Say how some images of a dataset go to a network on a device."""
    # From the store a batch takes less than a millisecond, so threads pay only when a GPU must not wait or
    # files are decoded.
    threads = 2 if dataset.store is None or device.type == "cuda" else 0
    return Loader(
        dataset=dataset,
        indices=indices,
        preprocessing=preprocessing,
        batch_images=batch_images,
        threads=threads,
    )


def in_order(loader: Loader) -> Iterator[Batch]:
    """Yield every image once, in the source's order, unchanged by augmentation."""
    chunks = np.split(loader.indices, range(loader.batch_images, len(loader), loader.batch_images))
    return ordered_map(lambda indices: _plain_batch(loader, indices), chunks, loader.threads)


def shuffled(
    loader: Loader,
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
    order = loader.indices[permutation(len(loader), seed, _ORDER, epoch)]
    starts = range(first * loader.batch_images, len(order), loader.batch_images)
    chunks = [order[start : start + loader.batch_images] for start in starts]
    if loader.batch_images > 1 and len(order) > 1 and chunks and len(chunks[-1]) == 1:
        chunks.pop()
    return ordered_map(
        lambda indices: _training_batch(loader, augmentation, colours, indices, seed, epoch),
        chunks,
        loader.threads,
    )


def num_training_batches(loader: Loader) -> int:
    """Say how many batches ``shuffled`` yields in an epoch."""
    lone = loader.batch_images > 1 and len(loader) > 1 and len(loader) % loader.batch_images == 1
    return loader.num_batches - int(lone)


def canvases(loader: Loader, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the training canvases of some images, from the store if any; ``N x H x W x C`` uint8."""
    dataset = loader.dataset
    if dataset.store is not None:
        return dataset.store.read(indices)
    side = decode_side_px(dataset.canvas)
    return np.stack(
        [to_pixels(fetch_pixels(dataset.source, i, side), dataset.canvas) for i in indices.tolist()]
    )


def network_pixels(loader: Loader, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return what the network sees before normalisation: ``N x H x W x C`` uint8, RGB order."""
    pre = loader.preprocessing
    pixels = canvases(loader, indices)
    if pixels.shape[1:3] == (pre.height_px, pre.width_px):
        return pixels
    return np.stack([centre(image, pre.height_px, pre.width_px, pre.fill) for image in pixels])


def _labels(loader: Loader, indices: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(loader.dataset.source.labels[indices])


def _plain_batch(loader: Loader, indices: NDArray[np.int64]) -> Batch:
    pixels = torch.from_numpy(network_pixels(loader, indices))
    return Batch(normalise(pixels, loader.preprocessing), _labels(loader, indices), indices)


def _training_batch(
    loader: Loader,
    augmentation: Augmentation,
    colours: ColourStatistics,
    indices: NDArray[np.int64],
    seed: int,
    epoch: int,
) -> Batch:
    pre = loader.preprocessing
    if augmentation.resized_crop_area is not None:
        mirrored = flips(seed, epoch, indices) if augmentation.flip else np.zeros(len(indices), bool)
        cut = []
        for index, mirror in zip(indices.tolist(), mirrored.tolist(), strict=True):
            area = draw_area(augmentation.resized_crop_area, seed, epoch, index)
            smallest = max(pre.height_px, pre.width_px) / area.draws[:, 0].min() ** 0.5
            image = fetch_pixels(loader.dataset.source, index, int(smallest) + 1)
            cut.append(resized_crop(image, area, pre, mirror))
        pixels = np.stack(cut)
    else:
        fill = np.rint(np.array(colours.mean) * 255.0).astype(np.uint8)
        canvas = canvases(loader, indices)
        size = (pre.height_px, pre.width_px)
        pixels = random_crop(canvas, size, augmentation, fill, seed, epoch, indices)
    images = torch.from_numpy(pixels)
    if changes_colour(augmentation):
        unit = images.to(torch.float32).div_(255.0)
        images = shift_colours(unit, augmentation, colours.principal, seed, epoch, indices)
    return Batch(normalise(images, pre), _labels(loader, indices), indices)
