"""Running a network through captured graphs: which graph for how many images, and what if there is none.

A graph is a forward pass recorded for one number of images: replaying it is one call for the processor
instead of one for each operation. The rules:

- Graphs are for 1, 2, 4 ... ``batch_images`` images. With fewer, the other rows hold old pixels, and
  their logits are not read: in eval mode images do not affect each other.
- A graph is captured when it is first needed, which takes a few forward passes. A stream takes a larger one
  that exists already, so that its short last batch needs none of its own.
- The network is compiled only where that can pay: in an engine opened for latency, or when a stream has spent
  ``COMPILE_AFTER_S`` waiting for the GPU. A stream that waits for images to be decoded never compiles.
- What does not work is left out with one note: compiled graph, graph, no graph. Too little memory halves the
  number of images that go through at once.
"""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.serve.cuda_graphs import Captured, CudaMachine, Forward

IN_FLIGHT = 3
"""Batches of a stream in flight: one copied in, one computed, one read."""

COMPILE_AFTER_S = 60.0
"""Seconds that streams wait for the GPU before the network is compiled: about as long as compiling takes, so
a stream that ends just then has at most doubled its wait."""

_CALLERS = 2  # calls of ``logits`` in flight: one copies while the other computes


@dataclass(slots=True)
class _Slot:
    """The buffers of one batch on its way; free again when its logits were read."""

    pixels: Tensor  # on the host
    staged: Tensor  # the same, on the GPU
    logits: Tensor  # on the host
    num_images: int = 0
    done: Any = None


class Graphed:
    """Runs a network on a machine; see the module docstring."""

    def __init__(
        self,
        machine: CudaMachine,
        forward: Forward,
        size: tuple[int, int, int],
        num_classes: int,
        batch_images: int,
        *,
        compiled: Forward | None = None,
        latency: bool = False,
        progress: Progress = silent,
    ) -> None:
        """Allocate the buffers.

        Args:
            machine: what computes.
            forward: the network, with its weights on the machine.
            size: height, width and channels of the pixels.
            num_classes: outputs of the network.
            batch_images: the most images in a forward pass.
            compiled: the same network; its first run compiles it. None: never.
            latency: compile at the first use.
            progress: gets one ``"note"`` on each thing that does not work here.
        """
        self._machine = machine
        self._forward: Forward | None = forward
        self._fast = compiled
        self._size = size
        self._num_classes = num_classes
        self._batch_images = self._limit = batch_images
        self._latency = latency
        self._progress = progress
        self._lock = threading.Lock()  # held while work is queued, not during waits
        self._captures = True
        self._captured: dict[int, Captured] = {}
        self._compiled: set[int] = set()  # sizes whose graph is of the compiled network
        self._waited_s = 0.0
        self._slots: SimpleQueue[_Slot] = SimpleQueue()
        for _ in range(_CALLERS):
            self._slots.put(self._slot())

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on any number of images; threads may call it at once."""
        found = np.empty((len(pixels), self._num_classes), np.float32)
        slot = self._slots.get()
        try:
            first = 0
            while first < len(pixels):
                part = pixels[first : first + self._limit]
                if self._start(slot, part):
                    found[first : first + len(part)] = self._finish(slot)
                    first += len(part)
        finally:
            self._slots.put(slot)
        return found

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on batches in order, ``IN_FLIGHT`` of them at once."""
        free = [self._slot() for _ in range(IN_FLIGHT)]
        running: deque[_Slot] = deque()
        try:
            for pixels in batches:
                if not free:
                    yield self._take(running, free)
                if len(pixels) and self._start(free[-1], pixels, in_stream=True):
                    running.append(free.pop())
                    continue
                while running:  # rare: an empty batch, or more images than fit
                    yield self._take(running, free)
                yield self.logits(pixels)
            while running:
                yield self._take(running, free)
        finally:
            for slot in running:
                self._machine.wait(slot.done)

    def close(self) -> None:
        """Finish what is queued and free the graphs; nothing can be started afterwards."""
        with self._lock:
            self._machine.settle()
            self._forward = self._fast = None
            self._captured.clear()
            self._machine.settle()

    def _slot(self) -> _Slot:
        shape, answers = (self._batch_images, *self._size), (self._batch_images, self._num_classes)
        return _Slot(
            pixels=self._machine.host(shape, torch.uint8),
            staged=self._machine.memory(shape, torch.uint8),
            logits=self._machine.host(answers, torch.float32),
        )

    def _start(self, slot: _Slot, pixels: NDArray[np.uint8], *, in_stream: bool = False) -> bool:
        """Queue a batch; False if it is more than fits (``_limit`` then says how many do)."""
        number = len(pixels)
        with self._lock:
            if self._forward is None:
                raise UsageError("this engine has been closed: open another one")
            if number > self._limit:
                return False
            slot.pixels.numpy()[:number] = pixels
            try:
                captured = self._graph_for(number, in_stream)
                copied = self._machine.copy_in(slot.pixels[:number], slot.staged[:number])
                run = partial(_run, self._forward, captured, slot, number)
                slot.done, slot.num_images = self._machine.compute(run, copied), number
                return True
            except torch.OutOfMemoryError:
                pass  # its traceback holds tensors: drop it first
            self._machine.settle()
            if number == 1:
                raise UsageError("expected GPU memory for at least 1 image, got less: use `device=cpu`")
            self._limit = graph_size(number, self._limit) // 2
            self._note(f"too little GPU memory for {number} images at once, continuing with {self._limit}")
            return False

    def _finish(self, slot: _Slot) -> NDArray[np.float32]:
        self._machine.wait(slot.done)
        found: NDArray[np.float32] = slot.logits[: slot.num_images].numpy().copy()
        return found

    def _take(self, running: deque[_Slot], free: list[_Slot]) -> NDArray[np.float32]:
        started = time.perf_counter()
        found = self._finish(running[0])
        self._waited_s += time.perf_counter() - started
        free.append(running.popleft())
        return found

    def _graph_for(self, number: int, in_stream: bool) -> Captured | None:
        """Return the graph for some images, captured now if necessary; None to run without."""
        size = graph_size(number, self._limit)
        if in_stream:
            size = min((one for one in self._captured if one >= number), default=size)
        pays = self._latency or (in_stream and self._waited_s >= COMPILE_AFTER_S)
        if self._captures and self._fast is not None and pays and size not in self._compiled:
            if not self._latency:
                self._note("a long stream: compiling the network, which takes about a minute")
            try:
                self._captured[size] = self._machine.capture(self._fast, (size, *self._size))
                self._compiled.add(size)
            except Exception as error:  # a compiler may fail in any way; the network itself still works
                self._fast = None
                self._note(f"torch.compile does not work here, predicting without it ({_first_line(error)})")
        if self._captures and size not in self._captured:
            assert self._forward is not None
            try:
                self._captured[size] = self._machine.capture(self._forward, (size, *self._size))
            except Exception as error:
                if isinstance(error, torch.OutOfMemoryError) and number > 1:
                    raise
                self._captures = False
                self._note(f"CUDA graphs do not work here, predicting without them ({_first_line(error)})")
        return self._captured.get(size)

    def _note(self, words: str) -> None:
        self._progress("note", 0, None, words)


def graph_size(num_images: int, most: int) -> int:
    """Return the number of images of the graph for ``num_images``: a power of two, or ``most``."""
    return min(1 << (num_images - 1).bit_length(), most)


def _run(forward: Forward, captured: Captured | None, slot: _Slot, number: int) -> None:
    with torch.inference_mode():
        if captured is None:
            found = forward(slot.staged[:number])
        else:
            captured.pixels[:number].copy_(slot.staged[:number])
            captured.replay()
            found = captured.logits[:number]
        slot.logits[:number].copy_(found, non_blocking=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
