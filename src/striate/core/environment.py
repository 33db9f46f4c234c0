"""What a result depends on beside its settings: versions of the software, and the machine."""

import os
import platform
from pathlib import Path

import numpy as np
import torch

from striate.core.version import __version__


def versions() -> dict[str, str]:
    """Name the versions that a result depends on."""
    return {
        "striate": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


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
