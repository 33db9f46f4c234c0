"""The 1,000 classes of ILSVRC-2012 in the order of the usual class index: their synsets sorted by id.

The words are those that torchvision ships with its weights, one a line in ``imagenet_classes.txt``.
"""

from functools import cache
from importlib.resources import files


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1,000 classes by class index, ``tench`` first."""
    text = (files("striate.weights") / "imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
