"""striate: the working laboratory for the classic convolutional networks, LeNet-5 to ResNet.

``striate.load`` gives a ``Model``; ``striate.train`` trains one. Every public name is in ``dir(striate)``;
``help(striate.load)`` explains one. Importing this package is light: torch is imported when one of the names
is first used.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any


def _homes() -> dict[str, tuple[str, str]]:
    """Read from the stub beside this file where each public name comes from: module and name there."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    return {
        alias.asname or alias.name: (statement.module or "", alias.name)
        for statement in stub.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


_HOMES = _homes()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Fetch a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'striate' has no attribute {name!r}")
    module, own = _HOMES[name]
    if module in ("striate", "striate.core"):  # the name is a module
        value = import_module(f"{module}.{own}")
    else:
        value = getattr(import_module(module), own)
    if getattr(value, "__module__", "").startswith("striate."):
        value.__module__ = "striate"  # what people see in help() and in messages is the public name
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
