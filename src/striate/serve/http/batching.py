"""Dynamic batching: images of many requests go through the network together.

Some threads decode, others run the network. A batch takes what is ready, at most ``batch_images``; it waits
for more only while more are being decoded, and no longer than ``wait_ms``. A single image does not wait.
Memory is bounded: ``3 x batch_images`` decoded images; the encoded ones are the caller's.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import cores
from striate.core.errors import BrokenImageError, UsageError
from striate.data.decode import decode_sized
from striate.data.file_format import image_format
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels
from striate.serve.engine import Engine

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""What the service decodes: what cameras and browsers make. Anybody may send anything."""

_AHEAD = 3  # batches of decoded images that may wait


@dataclass(slots=True)
class _Job:
    file: str
    data: bytes
    answer: "Future[NDArray[np.float32]]" = field(default_factory=Future)


class Batcher:
    """Gathers images into batches and runs them; see the module docstring.

    Attributes:
        batch_images: the most images in a batch.
    """

    def __init__(
        self,
        engine: Engine,
        preprocessing: Preprocessing,
        *,
        max_pixels: int,
        wait_ms: float = 2.0,
        decoders: int | None = None,
        runners: int | None = None,
        ran: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        """Start the threads.

        Args:
            engine: of ``serve.engine.open_engine``; it stays open when this is closed.
            preprocessing: of the bundle that the engine was opened for.
            max_pixels: larger images are refused before they are decoded.
            wait_ms: how long a batch waits for images that are being decoded, at least 0.
            decoders: threads that decode; None takes one for each core.
            runners: threads that run the network, one batch each; None takes one for each core.
            ran: called with the number of images and the seconds of every batch, by the thread that ran it.

        Raises:
            UsageError: a number out of range.
        """
        if wait_ms < 0 or min(decoders or 1, runners or 1) < 1:
            raise UsageError(f"expected `wait_ms` of at least 0 and 1 thread, got {wait_ms:g} ms")
        self.batch_images = engine.batch_images
        self._engine = engine
        self._preprocessing = preprocessing
        self._max_pixels = max_pixels
        self._wait_s = wait_ms / 1e3
        self._ran = ran
        lock = threading.Lock()
        self._can_decode = threading.Condition(lock)
        self._can_run = threading.Condition(lock)
        self._encoded: deque[_Job] = deque()
        self._decoded: deque[tuple[_Job, NDArray[np.uint8]]] = deque()
        self._decoding = self._running = 0
        self._closed = False
        loops = [self._decode_all] * (decoders or cores()) + [self._run_all] * (runners or cores())
        self._threads = [threading.Thread(target=one, name="striate-serve", daemon=True) for one in loops]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_images(self) -> int:
        """How many images have come in and have no answer yet."""
        return len(self._encoded) + self._decoding + len(self._decoded) + self._running

    def submit(self, data: bytes, file: str) -> "Future[NDArray[np.float32]]":
        """Queue an image; images leave the queue in about the order in which they came in.

        Args:
            data: the encoded image.
            file: its name, for the error; it is never opened.

        Returns:
            Its ``K`` logits, or ``BrokenImageError``, or whatever the engine raised. One that is cancelled
            is dropped from the queue.

        Raises:
            UsageError: closed.
        """
        job = _Job(file, data)
        with self._can_decode:
            if self._closed:
                raise UsageError("the batcher has been closed")
            self._encoded.append(job)
            self._can_decode.notify()
        return job.answer

    def close(self) -> None:
        """Answer what has come in, then stop the threads."""
        with self._can_decode:
            self._closed = True
            self._can_decode.notify_all()
            self._can_run.notify_all()
        for thread in self._threads:
            thread.join()

    # -- Decoding --------------------------------------------------------------------------------------------

    def _decode_all(self) -> None:
        while (job := self._next_encoded()) is not None:
            pixels = self._decode(job)
            with self._can_run:
                self._decoding -= 1
                if pixels is not None:
                    self._decoded.append((job, pixels))
                self._can_run.notify_all()  # the last image of a batch may have been broken

    def _next_encoded(self) -> _Job | None:
        room = _AHEAD * self.batch_images
        with self._can_decode:
            while True:
                if self._encoded and len(self._decoded) + self._decoding < room:
                    self._decoding += 1
                    return self._encoded.popleft()
                if self._closed and not self._encoded:
                    return None
                self._can_decode.wait()

    def _decode(self, job: _Job) -> NDArray[np.uint8] | None:
        """Decode, resize and crop; a broken image gets its error here."""
        if job.answer.cancelled():
            return None
        try:
            kind = image_format(job.data)
            if job.data and kind is not None and kind not in FORMATS:
                raise BrokenImageError(job.file, f"{kind} is not taken here: convert to JPEG or PNG")
            side = decode_side_px(self._preprocessing)
            # Without a name: formats that are known by their extension alone are not taken.
            decoded = decode_sized(job.data, file="", min_side_px=side, max_pixels=self._max_pixels)
            return to_pixels(decoded.pixels, self._preprocessing)
        except BaseException as error:  # the thread must survive whatever a decoder raises
            _fail(job, error)
            return None
        finally:
            job.data = b""

    # -- Running ---------------------------------------------------------------------------------------------

    def _run_all(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            try:
                logits = self._engine.logits(np.stack([pixels for _, pixels in batch]))
            except BaseException as error:  # the clients get it; the service continues
                for job, _ in batch:
                    _fail(job, error)
            else:
                for (job, _), row in zip(batch, logits, strict=True):
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_result(row)
            with self._can_run:
                self._running -= len(batch)
            self._ran(len(batch), time.perf_counter() - started)

    def _next_batch(self) -> list[tuple[_Job, NDArray[np.uint8]]]:
        """Wait for images; an empty batch means that no more will come."""
        with self._can_run:
            while True:
                while not self._decoded:
                    if self._closed and not self._encoded and not self._decoding:
                        self._can_run.notify_all()
                        return []
                    self._can_run.wait()
                until = time.monotonic() + self._wait_s
                while len(self._decoded) < self.batch_images and (self._encoded or self._decoding):
                    left = until - time.monotonic()
                    if left <= 0 or not self._can_run.wait(left):
                        break
                taken = [self._decoded.popleft() for _ in range(min(self.batch_images, len(self._decoded)))]
                batch = [one for one in taken if not one[0].answer.cancelled()]
                self._can_decode.notify_all()
                if batch:
                    self._running += len(batch)
                    return batch


def _fail(job: _Job, error: BaseException) -> None:
    if job.answer.set_running_or_notify_cancel():
        job.answer.set_exception(error)
