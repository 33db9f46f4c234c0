"""What the service needs beside striate's own dependencies."""

from importlib.util import find_spec

from striate.core.errors import UsageError

_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def check_serve() -> None:
    """Refuse where a package is missing.

    Raises:
        UsageError: one of the packages of ``striate[serve]`` is not installed.
    """
    missing = [name.replace("_", "-") for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"serving needs {', '.join(missing)}: pip install 'striate[serve]'")
