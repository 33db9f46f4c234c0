"""Networks written the way the lectures write them: text to value, value to text, value to network.

The forms are in ``docs/notation.md``. A text becomes a ``Notation``, a frozen value: ``text`` (lines and
tokens), ``phrases`` and ``forms`` or ``pattern`` (drafts of layers), ``checking`` (names, activations that
slides leave out, sizes, claims), ``parsing`` (all of it in order). ``EXAMPLES`` is a folder of texts.
"""

from pathlib import Path

from striate.nets.notation.building import build
from striate.nets.notation.parsing import Sketch, parse, read, sketch
from striate.nets.notation.record import (
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Notation,
    Pool,
)
from striate.nets.notation.writing import notation_of, write

__all__ = [
    "EXAMPLES",
    "Activation",
    "BatchNorm",
    "Conv",
    "Dropout",
    "FullyConnected",
    "GlobalAvgPool",
    "Layer",
    "Norm",
    "Notation",
    "Pool",
    "Sketch",
    "build",
    "notation_of",
    "parse",
    "read",
    "sketch",
    "write",
]

EXAMPLES = Path(__file__).with_name("examples")
"""The folder of ``alexnet_lecture.net``, ``vgg16.net`` and ``lenet5_modern.net``."""
