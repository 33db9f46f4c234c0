"""What the pickle in a PyTorch file builds, found out without running it.

A pickle is a program. Here it is first gone through without being executed, and refused if it names anything
but tensors and plain containers. Then it is interpreted here, instruction by instruction, with descriptions
in place of tensors; each is checked against its storage. Python's ``pickle`` and ``torch.load``, which may
find another pickle in the same file, have no part in this.
"""

import io
import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final, cast

import torch

from striate.core.text import short
from striate.weights.weight_file import listed

MAX_PICKLE_BYTES: Final = 64 * 2**20
"""The most bytes of one pickle; a state dict of a thousand tensors needs about 100,000."""

MAX_INSTRUCTIONS: Final = 1_000_000
"""The most instructions of one pickle; a tensor in a state dict takes about 40."""

_FREE_BYTES: Final = 2**20

_STORAGES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}
_FORMATS: Final = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_OPCODES: Final = frozenset(
    (
        *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "MARK"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "EMPTY_LIST"),
        *("EMPTY_DICT", "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
        *("BINPERSID", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "LONG1"),
    )
)


class BadPickleError(ValueError):
    """A pickle that is damaged or asks for too much, with the reason in a few words."""


class CodeInPickleError(ValueError):
    """A pickle that needs code to run, with the names that it calls."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage as a pickle describes it: in old files it may be a part of another, from ``start`` on."""

    key: str
    dtype: torch.dtype
    numel: int
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Size of the storage in bytes."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """A tensor as a pickle describes it; ``offset`` counts values of its number format in the storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _StorageType:
    """A stand-in for a storage class."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Maker:
    """A stand-in for a class or function: may be called, and nothing else."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _Dict(dict[Any, Any]):
    """A stand-in for the dictionaries that carry attributes, which are of no interest here."""


class Rehearsal:
    """Interprets pickles, with descriptions or stand-ins for whatever they name.

    Attributes:
        storages: those that were asked for, by key.
    """

    def __init__(self, file_bytes: int) -> None:
        self.storages: dict[str, Storage] = {}
        self._views: dict[str, Storage] = {}
        self._file_bytes = file_bytes
        self._seen: set[TensorPlan] = set()
        self._total = 0
        self._legacy = False

    def run(self, program: bytes, *, legacy: bool) -> Any:
        """Interpret one pickle and return what it builds, with a ``TensorPlan`` for each tensor.

        Args:
            program: the pickle.
            legacy: whether it describes storages as files before PyTorch 1.6 do.

        Raises:
            CodeInPickleError: it names anything but tensors and plain containers.
            BadPickleError: it is damaged, or asks for more than the file can hold.
        """
        scan(io.BytesIO(program))
        self._legacy = legacy
        try:
            return self._execute(program)
        except BadPickleError:
            raise
        except Exception as error:  # a damaged pickle can fail in any way, and all mean the same
            raise BadPickleError(f"a pickle that can't be read ({short(str(error))})") from None

    def _execute(self, program: bytes) -> Any:
        stack: list[Any] = []
        outer: list[list[Any]] = []
        memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(program):
            name = opcode.name
            if name in ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"):
                stack.append(argument)
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[cast(int, argument)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[cast(int, argument)])
            elif name == "GLOBAL":
                module, _, what = str(argument).partition(" ")
                stack.append(self._stand_in(module, what))
            elif name == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif name == "REDUCE":
                parts = stack.pop()
                if not isinstance(stack[-1], _Maker) or not isinstance(parts, tuple):
                    raise BadPickleError("a pickle that calls what can't be called")
                stack[-1] = stack[-1].make(*parts)
            elif name == "BUILD":
                stack.pop()
                if not isinstance(stack[-1], _Dict):
                    raise BadPickleError("a pickle that alters what it should only build")
            elif name == "MARK":
                outer.append(stack)
                stack = []
            elif name in ("TUPLE", "APPENDS", "SETITEMS"):
                inner, stack = stack, outer.pop()
                if name == "TUPLE":
                    stack.append(tuple(inner))
                elif name == "APPENDS":
                    _append(stack[-1], inner)
                else:
                    _set(stack[-1], inner)
            elif name == "APPEND":
                inner = [stack.pop()]
                _append(stack[-1], inner)
            elif name == "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set(stack[-1], [key, value])
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                width = int(name[-1])
                if len(stack) < width:
                    raise BadPickleError("a pickle that is cut off")
                stack[-width:] = [tuple(stack[-width:])]
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
        return stack.pop()

    def _stand_in(self, module: str, name: str) -> Any:
        found = _known(module, name)
        if isinstance(found, str):
            return _Maker(getattr(self, found))
        if found is None:
            raise BadPickleError(f"the name {short(module)}.{short(name)}")
        return found

    def _storage(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) != (6 if self._legacy else 5) or pid[0] != "storage":
            raise BadPickleError("a storage that is described in an unknown way")
        kind, key, location, numel = pid[1:5]
        known = isinstance(kind, _StorageType) and isinstance(key, str) and isinstance(location, str)
        if not known or not _is_size(numel):
            raise BadPickleError("a storage that is described in an unknown way")
        storage = self.storages.setdefault(key, Storage(key, kind.dtype, numel))
        if (storage.numel, storage.dtype) != (numel, kind.dtype):
            raise BadPickleError("one storage described in two ways")
        if storage.nbytes > self._file_bytes:
            raise BadPickleError(f"a storage of {storage.nbytes:,} bytes")
        if self._legacy and pid[5] is not None:
            return self._view(storage, pid[5])
        return storage

    def _view(self, storage: Storage, description: Any) -> Storage:
        if not isinstance(description, tuple) or len(description) != 3:
            raise BadPickleError("a storage that is described in an unknown way")
        key, offset, numel = description
        if not isinstance(key, str) or not _is_size(offset) or not _is_size(numel):
            raise BadPickleError("a storage that is described in an unknown way")
        if offset + numel > storage.numel:
            raise BadPickleError("a part of a storage that reaches outside it")
        part = Storage(storage.key, storage.dtype, numel, storage.start + offset)
        view = self._views.setdefault(key, part)
        if view != part or key in self.storages:
            raise BadPickleError("one storage described in two ways")
        return view

    def tensor(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        grad: Any = None,
        hooks: Any = None,
        bits: Any = None,
        *rest: Any,
    ) -> TensorPlan:
        """Describe a tensor for ``_rebuild_tensor`` and its second version."""
        if bits or rest:
            raise BadPickleError("a conjugate or negated tensor")
        return self._check(storage, None, offset, size, stride)

    def tensor_with_dtype(
        self,
        storage: Any,
        offset: Any,
        size: Any,
        stride: Any,
        grad: Any,
        hooks: Any,
        dtype: Any,
        bits: Any = None,
        *rest: Any,
    ) -> TensorPlan:
        """Describe a tensor for the third version of ``_rebuild_tensor``, which names its number format."""
        if not isinstance(dtype, torch.dtype):
            raise BadPickleError("a tensor without a number format")
        if bits or rest:
            raise BadPickleError("a conjugate or negated tensor")
        return self._check(storage, dtype, offset, size, stride)

    def parameter(self, data: Any, *rest: Any) -> TensorPlan:
        """Return the tensor of ``_rebuild_parameter``."""
        if not isinstance(data, TensorPlan):
            raise BadPickleError("a parameter that is no tensor")
        return data

    def _check(
        self, storage: Any, dtype: torch.dtype | None, offset: Any, size: Any, stride: Any
    ) -> TensorPlan:
        if not isinstance(storage, Storage) or not _is_size(offset):
            raise BadPickleError("a tensor without a storage")
        if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride):
            raise BadPickleError("a tensor of impossible shape")
        if len(size) > 32 or not all(map(_is_size, (*size, *stride))):
            raise BadPickleError("a tensor of impossible shape")
        dtype = dtype or storage.dtype
        width = dtype.itemsize
        count = math.prod(size)
        last = offset + sum((one - 1) * step for one, step in zip(size, stride, strict=True)) if count else -1
        if (last + 1) * width > storage.nbytes or count * width > storage.nbytes:
            raise BadPickleError("a tensor that reaches outside its storage")
        plan = TensorPlan(storage, dtype, offset, size, stride)
        if plan not in self._seen:
            self._seen.add(plan)
            self._total += count * width
            if self._total > 2 * self._file_bytes + _FREE_BYTES:
                raise BadPickleError("tensors that overlap")
        return plan


def _known(module: str, name: str) -> Any:
    """Return what a name in a pickle means: a stand-in, the name of a method that is one, or None."""
    if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
        return _StorageType(_STORAGES[name])
    if module == "torch" and name in _FORMATS:
        return _FORMATS[name]
    return _NAMES.get((module, name))


def _append(target: Any, values: list[Any]) -> None:
    if type(target) is not list:
        raise BadPickleError("a pickle that alters what it should only build")
    target.extend(values)


def _set(target: Any, pairs: list[Any]) -> None:
    if not isinstance(target, dict) or len(pairs) % 2:
        raise BadPickleError("a pickle that alters what it should only build")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if not isinstance(key, str | int | float | None):
            raise BadPickleError("a dictionary whose keys are no names")
        target[key] = value


_CONSTANTS: Final[dict[str, Callable[[], Any]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}

_NAMES: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): _Maker(_Dict),
    ("collections", "Counter"): _Maker(_Dict),
    ("torch", "Size"): _Maker(tuple),
    ("torch", "device"): _Maker(lambda *parts: parts),
    ("torch._utils", "_rebuild_tensor"): "tensor",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch._utils", "_rebuild_tensor_v3"): "tensor_with_dtype",
    ("torch._utils", "_rebuild_parameter"): "parameter",
}


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def scan(stream: IO[bytes]) -> tuple[int, int]:
    """Go through one pickle without executing it; return where it begins and ends.

    Raises:
        CodeInPickleError: it names anything but tensors and plain containers.
        BadPickleError: it is damaged, too large, or uses instructions that ``torch.save`` never writes.
    """
    start = stream.tell()
    foreign: dict[str, None] = {}
    texts: list[str] = []
    unknown = ""
    try:
        for count, (opcode, argument, place) in enumerate(pickletools.genops(stream)):
            if (place or 0) - start > MAX_PICKLE_BYTES or count > MAX_INSTRUCTIONS:
                raise BadPickleError("a pickle far too large")
            if opcode.name in ("GLOBAL", "INST"):
                module, name = str(argument).split(" ", 1)
                if _known(module, name) is None:
                    foreign[f"{module}.{name}"] = None
            elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
                foreign[".".join(texts[-2:])] = None
            elif opcode.name in ("LONG_BINPUT", "LONG_BINGET") and int(str(argument)) > MAX_PICKLE_BYTES // 4:
                raise BadPickleError("an impossible instruction")
            elif opcode.name == "PROTO" and argument != 2:
                unknown = unknown or f"pickle protocol {argument}"
            if opcode.name not in _OPCODES:
                unknown = unknown or f"the pickle instruction {opcode.name}"
            if isinstance(argument, str) and opcode.name != "GLOBAL":
                texts = [*texts[-1:], argument]
    except BadPickleError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, and all mean the same
        if foreign:
            raise CodeInPickleError(listed(list(foreign), 3)) from None
        raise BadPickleError(f"a pickle that can't be read ({short(str(error))})") from None
    if foreign:
        raise CodeInPickleError(listed(list(foreign), 3))
    if unknown:
        raise BadPickleError(unknown)
    return start, stream.tell()
