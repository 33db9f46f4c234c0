"""How fast one engine is: images a second, latency, memory, and the rate of this machine's matrix product."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.choices import EnginePrecision
from striate.data.preprocess import Preprocessing
from striate.serve.cuda_graphs import exact_fp32
from striate.serve.engine import Engine

_CEILING_SIDE = 3072
_CEILING_SIDE_CUDA = 8192  # a smaller product leaves part of a large GPU idle
_MIN_CALLS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast an engine is with batches of one size.

    Attributes:
        batch_images: images in a batch.
        images_per_s: with several batches in flight.
        latency_ms: the 50th, 90th and 99th percentile of one batch alone, from pixels to logits.
        num_calls: number of batches behind the percentiles.
    """

    batch_images: int
    images_per_s: float
    latency_ms: tuple[float, float, float]
    num_calls: int


def measure_engine(
    engine: Engine, preprocessing: Preprocessing, batch_images: int, *, seconds: float
) -> Speed:
    """Measure an engine on random pixels.

    Args:
        engine: opened for at least ``batch_images``.
        preprocessing: gives the size of the images.
        batch_images: images in a batch.
        seconds: how long to measure latency, then again images a second; at least 5 batches each.
    """
    shape = (batch_images, preprocessing.height_px, preprocessing.width_px, preprocessing.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(2):
        engine.logits(pixels)
    calls: list[float] = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(calls) < _MIN_CALLS:
        started = time.perf_counter()
        engine.logits(pixels)
        calls.append(1e3 * (time.perf_counter() - started))
    began, batches = time.perf_counter(), 0
    for _ in engine.stream(_for_a_while(pixels, began + seconds)):
        batches += 1
    p50, p90, p99 = np.percentile(calls, (50, 90, 99)).tolist()
    return Speed(
        batch_images=batch_images,
        images_per_s=batches * batch_images / (time.perf_counter() - began),
        latency_ms=(p50, p90, p99),
        num_calls=len(calls),
    )


def matrix_ceiling(precision: EnginePrecision, device: torch.device, *, seconds: float = 1.0) -> float:
    """Measure how many operations a second this machine's matrix product reaches (1 MAC = 2 operations).

    Two square matrices of 3,072 x 3,072 (on a GPU 8,192 x 8,192; float32 without TF32), by PyTorch; the
    fastest of the products that fit into ``seconds``.

    Args:
        precision: of the factors; int8 counts as operations too.
        device: where.
        seconds: how long to try, at least 2 products.
    """
    generator = torch.Generator().manual_seed(0)
    on_gpu = device.type == "cuda"
    length = _CEILING_SIDE_CUDA if on_gpu else _CEILING_SIDE
    side = (length, length)
    if precision == "int8":
        a = torch.randint(-128, 128, side, generator=generator, dtype=torch.int8).to(device)
        multiply = torch._int_mm
    else:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        a = torch.rand(side, generator=generator).to(device, dtype)
        multiply = torch.mm
    fastest, began, tries = float("inf"), time.perf_counter(), 0
    with exact_fp32() if on_gpu else nullcontext():
        while time.perf_counter() - began < seconds or tries < 2:
            if on_gpu:
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            multiply(a, a)
            if on_gpu:
                torch.cuda.synchronize(device)
            fastest = min(fastest, time.perf_counter() - started)
            tries += 1
    return 2.0 * length**3 / fastest


def peak_mib(device: torch.device | None = None) -> float | None:
    """Return the peak memory of this process in MiB; None where it is not known.

    Args:
        device: for a GPU, the peak of the tensors in its memory is returned.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform.startswith("win"):
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


def _for_a_while(pixels: NDArray[np.uint8], until: float) -> Iterator[NDArray[np.uint8]]:
    number = 0
    while time.perf_counter() < until or number < _MIN_CALLS:
        number += 1
        yield pixels
