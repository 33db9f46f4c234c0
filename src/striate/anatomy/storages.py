"""Following every piece of memory while a computation runs on shapes alone: when it is made, when it goes.

Works under torch's fake tensor mode, where tensors have sizes, a device and no values.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from striate.anatomy.scratch import scratch_bytes

Phase = Literal["forward", "backward"]

_ALIGNMENT_BYTES = 64  # torch's allocator on a CPU starts each storage at a multiple of this


@dataclass(slots=True)
class Storage:
    """One piece of memory.

    Attributes:
        size: bytes, rounded up to the allocator's alignment.
        born: when it was made; time counts what is made and what goes.
        kind: what the caller says that it holds, or "".
        died: when it went; None while it is there.
    """

    size: int
    born: int
    kind: str = ""
    died: int | None = None

    def lives_at(self, time: int) -> bool:
        """Whether it is there at a time."""
        return self.born <= time and (self.died is None or self.died > time)


@dataclass(frozen=True, slots=True)
class Peak:
    """The fullest moment.

    Attributes:
        time: when.
        scratch: bytes that the operation held only while it ran.
        row: the row of ``trace`` whose computation it was.
        phase: in which it was.
    """

    time: int
    scratch: int
    row: str
    phase: Phase


class StorageLedger(TorchDispatchMode):
    """Writes down each storage that an operation makes, and when it goes.

    Attributes:
        storages: all of them, in the order of their making.
        time: now.
        peak: the fullest moment so far.
        row: whose computation is running; set by ``row_names`` and by the caller.
        phase: which part of the step is running; set by the caller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.storages: list[Storage] = []
        self.time = 0
        self.peak = Peak(0, 0, "", "forward")
        self.row = ""
        self.phase: Phase = "forward"
        self._total = self._peak = 0
        self._alive: dict[int, Storage] = {}
        self._watchers: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and write down what it made."""
        outputs = func(*args, **(kwargs or {}))
        results = [tensor for tensor in tree_leaves(outputs) if isinstance(tensor, Tensor)]
        for tensor in results:
            self.add(tensor)
        self._note_peak(scratch_bytes(func, args, results))
        return outputs

    def add(self, tensor: Tensor, kind: str = "") -> None:
        """Follow the memory of a tensor; say what kind it is, where that is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._alive.get(key)
        if known is not None:
            known.kind = kind or known.kind
            return
        self.time += 1
        size = -(-storage.nbytes() // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        made = Storage(size, self.time, kind)
        self.storages.append(made)
        self._alive[key] = made
        self._watchers[key] = weakref.ref(storage, lambda _: self._remove(key))
        self._total += size
        self._note_peak(0)

    def mark(self) -> int:
        """Return a time of its own for what is there now."""
        self.time += 1
        return self.time

    def _note_peak(self, scratch: int) -> None:
        if self._total + scratch > self._peak:
            self._peak = self._total + scratch
            self.peak = Peak(self.time, scratch, self.row, self.phase)

    def _remove(self, key: int) -> None:
        self.time += 1
        gone = self._alive.pop(key)
        gone.died = self.time
        self._total -= gone.size
        del self._watchers[key]


@contextmanager
def row_names(net: nn.Module, ledger: StorageLedger) -> Iterator[None]:
    """Note in a ledger which row of ``trace`` is computed, while the network runs and backward."""
    names = _RowNames(ledger)
    handles = []
    try:
        for path, module in net.named_modules():
            is_leaf = bool(path) and not any(True for _ in module.children())
            handles.append(module.register_forward_pre_hook(names.enter(path, is_leaf), prepend=True))
            handles.append(module.register_forward_hook(names.leave, always_call=True))
        with names:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _RowNames(TorchFunctionMode):
    """Names what is computed: forward by the call and its module, backward by its node in the graph."""

    def __init__(self, ledger: StorageLedger) -> None:
        super().__init__()
        self.ledger = ledger
        self.times_seen: dict[str, int] = {}
        self.stack: list[str] = []
        self.leaf = ""
        self.leaf_depth = 0

    def enter(self, path: str, is_leaf: bool) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            self.stack.append(path)
            if is_leaf and not self.leaf:
                self.leaf, self.leaf_depth = self._numbered(path), len(self.stack)

        return hook

    def leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        if len(self.stack) == self.leaf_depth:
            self.leaf, self.leaf_depth = "", 0
        self.stack.pop()

    def _numbered(self, name: str) -> str:
        self.times_seen[name] = number = self.times_seen.get(name, 0) + 1
        return name if number == 1 else f"{name}#{number}"

    def _row(self, kind: str) -> str:
        path = self.stack[-1] if self.stack else ""
        return self.leaf or self._numbered(f"{path}.{kind}" if path else kind)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Name a call, and the gradients that will come back to it."""
        kind = getattr(func, "__name__", "")
        if not self.stack or kind == "__get__":
            return func(*args, **(kwargs or {}))
        row = self.ledger.row = self._row(kind.strip("_"))
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(self._back_in(row))
        return outputs

    def _back_in(self, row: str) -> Callable[[Any], None]:
        def hook(gradients: Any) -> None:
            self.ledger.row = row

        return hook
