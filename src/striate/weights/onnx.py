"""The initialisers of an ONNX file, for looking at: names, shapes, numbers.

The graph itself is not read. Tensors that live in other files are refused, since a path in a downloaded
file may point anywhere.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from striate.core.text import short
from striate.weights.bundle import MAX_TENSORS
from striate.weights.protobuf import LENGTH, VARINT, Field, WireError, fields
from striate.weights.weight_file import WeightFile, damaged, refusal, tensor_of, values_in

# ModelProto
_IR_VERSION, _PRODUCER, _PRODUCER_VERSION, _GRAPH, _OPSET, _PROPERTIES = 1, 2, 3, 7, 8, 14
# GraphProto
_GRAPH_NAME, _INITIALIZER, _SPARSE_INITIALIZER = 2, 5, 15
# TensorProto
_DIMS, _DATA_TYPE, _FLOATS, _INT32S, _INT64S, _TENSOR_NAME = 1, 2, 4, 5, 7, 8
_RAW, _DOUBLES, _UINT64S, _EXTERNAL, _LOCATION = 9, 10, 11, 13, 14

_FORMATS: Final = {
    1: "<f4",
    2: "|u1",
    3: "|i1",
    4: "<u2",
    5: "<i2",
    6: "<i4",
    7: "<i8",
    9: "|b1",
    10: "<f2",
    11: "<f8",
    12: "<u4",
    13: "<u8",
    14: "<c8",
    15: "<c16",
    16: "bf16",
}
_TYPE_NAMES: Final = {
    8: "string",
    17: "float8",
    18: "float8",
    19: "float8",
    20: "float8",
    21: "uint4",
    22: "int4",
}


def looks_like_model(outline: dict[int, set[int]]) -> bool:
    """Say whether the fields of a message, with their wire types, are those of a ``ModelProto``."""
    return outline.get(_IR_VERSION) == {VARINT} and outline.get(_GRAPH) == {LENGTH} and _OPSET in outline


def read_onnx(path: Path, content: memoryview) -> WeightFile:
    """Read the initialisers of an ``.onnx`` file.

    Args:
        path: the file, for messages.
        content: its bytes.

    Raises:
        BundleError: the file is damaged, or keeps its tensors in other files.
    """
    metadata: dict[str, str] = {}
    notes: list[str] = []
    tensors: dict[str, torch.Tensor] = {}
    try:
        for one in fields(content):
            if one.number == _IR_VERSION:
                metadata["ir_version"] = str(one.integer())
            elif one.number == _PRODUCER:
                metadata["producer"] = short(one.text())
            elif one.number == _PRODUCER_VERSION:
                metadata["producer_version"] = short(one.text())
            elif one.number == _OPSET:
                _read_opset(one, metadata)
            elif one.number == _GRAPH:
                _read_graph(one, tensors, notes, metadata)
    except _ElsewhereError as error:
        raise refusal(
            path,
            expected="an ONNX file that holds its own tensors",
            got=f"{error} kept in another file",
            remedy="save it in one file (onnx.save without save_as_external_data)",
        ) from None
    except WireError as error:
        raise damaged(path, kind="ONNX", reason=str(error)) from None
    return WeightFile(path=path, kind="onnx", tensors=tensors, notes=tuple(notes), metadata=metadata)


class _ElsewhereError(ValueError):
    """A tensor whose values are not in the file."""


def _read_opset(opset: Field, metadata: dict[str, str]) -> None:
    domain, version = "", 0
    for one in opset.fields():
        if one.number == 1:
            domain = one.text()
        elif one.number == 2:
            version = one.integer()
    metadata[f"opset {short(domain)}".strip()] = str(version)


def _read_graph(
    graph: Field, tensors: dict[str, torch.Tensor], notes: list[str], metadata: dict[str, str]
) -> None:
    count = 0
    for one in graph.fields():
        if one.number == _GRAPH_NAME:
            metadata["graph"] = short(one.text())
        elif one.number == _INITIALIZER:
            count += 1
            if count > MAX_TENSORS:
                raise WireError(f"more than {MAX_TENSORS:,} tensors")
            name, tensor = _tensor(one, notes)
            if name in tensors:
                raise WireError(f"two tensors named {short(name)}")
            if tensor is not None:
                tensors[name] = tensor
        elif one.number == _SPARSE_INITIALIZER:
            notes.append("a sparse tensor was passed over")


def _tensor(initializer: Field, notes: list[str]) -> tuple[str, torch.Tensor | None]:
    shape: list[int] = []
    data_type, name = 0, ""
    raw: memoryview | None = None
    typed: list[npt.NDArray[np.generic]] = []
    elsewhere = False
    for one in initializer.fields():
        if one.number == _DIMS:
            shape.extend(one.integers().tolist())
        elif one.number == _DATA_TYPE:
            data_type = one.integer()
        elif one.number == _TENSOR_NAME:
            name = one.text()
        elif one.number == _RAW:
            raw = one.message()
        elif one.number == _FLOATS:
            typed.append(one.numbers("<f4"))
        elif one.number == _DOUBLES:
            typed.append(one.numbers("<f8"))
        elif one.number in (_INT32S, _INT64S, _UINT64S):
            typed.append(one.integers())
        elif one.number == _EXTERNAL or (one.number == _LOCATION and one.integer() == 1):
            elsewhere = True
    if elsewhere:
        raise _ElsewhereError(short(name))
    if data_type not in _FORMATS:
        kind = _TYPE_NAMES.get(data_type, f"type {data_type}")
        notes.append(f"{short(name)} of {kind} was passed over")
        return name, None
    expected = values_in(shape)
    values = _raw_values(raw, data_type, name) if raw is not None else _typed_values(typed, data_type)
    if expected != len(values):
        declared = " x ".join(map(str, shape[:8])) or "1"
        raise WireError(f"{short(name)} declares {declared} values where {len(values):,} are there")
    tensor = tensor_of(values, shape)
    return name, tensor.view(torch.bfloat16) if _FORMATS[data_type] == "bf16" else tensor


def _raw_values(raw: memoryview, data_type: int, name: str) -> npt.NDArray[np.generic]:
    dtype = np.dtype("<i2" if _FORMATS[data_type] == "bf16" else _FORMATS[data_type])
    if len(raw) % dtype.itemsize:
        raise WireError(f"{short(name)} ends inside a number")
    return np.frombuffer(raw, dtype)


def _typed_values(parts: list[npt.NDArray[np.generic]], data_type: int) -> npt.NDArray[np.generic]:
    """Join the values of a typed list; half precision is stored there as the bits of 16-bit integers."""
    name = _FORMATS[data_type]
    stored = {"<f4": "f4", "<c8": "f4", "<f8": "f8", "<c16": "f8"}.get(name, "i8")
    if any(part.dtype != np.dtype(stored) for part in parts):
        raise WireError(f"values of type {data_type} in the list of another type")
    values = np.concatenate(parts) if parts else np.zeros(0, stored)
    if name in ("<c8", "<c16"):
        if len(values) % 2:
            raise WireError("half a complex number")
        return values.view(name)
    if name in ("bf16", "<f2"):
        bits = values.astype(np.uint16)
        return bits.view(np.int16) if name == "bf16" else bits.view(np.float16)
    return values.astype(name, copy=False)
