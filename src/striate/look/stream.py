"""The images of a data set as a stream: batches with names, always in the same order, in constant memory."""

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from striate.core.errors import BrokenImageError, DataError
from striate.data.batches import ordered_map
from striate.data.preprocess import Preprocessing, decode_side_px, normalise, to_pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedImages:
    """A batch of images with their numbers in the data set.

    Attributes:
        images: ``N x C x H x W``, normed; N may be 0 where all images of a batch are broken.
        numbers: of each image in the data set, rising, from 0; broken images count.
        names: of each image.
        end: number of the first image after this batch.
        broken: names and reasons of the images among these that can't be read.
    """

    images: Tensor
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    end: int
    broken: tuple[tuple[str, str], ...] = ()


class ImageStream(Protocol):
    """A data set that can be read from any image on, any number of times, always in the same order."""

    @property
    def total(self) -> int | None:
        """Number of images, broken ones included; None if unknown."""

    @property
    def key(self) -> str:
        """What is done to the images; results with the same key may be combined."""

    def batches(self, first: int = 0, only: Container[int] | None = None) -> Iterator[NamedImages]:
        """Read the images from number ``first`` on; with ``only``, those of these numbers."""

    def names(self) -> Iterator[str]:
        """Name all images, broken ones included, without reading them."""

    def shown(self, images: Tensor) -> NDArray[np.float32]:
        """Turn normed images into colours, ``N x H x W x 3`` in 0..1."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An image that may be read: its name, and how to decode it given the shortest side that is needed."""

    name: str
    open: Callable[[int | None], Image.Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImages:
    """An ``ImageStream`` over anything that lists images.

    Attributes:
        listing: starts a new pass over the list, always in the same order.
        preprocessing: what the images go through.
        total: how many there are; None if unknown.
        batch_images: images in a batch.
        threads: that decode; None takes one for each core.
    """

    listing: Callable[[], Iterable[Listed]]
    preprocessing: Preprocessing
    total: int | None = None
    batch_images: int = 32
    threads: int | None = None

    @property
    def key(self) -> str:
        """The preprocessing in words."""
        return repr(self.preprocessing)

    def names(self) -> Iterator[str]:
        """Name all images."""
        return (one.name for one in self.listing())

    def batches(self, first: int = 0, only: Container[int] | None = None) -> Iterator[NamedImages]:
        """Read images; at most two batches of them are in memory."""
        wanted = (
            (number, one)
            for number, one in enumerate(self.listing())
            if number >= first and (only is None or number in only)
        )
        ready = ordered_map(
            self._prepare, wanted, self.threads or os.cpu_count() or 1, ahead=self.batch_images
        )
        group: list[tuple[int, str, NDArray[np.uint8]]] = []
        broken: list[tuple[str, str]] = []
        end = first
        for number, name, pixels, reason in ready:
            end = number + 1
            if pixels is None:
                broken.append((name, reason))
            else:
                group.append((number, name, pixels))
            if len(group) == self.batch_images:
                yield self._batch(group, broken, end)
                group, broken = [], []
        if group or broken:
            yield self._batch(group, broken, end)

    def _prepare(self, item: tuple[int, Listed]) -> tuple[int, str, NDArray[np.uint8] | None, str]:
        number, one = item
        try:
            image = one.open(decode_side_px(self.preprocessing))
            return number, one.name, to_pixels(image, self.preprocessing), ""
        except BrokenImageError as error:
            return number, one.name, None, error.reason
        except DataError as error:
            return number, one.name, None, str(error)

    def _batch(
        self, group: Sequence[tuple[int, str, NDArray[np.uint8]]], broken: Sequence[tuple[str, str]], end: int
    ) -> NamedImages:
        chosen = self.preprocessing
        empty = np.zeros((0, chosen.height_px, chosen.width_px, chosen.channels), np.uint8)
        pixels = np.stack([one[2] for one in group]) if group else empty
        return NamedImages(
            images=normalise(torch.from_numpy(pixels), chosen),
            numbers=tuple(one[0] for one in group),
            names=tuple(one[1] for one in group),
            end=end,
            broken=tuple(broken),
        )

    def shown(self, images: Tensor) -> NDArray[np.float32]:
        """Undo the normalisation."""
        return in_colour(images, self.preprocessing)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorImages:
    """An ``ImageStream`` over a tensor in memory.

    Attributes:
        images: ``N x C x H x W``, normed.
        batch_images: images in a batch.
    """

    images: Tensor
    batch_images: int = 32

    @property
    def total(self) -> int:
        """Number of images."""
        return len(self.images)

    @property
    def key(self) -> str:
        """Nothing is done to them."""
        return "tensor"

    def names(self) -> Iterator[str]:
        """Name all images by their numbers."""
        return map(str, range(len(self.images)))

    def batches(self, first: int = 0, only: Container[int] | None = None) -> Iterator[NamedImages]:
        """Slice the tensor."""
        numbers = [i for i in range(first, len(self.images)) if only is None or i in only]
        for start in range(0, len(numbers), self.batch_images):
            chosen = numbers[start : start + self.batch_images]
            yield NamedImages(
                images=self.images[chosen[0] : chosen[-1] + 1] if only is None else self.images[chosen],
                numbers=tuple(chosen),
                names=tuple(map(str, chosen)),
                end=chosen[-1] + 1,
            )

    def shown(self, images: Tensor) -> NDArray[np.float32]:
        """Stretch the range of all images of the stream to 0..1."""
        low, high = float(self.images.min()), float(self.images.max())
        pixels = (images.detach().cpu().permute(0, 2, 3, 1) - low) / max(high - low, 1e-12)
        return _coloured(pixels.clamp(0, 1).numpy().astype(np.float32))


def in_colour(images: Tensor, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Turn normed images ``N x C x H x W`` into colours, ``N x H x W x 3`` in 0..1: RGB, not normed."""
    pixels = images.detach().cpu().permute(0, 2, 3, 1)
    if preprocessing.colour_order == "BGR":
        pixels = pixels.flip(-1)
    unit = (pixels * torch.tensor(preprocessing.std) + torch.tensor(preprocessing.mean)).clamp(0, 1)
    return _coloured(unit.numpy().astype(np.float32))


def black_and_white(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Return black and white as the network gets them, ``C`` values each."""
    levels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None]
    ends = normalise(levels.expand(2, 1, 1, preprocessing.channels), preprocessing)
    return ends[0, :, 0, 0], ends[1, :, 0, 0]


def _coloured(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels[..., :3]


def fetch(images: ImageStream, numbers: Iterable[int]) -> dict[int, Tensor]:
    """Read images of a stream by their numbers, ``C x H x W`` each.

    Raises:
        DataError: one of them is gone.
    """
    wanted = set(numbers)
    found: dict[int, Tensor] = {}
    if wanted:
        for batch in images.batches(min(wanted), wanted):
            found.update(zip(batch.numbers, batch.images, strict=True))
            if len(found) == len(wanted):
                break
    if missing := sorted(wanted - set(found)):
        raise DataError(
            f"expected image number {missing[0]} of the data set again, got none: it changed meanwhile"
        )
    return found
