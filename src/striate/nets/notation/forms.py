"""The forms of one layer: a piece of text between two arrows or line ends, into items."""

from dataclasses import replace

from striate.nets.notation.clauses import Clauses, read_clauses, read_volume
from striate.nets.notation.drafts import make_draft
from striate.nets.notation.items import Flatten, Input, Item, Rule, Scores, VolumeClaim
from striate.nets.notation.layers import PREFIXES, SLIDE_LABEL, Activation
from striate.nets.notation.phrases import FORMS, Phrase, read_phrase, suggest
from striate.nets.notation.scan import Piece, Token, read_tokens

_DASHED = ("conv", "fc", "softmax")
_USUAL_SIDE = 3


def read_item(piece: Piece) -> list[Item]:
    """Read one layer or setting.

    Args:
        piece: the text, without remarks.

    Returns:
        One item; two for ``SOFTMAX 1000``: a fully connected layer, and the scores.

    Raises:
        UsageError: the text is none of the forms, with its place.
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
    """Read a label that stands before the kind of its layer: ``C1: CONV 6 5x5``."""
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
