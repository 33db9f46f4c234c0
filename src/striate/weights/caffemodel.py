"""Caffe's networks (``.caffemodel``).

A network is a ``NetParameter`` message. Its layers come in three generations: ``layers`` (field 2, "V1"),
which may wrap a still older ``layer`` (field 1, "V0"), and the current ``layer`` (field 100). Weights are
``BlobProto`` messages in each layer, in the order weights, bias.

Filters are (out, in / group, height, width) as in torch. Colours are **blue, green, red** from 0 to 255: a
network that is to take red first needs the input channels of its first convolution in reverse.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from striate.core.text import short
from striate.weights.bundle import MAX_TENSORS
from striate.weights.protobuf import LENGTH, VARINT, Field, WireError, fields
from striate.weights.weight_file import WeightFile, damaged, refusal, tensor_of, values_in

# NetParameter
_NET_NAME, _NET_V1_LAYERS, _NET_LAYER = 1, 2, 100
# LayerParameter
_NAME, _TYPE, _BLOBS, _TRANSFORM = 1, 2, 7, 100
# V1LayerParameter
_V1_V0, _V1_NAME, _V1_TYPE, _V1_BLOBS, _V1_TRANSFORM = 1, 4, 5, 6, 36
# V0LayerParameter
_V0_NAME, _V0_TYPE, _V0_BLOBS = 1, 2, 50
# TransformationParameter
_MEAN_VALUE = 5

# The types that say how a blob is shaped; the older generations' words for them.
_V1_TYPES: Final = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_V0_TYPES: Final = {"conv": "Convolution", "innerproduct": "InnerProduct"}
_KEEPS_FOUR_AXES: Final = ("Convolution", "Deconvolution")


def looks_like_network(outline: dict[int, set[int]]) -> bool:
    """Say whether the fields of a message, with their wire types, are those of a ``NetParameter``."""
    layers = outline.get(_NET_V1_LAYERS, set()) | outline.get(_NET_LAYER, set())
    return layers == {LENGTH} and outline.get(_NET_NAME, {LENGTH}) == {LENGTH}


def looks_like_blob(outline: dict[int, set[int]]) -> bool:
    """Say whether the fields of a message, with their wire types, are those of a ``BlobProto``."""
    shaped = all(outline.get(number) == {VARINT} for number in (2, 3, 4)) or outline.get(7) == {LENGTH}
    filled = outline.get(5, set()) | outline.get(8, set())
    return shaped and bool(filled) and VARINT not in filled and set(outline) <= set(range(1, 10))


def read_caffemodel(path: Path, content: memoryview) -> WeightFile:
    """Read a ``.caffemodel`` of any generation.

    Args:
        path: the file, for messages.
        content: its bytes.

    Returns:
        Tensors named ``"LAYER.N"`` in blob order (0 weights, 1 bias). Convolutions keep four axes, fully
        connected weights are (out, in), and other blobs of old files lose their axes of length 1.
        ``mean_rgb`` is taken from a data layer that records three mean values, in reverse, since Caffe's
        colours are blue first.

    Raises:
        BundleError: the file is damaged or holds no weights.
    """
    notes: list[str] = []
    metadata: dict[str, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    generations: dict[str, str] = {}
    mean: tuple[float, float, float] | None = None
    try:
        numbers = set()
        for net_field in fields(content):
            if net_field.number == _NET_NAME:
                metadata["name"] = short(net_field.text())
            if net_field.number not in (_NET_V1_LAYERS, _NET_LAYER):
                continue
            numbers.add(net_field.number)
            if len(numbers) > 1:
                raise WireError("layers of two generations beside each other")
            layer = _layer(net_field)
            name, blobs = layer.name, layer.blobs
            mean = mean or layer.mean
            if not blobs and name in generations:
                continue  # train and test data layers share a name
            if blobs and f"{name}.0" in tensors:
                raise WireError(f"two layers named {short(name)} with weights")
            generations[name] = layer.generation
            if len(tensors) + len(blobs) > MAX_TENSORS or len(generations) > MAX_TENSORS:
                raise WireError(f"more than {MAX_TENSORS:,} layers or tensors")
            for index, blob in enumerate(blobs):
                tensors[f"{name}.{index}"] = _blob_tensor(blob, layer.type, index, f"{name}.{index}")
    except WireError as error:
        raise damaged(path, kind="Caffe", reason=str(error)) from None
    if not tensors:
        raise refusal(
            path,
            expected="a Caffe network with weights",
            got=f"{len(generations)} layers without weights",
            remedy="name the .caffemodel that training wrote",
        )
    notes.append(f"Caffe layers of generation {', '.join(sorted(set(generations.values())))}")
    notes.append("colours of a Caffe network are blue, green, red")
    return WeightFile(
        path=path,
        kind="caffe",
        tensors=tensors,
        layers=tuple(generations),
        notes=tuple(notes),
        mean_rgb=mean,
        metadata=metadata,
    )


class _Layer(NamedTuple):
    """One layer of any generation; its type is empty where it says nothing about the blobs."""

    name: str
    type: str
    generation: str
    blobs: list[Field]
    mean: tuple[float, float, float] | None


def _layer(net_field: Field) -> _Layer:
    """Take one layer of any generation apart."""
    current = net_field.number == _NET_LAYER
    name = kind = ""
    generation = "current" if current else "V1"
    blobs: list[Field] = []
    mean = None
    for one in net_field.fields():
        number = one.number
        if number == (_NAME if current else _V1_NAME):
            name = one.text()
        elif current and number == _TYPE:
            kind = one.text()
        elif not current and number == _V1_TYPE:
            kind = _V1_TYPES.get(one.integer(), "")
        elif number == (_BLOBS if current else _V1_BLOBS):
            blobs.append(one)
        elif number == (_TRANSFORM if current else _V1_TRANSFORM):
            mean = _mean_values(one)
        elif not current and number == _V1_V0:
            generation = "V0"
            for inner in one.fields():
                if inner.number == _V0_NAME:
                    name = inner.text()
                elif inner.number == _V0_TYPE:
                    kind = _V0_TYPES.get(inner.text(), "")
                elif inner.number == _V0_BLOBS:
                    blobs.append(inner)
    return _Layer(name, kind, generation, blobs, mean)


def _mean_values(transform: Field) -> tuple[float, float, float] | None:
    parts = [one.numbers("<f4") for one in transform.fields() if one.number == _MEAN_VALUE]
    values = np.concatenate(parts).tolist() if parts else []
    if len(values) != 3 or not np.isfinite(values).all():
        return None
    blue, green, red = values
    return red, green, blue


def _blob_values(blob: Field, name: str) -> tuple[list[int], npt.NDArray[np.generic]]:
    """Return the shape and the values of a ``BlobProto``, which agree in number."""
    shape: list[int] | None = None
    old = dict.fromkeys((1, 2, 3, 4), 0)
    parts: list[npt.NDArray[np.generic]] = []
    for one in blob.fields():
        if one.number in old:
            old[one.number] = one.integer()
        elif one.number == 7:
            inner = [dims.integers() for dims in one.fields() if dims.number == 1]
            shape = np.concatenate(inner).tolist() if inner else []
        elif one.number == 5:
            parts.append(one.numbers("<f4"))
        elif one.number == 8:
            parts.append(one.numbers("<f8"))
    if shape is None:
        shape = list(old.values())
    found = sum(map(len, parts))
    if values_in(shape) != found:
        declared = " x ".join(map(str, shape[:8]))
        raise WireError(f"{short(name)} declares {declared} values where {found:,} are there")
    if not parts:
        return shape, np.zeros(0, np.float32)
    return shape, parts[0] if len(parts) == 1 else np.concatenate(parts)


def _blob_tensor(blob: Field, layer_type: str, index: int, name: str) -> torch.Tensor:
    """Turn a blob into a tensor without the axes of length 1 that old files pad every shape with."""
    shape, values = _blob_values(blob, name)
    if len(shape) == 4 and not (layer_type in _KEEPS_FOUR_AXES and index == 0):
        if layer_type == "InnerProduct" and index == 0 and shape[:2] == [1, 1]:
            shape = shape[2:]
        elif sum(size != 1 for size in shape) <= 1:
            shape = [len(values)]
    return tensor_of(values, shape)
