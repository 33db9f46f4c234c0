"""Caffe's files: networks (``.caffemodel``) and mean images (``.binaryproto``).

A network is a ``NetParameter`` message. Its layers come in three generations: ``layers`` (field 2, "V1"),
which may wrap a still older ``layer`` (field 1, "V0"), and the current ``layer`` (field 100). Weights are
``BlobProto`` messages in each layer, in the order weights, bias.

Filters are (out, in / group, height, width) as in torch. Colours are **blue, green, red** from 0 to 255: a
network that is to take red first needs the input channels of its first convolution in reverse.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from striate.weights.protobuf import LENGTH, VARINT, Field, WireError, fields
from striate.weights.weight_file import (
    LayerInfo,
    WeightFile,
    damaged,
    map_file,
    refusal,
    short,
    tensor_of,
    values_in,
)

# NetParameter
_NET_NAME, _NET_V1_LAYERS, _NET_LAYER = 1, 2, 100
# LayerParameter
_NAME, _TYPE, _BOTTOM, _TOP, _BLOBS, _TRANSFORM, _CONVOLUTION = 1, 2, 3, 4, 7, 100, 106
# V1LayerParameter
_V1_V0, _V1_BOTTOM, _V1_TOP, _V1_NAME, _V1_TYPE, _V1_BLOBS, _V1_CONVOLUTION, _V1_TRANSFORM = (
    *(1, 2, 3, 4, 5, 6),
    *(10, 36),
)
# V0LayerParameter
_V0_NAME, _V0_TYPE, _V0_BLOBS = 1, 2, 50
# TransformationParameter
_MEAN_VALUE = 5

_CONVOLUTION_SETTINGS: Final = {
    1: "num_output",
    3: "pad",
    4: "kernel_size",
    5: "group",
    6: "stride",
    9: "pad_h",
    10: "pad_w",
    11: "kernel_h",
    12: "kernel_w",
    13: "stride_h",
    14: "stride_w",
    18: "dilation",
}
_V0_SETTINGS: Final = {3: "num_output", 7: "pad", 8: "kernel_size", 9: "group", 10: "stride"}

_V1_TYPES: Final = {
    1: "Accuracy",
    2: "BNLL",
    3: "Concat",
    4: "Convolution",
    5: "Data",
    6: "Dropout",
    7: "EuclideanLoss",
    8: "Flatten",
    9: "HDF5Data",
    10: "HDF5Output",
    11: "Im2col",
    12: "ImageData",
    13: "InfogainLoss",
    14: "InnerProduct",
    15: "LRN",
    16: "MultinomialLogisticLoss",
    17: "Pooling",
    18: "ReLU",
    19: "Sigmoid",
    20: "Softmax",
    21: "SoftmaxWithLoss",
    22: "Split",
    23: "TanH",
    24: "WindowData",
    25: "Eltwise",
    26: "Power",
    27: "SigmoidCrossEntropyLoss",
    28: "HingeLoss",
    29: "MemoryData",
    30: "ArgMax",
    31: "Threshold",
    32: "DummyData",
    33: "Slice",
    34: "MVN",
    35: "AbsVal",
    36: "Silence",
    37: "ContrastiveLoss",
    38: "Exp",
    39: "Deconvolution",
}
_V0_TYPES: Final = {
    "accuracy": "Accuracy",
    "bnll": "BNLL",
    "concat": "Concat",
    "conv": "Convolution",
    "data": "Data",
    "dropout": "Dropout",
    "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten",
    "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output",
    "im2col": "Im2col",
    "images": "ImageData",
    "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "padding": "Padding",
    "pool": "Pooling",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "softmax_loss": "SoftmaxWithLoss",
    "split": "Split",
    "tanh": "TanH",
    "window_data": "WindowData",
}
_KEEPS_FOUR_AXES: Final = ("Convolution", "Deconvolution")


def looks_like_network(outline: dict[int, set[int]]) -> bool:
    """Tell whether the fields of a message, with their wire types, are those of a ``NetParameter``."""
    layers = outline.get(_NET_V1_LAYERS, set()) | outline.get(_NET_LAYER, set())
    return layers == {LENGTH} and outline.get(_NET_NAME, {LENGTH}) == {LENGTH}


def looks_like_blob(outline: dict[int, set[int]]) -> bool:
    """Tell whether the fields of a message, with their wire types, are those of a ``BlobProto``."""
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
    layers: dict[str, LayerInfo] = {}
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
            name, info, blobs, layer_mean = _layer(net_field)
            mean = mean or layer_mean
            if not blobs and name in layers:
                continue  # train and test data layers share a name
            if blobs and f"{name}.0" in tensors:
                raise WireError(f"two layers named {short(name)} with weights")
            layers[name] = info
            for index, blob in enumerate(blobs):
                tensors[f"{name}.{index}"] = _blob_tensor(blob, info.type, index, f"{name}.{index}")
    except WireError as error:
        raise damaged(path, kind="Caffe", reason=str(error)) from None
    if not tensors:
        raise refusal(
            path,
            expected="a Caffe network with weights",
            got=f"{len(layers)} layers without weights",
            remedy="name the .caffemodel that training wrote",
        )
    generations = sorted({info.generation for info in layers.values()})
    notes.append(f"Caffe layers of generation {', '.join(generations)}")
    notes.append("colours of a Caffe network are blue, green, red")
    return WeightFile(
        path=path,
        kind="caffe",
        tensors=tensors,
        layers=layers,
        notes=tuple(notes),
        mean_rgb=mean,
        metadata=metadata,
    )


def read_mean(path: Path | str) -> npt.NDArray[np.float32]:
    """Read a mean image of Caffe (``.binaryproto``, a bare ``BlobProto``).

    Returns:
        (channels, height, width), 0..255, channels in the file's order (blue, green, red).

    Raises:
        BundleError: the file is missing, damaged, or something else.
    """
    path = Path(path)
    try:
        shape, values = _blob_values(map_file(path), "mean")
    except WireError as error:
        raise refusal(
            path,
            expected="a Caffe mean image (.binaryproto)",
            got=f"something else ({error})",
            remedy="name the file that compute_image_mean wrote, such as imagenet_mean.binaryproto",
        ) from None
    if len(shape) == 4 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 3 or 0 in shape:
        raise refusal(
            path,
            expected="a mean image of channels x height x width",
            got=" x ".join(map(str, shape)) or "one number",
            remedy="name a .binaryproto mean image; for a .caffemodel use read_weights",
        )
    return values.reshape(shape).astype(np.float32)


def _layer(
    net_field: Field,
) -> tuple[str, LayerInfo, list[memoryview], tuple[float, float, float] | None]:
    """Take one layer of any generation apart."""
    current = net_field.number == _NET_LAYER
    name = kind = ""
    generation = "current" if current else "V1"
    inputs: list[str] = []
    outputs: list[str] = []
    blobs: list[memoryview] = []
    settings: dict[str, str] = {}
    mean = None
    for one in fields(net_field.message()):
        number = one.number
        if number == (_NAME if current else _V1_NAME):
            name = one.text()
        elif current and number == _TYPE:
            kind = one.text()
        elif not current and number == _V1_TYPE:
            kind = _V1_TYPES.get(one.integer(), f"V1 type {one.integer()}")
        elif number == (_BOTTOM if current else _V1_BOTTOM):
            inputs.append(one.text())
        elif number == (_TOP if current else _V1_TOP):
            outputs.append(one.text())
        elif number == (_BLOBS if current else _V1_BLOBS):
            blobs.append(one.message())
        elif number == (_CONVOLUTION if current else _V1_CONVOLUTION):
            settings |= _settings(fields(one.message()), _CONVOLUTION_SETTINGS)
        elif number == (_TRANSFORM if current else _V1_TRANSFORM):
            mean = _mean_values(one.message())
        elif not current and number == _V1_V0:
            generation = "V0"
            old = list(fields(one.message()))
            settings |= _settings(old, _V0_SETTINGS)
            for inner in old:
                if inner.number == _V0_NAME:
                    name = inner.text()
                elif inner.number == _V0_TYPE:
                    kind = _V0_TYPES.get(inner.text(), inner.text())
                elif inner.number == _V0_BLOBS:
                    blobs.append(inner.message())
    group = settings.pop("group", "1")
    info = LayerInfo(
        type=kind,
        generation=generation,
        group=int(group) if group.isdigit() else 1,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        settings=settings,
    )
    return name, info, blobs, mean


def _settings(layer_fields: Iterable[Field], names: dict[int, str]) -> dict[str, str]:
    """Gather integer settings; a repeated one (a pad for each axis) is joined by commas."""
    result: dict[str, str] = {}
    for one in layer_fields:
        if one.number in names:
            text = ",".join(map(str, one.integers().tolist()[:8]))
            name = names[one.number]
            result[name] = f"{result[name]},{text}" if name in result and name != "group" else text
    return result


def _mean_values(transform: memoryview) -> tuple[float, float, float] | None:
    parts = [one.numbers("<f4") for one in fields(transform) if one.number == _MEAN_VALUE]
    values = np.concatenate(parts).tolist() if parts else []
    if len(values) != 3 or not np.isfinite(values).all():
        return None
    blue, green, red = values
    return red, green, blue


def _blob_values(blob: memoryview, name: str) -> tuple[list[int], npt.NDArray[np.generic]]:
    """Return the shape and the values of a ``BlobProto``, which agree in number."""
    shape: list[int] | None = None
    old = dict.fromkeys((1, 2, 3, 4), 0)
    parts: list[npt.NDArray[np.generic]] = []
    for one in fields(blob):
        if one.number in old:
            old[one.number] = one.integer()
        elif one.number == 7:
            inner = [dims.integers() for dims in fields(one.message()) if dims.number == 1]
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


def _blob_tensor(blob: memoryview, layer_type: str, index: int, name: str) -> torch.Tensor:
    """Turn a blob into a tensor without the axes of length 1 that old files pad every shape with."""
    shape, values = _blob_values(blob, name)
    if len(shape) == 4 and not (layer_type in _KEEPS_FOUR_AXES and index == 0):
        if layer_type == "InnerProduct" and index == 0 and shape[:2] == [1, 1]:
            shape = shape[2:]
        elif sum(size != 1 for size in shape) <= 1:
            shape = [len(values)]
    return tensor_of(values, shape)
