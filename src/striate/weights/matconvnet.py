"""MatConvNet's networks (``.mat``), in both of its forms.

A SimpleNN is a cell array of layers that carry their weights; a DagNN keeps layers and parameters in two
struct arrays. Filters are stored height x width x in x out and come back as (out, in, height, width). Colours
are red first, 0 to 255, less the average image.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from striate.core.text import short
from striate.weights.bundle import MAX_TENSORS
from striate.weights.mat5 import Cell, Ignored, Struct, Value, read_mat5
from striate.weights.weight_file import WeightFile, damaged, listed, refusal, tensor_of

_NORMALIZATION: Final = ("imageSize", "interpolation", "border", "cropSize", "keepAspect")
_FILTER_TYPES: Final = ("conv", "convt", "dagnn.Conv", "dagnn.ConvTranspose")
_NORM_TYPES: Final = ("bnorm", "dagnn.BatchNorm")


class _LayoutError(ValueError):
    """A MATLAB file that is no MatConvNet network, with the reason in a few words."""


def read_matconvnet(path: Path, content: memoryview) -> WeightFile:
    """Read a MatConvNet network.

    Args:
        path: the file, for messages.
        content: its bytes.

    Returns:
        A SimpleNN's tensors are named ``"LAYER.N"`` (0 filters, 1 biases; batch normalization 0 gain, 1 bias,
        2 moments as channels x (mean, deviation)), a DagNN's by its own parameter names. Filters are (out,
        in, height, width), also those of fully connected layers; other vectors have one axis.

    Raises:
        BundleError: the file is damaged, or holds no MatConvNet network.
    """
    variables: Mapping[str, Value] = read_mat5(path, content)
    notes = [
        f"variable {short(name)} is a MATLAB {value.what} and was passed over"
        for name, value in variables.items()
        if isinstance(value, Ignored)
    ]
    for name in ("net", "net_"):
        inner = variables.get(name)
        if "layers" not in variables and isinstance(inner, Struct) and len(inner.rows) == 1:
            variables = inner.rows[0]
            notes.append(f"network was under '{name}'")
    layers = variables.get("layers")
    tensors: dict[str, torch.Tensor] = {}
    names: dict[str, None] = {}
    try:
        if isinstance(layers, Cell):
            _read_simple(layers, tensors, names, notes)
        elif isinstance(layers, Struct) and isinstance(variables.get("params"), Struct):
            _read_graph(layers, variables["params"], tensors, names)
        else:
            raise refusal(
                path,
                expected="a MatConvNet network with 'layers'",
                got=f"a MATLAB file with {listed(list(variables)) or 'no variables'}",
                remedy="name a SimpleNN or DagNN model file",
            )
    except _LayoutError as error:
        raise damaged(path, kind="MatConvNet", reason=str(error)) from None
    if len(tensors) > MAX_TENSORS:
        raise damaged(path, kind="MatConvNet", reason=f"more than {MAX_TENSORS:,} tensors")
    if not tensors:
        raise refusal(
            path,
            expected="a MatConvNet network with weights",
            got=f"{len(names)} layers without weights on the CPU",
            remedy="in MATLAB move it with vl_simplenn_move(net, 'cpu') and save it again",
        )
    meta = _row(variables.get("meta")) or variables  # files before 2015 keep these at the top
    mean, metadata = _normalization(_row(meta.get("normalization")), notes)
    classes = _row(meta.get("classes"))
    synsets = _texts(classes.get("name"))
    if synsets:
        metadata["classes.name"] = " ".join(short(one) for one in synsets)
    return WeightFile(
        path=path,
        kind="matconvnet",
        tensors=tensors,
        layers=tuple(names),
        notes=tuple(notes),
        mean_rgb=mean,
        classes=_texts(classes.get("description")),
        metadata=metadata,
    )


def _read_simple(
    layers: Cell, tensors: dict[str, torch.Tensor], names: dict[str, None], notes: list[str]
) -> None:
    for index, value in enumerate(layers.values, start=1):
        layer = _row(value)
        name = _text(layer.get("name")) or f"layer{index}"
        kind = _text(layer.get("type"))
        if name in names:
            notes.append(f"a second layer named {short(name)} became {short(name)}#{index}")
            name = f"{name}#{index}"
        weights = layer.get("weights")
        if isinstance(weights, Cell):
            blobs = weights.values
        else:  # the older form
            blobs = [layer[key] for key in ("filters", "biases") if key in layer]
        for place, blob in enumerate(blobs):
            if isinstance(blob, Ignored):
                notes.append(f"{short(name)}.{place} is a MATLAB {blob.what} and was passed over")
            if not isinstance(blob, np.ndarray) or blob.size == 0:
                continue
            tensors[f"{name}.{place}"] = _parameter(blob, kind, place)
        names[name] = None


def _read_graph(
    layers: Struct, params: Value, tensors: dict[str, torch.Tensor], names: dict[str, None]
) -> None:
    roles: dict[str, tuple[str, int]] = {}
    for index, layer in enumerate(layers.rows, start=1):
        name = _text(layer.get("name")) or f"layer{index}"
        kind = _text(layer.get("type"))
        if name in names:
            raise _LayoutError(f"two layers named {short(name)}")
        names[name] = None
        for place, parameter in enumerate(_texts(layer.get("params")) or ()):
            roles.setdefault(parameter, (kind, place))
    assert isinstance(params, Struct)
    for row in params.rows:
        name, value = _text(row.get("name")), row.get("value")
        if not isinstance(value, np.ndarray) or value.size == 0:
            continue
        if name in tensors:
            raise _LayoutError(f"two parameters named {short(name)}")
        tensors[name] = _parameter(value, *roles.get(name, ("", 0)))


def _parameter(value: npt.NDArray[np.generic], layer_type: str, place: int) -> torch.Tensor:
    """Turn a MATLAB array into a tensor, by the type of its layer and its place among the layer's weights."""
    if value.dtype.kind != "f" or value.dtype.itemsize not in (4, 8):
        value = value.astype(np.float32)  # MATLAB stores whole numbers in fewer bytes
    if value.ndim > 4:
        raise _LayoutError(f"weights of {value.ndim} axes")
    is_filter = layer_type in _FILTER_TYPES and place == 0
    is_moments = layer_type in _NORM_TYPES and place == 2
    if not is_filter and not is_moments and sum(size != 1 for size in value.shape) <= 1:
        return tensor_of(value, (value.size,))
    if is_filter or value.ndim > 2:
        value = value.reshape(value.shape + (1,) * (4 - value.ndim), order="F").transpose(3, 2, 0, 1)
    return tensor_of(value, value.shape)


def _normalization(
    values: Mapping[str, Value], notes: list[str]
) -> tuple[tuple[float, float, float] | None, dict[str, str]]:
    metadata = {key: _setting(values[key]) for key in _NORMALIZATION if key in values}
    average = values.get("averageImage")
    if not isinstance(average, np.ndarray) or average.size == 0 or average.dtype.kind not in "fiu":
        return None, metadata
    if average.ndim == 3 and average.shape[2] == 3:
        channels = average.reshape(-1, 3, order="F")
        if len(channels) > 1:
            size = f"{average.shape[0]} x {average.shape[1]}"
            notes.append(f"averageImage is a {size} image; mean_rgb is its mean over all pixels")
    elif average.size == 3:
        channels = average.reshape(1, 3)
    else:
        return None, metadata
    red, green, blue = channels.astype(np.float64).mean(axis=0).tolist()
    if not np.isfinite([red, green, blue]).all():
        return None, metadata
    return (red, green, blue), metadata


def _setting(value: Value) -> str:
    if isinstance(value, str):
        return short(value)
    if isinstance(value, np.ndarray):
        numbers = value.reshape(-1, order="F")[:16].tolist()
        return " ".join(f"{number:.9g}" for number in numbers)
    return "?"


def _row(value: Value | None) -> Mapping[str, Value]:
    return value.rows[0] if isinstance(value, Struct) and len(value.rows) == 1 else {}


def _text(value: Value | None) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Value | None) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Cell) and value.values and all(isinstance(one, str) for one in value.values):
        return tuple(_each_text(value))
    return None


def _each_text(cell: Cell) -> Iterator[str]:
    for one in cell.values:
        if isinstance(one, str):
            yield one
