"""OpenVINO's pair of files (``.xml`` and ``.bin``), for looking at: names, shapes, numbers of the constants.

The description is read with a plain XML parser that refuses document type declarations, so that no entity can
grow or point outside. Each constant names a stretch of the ``.bin``, which is checked against its size.
"""

from pathlib import Path
from typing import Final
from xml.parsers import expat

import numpy as np
import torch

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

_FORMATS: Final = {
    "f64": "<f8",
    "f32": "<f4",
    "f16": "<f2",
    "bf16": "<i2",
    "i64": "<i8",
    "i32": "<i4",
    "i16": "<i2",
    "i8": "|i1",
    "u64": "<u8",
    "u32": "<u4",
    "u16": "<u2",
    "u8": "|u1",
    "boolean": "|b1",
}
_MAX_XML_BYTES: Final = 2**28
_MAX_DEPTH: Final = 100
_MAX_ELEMENTS: Final = 5_000_000


def read_openvino(path: Path, xml: memoryview) -> WeightFile:
    """Read the constants of an OpenVINO network.

    Args:
        path: the ``.xml`` file; the ``.bin`` of the same name must be beside it.
        xml: the bytes of the ``.xml`` file.

    Returns:
        Tensors by the name of their ``Const`` layer (``NAME (ID)`` if two share a name).

    Raises:
        BundleError: a file is missing or damaged, or a constant lies outside the ``.bin``.
    """
    description = _describe(path, xml)
    if not description.constants:
        raise refusal(
            path,
            expected="an OpenVINO network (IR version 10 or later) with constants",
            got=f"IR version {short(description.version) or 'unknown'} without any",
            remedy="convert the network again with a current OpenVINO",
        )
    weights_path = path.with_suffix(".bin")
    if not weights_path.is_file():
        raise refusal(
            path,
            expected=f"its weights beside it as {weights_path.name}",
            got="no such file",
            remedy="copy both files into one folder, under one name",
        )
    content = map_file(weights_path)
    tensors: dict[str, torch.Tensor] = {}
    notes: list[str] = []
    shared: dict[tuple[int, int, str, tuple[int, ...]], torch.Tensor] = {}
    total = 0
    for name, attributes in description.constants.items():
        kind = attributes.get("element_type", "")
        if kind not in _FORMATS:
            notes.append(f"{short(name)} of type {short(kind) or 'unknown'} was passed over")
            continue
        shape, offset, size = _place(path, name, attributes)
        count = values_in(shape)
        dtype = np.dtype(_FORMATS[kind])
        if count is None or count * dtype.itemsize != size or offset + size > len(content):
            raise damaged(
                path,
                kind="OpenVINO",
                reason=f"constant {short(name)} of {size:,} bytes at {offset:,}, which don't fit its shape"
                f" or the {len(content):,} bytes of {weights_path.name}",
            )
        key = (offset, size, kind, shape)
        if key not in shared:
            total += size
            if total > 2 * len(content):
                raise damaged(path, kind="OpenVINO", reason="constants that overlap")
            tensor = tensor_of(np.frombuffer(content[offset : offset + size], dtype), shape)
            shared[key] = tensor.view(torch.bfloat16) if kind == "bf16" else tensor
        tensors[name] = shared[key]
    return WeightFile(
        path=path,
        kind="openvino",
        tensors=tensors,
        layers=description.layers,
        notes=tuple(notes),
        metadata={"name": short(description.name), "ir_version": short(description.version)},
    )


def _place(path: Path, name: str, attributes: dict[str, str]) -> tuple[tuple[int, ...], int, int]:
    try:
        shape = tuple(_whole(part) for part in attributes["shape"].split(",") if part.strip())
        return shape, _whole(attributes["offset"]), _whole(attributes["size"])
    except (KeyError, ValueError):
        raise damaged(
            path, kind="OpenVINO", reason=f"constant {short(name)} without a shape, offset and size"
        ) from None


def _whole(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(text)
    return int(text)


class _Description:
    """What the ``.xml`` says, gathered while the parser goes through it."""

    def __init__(self) -> None:
        self.name = self.version = ""
        self.layers: dict[str, LayerInfo] = {}
        self.constants: dict[str, dict[str, str]] = {}
        self._open: list[str] = []
        self._layer = self._kind = ""
        self._elements = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._open.append(tag)
        if len(self._open) > _MAX_DEPTH or self._elements > _MAX_ELEMENTS:
            raise _DescriptionError("elements nested too deeply, or too many of them")
        if len(self._open) == 1:
            if tag != "net":
                raise _DescriptionError(f"a document of <{short(tag)}>")
            self.name, self.version = attributes.get("name", ""), attributes.get("version", "")
        elif self._open == ["net", "layers", "layer"]:
            name = attributes.get("name", "")
            self._layer = name if name not in self.layers else f"{name} ({len(self.layers)})"
            self._kind = attributes.get("type", "")
            self.layers[self._layer] = LayerInfo(type=self._kind)
        elif self._open == ["net", "layers", "layer", "data"]:
            if self._kind == "Const":
                self.constants[self._layer] = attributes
            else:
                settings = {short(key): short(value) for key, value in attributes.items()}
                self.layers[self._layer] = LayerInfo(type=self._kind, settings=settings)

    def end(self, tag: str) -> None:
        self._open.pop()


class _DescriptionError(ValueError):
    """A description that is refused, with the reason in a few words."""


def _describe(path: Path, xml: memoryview) -> _Description:
    if len(xml) > _MAX_XML_BYTES:
        raise damaged(path, kind="OpenVINO", reason=f"a description of {len(xml):,} bytes")
    description = _Description()

    def refuse_declaration(*_: object) -> None:
        raise _DescriptionError("a document type declaration, which OpenVINO never writes")

    parser = expat.ParserCreate()
    parser.StartElementHandler = description.start
    parser.EndElementHandler = description.end
    parser.StartDoctypeDeclHandler = refuse_declaration
    parser.EntityDeclHandler = refuse_declaration
    try:
        parser.Parse(bytes(xml), True)
    except (expat.ExpatError, _DescriptionError, ValueError, LookupError) as error:
        raise damaged(path, kind="OpenVINO", reason=str(error)) from None
    return description
