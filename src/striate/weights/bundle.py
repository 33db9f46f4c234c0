"""The bundle: one pickle-free file with weights and everything needed to use and to trust them."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from striate.core.atomic import atomic_path
from striate.core.errors import BundleError, UsageError, WriteError
from striate.core.finite import first_non_finite
from striate.core.text import printable, short
from striate.data.preprocess import ColourOrder, Interpolation, Preprocessing
from striate.weights.run_folder import bundle_path

_FORMAT = "1"
_MADE_FROM = "weights.blake2b"
_CHECKSUM = "crc32"
_SINCE_0_2 = {"temperature": "1.0", "ingredients": "[]"}  # bundles written before lack these
_MAX_SIDE_PX = 2**14
_MAX_PIXELS = 2**24

MAX_TENSORS: Final = 20_000
"""The most tensors of a file; ResNet-152 has 932."""

GRAPH_PREFIX = "graph/"
"""What the names of tensors that hold graphs begin with; no layer's name has a slash."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """All that a bundle says beside its tensors; ``read_header`` has checked every field's type and range.

    Attributes:
        net: name in the list of networks, or the text that a written network is written in; of a network of
            the user's own ``module:factory`` or ``<Class>``.
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
        temperature: what logits are divided by before they become probabilities (Guo et al. 2017), 0.001 to
            1000; 1 where it was never fitted.
        ingredients: the bundles that a blend was made from, one entry each; empty for a trained network.
    """

    net: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    net_arguments: dict[str, Any] = field(default_factory=dict)
    multi_label: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    seed: int | None = None
    temperature: float = 1.0
    ingredients: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle(Header):
    """A trained network on disk: a header and its tensors.

    Attributes:
        state: tensors by name, on the CPU.
        graphs: files that were made from ``state`` for another program, by name: the int8 network of
            ``striate quantize`` (``int8.xml``, ``int8.bin``). Set them with ``with_graphs``.
    """

    state: dict[str, torch.Tensor]
    graphs: dict[str, bytes] = field(default_factory=dict)


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
    metadata = {name: json.dumps(getattr(bundle, name)) for name in _FIELDS if name != "preprocessing"}
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
    metadata[_CHECKSUM] = _checksum(metadata, state)
    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary, metadata)
            _sort_metadata(temporary)
        except SafetensorError as error:
            raise WriteError(f"can't write {path} ({error}): free some space, then try again") from None


def _sort_metadata(path: Path) -> None:
    """Put a file's metadata in alphabetical order, in place: equal bundles are then equal to the bit.

    Safetensors itself writes it in random order.
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


def read_header(path: Path) -> Header:
    """Read what a bundle (or the bundle of a run folder) says, without its tensors.

    Raises:
        BundleError: as ``load_bundle``.
    """
    path = bundle_path(path)
    return header_of(path, read_safetensors(path, tensors=False)[0])


def load_bundle(path: Path) -> Bundle:
    """Read a bundle to use it; nothing in the file is executed.

    Raises:
        BundleError: the file is missing, damaged, of another kind, or from a newer striate; or a weight is
            NaN or infinite.
    """
    path = bundle_path(path)
    metadata, state = read_safetensors(path)
    header = header_of(path, metadata)
    if name := first_non_finite(state):
        raise BundleError(
            f"{path}: expected finite weights, got NaN or infinity in {short(name)}: the network has"
            " diverged, so leave it out or train it again with a lower learning rate"
        )
    graphs = {
        name.removeprefix(GRAPH_PREFIX): state.pop(name).numpy().tobytes()
        for name in tuple(state)
        if name.startswith(GRAPH_PREFIX)
    }
    return Bundle(
        **{one.name: getattr(header, one.name) for one in fields(header)}, state=state, graphs=graphs
    )


def read_safetensors(path: Path, *, tensors: bool = True) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read the metadata and the tensors of a ``.safetensors`` file, striate's or not.

    Args:
        path: the file.
        tensors: False reads the metadata alone.

    Returns:
        The metadata, and the tensors by name in the file's order; they share the file's memory.

    Raises:
        BundleError: the file is missing, damaged, or of another kind; or a bundle's content is not what was
            written (older bundles have no checksum).
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.offset_keys() if tensors else ()
            if len(names) > MAX_TENSORS:
                raise BundleError(f"{path}: expected up to {MAX_TENSORS:,} tensors, got {len(names):,}")
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise BundleError(f"{path}: no such file; expected a bundle written by `striate train`") from None
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror or error})") from None
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise BundleError(
            f"{path}: expected a .safetensors file, got a damaged or foreign file ({short(str(error))}): copy"
            " or download it again"
        ) from None
    if (
        tensors
        and "striate" in metadata
        and _CHECKSUM in metadata
        and metadata[_CHECKSUM] != _checksum(metadata, state)
    ):
        raise BundleError(
            f"{path}: expected the content that was written, got another: a damaged disk or copy, so copy it"
            " again or take an older one"
        )
    return metadata, state


def header_of(path: Path, metadata: Mapping[str, str]) -> Header:
    """Check a bundle's metadata field by field.

    Args:
        path: the file, for messages.
        metadata: of the safetensors file, each field as JSON.

    Raises:
        BundleError: it is no bundle, or from a newer striate; or a field is missing, or not what it should
            be, with its name.
    """
    if "striate" not in metadata:
        raise BundleError(
            f"{path}: holds tensors but no striate metadata; expected a bundle of `striate train`"
        )
    if metadata["striate"] != _FORMAT:
        raise BundleError(
            f"{path}: expected bundle format {_FORMAT}, got {short(metadata['striate'])}: update striate"
        )
    values: dict[str, Any] = {}
    for name, (is_valid, expected) in _FIELDS.items():
        text = metadata.get(name, _SINCE_0_2.get(name, ""))
        try:
            values[name] = json.loads(text)
            valid = is_valid(values[name])
        except (ValueError, RecursionError):
            valid = False
        if not valid:
            raise _damaged(path, f"{name}: expected {expected}, got {short(text) or 'nothing'}")
    if not metadata.get("net"):
        raise _damaged(path, "net: expected the name of its network, got nothing")
    pre = values["preprocessing"]
    for name, (is_valid, expected) in _PREPROCESSING.items():
        if name in pre and not is_valid(pre[name]):
            got = short(json.dumps(pre[name]))
            raise _damaged(path, f"preprocessing.{name}: expected {expected}, got {got}")
    try:
        values["preprocessing"] = Preprocessing.from_json(pre)
        if values["preprocessing"].height_px * values["preprocessing"].width_px > _MAX_PIXELS:
            raise ValueError(f"preprocessing: expected up to {_MAX_PIXELS:,} pixels")
    except (UsageError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    values |= {name: tuple(values[name]) for name in ("classes", "ingredients")}
    return Header(net=metadata["net"], **values)


def _damaged(path: Path, reason: str) -> BundleError:
    return BundleError(printable(f"{path}: damaged metadata ({reason}): train again or take an older copy"))


def _is_number(value: Any, low: float, high: float, kinds: Any = (int, float)) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


def _is_texts(value: Any) -> bool:
    return all(isinstance(one, str) for one in value)


_FIELDS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "net_arguments": (
        lambda value: isinstance(value, dict) and not value.keys() & {"name", "num_classes"},
        "an object of arguments other than num_classes",
    ),
    "classes": (lambda value: isinstance(value, list) and _is_texts(value), "a list of names"),
    "multi_label": (lambda value: isinstance(value, bool), "true or false"),
    "preprocessing": (lambda value: isinstance(value, dict), "an object"),
    "recipe": (lambda value: isinstance(value, dict), "an object"),
    "metrics": (lambda value: isinstance(value, dict), "an object"),
    "data": (lambda value: isinstance(value, dict), "an object"),
    "versions": (lambda value: isinstance(value, dict) and _is_texts(value.values()), "an object of texts"),
    "seed": (
        lambda value: value is None or _is_number(value, -(2**63), 2**64, int),
        "a whole number or null",
    ),
    "temperature": (lambda value: _is_number(value, 0.001, 1000), "a number from 0.001 to 1000"),
    "ingredients": (
        lambda value: isinstance(value, list) and all(isinstance(one, dict) for one in value),
        "a list of objects",
    ),
}
"""Each field of the metadata but ``net``: whether its JSON value is valid, and what is expected."""

_SIZE = (
    lambda value: _is_number(value, 1, _MAX_SIDE_PX, int),
    f"a whole number of pixels up to {_MAX_SIDE_PX}",
)
_LEVELS = (
    lambda value: isinstance(value, list) and all(_is_number(one, -1e6, 1e6) for one in value),
    "a list of finite numbers",
)
_PREPROCESSING: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "channels": (lambda value: _is_number(value, 1, 3, int), "1 or 3"),
    "height_px": _SIZE,
    "width_px": _SIZE,
    "resize_px": (lambda value: value is None or _SIZE[0](value), f"null or {_SIZE[1]}"),
    "interpolation": (lambda value: value in get_args(Interpolation), "a resampling filter"),
    "fill": (lambda value: _is_number(value, 0, 255, int), "a level from 0 to 255"),
    "mean": _LEVELS,
    "std": _LEVELS,
    "colour_order": (lambda value: value in get_args(ColourOrder), "RGB or BGR"),
}
"""Likewise for the fields of ``preprocessing`` that a bundle has; their sizes are bounded."""


def fill_network(
    net: nn.Module, state: Mapping[str, torch.Tensor], name: str, *, assign: bool = False
) -> None:
    """Load tensors into a network of exactly that shape.

    Args:
        net: on any device, or on ``meta`` to see whether they fit.
        state: tensors by name.
        name: of their file, for messages.
        assign: take the tensors themselves instead of copying their values.

    Raises:
        BundleError: a tensor is missing, left over, or of another shape.
    """
    try:
        net.load_state_dict(dict(state), strict=True, assign=assign)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise BundleError(f"{name}: its tensors don't fit the network it names: {first}") from None


def _checksum(metadata: Mapping[str, str], state: Mapping[str, torch.Tensor]) -> str:
    """Return the CRC-32 of all that a bundle holds, so that a flipped bit is noticed."""
    words = {name: text for name, text in metadata.items() if name != _CHECKSUM}
    found = zlib.crc32(json.dumps(words, sort_keys=True).encode())
    for part in _parts(state):
        found = zlib.crc32(part, found)
    return f"{found:08x}"


def _digest(state: Mapping[str, torch.Tensor]) -> bytes:
    """Hash names, types, shapes and values of tensors."""
    made = hashlib.blake2b(digest_size=16)
    for part in _parts(state):
        made.update(part)
    return made.digest()


def _parts(state: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of tensors in the order of their names: name, type and shape, then the values."""
    for name, tensor in sorted(state.items()):
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
