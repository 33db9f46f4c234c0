"""Packages that only some commands need: a command that lacks one says what to install."""

from importlib.util import find_spec

from striate.core.errors import UsageError


def check_packages(purpose: str, *names: str, install: str | None = None) -> None:
    """Check that packages are installed.

    Args:
        purpose: what needs them, to begin the message with.
        names: of the modules.
        install: what to install; None takes the packages that are missing.

    Raises:
        UsageError: one is missing.
    """
    missing = [name.replace("_", "-") for name in names if find_spec(name) is None]
    if missing:
        install = install or " ".join(missing)
        raise UsageError(f"{purpose} needs {' and '.join(missing)}: pip install {install}")
