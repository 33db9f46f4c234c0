"""PyTorch's own files (``.pth``, ``.pt``): state dicts and checkpoints, without running what they contain.

A pickle in such a file is a program. It is interpreted in ``pickle_check``, and the tensors that it describes
are made here from the bytes of the file: what was checked is what is loaded. A small file can't ask for much
memory, and no tensor can reach outside its storage.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from striate.core.errors import BundleError
from striate.core.text import short
from striate.weights.bundle import MAX_TENSORS
from striate.weights.pickle_check import (
    MAX_PICKLE_BYTES,
    BadPickleError,
    CodeInPickleError,
    Rehearsal,
    Storage,
    TensorPlan,
    scan,
)
from striate.weights.weight_file import WeightFile, damaged, listed, refusal

LEGACY_MAGIC: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What ``torch.save`` wrote first before version 1.6."""

_CHUNK_BYTES: Final = 2**20
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
        with zipfile.ZipFile(io.BufferedReader(_Mapped(content))) as archive:
            members = archive.infolist()
            pickles = _check_members(path, members, len(content))
            folder = pickles.filename.removesuffix("data.pkl")
            sizes = {one.filename: one.file_size for one in members}
            rehearsal = Rehearsal(len(content))
            program = archive.read(pickles)
            loaded = _guarded(path, lambda: rehearsal.run(program, legacy=False))
            for key, storage in rehearsal.storages.items():
                if sizes.get(f"{folder}data/{key}", -1) < storage.nbytes:
                    reason = f"a storage of {storage.nbytes:,} bytes that is not there"
                    raise damaged(path, kind="PyTorch", reason=reason)
            if sizes.get(f"{folder}byteorder", 99) < 99 and archive.read(f"{folder}byteorder") != b"little":
                raise damaged(path, kind="PyTorch", reason="numbers in the byte order of another machine")

            def read(storage: Storage) -> torch.Tensor:
                values = torch.empty(sizes[f"{folder}data/{storage.key}"], dtype=torch.uint8)
                at = 0
                with archive.open(f"{folder}data/{storage.key}") as member:
                    while chunk := member.read(_CHUNK_BYTES):  # at its end its checksum is compared
                        values[at : at + len(chunk)] = torch.frombuffer(bytearray(chunk), dtype=torch.uint8)
                        at += len(chunk)
                return values

            return _gather(path, loaded, read)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = f"a zip archive that can't be read ({short(str(error))})"
        raise damaged(path, kind="PyTorch", reason=reason) from None


def read_torch_legacy(path: Path, content: memoryview) -> WeightFile:
    """Read a file of ``torch.save`` before version 1.6: pickles in a row, then the storages.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        BundleError: it is damaged, hostile, or needs code.
    """
    rehearsal = Rehearsal(len(content))
    stream = io.BufferedReader(_Mapped(content))
    starts: dict[str, int] = {}

    def rehearse() -> Any:
        parts = []
        for _ in range(5):  # magic, version, system, object, storage keys
            start, end = scan(stream)
            parts.append(rehearsal.run(bytes(content[start:end]), legacy=True))
        _, _, system, loaded, keys = parts
        if not isinstance(loaded, dict | TensorPlan | list):
            raise BadPickleError("no tensors")
        if not isinstance(system, dict) or not system.get("little_endian"):
            raise BadPickleError("numbers in the byte order of another machine")
        if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
            raise BadPickleError("no list of storages")
        if set(keys) != set(rehearsal.storages) or len(set(keys)) != len(keys):
            raise BadPickleError("storages that its list does not name")
        at = stream.tell()
        for key in keys:
            storage = rehearsal.storages[key]
            if at + 8 + storage.nbytes > len(content):
                raise BadPickleError(f"a storage of {storage.nbytes:,} bytes that is not all there")
            if int.from_bytes(content[at : at + 8], "little") != storage.numel:
                raise BadPickleError("one storage described in two ways")
            starts[key] = at + 8
            at += 8 + storage.nbytes
        return loaded

    def read(storage: Storage) -> torch.Tensor:
        start = starts[storage.key]
        whole = rehearsal.storages[storage.key]
        values = torch.empty(whole.nbytes, dtype=torch.uint8)
        values.numpy()[:] = np.frombuffer(content[start : start + whole.nbytes], np.uint8)
        return values

    return _gather(path, _guarded(path, rehearse), read)


class _Mapped(io.RawIOBase):
    """A mapped file as a stream, so that every reader sees the same bytes."""

    def __init__(self, content: memoryview) -> None:
        self._content, self._at = content, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._content)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        part = self._content[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)


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


def _guarded(path: Path, rehearse: Callable[[], Any]) -> Any:
    try:
        return rehearse()
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
    if at + 22 != len(tail):
        raise ValueError("bytes after its end, which torch.save never writes")
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
    if min(one.header_offset for one in members):
        raise damaged(path, kind="PyTorch", reason="bytes before the archive, perhaps another one")
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


def _gather(path: Path, loaded: Any, read: Callable[[Storage], torch.Tensor]) -> WeightFile:
    """Find the state dict in what a pickle describes, make its tensors, and name the rest.

    Args:
        path: the file, for messages.
        loaded: what the pickle builds, with a ``TensorPlan`` for each tensor.
        read: returns the bytes of a storage (in old files: of the one that it is a part of), uint8; tensors
            that share a storage in the file share it here.
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
        got = "a single tensor" if isinstance(loaded, TensorPlan) else f"a {type(loaded).__name__}"
        raise refusal(path, expected="a state dict (tensors by name)", got=got, remedy=_ASK)
    plans = {
        key: value for key, value in loaded.items() if isinstance(key, str) and isinstance(value, TensorPlan)
    }
    _pass_over({key: value for key, value in loaded.items() if key not in plans}, notes, metadata)
    if not plans:
        names = listed(_names(loaded)) or "nothing"
        remedy = "save the one state dict that you need by itself"
        raise refusal(path, expected="a state dict", got=f"no tensors, only {names}", remedy=remedy)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) and name != prefix for name in plans):
            plans = {name.removeprefix(prefix): plan for name, plan in plans.items()}
            notes.append(f"prefix '{prefix}' removed")
    if len(plans) > MAX_TENSORS:
        raise damaged(path, kind="PyTorch", reason=f"more than {MAX_TENSORS:,} tensors")
    storages: dict[str, torch.Tensor] = {}
    made: dict[TensorPlan, torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, plan in plans.items():
        if plan.storage.key not in storages:
            storages[plan.storage.key] = read(plan.storage)
        if plan not in made:
            values = storages[plan.storage.key][plan.storage.start * plan.storage.dtype.itemsize :]
            values = values[: values.numel() // plan.dtype.itemsize * plan.dtype.itemsize].view(plan.dtype)
            made[plan] = values.as_strided(plan.size, plan.stride, values.storage_offset() + plan.offset)
        tensors[name] = made[plan]
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
