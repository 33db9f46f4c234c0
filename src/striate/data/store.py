"""Decoded images kept for the next epoch: in memory when few, in an unlinked temporary file when many."""

import os
import shutil
import tempfile
import weakref

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError

# Above this a temporary file holds the pixels, so that a larger data set does not need more memory.
_MEMORY_BYTES = 16 * 2**20
_FILE_BYTES = 16 * 2**30


class PixelStore:
    """Fixed-size uint8 images, written once each and read in any order, from any thread.

    The file is anonymous: it goes away with the process, also after a SIGKILL. Its pages live in the
    operating system's cache, which gives them up when memory is short; they do not count as this process's
    memory.
    """

    def __init__(self, num_images: int, shape: tuple[int, int, int]) -> None:
        """Make room for ``num_images`` images of ``shape`` (height, width, channels)."""
        self.shape = shape
        self._item = int(np.prod(shape))
        self._pixels: NDArray[np.uint8] | None = None
        total = num_images * self._item
        if total <= _MEMORY_BYTES:
            self._pixels = np.zeros((num_images, *shape), np.uint8)
        else:
            self._file = tempfile.TemporaryFile(prefix="striate-")  # noqa: SIM115
            self._file.truncate(total)
            weakref.finalize(self, self._file.close)

    def write(self, index: int, pixels: NDArray[np.uint8]) -> None:
        """Put ``H x W x C`` pixels at ``index``.

        Raises:
            DataError: the disk that holds temporary files is full.
        """
        if self._pixels is not None:
            self._pixels[index] = pixels
            return
        try:
            os.pwrite(self._file.fileno(), np.ascontiguousarray(pixels).data, index * self._item)
        except OSError as error:
            raise DataError(
                f"can't keep decoded images in {tempfile.gettempdir()}: {error.strerror};"
                " free some space or set TMPDIR to another disk"
            ) from None

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return a fresh ``N x H x W x C`` array."""
        if self._pixels is not None:
            return self._pixels[indices]
        out = np.empty((len(indices), *self.shape), np.uint8)
        rows = out.reshape(len(indices), self._item)
        descriptor = self._file.fileno()
        for row, index in zip(rows, indices.tolist(), strict=True):
            os.preadv(descriptor, [row.data], index * self._item)
        return out


def store_for(num_images: int, shape: tuple[int, int, int]) -> PixelStore | None:
    """Return a store if that many images may be kept (at most 16 GiB and half the free space)."""
    total = num_images * int(np.prod(shape))
    if total > _MEMORY_BYTES:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if total > min(_FILE_BYTES, free // 2):
            return None
    return PixelStore(num_images, shape)
