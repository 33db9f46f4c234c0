"""Reading every image of a source once: content hashes, sizes, and which files are broken."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import cores
from striate.core.errors import BrokenImageError
from striate.core.progress import Progress, silent
from striate.data.decode import MAX_PIXELS, decode_sized
from striate.data.source import Source

DIGEST_BYTES: Final = 16
"""Length of a content hash (BLAKE2b, 128 bits)."""

_TURN_IMAGES = 16
_FLAT = 8  # levels of 255: an image of fewer is black or blank
_PROGRESS_EVERY_S = 0.2

Sink = Callable[[int, NDArray[np.uint8]], None]


@dataclass(frozen=True, slots=True)
class Broken:
    """An image that can't be used: its index in the source, its name, and why."""

    index: int
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What reading every image of a source once has shown, image by image.

    Attributes:
        digests: uint8 ``[n, 16]``, BLAKE2b-128 of each encoded file, or of shape and pixels where the source
            stores pixels. Zero for a file that could not be read at all.
        broken: the images that can't be decoded, by index.
        sizes_px: int32 ``[n, 2]``, height and width of the upright image at full size; zero for a broken one.
        grey: bool ``[n]``, whether the file has one channel; False for a broken one.
        levels: float32 ``[n, 2]``, smallest and largest value in grey of more than 8 bits; NaN for others.
        flat: bool ``[n]``, whether all levels lie within 8 of 255; False for a broken one.
    """

    digests: NDArray[np.uint8]
    broken: tuple[Broken, ...]
    sizes_px: NDArray[np.int32]
    grey: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    levels: NDArray[np.float32]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Bool ``[n]``: which images can be decoded."""
        good = np.ones(len(self.digests), np.bool_)
        good[[one.index for one in self.broken]] = False
        return good


def scan(
    source: Source,
    *,
    min_side_px: int | None = None,
    sink: Sink | None = None,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = silent,
) -> Scan:
    """Read, hash and decode every image of a source once.

    The result does not depend on the number of threads. Beyond the result it holds one image a thread.

    Args:
        source: the images.
        min_side_px: the shorter side that ``sink`` needs; larger JPEGs are then decoded at a fraction of
            their size, which is several times faster (see ``decode``).
        sink: is given the index and the pixels (``H x W x C``) of every good image, from worker threads, in
            any order.
        threads: worker threads, at least 1; None for one per processor that this process may use.
        max_pixels: the largest image that is decoded, in pixels.
        progress: called with the number of images read, from the calling thread.

    Returns:
        The findings, image by image.

    Raises:
        Exception: whatever ``sink`` raises, or ``source.fetch`` other than ``BrokenImageError``; all threads
            have ended by then.
    """
    num = len(source)
    digests = np.zeros((num, DIGEST_BYTES), np.uint8)
    sizes = np.zeros((num, 2), np.int32)
    grey = np.zeros(num, np.bool_)
    flat = np.zeros(num, np.bool_)
    levels = np.full((num, 2), np.nan, np.float32)
    broken: dict[int, str] = {}
    failures: list[BaseException] = []
    lock = threading.Lock()
    state = {"next": 0, "done": 0}

    def read_one(index: int) -> None:
        try:
            content = source.fetch(index)
            if isinstance(content, bytes):
                digests[index] = np.frombuffer(_digest(content), np.uint8)
                decoded = decode_sized(
                    content, file=source.files[index], min_side_px=min_side_px, max_pixels=max_pixels
                )
                pixels = decoded.pixels
                sizes[index] = decoded.full_height_px, decoded.full_width_px
                if decoded.levels is not None:
                    levels[index] = decoded.levels
            else:
                whole = np.ascontiguousarray(content)
                digests[index] = np.frombuffer(_digest(whole.tobytes(), whole.shape), np.uint8)
                pixels = whole[:, :, None] if whole.ndim == 2 else whole
                sizes[index] = pixels.shape[:2]
            grey[index] = pixels.shape[2] == 1
            flat[index] = int(pixels.max()) - int(pixels.min()) <= _FLAT
        except BrokenImageError as error:
            broken[index] = error.reason
            return
        if sink is not None:
            sink(index, pixels)

    def work() -> None:
        try:
            while not failures:
                with lock:
                    start = state["next"]
                    end = state["next"] = min(start + _TURN_IMAGES, num)
                if start == end:
                    return
                for index in range(start, end):
                    read_one(index)
                with lock:
                    state["done"] += end - start
        except BaseException as error:  # handed to the calling thread
            failures.append(error)

    count = min(threads or cores(), max(1, num))
    workers = [threading.Thread(target=work, name=f"striate-scan-{k}", daemon=True) for k in range(count)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():
                worker.join(_PROGRESS_EVERY_S)
                progress("reading images", state["done"], num)
    except BaseException as error:  # Ctrl-C: let the threads end first
        failures.append(error)
        for worker in workers:
            worker.join()
        raise
    if failures:
        raise failures[0]
    progress("reading images", num, num)
    return Scan(
        digests=digests,
        broken=tuple(Broken(index, source.files[index], broken[index]) for index in sorted(broken)),
        sizes_px=sizes,
        grey=grey,
        flat=flat,
        levels=levels,
    )


def _digest(content: bytes, shape: tuple[int, ...] = ()) -> bytes:
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if shape:
        state.update(np.array(shape, "<i8").tobytes())
    state.update(content)
    return state.digest()
