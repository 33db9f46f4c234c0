"""The bundle: one pickle-free file with weights and everything needed to use and to trust them."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from striate.core.atomic import atomic_path
from striate.core.errors import BundleError, UsageError, WriteError
from striate.data.preprocess import Preprocessing
from striate.weights.run_folder import bundle_path

_FORMAT = "1"
_MADE_FROM = "weights.blake2b"

GRAPH_PREFIX = "graph/"
"""What the names of tensors that hold graphs begin with; no layer's name has a slash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A trained network on disk.

    Attributes:
        net: name in the list of networks.
        net_arguments: keyword arguments that built it.
        classes: class names in the order of the outputs.
        multi_label: whether outputs are independent probabilities (sigmoid) instead of one distribution
            (softmax).
        preprocessing: what its input went through.
        recipe: how it was trained (``Recipe.to_json``), or empty.
        metrics: what was measured, with the split that it was measured on.
        data: name, fingerprint and counts of the training data.
        versions: of striate, torch, Python.
        seed: of the training, or None.
        temperature: what logits are divided by before they become probabilities (Guo et al. 2017), above 0;
            1 where it was never fitted.
        ingredients: the bundles that a blend was made from, one record each; empty for a trained network.
        state: tensors by name, on the CPU.
        graphs: files that were made from ``state`` for another program, by name: the int8 network of
            ``striate quantize`` (``int8.xml``, ``int8.bin``). Set them with ``with_graphs``.
    """

    net: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    state: dict[str, torch.Tensor]
    net_arguments: dict[str, Any] = field(default_factory=dict)
    multi_label: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    temperature: float = 1.0
    ingredients: tuple[dict[str, Any], ...] = ()
    graphs: dict[str, bytes] = field(default_factory=dict)


_JSON_FIELDS = (
    "net_arguments",
    "classes",
    "multi_label",
    "recipe",
    "metrics",
    "data",
    "versions",
    "seed",
    "temperature",
    "ingredients",
)
_SINCE_0_2 = {"temperature": "1.0", "ingredients": "[]"}  # bundles written before lack these

_KINDS = {
    "net_arguments": dict,
    "classes": list,
    "multi_label": bool,
    "recipe": dict,
    "metrics": dict,
    "data": dict,
    "versions": dict,
    "seed": int | None,
    "temperature": int | float,
    "ingredients": list,
}


def with_graphs(bundle: Bundle, graphs: Mapping[str, bytes]) -> Bundle:
    """Return the bundle with files that were made from its weights, in place of any it had.

    Args:
        bundle: a trained network.
        graphs: content by file name.
    """
    return replace(bundle, graphs={**graphs, _MADE_FROM: _digest(bundle.state)})


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write a bundle atomically as ``.safetensors``; all but the tensors is in its header.

    Graphs that were made from other weights than the bundle's are left out: they would answer otherwise than
    the network.
    """
    metadata = {key: json.dumps(getattr(bundle, key)) for key in _JSON_FIELDS}
    metadata |= {
        "format": "pt",
        "striate": _FORMAT,
        "net": bundle.net,
        "preprocessing": json.dumps(bundle.preprocessing.to_json()),
    }
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in bundle.state.items()}
    if bundle.graphs and bundle.graphs.get(_MADE_FROM) == _digest(state):
        for name, content in bundle.graphs.items():
            state[GRAPH_PREFIX + name] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata)
            _sort_metadata(temporary)
        except SafetensorError as error:
            raise WriteError(f"can't write {path} ({error}): free some space, then try again") from None


def _sort_metadata(path: Path) -> None:
    """Put a file's metadata in alphabetical order, in place: equal bundles are then equal to the bit.

    Safetensors writes them in an order of chance.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # always; a header is padded with spaces
            file.seek(8)
            file.write(text.ljust(length))


def is_bundle(path: Path) -> bool:
    """Say whether a file is a bundle, or so damaged that only ``load_bundle`` can say how."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "striate" in (file.metadata() or {})
    except (OSError, SafetensorError, RuntimeError, ValueError):
        return True


def load_bundle(path: Path) -> Bundle:
    """Read a bundle; nothing in the file is executed.

    Raises:
        BundleError: the file is missing, damaged, of another kind, or from a newer striate.
    """
    path = bundle_path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; expected a bundle written by `striate train`") from None
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror or error})") from None
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path}: expected a .safetensors bundle, got a damaged or foreign file ({error})"
        ) from None
    if "striate" not in metadata:
        raise BundleError(
            f"{path}: holds tensors but no striate metadata; expected a bundle of `striate train`"
        )
    if metadata["striate"] != _FORMAT:
        raise BundleError(f"{path}: bundle format {metadata['striate']}, expected {_FORMAT}: update striate")
    try:
        metadata = {**_SINCE_0_2, **metadata}
        values = {key: json.loads(metadata[key]) for key in _JSON_FIELDS}
        preprocessing = Preprocessing.from_json(json.loads(metadata["preprocessing"]))
        for key, kind in _KINDS.items():
            if not isinstance(values[key], kind):
                raise TypeError(f"{key} is a {type(values[key]).__name__}")
        values["classes"] = tuple(str(name) for name in values["classes"])
        values["ingredients"] = tuple(values["ingredients"])
        if not 0 < values["temperature"] < math.inf:
            raise ValueError(f"temperature is {values['temperature']}")
        graphs = {
            name.removeprefix(GRAPH_PREFIX): tensors.pop(name).numpy().tobytes()
            for name in tuple(tensors)
            if name.startswith(GRAPH_PREFIX)
        }
        return Bundle(
            net=metadata["net"], preprocessing=preprocessing, state=tensors, graphs=graphs, **values
        )
    except (KeyError, TypeError, ValueError, UsageError, AttributeError) as error:
        raise BundleError(f"{path}: damaged metadata ({error}); train again or take an older copy") from None


def fill_network(net: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Load tensors into a network of exactly that shape.

    Raises:
        BundleError: a tensor is missing, left over, or of another shape.
    """
    try:
        net.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BundleError(f"{name}: its tensors don't fit the network it names: {first}") from None


def _digest(state: Mapping[str, torch.Tensor]) -> bytes:
    """Hash names, types, shapes and values of tensors."""
    made = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(state.items()):
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.digest()
