"""The clauses behind a layer's name, in any order: sizes, counts, ``stride 4``, ``pad same``, ``no bias``."""

import re
from dataclasses import dataclass, field

from striate.nets.notation.items import VolumeClaim
from striate.nets.notation.layers import Pair
from striate.nets.notation.phrases import FORMS, read_phrase
from striate.nets.notation.scan import Spot, Token


@dataclass(slots=True)
class Clauses:
    """What the clauses say, as written; ``places`` says where each kind of clause stands."""

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
        """Note the place of a clause that may stand once.

        Raises:
            UsageError: it stands twice.
        """
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
    """Read what stands behind a layer's name, up to the end.

    Args:
        tokens: the rest of the piece, its end included.
        clauses: filled in.
        kind: the kind of layer, a key of ``FORMS``.
        many_counts: whether several widths may stand there, as in a pattern.

    Raises:
        UsageError: a clause that is unknown, stands twice, or does not belong to this kind of layer.
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

    Raises:
        UsageError: the brackets hold something else.
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
