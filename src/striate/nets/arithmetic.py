"""The lectures' arithmetic of networks that a text, a ``.net`` file or a name stands for."""

import re
from collections.abc import Sequence

import torch

from striate import nets
from striate.anatomy import calc, compare
from striate.anatomy.profile import Profile, profile
from striate.anatomy.trace import trace
from striate.nets import notation

_TEXT = re.compile(r"[>\n\u2192]|\d\s*[xX*\u00d7]\s*\d")
"""In a text of layers there is an arrow, a line break or a size; in a name there is none."""

_MAX_NAME = 24


def sheet(text: str) -> calc.Sheet:
    """Work out sizes, parameters, MACs and receptive fields layer by layer.

    Args:
        text: input and layers in the notation, which need not fit; or as ``nets.find``.

    Raises:
        UsageError: what is wrong in the text, with its place, or no such network.
    """
    is_text = not text.endswith(".net") and _TEXT.search(text)
    sketch = notation.sketch(text if is_text else nets.as_notation(text))
    return calc.calc(sketch.input_shape, [_part(layer) for layer in sketch.layers])


def side_by_side(words: Sequence[str]) -> tuple[compare.Comparison, dict[str, str]]:
    """Compare networks with the first.

    Args:
        words: names, ``.net`` files, texts in the notation, or stacks such as ``conv 3x3 x3``.

    Returns:
        The comparison; names to texts of the networks that have no other name.

    Raises:
        UsageError: no such network, what is wrong in a text, or fewer than two networks.
    """
    texts: dict[str, str] = {}
    return compare.compare([_profile(word, texts) for word in words]), texts


def _profile(word: str, texts: dict[str, str]) -> Profile:
    """Read and trace one network; note the text of one that has no name."""
    stack = compare.stack_text(word)
    with torch.device("meta"):
        if word.endswith(".net"):
            written = notation.read(word)
            return profile(trace(notation.build(written)), name=written.name)
        if stack is not None or _TEXT.search(word):
            text = stack or word
            name = word if stack or len(word) <= _MAX_NAME else f"text {len(texts) + 1}"
            texts[name] = text
            return profile(trace(notation.build(notation.parse(text))), name=name)
        entry = nets.find(word)
        error = entry.published_error
        return profile(trace(nets.build(word)), name=entry.name, published_error=error)


def _part(layer: notation.Layer) -> calc.Part:
    """Turn a layer of the notation into a step of the calculation."""
    match layer:
        case notation.Conv():
            return calc.Conv(
                name=layer.label,
                filters=layer.filters,
                kernel=layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
                bias=layer.bias,
            )
        case notation.Pool():
            return calc.Pool(
                name=layer.label,
                kind=layer.kind,
                kernel=layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                ceil_mode=layer.ceil,
            )
        case notation.GlobalAvgPool():
            return calc.GlobalPool(name=layer.label)
        case notation.FullyConnected():
            return calc.Dense(name=layer.label, units=layer.units, bias=layer.bias)
        case notation.Norm():
            return calc.Keep(name=layer.label, kind="local response normalisation", stored=True)
        case notation.BatchNorm():
            return calc.Keep(name=layer.label, kind="batch normalisation", scale_and_shift=True)
        case notation.Dropout():
            return calc.Keep(name=layer.label, kind="dropout")
        case notation.Activation():
            return calc.Keep(name=layer.label, kind=layer.kind)
