"""The words for each kind of layer, and the clauses that may stand behind them."""

import difflib
import re
from dataclasses import dataclass

from striate.nets.notation.layers import PREFIXES
from striate.nets.notation.scan import Token


@dataclass(frozen=True, slots=True)
class Form:
    """How one kind of layer is written: its words, its label's start, its clauses, and an example."""

    words: tuple[str, ...]
    prefix: str
    clauses: frozenset[str]
    example: str


_WINDOW = "kernel, stride, pad, rounding, volume"


def _form(words: str, prefix: str, clauses: str, example: str) -> Form:
    return Form(tuple(words.split(", ")), prefix, frozenset(clauses.split(", ")), example)


_POOLS = "a pool as in MAX POOL 3x3 stride 2"
FORMS: dict[str, Form] = {
    "conv": _form(
        "conv, convolution",
        "conv",
        f"count, groups, bias, {_WINDOW}",
        "a convolution as in CONV 16 5x5 stride 1 pad 2",
    ),
    "pool": _form("pool, pooling", "pool", _WINDOW, _POOLS),
    "max pool": _form("max pool, maxpool, max pooling, maxpooling", "pool", _WINDOW, _POOLS),
    "avg pool": _form(
        "avg pool, avgpool, average pool, avg pooling, average pooling", "pool", _WINDOW, _POOLS
    ),
    "global avg pool": _form(
        "global avg pool, global avgpool, global average pool, global average pooling, gap",
        "pool",
        "volume",
        "GLOBAL AVG POOL alone",
    ),
    "norm": _form(
        "norm, lrn, normalization, normalisation, local response norm, local response normalization",
        "norm",
        "size, alpha, beta, k, towers, volume",
        "a normalisation as in NORM size 5 alpha 0.0001 beta 0.75 k 2",
    ),
    "batchnorm": _form("batchnorm, batch norm, batch normalization, bn", "bn", "volume", "BATCHNORM alone"),
    "relu": _form("relu", "relu", "volume", "RELU alone"),
    "tanh": _form("tanh", "tanh", "volume", "TANH alone"),
    "sigmoid": _form("sigmoid", "sigmoid", "volume", "SIGMOID alone"),
    "scaled tanh": _form("scaled tanh", "squash", "volume", "SCALED TANH alone"),
    "leaky relu": _form(
        "leaky relu, leakyrelu", "relu", "count, volume", "a leaky ReLU as in LEAKY RELU 0.1"
    ),
    "elu": _form("elu", "elu", "count, volume", "ELU, or ELU 1.0"),
    "dropout": _form("dropout, drop", "drop", "count, volume", "a dropout as in DROPOUT 0.5"),
    "fc": _form(
        "fc, fully connected", "fc", "count, bias, volume", "a fully connected layer as in FC6: 4096 neurons"
    ),
    "softmax": _form("softmax", "fc", "count, bias, volume", "the scores as in SOFTMAX 10"),
    "flatten": _form("flatten", "", "volume", "FLATTEN alone"),
}
"""Every kind of layer by its first words; the words for activations are those of ``layers.PREFIXES``."""

assert set(PREFIXES) <= set(FORMS)

_KINDS = {words: kind for kind, form in FORMS.items() for words in form.words}
_STARTS = frozenset(word for words in _KINDS for word in words.split()[:1])
_LONGEST = max(words.count(" ") for words in _KINDS) + 1
_NUMBERED = re.compile(r"([a-z]+)([0-9]{1,12}(?:_[0-9]{1,12})*)?")
_MAX_WORD = 40


@dataclass(frozen=True, slots=True)
class Phrase:
    """The words of a layer: its kind, the number attached to them ("" for none), and where they end."""

    kind: str
    number: str
    stop: int


def read_phrase(tokens: list[Token], start: int) -> Phrase | None:
    """Read the words of a layer, the longest that fit; a hyphen may stand between two of them."""
    found = None
    words: list[str] = []
    position = start
    while len(words) < _LONGEST:
        if words and tokens[position].is_mark("-"):
            position += 1
        token = tokens[position]
        numbered = _NUMBERED.fullmatch(token.text.lower()) if token.kind == "word" else None
        if numbered is None:
            break
        position += 1
        kind = _KINDS.get(" ".join([*words, numbered.group(1)]))
        if kind is not None:
            found = Phrase(kind, numbered.group(2) or "", position)
        if numbered.group(2):
            break
        words.append(numbered.group(1))
    return found


def names_layer(words: list[str]) -> bool:
    """Whether one of these words, in small letters, starts the words of a layer, or says it in short."""
    return not _STARTS.isdisjoint(words)


def suggest(token: Token) -> str:
    """Say what could be meant by a word that is no layer."""
    if token.kind == "word":
        word = token.text.lower().rstrip("0123456789_")
        close = difflib.get_close_matches(word, _KINDS, n=1) if len(word) <= _MAX_WORD else []
        if close:
            return f"did you mean {close[0].upper()}?"
    return "write CONV, POOL, NORM, RELU, DROPOUT, FC or SOFTMAX, see docs/notation.md"
