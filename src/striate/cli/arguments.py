"""Reads ``key=value`` from the command line."""

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
