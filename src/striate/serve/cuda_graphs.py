"""What the torch engine needs of an NVIDIA GPU: copies, captured graphs and waiting.

All of serving's calls of ``torch.cuda`` are here; ``cuda_graph_runner`` says when.
It is tested without a GPU.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
"""Maps ``N x H x W x C`` uint8 pixels to ``N x K`` float32 logits."""

_WARM_UPS = 3  # runs before a capture: libraries make their plans and workspaces, compilers their kernels

_process = threading.RLock()  # PyTorch captures one graph at a time, and its settings are the process's


@dataclass(frozen=True, slots=True)
class Captured:
    """A recorded forward pass: ``replay`` reads ``pixels`` and writes ``logits``."""

    pixels: Tensor
    logits: Tensor
    replay: Callable[[], None]


class CudaMachine:
    """One GPU with a stream that computes and one that copies; each call returns before its work is done."""

    def __init__(self, device: torch.device, *, spin: bool = False) -> None:
        """Make the streams.

        Args:
            device: a CUDA device; without a number, the current one of this thread.
            spin: wait with a busy core, which is some microseconds faster, instead of a sleeping one.
        """
        number = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", number)
        self._spin = spin
        self._copies = torch.cuda.Stream(self._device)
        self._renew()
        self.settle()  # the weights were moved on another stream

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return pinned memory of the host: the GPU copies from and to it by itself."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def memory(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return uninitialised memory of the GPU for ``copy_in``."""
        with torch.cuda.stream(self._copies):  # so that the allocator orders its reuse by that stream
            return torch.empty(shape, dtype=dtype, device=self._device)

    def copy_in(self, source: Tensor, to: Tensor) -> torch.cuda.Event:
        """Start to copy from the host, beside whatever computes; return the event of its end."""
        with torch.cuda.stream(self._copies):
            to.copy_(source, non_blocking=True)
            return self._mark(self._copies)

    def compute(self, work: Callable[[], None], after: torch.cuda.Event) -> torch.cuda.Event:
        """Queue work behind all that was queued before and behind an event; return the event of its end."""
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(after)
            work()
            return self._mark(self._compute)

    def capture(self, forward: Forward, shape: tuple[int, ...]) -> Captured:
        """Warm up on the side stream, then record a forward pass for pixels of a shape.

        Calls of other threads (which allocate memory, say) do not disturb it. After a failure the stream and
        the memory pool are replaced, because the old ones may be unusable.

        Raises:
            Exception: whatever the forward pass or CUDA raises.
        """
        with _process, torch.cuda.device(self._device):
            self.settle()  # graphs share a pool: none may be running on a stream that is replaced
            try:
                with torch.cuda.stream(self._compute):
                    pixels = torch.zeros(shape, dtype=torch.uint8, device=self._device)
                    for _ in range(_WARM_UPS):
                        forward(pixels)
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(
                        graph, pool=self._pool, stream=self._compute, capture_error_mode="thread_local"
                    ):
                        logits = forward(pixels)
            except Exception:
                self._renew()
                raise
        return Captured(pixels, logits, graph.replay)

    def wait(self, event: torch.cuda.Event) -> None:
        """Return when an event has come."""
        event.synchronize()

    def settle(self) -> None:
        """Wait until the GPU has nothing left to do, and free the memory that no tensor holds."""
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()

    def _renew(self) -> None:
        self._compute = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()

    def _mark(self, stream: torch.cuda.Stream) -> torch.cuda.Event:
        event = torch.cuda.Event(blocking=not self._spin)
        event.record(stream)
        return event


@contextmanager
def exact_fp32() -> Iterator[None]:
    """Let float32 be float32 on a GPU: no TF32, which has 10 bits of mantissa and is cuDNN's default.

    PyTorch has these settings for the whole process only. They are restored, and one thread at a time is in
    the block; what others compute meanwhile becomes more exact, never less.
    """
    conv = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    matmul = torch.backends.cuda.matmul
    with _process:
        before = conv.fp32_precision, matmul.fp32_precision
        try:  # PyTorch refuses to multiply while its older setting and its newer one differ
            older = torch.get_float32_matmul_precision()
        except RuntimeError:  # the caller has made them differ
            older = "highest"
        try:
            if older != "highest":
                torch.set_float32_matmul_precision("highest")
            conv.fp32_precision = matmul.fp32_precision = "ieee"
            yield
        finally:
            if older != "highest":
                torch.set_float32_matmul_precision(older)
            conv.fp32_precision, matmul.fp32_precision = before
