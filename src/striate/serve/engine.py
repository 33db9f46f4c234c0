"""Engines: what turns pixels into logits, chosen for the machine.

An engine takes *u8* pixels of the network's input size and gives logits; normalisation and the order of the
colours are inside (``serve.graph``), resizing is outside (``data.preprocess``). All are used alike::

    with engine_for("runs/demo") as engine:
        logits = engine.logits(pixels)  # one batch
        for logits in engine.stream(batches): ...  # many, in order, several in flight
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.core.choices import EngineChoice, EngineName, EnginePrecision, EnginePrecisionChoice
from striate.core.compute import Compute, pick_precision
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.serve.convert_openvino import convert, read_graph
from striate.serve.engine_openvino import OpenvinoEngine
from striate.serve.engine_torch import TorchEngine
from striate.serve.graph import FromPixels
from striate.serve.import_openvino import has_openvino
from striate.weights.bundle import Bundle
from striate.weights.open import NetworkChoice, OpenNetwork, is_file_word, open_network, unknown_hint

BATCH_IMAGES = 16
"""Images in a forward pass on a CPU: larger batches fall out of the caches and are no faster."""

BATCH_IMAGES_CONNECTED = 32
"""The same where three quarters of the weights are fully connected: these are read once per batch."""

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
            pixels: ``N x H x W x C`` uint8, RGB or grey, of the network's input size; any N, also 0 (more
                than ``batch_images`` go through in parts).

        Returns:
            ``N x K`` logits.
        """
        ...

    def stream(self, batches: Iterator[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """Run the network on batches, in order, while the next ones are being made.

        A few batches are in flight: the iterator is asked for the next batch before the result of the last
        one is there, but never further ahead. For one thread; meanwhile other threads may call ``logits``.

        Args:
            batches: each ``N x H x W x C`` uint8, N at most ``batch_images``. An array must not change
                before its logits have been yielded.

        Yields:
            ``N x K`` logits for each batch.
        """
        ...

    def close(self) -> None:
        """Free the memory; the engine can't be used afterwards. Closing twice does nothing."""
        ...


def open_engine(
    network: NetworkChoice,
    *,
    engine: EngineChoice = "auto",
    compute: Compute = Compute(),
    latency: bool = False,
    progress: Progress = silent,
) -> Engine:
    """Prepare a network to run.

    Args:
        network: a bundle, a run folder, an open network, or a name (random weights). On a GPU a copy of it
            is moved.
        engine: ``auto`` takes torch on a GPU; on a CPU OpenVINO where it is installed, else torch.
        compute: the device of the torch engine; the most images in a forward pass (None takes
            ``usual_batch``); threads that compute (None takes all cores; torch's are those of the whole
            process). Precision ``auto`` takes int8 for a quantized bundle on OpenVINO, else bf16 where the
            hardware computes in it, else fp32.
        latency: optimise for one small batch instead of many batches: all cores work on it, on a GPU with a
            compiled network.
        progress: gets a ``"note"`` on what does not work on this GPU and is left out.

    Raises:
        UsageError: no such network; the engine is not installed, does not run on that device, or not in that
            precision.
        BundleError: the bundle is damaged.
    """
    opened = open_network(network)
    bundle, device = opened.bundle, compute.torch_device
    name = pick_engine(engine, device)
    precision = pick_engine_precision(compute.precision, name, bundle, device)
    batch_images = compute.batch(usual_batch(opened.net, device))
    graph = FromPixels(opened.net, bundle.preprocessing).eval()
    if name == "torch" and precision != "int8":
        return TorchEngine(
            graph,
            bundle.preprocessing,
            len(bundle.classes),
            precision,
            batch_images,
            device=device,
            threads=compute.threads,
            latency=latency,
            progress=progress,
        )
    quantized = int8_graph(bundle) if precision == "int8" else None
    model = convert(graph, bundle.preprocessing) if quantized is None else read_graph(*quantized)
    return OpenvinoEngine(model, precision, batch_images, latency=latency, threads=compute.threads)


@contextmanager
def engine_for(
    network: NetworkChoice,
    *,
    engine: EngineChoice | Engine = "auto",
    compute: Compute = Compute(),
    latency: bool = False,
    progress: Progress = silent,
) -> Iterator[Engine]:
    """Open an engine as ``open_engine`` does, and close it after the block; an open engine stays open."""
    if not isinstance(engine, str):
        yield engine
        return
    opened = open_engine(network, engine=engine, compute=compute, latency=latency, progress=progress)
    with closing(opened):
        yield opened


def open_trained(network: NetworkChoice) -> OpenNetwork:
    """Open a network and refuse random weights.

    Raises:
        UsageError: it has random weights, as every network that is opened by its name.
        BundleError: there is no such file, or it is damaged.
    """
    if not isinstance(network, OpenNetwork):
        word = str(network)
        if not is_file_word(word) and unknown_hint(word) is not None:
            raise BundleError(f"{word}: no such file; expected a bundle or a run folder of `striate train`")
    opened = open_network(network)
    if not opened.trained:
        raise UsageError(
            f"{opened.name}: expected a trained network, got random weights: name a bundle or a run folder"
        )
    return opened


def usual_batch(net: nn.Module, device: torch.device) -> int:
    """Return the number of images in a forward pass that is fast for a network on a device."""
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
        raise UsageError("OpenVINO is not installed: pip install openvino, or use `engine=torch`")
    if choice == "openvino" and device.type != "cpu":
        raise UsageError(f"OpenVINO runs on the CPU here, not on {device.type}: use `device=cpu`")
    return choice


def pick_engine_precision(
    choice: EnginePrecisionChoice, engine: EngineName, bundle: Bundle, device: torch.device
) -> EnginePrecision:
    """Return the precision asked for, or the fastest for bundle, engine and device.

    Raises:
        UsageError: bundle, engine or hardware don't have it.
    """
    quantized = int8_graph(bundle) is not None
    if choice == "int8":
        if not quantized:
            raise UsageError("the bundle has no int8 network: make one with `striate quantize BUNDLE`")
        if engine != "openvino":
            raise UsageError("int8 runs on OpenVINO only: use `engine=openvino` and `device=cpu`")
        return "int8"
    if choice == "auto" and quantized and engine == "openvino":
        return "int8"
    best = pick_precision("auto", device)
    if choice == "bf16" and best != "bf16" and engine == "openvino":
        raise UsageError("this processor does not compute in bf16: use `precision=fp32`")
    return best if choice == "auto" else choice
