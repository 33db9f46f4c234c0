"""Which device to compute on and in which precision."""

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Literal

import torch

from striate.core.errors import UsageError

DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
Precision = Literal["fp32", "bf16"]


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
        raise UsageError(f"device {choice} is not on this machine (found: {found}): use --device auto")
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


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Say what computed: processor or GPU name, cores, threads, operating system."""
    machine: dict[str, str | int] = {
        "device": device.type,
        "processor": _processor_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.type == "cuda":
        machine["gpu"] = torch.cuda.get_device_name(device)
    return machine


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
