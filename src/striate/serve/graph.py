"""A network with its preprocessing inside: what engines run and exports contain."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing

_Module = TypeVar("_Module", bound=nn.Module)


class FromPixels(nn.Module):
    """Maps *u8* pixels to logits: normalisation and the network in one graph.

    Resizing and cropping stay outside: they work on images of any size (``data.preprocess.to_pixels``).

    Args:
        net: maps ``N x C x H x W`` float32 images to ``N x K`` logits, in eval mode.
        preprocessing: gives mean, std and colour order.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, net: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.net = net
        scale = torch.tensor([1.0 / (255.0 * value) for value in preprocessing.std])
        offset = torch.tensor([-m / s for m, s in zip(preprocessing.mean, preprocessing.std, strict=True)])
        self.register_buffer("scale", scale.view(1, -1, 1, 1))
        self.register_buffer("offset", offset.view(1, -1, 1, 1))
        self._reversed = preprocessing.colour_order == "BGR"

    def forward(self, pixels: Tensor) -> Tensor:
        """Classify pixels.

        Args:
            pixels: ``N x H x W x C`` uint8, RGB order (C = 3) or grey (C = 1), of the network's input size.

        Returns:
            ``N x K`` logits.
        """
        images = pixels.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.offset
        return self.net(images.flip(1) if self._reversed else images)


def in_memory_format(module: _Module, memory_format: torch.memory_format) -> _Module:
    """Put a module's 4-D tensors into a memory format, in place, and return it."""
    module.to(memory_format=memory_format)  # type: ignore[call-overload]  # missing in torch's stubs
    return module


def check_pixels(pixels: NDArray[Any], size: tuple[int, ...]) -> None:
    """Refuse anything but ``N x H x W x C`` uint8 of the network's size.

    Args:
        pixels: what an engine was given.
        size: height, width and channels.

    Raises:
        UsageError: another type or size.
    """
    if pixels.dtype != np.uint8 or pixels.shape[1:] != size:
        raise UsageError(
            f"expected uint8 pixels of N x {' x '.join(map(str, size))},"
            f" got {pixels.dtype} of {' x '.join(map(str, pixels.shape))}: `data.preprocess.to_pixels` makes"
            " them of any image"
        )
