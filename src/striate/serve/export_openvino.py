"""Writing OpenVINO files and running them."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.serve.import_openvino import import_openvino, own_signal_stack


def openvino_versions() -> dict[str, str]:
    """Return the version of the package that writes and checks."""
    return {"openvino": version("openvino")}


def write_openvino(
    model: Any,
    path: Path,
    facts: Mapping[str, str],
    *,
    temperature: float,
    multi_label: bool,
    batch_images: int | None,
) -> None:
    """Write an OpenVINO model as ``.xml`` and ``.bin``, in full precision, with facts as ``rt_info``.

    Args:
        model: from ``pixels`` to ``logits``; gets a second output, ``probabilities``.
        path: the ``.xml`` file; the ``.bin`` file gets the same stem.
        facts: written below ``striate``.
        temperature: what logits are divided by before they become probabilities.
        multi_label: sigmoid instead of softmax.
        batch_images: fixes the number of images; None leaves it open.
    """
    ov = import_openvino()
    from openvino import opset13 as operations

    logits = model.outputs[0].get_node().input_value(0)
    scaled = operations.divide(logits, operations.constant(np.array(temperature, np.float32)))
    answer = operations.sigmoid(scaled) if multi_label else operations.softmax(scaled, 1)
    model.add_results([operations.result(answer)])
    model.outputs[1].set_names({"probabilities"})
    size = list(model.inputs[0].get_partial_shape())[1:]
    model.reshape(ov.PartialShape([-1 if batch_images is None else batch_images, *size]))
    for key, value in facts.items():
        model.set_rt_info(value, ["striate", key])
    ov.save_model(model, str(path), compress_to_fp16=False)


@own_signal_stack()
def run_openvino(path: Path, pixels: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], ...]]:
    """Run an OpenVINO file on some batches, on the CPU, computing in fp32 (int8 where it is quantized).

    Returns:
        Logits and probabilities of each batch.
    """
    compiled = import_openvino().Core().compile_model(str(path), "CPU", IN_FP32)
    return [tuple(np.array(compiled(one)[k]) for k in ("logits", "probabilities")) for one in pixels]


IN_FP32 = {"INFERENCE_PRECISION_HINT": "f32"}
"""Without it OpenVINO computes in bf16 where the processor can."""
