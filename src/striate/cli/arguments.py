"""Reads ``key=value`` and sizes from the command line."""

import json
from collections.abc import Sequence
from typing import Any

from striate.core.errors import UsageError


def pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    """Split words at their first ``=``.

    Raises:
        UsageError: a word has no key or no ``=``.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{option}: expected key=value, got {word!r}")
        found[key.strip()] = value
    return found


def value_of(text: str) -> Any:
    """Read a number, true, false or a list in JSON; anything else stays text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def arguments_of(words: Sequence[str] | None) -> dict[str, Any]:
    """Read the values of ``--arg``.

    Raises:
        UsageError: a word is not ``key=value``.
    """
    return {key: value_of(text) for key, text in pairs("--arg", words or ()).items()}


def read_size(text: str | None) -> tuple[int, ...] | None:
    """Read the value of ``--input``: ``3x224x224`` (channels, height, width), ``224x224`` or ``224``.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    words = text.lower().replace("\u00d7", "x").split("x")
    if len(words) > 3 or not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"expected --input as CxHxW, such as 3x224x224, or HxW, got {text!r}")
    return tuple(int(word) for word in words)
