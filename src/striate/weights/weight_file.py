"""What a weights file of any kind holds, and what every reader of one needs: its bytes, a way to refuse."""

import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from striate.core.errors import BundleError
from striate.core.text import printable, short
from striate.weights.bundle import Header

Kind = Literal["striate bundle", "torch", "safetensors", "caffe", "matconvnet", "onnx"]
"""The file formats, by the program that writes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightFile:
    """The content of a weights file.

    Attributes:
        path: the file.
        kind: its format, by content.
        tensors: every tensor, on the CPU, in the file's number format, under the file's own names and in its
            order. Whole-number tensors (``num_batches_tracked``) are among them.
        layers: names of the layers in the order in which they run, of Caffe and MatConvNet.
        notes: what was unwrapped, renamed or passed over, one phrase each.
        mean_rgb: mean of the training images per channel, red first, 0..255; None if the file holds none.
        classes: class names in the order of the outputs, or None.
        metadata: other short facts, as text.
        header: what a striate bundle says, checked; None for other files.
        graphs: of a striate bundle, the files that were made from its weights for another program
            (``Bundle.graphs``): bytes of each, by name.
    """

    path: Path
    kind: Kind
    tensors: dict[str, torch.Tensor]
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    mean_rgb: tuple[float, float, float] | None = None
    classes: tuple[str, ...] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    header: Header | None = None
    graphs: dict[str, int] = field(default_factory=dict)


def refusal(path: Path, *, expected: str, got: str, remedy: str) -> BundleError:
    """Make the one-line error that refuses a file."""
    return BundleError(printable(f"{path}: expected {expected}, got {got}: {remedy}"))


def damaged(path: Path, *, kind: str, reason: str) -> BundleError:
    """Make the one-line error for a file of a known kind that is cut off or altered."""
    return refusal(path, expected=f"a whole {kind} file", got=reason, remedy="copy or download it again")


def listed(names: Sequence[str], most: int = 6) -> str:
    """Write the first few of many names in one phrase."""
    rest = len(names) - most
    return ", ".join(short(name) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")


def map_file(path: Path) -> memoryview:
    """Map a file into memory, read-only; its pages are read when they are touched.

    Raises:
        BundleError: it is missing, empty, a folder, or can't be read.
    """
    try:
        if path.is_dir():
            got, remedy = "a folder", "name a file in it"
        elif path.exists() and not path.is_file():
            got, remedy = "a device or pipe", "name a file"
        else:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size:
                    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            got, remedy = "an empty file", "copy or download it again"
    except FileNotFoundError:
        got, remedy = "no file of that name", "check the path"
    except (OSError, ValueError) as error:
        got, remedy = f"one that can't be read ({error})", "check the path and its permissions"
    raise refusal(path, expected="a weights file", got=got, remedy=remedy)


def values_in(shape: Sequence[int]) -> int | None:
    """Count the values of a shape that a file declares; None if the shape is impossible."""
    if len(shape) > 32 or any(size < 0 or size > 2**40 for size in shape):
        return None
    return math.prod(shape)


def tensor_of(values: npt.NDArray[np.generic], shape: Sequence[int]) -> torch.Tensor:
    """Copy values out of a mapped file into a tensor of their own.

    Args:
        values: as many as ``shape`` has, of any number format of NumPy that torch knows too.
        shape: of the tensor.
    """
    if values.dtype == np.bool_:
        values = values.view(np.uint8) != 0  # a byte of 2 is no boolean
    native = values.astype(values.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(native.reshape(tuple(shape)))
