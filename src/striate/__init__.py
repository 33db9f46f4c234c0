"""striate: the working laboratory for the classic convolutional networks, LeNet-5 to ResNet.

``striate.train``, ``striate.resume``, ``striate.evaluate`` and ``striate.open_bundle`` do the main job from
Python; each is described in ``striate.job``. Importing this package is light: torch is imported when one of
them is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.core.version import __version__

if TYPE_CHECKING:
    from striate.job import evaluate_bundle as evaluate
    from striate.job import open_bundle, resume, train

__all__ = ["__version__", "evaluate", "open_bundle", "resume", "train"]

_FROM_JOB = {
    "train": "train",
    "resume": "resume",
    "evaluate": "evaluate_bundle",
    "open_bundle": "open_bundle",
}


def __getattr__(name: str) -> Any:
    """Fetch a public function when it is first asked for."""
    if name in _FROM_JOB:
        return getattr(import_module("striate.job"), _FROM_JOB[name])
    raise AttributeError(f"module 'striate' has no attribute {name!r}")
