"""From a network to its int8 version, an OpenVINO graph: post-training quantization by NNCF."""

import logging
import tempfile
from contextlib import redirect_stdout
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.core.progress import Progress, silent
from striate.serve.convert_openvino import convert, response_norms
from striate.serve.graph import FromPixels
from striate.serve.import_openvino import import_openvino, own_signal_stack, without_telemetry
from striate.serve.packages import check_packages
from striate.weights.bundle import Bundle


def quantize_versions() -> dict[str, str]:
    """Return the versions of the packages that quantize."""
    return {name: version(name) for name in ("nncf", "openvino")}


@own_signal_stack()
def quantize_network(
    net: nn.Module, bundle: Bundle, pixels: NDArray[np.uint8], *, progress: Progress = silent
) -> dict[str, bytes]:
    """Make an int8 version of a network; equal input gives equal bytes.

    Convolutions and matrix products get int8 weights (symmetric, one scale for each output channel) and 8-bit
    inputs, whose ranges are measured on the given images; biases are then shifted to keep each layer's mean
    output on these images. Everything else stays in floating point.

    Args:
        net: the network of ``open_bundle``, in eval mode, on the CPU.
        bundle: gives the preprocessing.
        pixels: ``M x H x W x C`` uint8 images to measure ranges on, at least one; a few hundred are enough.
        progress: listener; stage ``"calibrate"`` counts images.

    Returns:
        ``int8.xml`` and ``int8.bin``: an OpenVINO graph from ``pixels`` to ``logits``.

    Raises:
        UsageError: openvino or nncf is not installed.

    Paper: B. Jacob et al., "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference", CVPR 2018 (the arithmetic); M. Nagel et al., "Data-free
        quantization through weight equalization and bias correction", ICCV 2019, section 4.2 (the bias
        correction). Both as NNCF does them.
    """
    check_packages("quantizing", "openvino", "nncf")
    ov = import_openvino()
    nncf = _import_nncf()
    model = convert(FromPixels(net, bundle.preprocessing).eval(), bundle.preprocessing)
    model.set_friendly_name("int8")
    _number_operations(model)

    with redirect_stdout(StringIO()):  # NNCF draws its own progress bars
        small = nncf.quantize(
            model,
            nncf.Dataset(list(range(len(pixels))), lambda index: _one(pixels, index, progress)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pixels),
            fast_bias_correction=True,
            # 8 bits would be too few for squares.
            ignored_scope=nncf.IgnoredScope(names=response_norms(model)),
        )
    _number_operations(small)
    with tempfile.TemporaryDirectory(prefix="striate-") as folder:
        path = Path(folder) / "int8.xml"
        ov.save_model(small, str(path), compress_to_fp16=False)
        return {"int8.xml": path.read_bytes(), "int8.bin": path.with_suffix(".bin").read_bytes()}


def _one(pixels: NDArray[np.uint8], index: int, progress: Progress) -> NDArray[np.uint8]:
    progress("calibrate", index + 1, len(pixels))
    return pixels[index : index + 1]


def _number_operations(model: Any) -> None:
    """Name operations by their order: OpenVINO numbers them by how many the process has made so far."""
    for number, operation in enumerate(model.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")


def _import_nncf() -> ModuleType:
    """Import NNCF without its telemetry and its messages.

    NNCF reports to Google Analytics through the package ``openvino_telemetry``; without that package it
    uses a stub of its own (see ``serve.import_openvino``).
    """
    with without_telemetry():
        nncf = import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf
