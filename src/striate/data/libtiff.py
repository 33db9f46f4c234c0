"""Keeping libtiff quiet: it writes to the error stream on its own, hundreds of lines for one damaged file."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import PIL


def silence_libtiff() -> None:
    """Take the message handlers out of the libtiff that Pillow carries (wheels on Linux; elsewhere nothing).

    Only messages go: a damaged file still fails to decode, and Pillow still raises. The setting is the
    process's.
    """
    if not sys.platform.startswith("linux"):
        return
    for library in (Path(PIL.__file__).resolve().parent.parent / "pillow.libs").glob("libtiff-*"):
        with suppress(OSError, AttributeError):
            loaded = ctypes.CDLL(str(library))
            for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
                handler = getattr(loaded, name)
                handler.argtypes = [ctypes.c_void_p]
                handler.restype = ctypes.c_void_p
                handler(None)
