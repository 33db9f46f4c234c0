"""Writing ONNX files and running them."""

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.version import __version__

OPSET: Final = 18
"""Of the standard operators: the one torch's exporter is written for; ONNX Runtime has it since 1.14."""

NEEDED = ("onnx", "onnxscript", "onnxruntime")


def onnx_versions() -> dict[str, str]:
    """Return the opset, and the versions of the packages that write and check."""
    return {"opset": str(OPSET), **{name: version(name) for name in NEEDED}}


def write_onnx(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    """Write a traced network as ONNX, with facts as metadata, and check it with ONNX's own checker.

    Args:
        program: from ``pixels`` to logits and probabilities.
        path: where.
        facts: written to ``metadata_props``.
    """
    import onnx

    with warnings.catch_warnings():
        # torch warns of its own use of its tree_map
        warnings.filterwarnings(
            "ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning
        )
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["logits", "probabilities"],
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    graph = model.graph
    # The exporter notes the source file and line of each operation: nobody else's business.
    values = (*graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *graph.node, *values, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    graph.name = facts["net"].partition("\n")[0]
    for value in values:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "N"
    model.producer_name, model.producer_version = "striate", __version__
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, str(path))


def run_onnx(path: Path, pixels: list[NDArray[np.uint8]]) -> list[tuple[NDArray[np.float32], ...]]:
    """Run an ONNX file on some batches with ONNX Runtime, on the CPU.

    Returns:
        Logits and probabilities of each batch.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [tuple(session.run(["logits", "probabilities"], {"pixels": one})) for one in pixels]
