"""The lectures' CPU-against-GPU slide: published times of nine networks, and the same measured here."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import torch
from torch import nn

from striate.core.compute import Compute
from striate.core.progress import Progress, silent
from striate.serve.cuda_graphs import exact_fp32
from striate.weights.open import open_network

BATCH_IMAGES = 16

_FP32 = Compute(precision="fp32")
_CLASSES = tuple(f"class {k}" for k in range(1000))
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Times:
    """How long a batch takes, in milliseconds.

    Attributes:
        forward_ms: from images to scores, keeping what the backward pass needs.
        backward_ms: from the scores' gradient to that of every parameter.
    """

    forward_ms: float
    backward_ms: float

    @property
    def total_ms(self) -> float:
        """Forward and backward together."""
        return self.forward_ms + self.backward_ms


@dataclass(frozen=True, slots=True)
class Row:
    """One network of the slide.

    Attributes:
        title: its name on the slide.
        net: the network of ``striate nets`` that is measured.
        titan: published for a Pascal Titan X with cuDNN 5.1.
        xeon: published for two Intel Xeon E5-2630 v3 (16 cores), or None: the source has none.
    """

    title: str
    net: str
    titan: Times
    xeon: Times | None


# github.com/jcjohnson/cnn-benchmarks: README, Torch 7, batches of 16 images of 224 x 224, CUDA 8.0 RC. Its
# ResNets are those of fb.resnet.torch, whose stride is in the 3x3 convolution.
SLIDE = (
    Row("AlexNet", "alexnet", Times(5.04, 9.52), None),
    Row("Inception-V1", "googlenet", Times(12.06, 27.08), None),
    Row("VGG-16", "vgg16", Times(41.59, 87.03), Times(3101.76, 5393.72)),
    Row("VGG-19", "vgg19", Times(48.09, 99.23), Times(3609.78, 6239.45)),
    Row("ResNet-18", "resnet18", Times(10.14, 21.40), Times(847.46, 1348.33)),
    Row("ResNet-34", "resnet34", Times(17.01, 34.58), Times(1530.01, 2435.20)),
    Row("ResNet-50", "resnet50_v1_5", Times(35.03, 68.54), Times(2477.61, 4149.64)),
    Row("ResNet-101", "resnet101_v1_5", Times(53.38, 103.06), Times(4414.91, 6891.33)),
    Row("ResNet-152", "resnet152_v1_5", Times(75.45, 142.47), Times(6572.17, 10300.61)),
)


def measure_slide(
    rows: Sequence[Row],
    *,
    compute: Compute = _FP32,
    rounds: int = 3,
    progress: Progress = silent,
) -> tuple[Times, ...]:
    """Measure networks of the slide with random weights: the median of some rounds, after one to warm up.

    Args:
        rows: networks.
        compute: device and precision of forward and backward pass; the published times are float32.
        rounds: how often each is measured, at least 1.
        progress: listener; stage ``"bench"`` counts networks.

    Returns:
        One for each row.

    Departures: Inception-V1 runs without its auxiliary classifiers; AlexNet is the paper's, not Caffe's
        (normalisation before pooling, 224 px padded to 227), with the same multiplications.
    """
    times = []
    for number, row in enumerate(rows):
        progress("bench", number, len(rows), row.title)
        arguments = {"auxiliaries": False} if row.net == "googlenet" else {}
        net = open_network(row.net, arguments=arguments, classes=_CLASSES).net.train()
        times.append(measure(net.to(compute.torch_device), (3, 224, 224), compute=compute, rounds=rounds))
    progress("bench", len(rows), len(rows))
    return tuple(times)


def measure(
    net: nn.Module,
    shape: tuple[int, int, int],
    *,
    compute: Compute = _FP32,
    rounds: int = 3,
) -> Times:
    """Time forward and backward pass of a network on random images; the median of ``rounds``.

    On a GPU float32 is float32, without TF32, as it was for the published times.

    Args:
        net: on the device, in the mode it is to be measured in; gradients are left cleared.
        shape: channels, height, width.
        compute: device, precision of both passes, images in a batch (16 unless given).
        rounds: after one that is not counted, at least 1.
    """
    device, dtype = compute.torch_device, compute.autocast_dtype
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(compute.batch(BATCH_IMAGES), *shape, generator=generator).to(device)
    images = images.contiguous(memory_format=torch.channels_last)
    forwards, backwards = [], []
    with exact_fp32() if device.type == "cuda" and dtype is None else nullcontext():
        for number in range(rounds + 1):
            net.zero_grad(set_to_none=True)
            scores, forward_s = _timed(partial(_forward, net, images, dtype), device)
            gradient = torch.ones_like(scores)
            _, backward_s = _timed(partial(scores.backward, gradient), device)
            if number:
                forwards.append(1e3 * forward_s)
                backwards.append(1e3 * backward_s)
    net.zero_grad(set_to_none=True)
    return Times(median(forwards), median(backwards))


def _forward(net: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    with torch.autocast(images.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        scores = net(images)
    return scores if isinstance(scores, torch.Tensor) else scores[0]


def _timed(work: Callable[[], _T], device: torch.device) -> tuple[_T, float]:
    _finish(device)
    started = time.perf_counter()
    result = work()
    _finish(device)
    return result, time.perf_counter() - started


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
