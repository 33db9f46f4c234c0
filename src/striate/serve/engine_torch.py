"""The torch engine: CUDA graphs on a GPU, and the fallback on a CPU."""

import threading
from collections.abc import Generator, Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.devices import Precision, autocast_dtype
from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing
from striate.serve.graph import FromPixels


class TorchEngine:
    """Runs a network with torch; see ``serve.engine.Engine``."""

    name: Literal["torch"] = "torch"

    def __init__(
        self,
        graph: FromPixels,
        preprocessing: Preprocessing,
        num_classes: int,
        precision: Precision,
        batch_images: int,
        *,
        device: torch.device,
        threads: int | None = None,
    ) -> None:
        """Move a network to its device.

        Args:
            graph: the network with its preprocessing, in eval mode.
            preprocessing: gives the size of the pixels.
            num_classes: outputs of the network.
            precision: what convolutions and matrix products are computed in.
            batch_images: the most images in a forward pass.
            device: where to compute.
            threads: threads that compute, for torch's whole process; None leaves them.
        """
        self.precision = precision
        self.batch_images = batch_images
        self._graph: FromPixels | None = graph.to(device)
        self._size = (preprocessing.height_px, preprocessing.width_px, preprocessing.channels)
        self._num_classes = num_classes
        self._device = device
        self._lock = threading.Lock()
        if threads is not None:
            torch.set_num_threads(threads)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on some images, in parts if they are many; threads wait for each other."""
        if self._graph is None:
            raise UsageError("this engine has been closed: open another one")
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self._size:
            raise UsageError(
                f"expected uint8 pixels of N x {' x '.join(map(str, self._size))},"
                f" got {pixels.dtype} of {' x '.join(map(str, pixels.shape))}"
            )
        found = np.empty((len(pixels), self._num_classes), np.float32)
        with self._lock:
            for start in range(0, len(pixels), self.batch_images):
                part = np.require(pixels[start : start + self.batch_images], requirements=("C", "W"))
                found[start : start + len(part)] = self._run(self._graph, part)
        return found

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on one batch after the other."""
        for pixels in batches:
            yield self.logits(pixels)

    def close(self) -> None:
        """Let go of the network."""
        self._graph = None

    def _run(self, graph: FromPixels, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        dtype = autocast_dtype(self.precision)
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype or torch.bfloat16, enabled=dtype is not None),
        ):
            found = graph(torch.from_numpy(pixels).to(self._device))
        answer: NDArray[np.float32] = found.float().cpu().numpy()
        return answer
