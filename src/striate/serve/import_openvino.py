"""OpenVINO, imported without its telemetry.

``import openvino`` sends an event to Google Analytics and writes a client id to ``~/intel`` where the package
``openvino_telemetry`` is installed, as it is by default. Without that package OpenVINO falls back on a stub
of its own that does nothing, so striate hides the package from it. A program that imported OpenVINO itself
keeps what it chose.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from striate.core.errors import UsageError

_lock = threading.Lock()


def has_openvino() -> bool:
    """Say whether OpenVINO is installed, without importing it."""
    return "openvino" in sys.modules or find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO so that it sends nothing and writes nothing.

    Raises:
        UsageError: it is not installed, or does not work on this machine.
    """
    with _lock:
        if "openvino" in sys.modules:
            return sys.modules["openvino"]
        try:
            with without_telemetry():
                return import_module("openvino")
        except ImportError as error:
            if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None  # Ctrl-C, in its extension's words
            raise UsageError(
                f"OpenVINO can't be imported ({error}): pip install openvino, or use `engine=torch`"
            ) from None


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Let imports of ``openvino_telemetry`` fail in the block, unless a program has imported it before."""
    names = ("openvino_telemetry", "openvino_telemetry.backend")
    hidden = [name for name in names if name not in sys.modules]
    try:
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


class _SignalStack(ctypes.Structure):
    """``stack_t`` of Linux's signal.h."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Restore this thread's signal stack after the block.

    OpenVINO gives the thread that compiles a model for AMX a signal stack of its own, and may free that
    memory later without restoring the old one. Python handles signals on that stack, so the next Ctrl-C would
    end in a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    call = ctypes.CDLL(None).sigaltstack
    before = _SignalStack()
    known = call(None, ctypes.byref(before)) == 0
    try:
        yield
    finally:
        if known:
            call(ctypes.byref(before), None)
