"""PyTorch's own files (``.pth``, ``.pt``): state dicts and checkpoints, without running what they contain.

A pickle in such a file is a program. ``torch.load`` is only called with ``weights_only=True``, and only after
a rehearsal of the pickle, whose storages are checked against the bytes that are in the file. So a small file
can't ask for much memory, and no tensor can reach outside its storage.
"""

import io
import mmap
import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from striate.core.errors import BundleError
from striate.core.text import short
from striate.weights.pickle_check import (
    MAX_PICKLE_BYTES,
    BadPickleError,
    CodeInPickleError,
    Rehearsal,
    StandInTensor,
    scan,
)
from striate.weights.weight_file import WeightFile, damaged, listed, refusal

LEGACY_MAGIC: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What ``torch.save`` wrote first before version 1.6."""

_MAX_MEMBERS: Final = 100_000
_MAX_DIRECTORY_BYTES: Final = 16 * 2**20
_NESTED: Final = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES: Final = ("module.", "_orig_mod.")
_ASK: Final = "ask its author for a state dict (torch.save(net.state_dict(), path)) or a .safetensors file"


def read_torch_zip(path: Path, content: memoryview) -> WeightFile:
    """Read a file of ``torch.save`` of version 1.6 or later, a zip archive of one pickle and its storages.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        BundleError: it is damaged, hostile, needs code, or is another kind of zip archive.
    """
    try:
        if _directory_bytes(content) > _MAX_DIRECTORY_BYTES:
            raise damaged(path, kind="PyTorch", reason="a zip directory far too large")
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            pickles = _check_members(path, members, len(content))
            program = archive.read(pickles)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise damaged(path, kind="PyTorch", reason=f"a zip archive that can't be read ({error})") from None
    folder = pickles.filename.removesuffix("data.pkl")
    sizes = {one.filename: one.file_size for one in members}
    rehearsal = Rehearsal(len(content))
    _guarded(path, lambda: rehearsal.run(program, legacy=False))
    for key, storage in rehearsal.storages.items():
        if sizes.get(f"{folder}data/{key}", -1) < storage.nbytes:
            raise damaged(
                path, kind="PyTorch", reason=f"a storage of {storage.nbytes:,} bytes that is not there"
            )
    return _gather(path, _load(path, mapped=True), own=True)


def read_torch_legacy(path: Path, content: memoryview) -> WeightFile:
    """Read a file of ``torch.save`` before version 1.6: pickles in a row, then the storages.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        BundleError: it is damaged, hostile, or needs code.
    """
    rehearsal = Rehearsal(len(content))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:

        def rehearse() -> None:
            keys: Any = None
            for place in range(5):  # magic, version, system, object, storage keys
                start, end = scan(stream)
                keys = rehearsal.run(stream[start:end], legacy=True)
                if place == 3 and not isinstance(keys, dict | StandInTensor | list):
                    raise BadPickleError("no tensors")
            if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
                raise BadPickleError("no list of storages")
            if set(keys) != set(rehearsal.storages) or len(set(keys)) != len(keys):
                raise BadPickleError("storages that its list does not name")
            wanted = sum(8 + storage.nbytes for storage in rehearsal.storages.values())
            if wanted > len(content) - stream.tell():
                raise BadPickleError(f"storages of {wanted:,} bytes that are not all there")

        _guarded(path, rehearse)
    return _gather(path, _load(path, mapped=False), own=False)


def refuse_pickle(path: Path, content: memoryview) -> BundleError:
    """Make the error for a pickle that ``torch.save`` did not write; it names what it would run."""
    try:
        scan(io.BytesIO(content[:MAX_PICKLE_BYTES]))
        got = "a Python pickle, but not as torch.save writes it"
    except CodeInPickleError as error:
        got = f"a Python pickle that calls {error}, and striate runs no code from a file"
    except BadPickleError:
        got = "a Python pickle, but not as torch.save writes it"
    return refusal(path, expected="weights", got=got, remedy=_ASK)


def _guarded(path: Path, rehearse: Callable[[], object]) -> None:
    try:
        rehearse()
    except CodeInPickleError as error:
        raise refusal(
            path,
            expected="tensors",
            got=f"a pickle that calls {error}, and striate runs no code from a file",
            remedy=_ASK,
        ) from None
    except BadPickleError as error:
        raise damaged(path, kind="PyTorch", reason=str(error)) from None


# -- The zip archive -----------------------------------------------------------------------------------------


def _directory_bytes(content: memoryview) -> int:
    """Return the larger of the sizes that a zip archive declares for its list of members, in two places."""
    tail = bytes(content[-(2**16 + 22 + 20 + 56) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise ValueError("no list of members; the end is missing")
    sizes = [int.from_bytes(tail[at + 12 : at + 16], "little")]
    if tail[max(0, at - 20) : at][:4] == b"PK\x06\x07":  # the same again, for large archives
        where = int.from_bytes(tail[at - 12 : at - 4], "little")
        beside = tail[max(0, at - 76) : at - 20]
        sizes += [int.from_bytes(one[40:48], "little") for one in (beside, content[where : where + 56])]
        if sizes[0] == 2**32 - 1:
            del sizes[0]
    return max(sizes)


def _check_members(path: Path, members: list[zipfile.ZipInfo], file_bytes: int) -> zipfile.ZipInfo:
    """Return the member that holds the pickle, after the list of members was found to be honest.

    Raises:
        BundleError: it is no file of ``torch.save``, or its members are compressed or larger than the file.
    """
    names = [one.filename for one in members]
    pickles = [one for one in members if one.filename.count("/") == 1 and one.filename.endswith("/data.pkl")]
    if any(name.endswith(("/constants.pkl", "/code/__torch__.py")) for name in names):
        got = "a TorchScript program, and striate runs no code from a file"
        raise refusal(path, expected="weights", got=got, remedy=_ASK)
    if len(pickles) != 1:
        got = "NumPy arrays (.npz)" if all(name.endswith(".npy") for name in names) else "another zip archive"
        remedy = "unpack it and name the weights file in it, or save a state dict with torch.save"
        raise refusal(path, expected="a zip archive that torch.save wrote", got=got, remedy=remedy)
    if len({name.casefold() for name in names}) != len(names) or len(names) > _MAX_MEMBERS:
        raise damaged(path, kind="PyTorch", reason="a zip archive with members of one name, or too many")
    if any(one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size for one in members):
        raise refusal(
            path,
            expected="a zip archive as torch.save writes it",
            got="compressed members",
            remedy="load it where it was made and save it again with torch.save",
        )
    if sum(one.file_size for one in members) > file_bytes or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise damaged(path, kind="PyTorch", reason="members larger than the file")
    return pickles[0]


# -- The tensors ---------------------------------------------------------------------------------------------


def _load(path: Path, *, mapped: bool) -> Any:
    """Call ``torch.load`` in its safe mode; the storages of a mapped file are slices of the map."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if mapped:
                return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=True)
            return torch.load(os.fspath(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on a damaged file, and all mean the same
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise damaged(
            path, kind="PyTorch", reason=f"a file that torch.load refuses ({short(first)})"
        ) from None


def _gather(path: Path, loaded: Any, *, own: bool) -> WeightFile:
    """Find the state dict in what was loaded, and name the rest.

    Args:
        path: the file, for messages.
        loaded: what ``torch.load`` returned.
        own: copy the tensors out of the mapped file; those that were one stay one.
    """
    notes: list[str] = []
    metadata: dict[str, str] = {}
    for _ in range(3):
        inner = next((key for key in _NESTED if _is_mapping(loaded) and _is_mapping(loaded.get(key))), None)
        if inner is None:
            break
        notes.append(f"state dict was under '{inner}'")
        _pass_over({key: value for key, value in loaded.items() if key != inner}, notes, metadata)
        loaded = loaded[inner]
    if not _is_mapping(loaded):
        got = "a single tensor" if isinstance(loaded, torch.Tensor) else f"a {type(loaded).__name__}"
        raise refusal(path, expected="a state dict (tensors by name)", got=got, remedy=_ASK)
    tensors = {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor) and value.layout == torch.strided
    }
    _pass_over({key: value for key, value in loaded.items() if key not in tensors}, notes, metadata)
    if not tensors:
        names = listed(_names(loaded)) or "nothing"
        remedy = "save the one state dict that you need by itself"
        raise refusal(path, expected="a state dict", got=f"no tensors, only {names}", remedy=remedy)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            notes.append(f"prefix '{prefix}' removed")
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for name, tensor in tensors.items():
        plain = tensor.detach()
        if own:
            key = (plain.untyped_storage().data_ptr(), plain.storage_offset(), plain.shape, plain.stride())
            if (*key, plain.dtype) not in copies:
                copies[(*key, plain.dtype)] = plain.clone()
            plain = copies[(*key, plain.dtype)]
        tensors[name] = plain
    return WeightFile(path=path, kind="torch", tensors=tensors, notes=tuple(notes), metadata=metadata)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _pass_over(values: Mapping[Any, Any], notes: list[str], metadata: dict[str, str]) -> None:
    """Name what is not weights; single values are kept as text."""
    for key, value in values.items():
        if isinstance(key, str) and isinstance(value, str | int | float | bool):
            if isinstance(value, int) and value.bit_length() > 64:
                continue
            metadata[short(key)] = short(str(value))
    if values:
        notes.append(f"passed over {listed(_names(values))}")


def _names(values: Mapping[Any, Any]) -> list[str]:
    return [str(key) if isinstance(key, str | int) else f"a {type(key).__name__}" for key in values]
