"""The OpenVINO engine: the fastest way to run these networks on a CPU."""

import queue
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.choices import EnginePrecision
from striate.core.compute import has_bf16
from striate.core.errors import UsageError
from striate.serve.graph import check_pixels
from striate.serve.import_openvino import import_openvino, own_signal_stack


class _Running(NamedTuple):
    """A batch in flight."""

    request: Any
    pixels: NDArray[np.uint8]  # must stay in memory
    num_images: int


class OpenvinoEngine:
    """Runs an OpenVINO model on the CPU; see ``serve.engine.Engine``."""

    name: Literal["openvino"] = "openvino"

    @own_signal_stack()
    def __init__(
        self,
        model: Any,
        precision: EnginePrecision,
        batch_images: int,
        *,
        latency: bool = False,
        threads: int | None = None,
    ) -> None:
        """Compile a model.

        Args:
            model: an ``openvino.Model`` from ``N x H x W x C`` uint8 pixels to ``N x K`` logits, N open.
            precision: what to compute in; ``int8`` needs a quantized model.
            batch_images: the most images in a forward pass.
            latency: all cores on one batch, instead of several batches at once.
            threads: threads that compute; None takes all cores.
        """
        ov = import_openvino()
        self.precision = precision
        self.batch_images = batch_images
        in_bf16 = precision == "bf16" or (precision == "int8" and has_bf16(torch.device("cpu")))
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
            "PERFORMANCE_HINT": "LATENCY" if latency else "THROUGHPUT",
        }
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        self._tensor = ov.Tensor
        self._compiled = ov.Core().compile_model(model, "CPU", config)
        self._num_classes = int(self._compiled.output(0).get_partial_shape()[1].get_length())
        self._size = tuple(int(d.get_length()) for d in list(self._compiled.input(0).get_partial_shape())[1:])
        self._num_requests = int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self._num_requests):
            self._free.put(self._compiled.create_infer_request())

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on some images, in parts if there are many; threads may call it at once."""
        self._check(pixels)
        found = np.empty((len(pixels), self._num_classes), np.float32)
        if not len(pixels):
            return found
        request = self._free.get()
        try:
            for start in range(0, len(pixels), self.batch_images):
                part = pixels[start : start + self.batch_images]
                self._start(request, part)
                request.wait()
                found[start : start + len(part)] = request.get_output_tensor(0).data
        finally:
            self._free.put(request)
        return found

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on batches in order: as many at once as suits the cores, and one more waiting.

        After a full batch a shorter one is padded: OpenVINO prepares the network anew for every size, which
        takes longer than the few images.
        """
        free = [self._compiled.create_infer_request() for _ in range(self._num_requests + 1)]
        running: deque[_Running] = deque()
        full = False
        try:
            for pixels in batches:
                self._check(pixels)
                if not len(pixels) or len(pixels) > self.batch_images:  # rare: not worth a request in flight
                    while running:
                        yield self._finish(running, free)
                    yield self.logits(pixels)
                    continue
                if not free:
                    yield self._finish(running, free)
                full = full or len(pixels) == self.batch_images
                whole = _padded(pixels, self.batch_images) if full else pixels
                request = free.pop()
                running.append(_Running(request, self._start(request, whole), len(pixels)))
            while running:
                yield self._finish(running, free)
        finally:
            for one in running:
                one.request.wait()

    def close(self) -> None:
        """Free the memory."""
        self._free = queue.SimpleQueue()
        self._compiled = None

    def _start(self, request: Any, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        whole = np.require(pixels, requirements=("C", "W"))  # OpenVINO shares no memory it may not write
        request.start_async({0: self._tensor(whole, shared_memory=True)})
        return whole

    def _finish(self, running: deque["_Running"], free: list[Any]) -> NDArray[np.float32]:
        first = running[0]
        first.request.wait()
        found = np.array(first.request.get_output_tensor(0).data[: first.num_images], np.float32)
        running.popleft()
        free.append(first.request)
        return found

    def _check(self, pixels: NDArray[np.uint8]) -> None:
        if self._compiled is None:
            raise UsageError("this engine has been closed: open another one")
        check_pixels(pixels, self._size)


def _padded(pixels: NDArray[np.uint8], num_images: int) -> NDArray[np.uint8]:
    if len(pixels) == num_images:
        return pixels
    whole = np.zeros((num_images, *pixels.shape[1:]), np.uint8)
    whole[: len(pixels)] = pixels
    return whole
