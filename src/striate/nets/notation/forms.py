"""The forms of one layer: a piece of text between two arrows or line ends, into drafts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

from striate.core.errors import UsageError
from striate.nets.notation.phrases import (
    FORMS,
    UNNAMED,
    Clauses,
    Draft,
    Flatten,
    Input,
    Item,
    Phrase,
    Rule,
    Scores,
    VolumeClaim,
    read_clauses,
    read_phrase,
    read_volume,
    suggest,
)
from striate.nets.notation.record import (
    DEFAULT_CONSTANTS,
    PREFIXES,
    SLIDE_LABEL,
    Activation,
    ActivationKind,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Pair,
    Pool,
    PoolKind,
)
from striate.nets.notation.text import Piece, Spot, Token, read_tokens


@contextmanager
def at(spot: Spot) -> Iterator[None]:
    """Give the error of a record its place in the text; what is inside must not raise one with a place."""
    try:
        yield
    except UsageError as error:
        raise spot.refuse(str(error)) from None


def make_draft(kind: str, number: str, clauses: Clauses, spot: Spot, *, drawn: bool = False) -> Draft:
    """Make the draft of a layer.

    Args:
        kind: a key of ``FORMS``.
        number: the number of its label, "" for none.
        clauses: what follows its name, with at most one count.
        spot: its place.
        drawn: whether it is written as in VGG's tables, where a convolution keeps the size.
    """
    depth = clauses.kernel[2] if kind == "conv" and len(clauses.kernel) == 3 else None
    bare_pool = kind == "pool" and number.isdigit() and not clauses.kernel and clauses.stride is None
    layer = _make_layer(kind, clauses, spot, drawn=drawn)
    return Draft(
        layer=layer,
        spot=spot,
        label=f"{FORMS[kind].prefix}{number}" if number else None,
        rounding=clauses.rounding,
        volumes=() if clauses.volume is None else (clauses.volume,),
        depth=depth,
        drawn=drawn,
        window=int(number) if bare_pool else None,
    )


def _make_layer(kind: str, clauses: Clauses, spot: Spot, *, drawn: bool) -> Layer:
    match kind:
        case "conv":
            return _conv(clauses, spot, drawn=drawn)
        case "pool" | "max pool":
            return _pool("max", clauses, spot)
        case "avg pool":
            return _pool("avg", clauses, spot)
        case "fc" | "softmax":
            units = _units(kind, clauses, spot)
            with at(clauses.places.get("count", spot)):
                return FullyConnected(label=UNNAMED, units=units, bias="bias" not in clauses.places)
        case "global avg pool":
            return GlobalAvgPool(label=UNNAMED)
        case "norm":
            return _norm(clauses, spot)
        case "batchnorm":
            return BatchNorm(label=UNNAMED)
        case "dropout":
            fraction = clauses.counts[0].real() if clauses.counts else 0.5
            with at(spot):
                return Dropout(label=UNNAMED, p=fraction)
    constant = clauses.counts[0].real() if clauses.counts else DEFAULT_CONSTANTS.get(kind)
    with at(spot):
        return Activation(label=UNNAMED, kind=cast(ActivationKind, kind), constant=constant)


def _conv(clauses: Clauses, spot: Spot, *, drawn: bool) -> Conv:
    if not clauses.counts:
        raise spot.refuse("expected the number of filters, got none: write CONV 16 5x5 for 16 filters of 5x5")
    if not clauses.kernel:
        raise spot.refuse(
            "expected the size of the filters, got none: write CONV 16 5x5 for 16 filters of 5x5"
        )
    if clauses.rounding == "ceil":
        raise clauses.places["rounding"].refuse(
            "expected floor for a convolution, got ceil: only a pool rounds up, so pad or write floor"
        )
    kernel = _kernel(clauses, most=3)
    padding = clauses.padding
    if clauses.same or (drawn and padding is None):
        padding = same_padding(kernel, clauses.places.get("pad", spot))
    filters = clauses.counts[0].whole()
    with at(spot):
        return Conv(
            label=UNNAMED,
            filters=filters,
            kernel=kernel,
            stride=clauses.stride or (1, 1),
            padding=padding or (0, 0),
            groups=clauses.groups,
            bias="bias" not in clauses.places,
        )


def _pool(kind: PoolKind, clauses: Clauses, spot: Spot) -> Pool:
    kernel = _kernel(clauses, most=2) if clauses.kernel else (2, 2)
    stride = clauses.stride
    if stride is None:
        if kernel != (2, 2):
            raise spot.refuse(
                f"expected the stride of a {kernel[0]}x{kernel[1]} pool, got none: write stride 2 behind it"
            )
        stride = (2, 2)
    padding = clauses.padding or (0, 0)
    if clauses.same:
        padding = same_padding(kernel, clauses.places["pad"])
    with at(spot):
        return Pool(
            label=UNNAMED,
            kind=kind,
            kernel=kernel,
            stride=stride,
            padding=padding,
            ceil=clauses.rounding == "ceil",
        )


def _norm(clauses: Clauses, spot: Spot) -> Norm:
    usual = Norm(label=UNNAMED)
    whole = {name: token.whole() for name, token in clauses.constants.items() if name in ("size", "towers")}
    real = {name: token.real() for name, token in clauses.constants.items() if name not in whole}
    with at(spot):
        return Norm(
            label=UNNAMED,
            size=whole.get("size", usual.size),
            alpha=real.get("alpha", usual.alpha),
            beta=real.get("beta", usual.beta),
            k=real.get("k", usual.k),
            towers=whole.get("towers", usual.towers),
        )


def _units(kind: str, clauses: Clauses, spot: Spot) -> int:
    if clauses.counts:
        return clauses.counts[0].whole()
    if clauses.volume is not None and set(clauses.volume.sizes[:-1]) <= {1}:
        return clauses.volume.sizes[-1]
    raise spot.refuse(f"expected {FORMS[kind].example}, got no number of neurons: write it behind the name")


def _kernel(clauses: Clauses, *, most: int) -> Pair:
    if not 2 <= len(clauses.kernel) <= most:
        raise clauses.places["kernel"].refuse(
            f"expected a window of height x width, got {len(clauses.kernel)} numbers: write it as 3x3"
        )
    return clauses.kernel[0], clauses.kernel[1]


def same_padding(kernel: Pair, spot: Spot) -> Pair:
    """Return the padding that keeps the size at stride 1, ``(F - 1)/2``."""
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise spot.refuse(
            f"expected filters of odd sides, for a pad of (F - 1)/2, got {kernel[0]}x{kernel[1]}:"
            " write the pad as a number"
        )
    return kernel[0] // 2, kernel[1] // 2


_DASHED = ("conv", "fc", "softmax")
_USUAL_SIDE = 3


def read_item(piece: Piece) -> list[Item]:
    """Read one layer or setting.

    Args:
        piece: the text, without remarks.

    Returns:
        One item; two for ``SOFTMAX 1000``: a fully connected layer, and the scores.
    """
    tokens = read_tokens(piece)
    clauses = Clauses()
    position = 0
    if tokens[0].is_mark("["):
        clauses.volume, position = read_volume(tokens, 0)
        clauses.places["volume"] = clauses.volume.spot
    if tokens[position].is_word("input"):
        return [_read_input(tokens, position, clauses.volume)]
    if tokens[position].is_word("activation"):
        return [_read_rule(tokens, position)]
    if tokens[position].kind == "size" and tokens[position + 1].kind == "end" and clauses.volume is None:
        sizes = tokens[position].sizes()
        if len(sizes) == 3:  # 227x227x3 > CONV ...
            return [Input((sizes[2], sizes[0], sizes[1]), tokens[position].spot)]
    label, position = _read_label(tokens, position)
    sized = tokens[position].kind == "size"
    if sized:  # 3x3 conv, 64
        clauses.place("kernel", tokens[position].spot)
        clauses.kernel = tokens[position].sizes()
        position += 1
    spot = tokens[position].spot
    phrase = read_phrase(tokens, position)
    if phrase is None:
        raise spot.refuse(f"expected a layer, got {tokens[position].got}: {suggest(tokens[position])}")
    position = phrase.stop
    number = phrase.number
    if not number and tokens[position].kind == "number" and tokens[position + 1].is_mark(":"):  # FC 6: 4096
        number = str(tokens[position].whole())
        position += 1
    dashed = tokens[position].is_mark("-") and phrase.kind in _DASHED
    if dashed:
        position, number = _read_dashed(tokens, position, phrase, number, clauses)
    position += tokens[position].is_mark(":")
    read_clauses(tokens[position:], clauses, phrase.kind)
    if phrase.kind == "softmax" and number and not clauses.counts and clauses.volume is None:  # SOFTMAX1000
        clauses.counts.append(Token("number", number, spot))
        number = ""
    if phrase.kind == "flatten":
        return [Flatten(spot)]
    if phrase.kind == "softmax" and not clauses.counts and clauses.volume is None:
        return [Scores(spot)]
    draft = make_draft(phrase.kind, number, clauses, spot, drawn=phrase.kind == "conv" and (dashed or sized))
    draft = replace(draft, label=label or draft.label)
    return [draft, Scores(spot)] if phrase.kind == "softmax" else [draft]


def _read_dashed(
    tokens: list[Token], position: int, phrase: Phrase, number: str, clauses: Clauses
) -> tuple[int, str]:
    """Read ``-64`` of CONV3-64, whose number is the side of the filters, or ``-4096`` of FC-4096."""
    count = tokens[position + 1]
    before, dash = tokens[position - 1], tokens[position]
    apart = before.spot.column + len(before.text) < dash.spot.column
    close = count.kind == "number" and count.spot.column == dash.spot.column + 1
    if not number and apart and close:  # CONV -5 3x3
        raise dash.spot.refuse(
            f"expected a whole number from 1 on, got -{count.text}:"
            f" write {FORMS[phrase.kind].words[0].upper()}-64, or the number alone"
        )
    count.whole()
    clauses.place("count", count.spot)
    clauses.counts.append(count)
    if phrase.kind != "conv":
        return position + 2, number
    side = int(number) if number.isdigit() else _USUAL_SIDE
    clauses.place("kernel", count.spot)
    clauses.kernel = (side, side)
    return position + 2, ""


def _read_label(tokens: list[Token], position: int) -> tuple[str | None, int]:
    """Read a label before the kind of its layer: ``C1: CONV 6 5x5``."""
    if tokens[position].kind != "word" or not tokens[position + 1].is_mark(":"):
        return None, position
    behind = position + 2
    if read_phrase(tokens, behind + (tokens[behind].kind == "size")) is None:
        return None, position
    label = tokens[position].text
    slide = SLIDE_LABEL.fullmatch(label)
    if slide and not slide.group(2) and label != label.lower():
        return None, behind  # the kind said twice, as in "NORM: Normalization layer"
    return label.lower() if slide else label, behind


def _read_input(tokens: list[Token], position: int, volume: VolumeClaim | None) -> Input:
    spot = tokens[position].spot
    position += 1
    while tokens[position].kind != "end":
        token = tokens[position]
        if token.is_mark(":", ",") or token.is_word("image", "images", "volume", "size"):
            position += 1
        elif volume is None and token.is_mark("["):
            volume, position = read_volume(tokens, position)
        elif volume is None and token.kind == "size":
            volume = VolumeClaim(token.sizes(), token.spot)
            position += 1
        else:
            layer_follows = token.is_mark("-") and read_phrase(tokens, position + 1) is not None
            remedy = "write > between layers" if layer_follows else "write INPUT 32x32x3"
            raise token.spot.refuse(f"expected one size behind INPUT, got {token.got}: {remedy}")
    if volume is None or len(volume.sizes) != 3:
        got = len(volume.sizes) if volume else "no"
        raise (volume.spot if volume else tokens[position].spot).refuse(
            f"expected height x width x channels behind INPUT, got {got} numbers: write INPUT 32x32x3"
        )
    height, width, channels = volume.sizes
    return Input((channels, height, width), spot)


def _read_rule(tokens: list[Token], position: int) -> Rule:
    spot = tokens[position].spot
    position += 1
    position += tokens[position].is_mark(":")
    if tokens[position].is_word("none") and tokens[position + 1].kind == "end":
        return Rule(None, spot)
    phrase = read_phrase(tokens, position)
    if phrase is None or phrase.kind not in PREFIXES or phrase.number:
        raise tokens[position].spot.refuse(
            f"expected NONE or an activation, got {tokens[position].got}: write ACTIVATION TANH, for example"
        )
    clauses = Clauses()
    read_clauses(tokens[phrase.stop :], clauses, phrase.kind)
    layer = make_draft(phrase.kind, "", clauses, tokens[position].spot).layer
    assert isinstance(layer, Activation)
    return Rule(layer, spot)
