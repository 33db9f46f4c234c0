"""How long-running functions say how far they are, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """A callable that is told how far a named stage is.

    Library functions call it; the command line draws it. It must be cheap and must not raise.
    """

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Tell that ``done`` of ``total`` steps of ``stage`` are over (``total`` None: unknown)."""


def silent(stage: str, done: int, total: int | None, note: str = "") -> None:
    """Listen to nothing: the default of every function that takes a ``Progress``."""
