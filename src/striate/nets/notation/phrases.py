"""What a piece of text says: the words for each kind of layer, the clauses behind them, drafts of layers."""

import difflib
import re
from dataclasses import dataclass, field

from striate.nets.notation.record import PREFIXES, Activation, Layer, Pair
from striate.nets.notation.text import Spot, Token, WeightClaim

UNNAMED = "unnamed"


@dataclass(frozen=True, slots=True)
class VolumeClaim:
    """A volume in brackets, as written: height, width, channels; or neurons."""

    sizes: tuple[int, ...]
    spot: Spot


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One layer of the text.

    Attributes:
        layer: the record, with ``UNNAMED`` for its label.
        spot: where the text says it.
        label: the label that the text writes, if any.
        rounding: "floor" or "ceil" if the text says how to round.
        volumes: the volumes that the text claims behind it.
        weights: the numbers of weights that the text claims.
        depth: the channels that the text claims a filter to have (5x5x3).
        drawn: whether it is written as in VGG's tables and drawings: CONV3-64, CONV-64, 3x3 conv, 64.
        window: n of a bare POOLn: a label, or in VGG's tables a window.
        patterned: whether a pattern gave it.
    """

    layer: Layer
    spot: Spot
    label: str | None = None
    rounding: str = ""
    volumes: tuple[VolumeClaim, ...] = ()
    weights: tuple[WeightClaim, ...] = ()
    depth: int | None = None
    drawn: bool = False
    window: int | None = None
    patterned: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """The line INPUT: channels, height, width."""

    shape: tuple[int, int, int]
    spot: Spot
    weights: tuple[WeightClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """The line ACTIVATION: what follows layers where the text names none; ``None`` is nothing."""

    activation: Activation | None
    spot: Spot
    weights: tuple[WeightClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Flatten:
    """The word FLATTEN: fully connected layers alone may follow."""

    spot: Spot
    weights: tuple[WeightClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Scores:
    """The word SOFTMAX: the layer before it gives the scores, and nothing follows."""

    spot: Spot
    weights: tuple[WeightClaim, ...] = ()


Item = Draft | Input | Rule | Flatten | Scores


_NAMES: dict[type[Item], str] = {
    Draft: "a layer",
    Input: "INPUT",
    Rule: "ACTIVATION",
    Flatten: "FLATTEN",
    Scores: "SOFTMAX",
}


def name_item(item: Item) -> str:
    """Return what an error calls an item."""
    return _NAMES[type(item)]


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
    """Read the words of a layer, the longest that fit; a hyphen may join two of them."""
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


@dataclass(slots=True)
class Clauses:
    """What the clauses say, as written; ``places`` says where each kind of clause is."""

    counts: list[Token] = field(default_factory=list)
    kernel: tuple[int, ...] = ()
    stride: Pair | None = None
    padding: Pair | None = None
    same: bool = False
    groups: int = 1
    rounding: str = ""
    constants: dict[str, Token] = field(default_factory=dict)
    volume: VolumeClaim | None = None
    places: dict[str, Spot] = field(default_factory=dict)

    def place(self, clause: str, spot: Spot) -> None:
        """Note the place of a clause that may occur once."""
        if clause in self.places:
            raise spot.refuse(f"expected one {clause}, got a second one: leave one of them out")
        self.places[clause] = spot


_NOISE = (
    *("filters", "filter", "kernels", "kernel", "windows", "window", "neurons", "neuron", "units", "unit"),
    *("at", "applied", "with", "of", "and", "the", "a", "layer", "layers", "feature", "maps", "map"),
    *("zero", "class", "classes", "scores"),
)
_SHORT = re.compile(r"(s|stride|p|pad)([0-9]{1,12})", re.IGNORECASE)
_CONSTANTS = ("size", "alpha", "beta", "k", "towers")


def read_clauses(tokens: list[Token], clauses: Clauses, kind: str, *, many_counts: bool = False) -> None:
    """Read what follows a layer's name, up to the end.

    Args:
        tokens: the rest of the piece, its end included.
        clauses: filled in.
        kind: the kind of layer, a key of ``FORMS``.
        many_counts: whether several widths are allowed, as in a pattern.
    """
    position = 0
    while tokens[position].kind != "end":
        token = tokens[position]
        position += 1
        if token.is_word("of") and tokens[position].is_mark("["):  # 96 filters of [11x11x3]
            inside, position = read_volume(tokens, position)
            clauses.place("kernel", inside.spot)
            clauses.kernel = inside.sizes
        elif token.is_mark(",", ";") or token.is_word(*_NOISE):
            continue
        elif token.kind == "size":
            clauses.place("kernel", token.spot)
            clauses.kernel = token.sizes()
        elif token.kind == "number":
            if clauses.counts and not many_counts:
                first = clauses.counts[0].text
                comma = tokens[position - 2].is_mark(",") and re.fullmatch("[0-9]{3}", token.text)
                thousands = ", and write 4096, not 4,096" if comma else ""
                raise token.spot.refuse(
                    f"expected one number, got {first} and {token.text}: leave one out{thousands}"
                )
            clauses.places["count"] = token.spot
            clauses.counts.append(token)
        elif token.is_mark("["):
            volume, position = read_volume(tokens, position - 1)
            clauses.place("volume", volume.spot)
            clauses.volume = volume
        elif token.is_mark("("):
            position = _skip_remark(tokens, position)
        else:
            position = _read_word(tokens, position - 1, clauses, kind)
    for clause, spot in clauses.places.items():
        if clause not in FORMS[kind].clauses:
            name = "number" if clause == "count" else clause
            raise spot.refuse(f"expected {FORMS[kind].example}, got a {name} too: leave it out")


def _read_word(tokens: list[Token], position: int, clauses: Clauses, kind: str) -> int:
    """Read a clause that starts with a word or a stroke; return the place behind it."""
    token = tokens[position]
    behind = position + 1
    if short := _SHORT.fullmatch(token.text):
        side = int(short.group(2))
        _set_pair(clauses, "stride" if short.group(1)[0] in "sS" else "pad", (side, side), token.spot)
        return behind
    if token.is_word("same", "valid"):
        clauses.place("pad", token.spot)
        clauses.same = token.is_word("same")
        clauses.padding = None if clauses.same else (0, 0)
        return behind
    if token.is_word("floor", "ceil"):
        clauses.place("rounding", token.spot)
        clauses.rounding = token.text.lower()
        return behind
    if token.is_word("no", "without") and tokens[behind].is_word("bias", "biases"):
        clauses.place("bias", token.spot)
        return behind + 1
    if token.is_mark("/"):
        _set_pair(clauses, "stride", _pair(tokens[behind]), token.spot)
        return behind + 1
    behind += tokens[behind].is_mark(":", "=")
    if token.is_word("stride", "strides"):
        _set_pair(clauses, "stride", _pair(tokens[behind]), token.spot)
    elif token.is_word("pad", "padding"):
        if tokens[behind].is_word("same", "valid"):
            return behind
        _set_pair(clauses, "pad", _pair(tokens[behind]), token.spot)
    elif token.is_word("groups", "group"):
        clauses.place("groups", token.spot)
        clauses.groups = tokens[behind].whole()
    elif kind == "norm" and token.is_word(*_CONSTANTS):
        clauses.place(token.text.lower(), token.spot)
        tokens[behind].real()
        clauses.constants[token.text.lower()] = tokens[behind]
    else:
        layer_follows = token.is_mark("-") and read_phrase(tokens, behind) is not None
        remedy = "write > between layers" if layer_follows else "correct it or leave it out"
        raise token.spot.refuse(f"expected {FORMS[kind].example}, got {token.got}: {remedy}")
    return behind + 1


def read_volume(tokens: list[Token], position: int) -> tuple[VolumeClaim, int]:
    """Read a volume in brackets; return it and the place behind it.

    Args:
        tokens: of the piece.
        position: of the opening bracket.
    """
    inside = tokens[position + 1]
    if inside.kind not in ("number", "size") or not tokens[position + 2].is_mark("]"):
        raise inside.spot.refuse(
            f"expected a volume such as [55x55x96] or [4096], got {inside.got}: correct it"
        )
    sizes = inside.sizes()
    if len(sizes) not in (1, 3):
        raise inside.spot.refuse(
            f"expected height x width x channels or one number as a volume, got {inside.got}: correct it"
        )
    return VolumeClaim(sizes, tokens[position].spot), position + 3


def _set_pair(clauses: Clauses, clause: str, pair: Pair, spot: Spot) -> None:
    clauses.place(clause, spot)
    if clause == "stride":
        clauses.stride = pair
    else:
        clauses.padding = pair


def _pair(token: Token) -> Pair:
    sizes = token.sizes()
    if len(sizes) > 2:
        raise token.spot.refuse(f"expected one number or height x width, got {token.got}: write 2 or 2x1")
    return sizes[0], sizes[-1]


def _skip_remark(tokens: list[Token], position: int) -> int:
    while not tokens[position].is_mark(")"):
        if tokens[position].kind in ("number", "size", "end"):
            raise tokens[position].spot.refuse(
                f"expected a remark in words and then a closing parenthesis, got {tokens[position].got}:"
                " write numbers outside of parentheses"
            )
        position += 1
    return position + 1
