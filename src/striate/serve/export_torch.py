"""Writing files of ``torch.export`` and running them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray


def write_torch(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    """Write a traced network as ``.pt2``, with facts as extra files.

    Args:
        program: from ``pixels`` to logits and probabilities.
        path: where.
        facts: one extra file each.
    """
    with open(path, "wb") as file:
        torch.export.save(program, file, extra_files=dict(facts))


def run_torch(path: Path, pixels: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], ...]]:
    """Run a ``.pt2`` file on some batches, on the CPU.

    Returns:
        Logits and probabilities of each batch.
    """
    with open(path, "rb") as file:
        module = torch.export.load(file).module()
    with torch.no_grad():
        return [tuple(one.numpy() for one in module(torch.from_numpy(batch))) for batch in pixels]
