"""Engines: what turns pixels into logits, chosen for the machine.

An engine takes *u8* pixels of the network's input size and gives logits; normalisation and the order of the
colours are inside (``serve.graph``), resizing is outside (``data.preprocess``). Both are used alike::

    engine = open_engine(net, bundle)
    logits = engine.logits(pixels)  # one batch
    for logits in engine.stream(batches): ...  # many, in order, several in flight
    engine.close()
"""

from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.choices import EngineChoice as EngineChoice
from striate.core.choices import EngineName as EngineName
from striate.core.choices import EnginePrecision as EnginePrecision
from striate.core.choices import EnginePrecisionChoice as EnginePrecisionChoice
from striate.core.compute import DeviceChoice, pick_device, pick_precision
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.serve.convert_openvino import convert, read_graph
from striate.serve.engine_openvino import OpenvinoEngine
from striate.serve.engine_torch import TorchEngine
from striate.serve.graph import FromPixels
from striate.serve.import_openvino import has_openvino
from striate.weights.bundle import Bundle

BATCH_IMAGES = 16
"""Images in a forward pass on a CPU: larger batches leave the caches, and are slower or no faster."""

BATCH_IMAGES_CONNECTED = 32
"""The same where three quarters of the weights are in fully connected layers, which are read once a batch."""

BATCH_IMAGES_GPU = 64
"""The same on a GPU: a guess, not measured."""


class Engine(Protocol):
    """Runs one network.

    Attributes:
        name: ``"torch"`` or ``"openvino"``.
        precision: what it computes in: ``"fp32"``, ``"bf16"`` or ``"int8"``.
        batch_images: the most images that go through the network at once.
    """

    @property
    def name(self) -> EngineName: ...  # noqa: D102 (described above)

    @property
    def precision(self) -> EnginePrecision: ...  # noqa: D102

    @property
    def batch_images(self) -> int: ...  # noqa: D102

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on some images; may be called from several threads at once.

        Args:
            pixels: ``N x H x W x C`` uint8, RGB order or grey, of the network's input size; any N, 0 included
                (more than ``batch_images`` go through in parts).

        Returns:
            ``N x K`` logits.
        """
        ...

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on batches while the next ones are being made, in order.

        A few batches are in flight: the iterator is asked for the next batch before the result of the last
        one is there, never for more. For one thread; while it runs, other threads may call ``logits``.

        Args:
            batches: each ``N x H x W x C`` uint8, N at most ``batch_images``. An array must not be changed
                until its logits have come.

        Yields:
            ``N x K`` logits for each batch.
        """
        ...

    def close(self) -> None:
        """Give the memory back; the engine can't be used any more. Closing twice does nothing."""
        ...


def open_engine(
    net: nn.Module,
    bundle: Bundle,
    *,
    engine: EngineChoice = "auto",
    precision: EnginePrecisionChoice = "auto",
    batch_images: int | None = None,
    latency: bool = False,
    threads: int | None = None,
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> Engine:
    """Make a network ready to run.

    Args:
        net: the network of ``open_bundle``, in eval mode. On a GPU a copy of it is moved.
        bundle: gives preprocessing, and the int8 graph if it was quantized.
        engine: ``auto`` takes torch on a GPU; on a CPU OpenVINO where it is installed, else torch.
        precision: ``auto`` takes int8 for a quantized bundle on OpenVINO, else bf16 where the hardware
            computes in it, else fp32.
        batch_images: the most images in a forward pass, at least 1; None takes ``usual_batch``.
        latency: make one small batch fast, instead of many batches: with all cores at work on it, on a GPU
            with a compiled network.
        threads: threads that compute; None takes all cores. Fixed for torch's whole process.
        device: where the torch engine computes.
        progress: told, as stage ``"note"``, of what does not work on this GPU and is left out.

    Raises:
        UsageError: the engine is not installed, does not run on that device, or not in that precision.
    """
    if (batch_images is not None and batch_images < 1) or (threads is not None and threads < 1):
        raise UsageError(f"expected at least 1 image in a batch and 1 thread, got {batch_images}, {threads}")
    place = pick_device(device)
    most = usual_batch(net, place) if batch_images is None else batch_images
    name = pick_engine(engine, place)
    chosen = pick_engine_precision(precision, name, bundle, place)
    graph = FromPixels(net, bundle.preprocessing).eval()
    if name == "torch" and chosen != "int8":
        return TorchEngine(
            graph,
            bundle.preprocessing,
            len(bundle.classes),
            chosen,
            most,
            device=place,
            threads=threads,
            latency=latency,
            progress=progress,
        )
    quantized = int8_graph(bundle) if chosen == "int8" else None
    model = convert(graph, bundle.preprocessing) if quantized is None else read_graph(*quantized)
    return OpenvinoEngine(model, chosen, most, latency=latency, threads=threads)


def usual_batch(net: nn.Module, device: torch.device) -> int:
    """Return how many images in a forward pass are fast for a network on a device."""
    if device.type != "cpu":
        return BATCH_IMAGES_GPU
    connected = sum(one.weight.numel() for one in net.modules() if isinstance(one, nn.Linear))
    whole = sum(weight.numel() for weight in net.parameters())
    return BATCH_IMAGES_CONNECTED if connected > 0.75 * whole else BATCH_IMAGES


def int8_graph(bundle: Bundle) -> tuple[bytes, bytes] | None:
    """Return the OpenVINO graph (xml, weights) of a quantized bundle, None for any other."""
    if "int8.xml" not in bundle.graphs or "int8.bin" not in bundle.graphs:
        return None
    return bundle.graphs["int8.xml"], bundle.graphs["int8.bin"]


def pick_engine(choice: EngineChoice, device: torch.device) -> EngineName:
    """Return the engine asked for, or the fastest for the device.

    Raises:
        UsageError: an unknown engine, one that is not installed, or OpenVINO for a GPU.
    """
    if choice not in ("auto", "torch", "openvino"):
        raise UsageError(f"expected an engine out of auto, torch, openvino; got {choice!r}")
    if choice == "auto":
        return "openvino" if device.type == "cpu" and has_openvino() else "torch"
    if choice == "openvino" and not has_openvino():
        raise UsageError("OpenVINO is not installed: pip install openvino, or use --engine torch")
    if choice == "openvino" and device.type != "cpu":
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device.type}: use --device cpu")
    return choice


def pick_engine_precision(
    choice: EnginePrecisionChoice, engine: EngineName, bundle: Bundle, device: torch.device
) -> EnginePrecision:
    """Return what an engine is to compute in.

    Raises:
        UsageError: an unknown precision, or one that bundle, engine or hardware do not have.
    """
    if choice not in ("auto", "fp32", "bf16", "int8"):
        raise UsageError(f"expected a precision out of auto, fp32, bf16, int8; got {choice!r}")
    quantized = int8_graph(bundle) is not None
    if choice == "int8":
        if not quantized:
            raise UsageError("the bundle has no int8 weights: make some with `striate quantize BUNDLE`")
        if engine != "openvino":
            raise UsageError("int8 runs on OpenVINO only: use --engine openvino --device cpu")
        return "int8"
    if choice == "auto" and quantized and engine == "openvino":
        return "int8"
    best = pick_precision("auto", device)
    if choice == "bf16" and best != "bf16" and engine == "openvino":
        raise UsageError("this processor does not compute in bf16: use --precision fp32")
    return best if choice == "auto" else choice
