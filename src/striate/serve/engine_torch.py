"""The torch engine: CUDA graphs on a GPU, and the fallback on a CPU."""

import copy
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.compute import Precision, autocast_dtype
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing
from striate.serve.cuda_graph_runner import Graphed
from striate.serve.cuda_graphs import CudaMachine, Forward, exact_fp32
from striate.serve.graph import FromPixels, check_pixels, in_memory_format


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
        latency: bool = False,
        progress: Progress = silent,
        machine: CudaMachine | None = None,
    ) -> None:
        """Prepare a network on its device: a copy of it on a GPU, elsewhere the network itself.

        Args:
            graph: the network with its preprocessing, in eval mode.
            preprocessing: gives the size of the pixels.
            num_classes: outputs of the network.
            precision: what convolutions and matrix products are computed in.
            batch_images: the most images in a forward pass.
            device: where to compute.
            threads: threads that compute, for torch's whole process; None leaves them.
            latency: on a GPU, compile the network for each size of batch when it is first run.
            progress: gets a ``"note"`` on what does not work on this GPU.
            machine: captures graphs; None takes CUDA's on a GPU and none elsewhere.
        """
        self.precision = precision
        self.batch_images = batch_images
        self._size = (preprocessing.height_px, preprocessing.width_px, preprocessing.channels)
        self._num_classes = num_classes
        self._device = device
        self._lock = threading.Lock()
        self._graphed: Graphed | None = None
        if threads is not None:
            torch.set_num_threads(threads)
        if machine is None and device.type != "cuda":
            self._forward: Forward | None = forward_pass(graph.to(device), precision, device)
            return
        own = in_memory_format(cast_once(graph, precision).to(device), torch.channels_last)
        self._forward = forward_pass(own, precision, device)

        @cache
        def compiled() -> Callable[[Tensor], Tensor]:
            return torch.compile(own, dynamic=False, fullgraph=True)

        self._graphed = Graphed(
            machine or CudaMachine(device, spin=latency),
            self._forward,
            self._size,
            num_classes,
            batch_images,
            # In float32 nearly all of the time goes into cuDNN's convolutions, which compiling leaves alone.
            compiled=forward_pass(lambda pixels: compiled()(pixels), precision, device)
            if precision == "bf16"
            else None,
            latency=latency,
            progress=progress,
        )

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on some images, in parts if there are many; on a CPU one thread at a time."""
        self._check(pixels)
        graphed = self._graphed  # another thread may close
        if graphed is not None:
            return graphed.logits(pixels)
        found = np.empty((len(pixels), self._num_classes), np.float32)
        with self._lock:
            if self._forward is None:
                raise UsageError("this engine has been closed: open another one")
            for start in range(0, len(pixels), self.batch_images):
                part = np.require(pixels[start : start + self.batch_images], requirements=("C", "W"))
                answer = self._forward(torch.from_numpy(part).to(self._device))
                found[start : start + len(part)] = answer.cpu().numpy()
        return found

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on batches in order: several in flight on a GPU, elsewhere one by one."""
        if self._graphed is not None:
            yield from self._graphed.stream(map(self._check, batches))
            return
        for pixels in batches:
            yield self.logits(pixels)

    def close(self) -> None:
        """Release the network, its graphs and buffers."""
        with self._lock:
            if self._graphed is not None:
                self._graphed.close()
            self._forward = self._graphed = None

    def _check(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._forward is None:
            raise UsageError("this engine has been closed: open another one")
        check_pixels(pixels, self._size)
        return pixels


def cast_once(graph: FromPixels, precision: Precision) -> FromPixels:
    """Copy a network, in bf16 with the weights of its convolutions and fully connected layers rounded.

    ``torch.autocast`` would round these weights at every call, which takes longer than a small batch. The
    numbers are the same: everything that autocast keeps in float32 (averages of batch normalisation, the sums
    of response normalisation on a GPU) stays in float32 here, because the network still runs under autocast.
    """
    own = copy.deepcopy(graph).requires_grad_(False)
    if precision == "bf16":
        for module in own.modules():
            if type(module) in (nn.Conv2d, nn.Linear):  # a class of the user's may do more with its weights
                module.to(torch.bfloat16)
    return own


def forward_pass(graph: Callable[[Tensor], Tensor], precision: Precision, device: torch.device) -> Forward:
    """Return the function from pixels on a device to float32 logits, computed in a precision."""
    dtype = autocast_dtype(precision)

    def forward(pixels: Tensor) -> Tensor:
        with (
            exact_fp32() if dtype is None and device.type == "cuda" else nullcontext(),
            torch.inference_mode(),
            torch.autocast(
                device.type, dtype or torch.bfloat16, enabled=dtype is not None, cache_enabled=False
            ),
        ):
            return graph(pixels).float()

    return forward
