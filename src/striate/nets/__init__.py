"""The networks: one file per paper, ``NETS``, which names them all, and their builders (``nets.vgg16``)."""

from collections.abc import Callable

from torch import nn

from striate.nets import notation
from striate.nets.alexnet import alexnet
from striate.nets.entry import NetEntry
from striate.nets.googlenet import googlenet
from striate.nets.inception_naive import inception_naive
from striate.nets.lenet5 import lenet5
from striate.nets.registry import NETS, arguments_of, as_notation, build, find
from striate.nets.summary import LayerSummary, NetSummary, describe
from striate.nets.zfnet import zfnet

__all__ = [
    "NETS",
    "LayerSummary",
    "NetEntry",
    "NetSummary",
    "alexnet",
    "arguments_of",
    "as_notation",
    "build",
    "describe",
    "find",
    "googlenet",
    "inception_naive",
    "lenet5",
    "notation",
    "zfnet",
]


def __getattr__(name: str) -> Callable[..., nn.Module]:
    """Hand on the builder of a network; those whose file has the same name are imported above."""
    if name in NETS:
        return NETS[name].build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *NETS})
