"""The one exception tree of striate.

Every message is one line that says what was expected, what was got and what to do about it. The command line
prints that line and exits with ``exit_code``; a traceback only where it is asked for.
"""


class StriateError(Exception):
    """Base of every error that striate raises on purpose."""

    exit_code = 1


class UsageError(StriateError):
    """The caller asked for something that does not exist or does not go together (exit code 2)."""

    exit_code = 2


class DataError(StriateError):
    """A data source can't be read, is empty, or holds something that would harm training."""


class BrokenImageError(DataError):
    """One image can't be decoded; ``file`` names it and ``reason`` says why, in a few words."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


class InputSizeError(StriateError, ValueError):
    """A network got images of a size that it does not take."""


class BundleError(StriateError):
    """A weights file is damaged, hostile, or does not fit the network that it names."""


class CheckpointError(StriateError):
    """A run folder or its checkpoint can't be resumed."""


class NonFiniteLossError(StriateError):
    """Training met a loss or a weight that is not a finite number; the last good checkpoint was kept."""


class AccuracyError(StriateError):
    """A smaller version of a network answers worse than was allowed; it was not written."""


class WriteError(StriateError):
    """A file can't be written: the disk is full, or the folder may not be written to."""


class InterruptedRunError(StriateError):
    """Training was stopped by Ctrl-C or SIGTERM after its state had been saved."""
