"""Where and how numbers are made: ``Compute``, and what the machine can do."""

import ctypes
import os
import shutil
import sys
from dataclasses import dataclass, fields
from typing import get_args

import torch

from striate.core.choices import DeviceChoice as DeviceChoice
from striate.core.choices import EnginePrecisionChoice
from striate.core.choices import Precision as Precision
from striate.core.choices import PrecisionChoice as PrecisionChoice
from striate.core.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Where and how numbers are made.

    Attributes:
        device: ``auto`` takes CUDA, then Apple's MPS, then the CPU.
        precision: of the forward pass (in training also of the backward pass). ``auto`` takes bf16 where the
            hardware computes in it. ``int8`` is for engines with a quantized bundle only.
        batch_images: images in a forward pass, at least 1; None takes what suits the function.
        threads: threads that decode or compute, at least 1; None takes one for each core.

    Raises:
        UsageError: a value out of range.
    """

    device: DeviceChoice = "auto"
    precision: EnginePrecisionChoice = "auto"
    batch_images: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that mean nothing on any machine."""
        for name, choices in (("device", DeviceChoice), ("precision", EnginePrecisionChoice)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise UsageError(f"expected `{name}` out of {', '.join(get_args(choices))}; got {value!r}")
        for name in ("batch_images", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"expected `{name}` of at least 1, got {value!r}")

    def __repr__(self) -> str:
        """Write what differs from the defaults, as one would type it."""
        given = [(field, getattr(self, field.name)) for field in fields(self)]
        words = [f"{field.name}={value!r}" for field, value in given if value != field.default]
        return f"striate.Compute({', '.join(words)})"

    @property
    def torch_device(self) -> torch.device:
        """The device, chosen.

        Raises:
            UsageError: it is not on this machine.
        """
        return pick_device(self.device)

    @property
    def forward_precision(self) -> Precision:
        """The precision of torch's forward pass, chosen.

        Raises:
            UsageError: int8, which only engines have.
        """
        if self.precision == "int8":
            raise UsageError(
                "expected `precision` auto, fp32 or bf16 here, got int8: only prediction"
                " takes a bundle's int8 network"
            )
        return pick_precision(self.precision, self.torch_device)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The dtype for ``torch.autocast``, or None for plain float32."""
        return autocast_dtype(self.forward_precision)

    def batch(self, default: int) -> int:
        """Return the number of images in a forward pass: the one asked for, or a default."""
        return default if self.batch_images is None else self.batch_images


def pick_device(choice: DeviceChoice = "auto") -> torch.device:
    """Return the device asked for, or the fastest there is: CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device asked for is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if choice == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))
    if choice not in there:
        raise UsageError(f"expected a device out of auto, {', '.join(there)}; got {choice!r}")
    if not there[choice]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise UsageError(f"device {choice} is not on this machine (found: {found}): use `device=auto`")
    return torch.device(choice)


def pick_precision(choice: PrecisionChoice, device: torch.device) -> Precision:
    """Return ``bf16`` or ``fp32``; ``auto`` takes bf16 only where the hardware computes in it.

    Raises:
        UsageError: an unknown precision.
    """
    if choice == "auto":
        return "bf16" if has_bf16(device) else "fp32"
    if choice not in ("fp32", "bf16"):
        raise UsageError(f"expected a precision out of auto, fp32, bf16; got {choice!r}")
    return choice


def has_bf16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 numbers in hardware (CPU: AVX-512 BF16 or AMX)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))
    return False


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_compiler() -> bool:
    """Say whether a C++ compiler is there, which ``torch.compile`` needs on a CPU."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ((named,) if named else ("g++", "clang++")))


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """Return the dtype for ``torch.autocast``, or None for plain float32."""
    return torch.bfloat16 if precision == "bf16" else None


def keep_freed_memory() -> None:
    """Let this process keep the memory of freed tensors for the next ones, where the C library is glibc.

    By default glibc hands every block above a moving threshold back to the kernel when it is freed, and a
    training step then takes thousands of page faults to get the same memory again. What it gains is in
    docs/results.md. Other C libraries are left alone. The setting is the process's and stays.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # the numbers in malloc.h
    mallopt(mmap_threshold, 32 * 2**20)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
