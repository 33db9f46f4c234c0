"""What each line of a text is: layers, a pattern, a remark on the layer above, or a line to pass over."""

import re
from dataclasses import replace

from striate.nets.notation.clauses import read_volume
from striate.nets.notation.forms import read_item
from striate.nets.notation.items import Draft, Item, Scores, VolumeClaim, name_item
from striate.nets.notation.layers import MAX_LAYERS
from striate.nets.notation.pattern import expand_pattern, is_pattern, split_input
from striate.nets.notation.phrases import names_layer
from striate.nets.notation.remarks import WeightClaim, cut_remarks, split_remarks
from striate.nets.notation.scan import Piece, Spot, read_lines, read_tokens, split_arrows

_OUTPUT = re.compile(r"(?:\*\*)?output(?:\s+volume)?\s*:?(?:\*\*)?\s*(?=[\[0-9])", re.IGNORECASE)
_NO_HEADING = re.compile(r"[\[\]>=*\u2192\u21d2\u00d7]|(?<![A-Za-z0-9-])[0-9]")
_OTHER_WORDS = frozenset({"input", "output", "activation", "total", "memory", "params", "parameters", "with"})
_MAX_HEADING = 100


def read_items(text: str, source: str) -> list[Item]:
    """Read every line of a text.

    Args:
        text: as for ``parse``.
        source: errors start with it.

    Returns:
        What the lines say, in order; each has the claims of the remarks behind it.

    Raises:
        UsageError: a line is none of the forms, with its place.
    """
    items: list[Item] = []
    for line in read_lines(text, source):
        if _is_remark(line) or (not items and _is_heading(line)):
            continue
        if is_pattern(cut_remarks(line)):
            start, tokens = split_input(line, read_tokens(line))
            if start is not None:
                items += read_item(start)
            items += expand_pattern(tokens)
        else:
            for piece in split_arrows(line):
                _read_piece(piece, items)
        check_number(len(items), line.spot)
    return items


def check_number(number: int, spot: Spot) -> None:
    """Refuse a text of too many layers.

    Raises:
        UsageError: more than the limit.
    """
    if number > MAX_LAYERS:
        raise spot.refuse(f"expected at most {MAX_LAYERS:,} layers, got {number:,}: shorten the network")


def _read_piece(piece: Piece, items: list[Item]) -> None:
    """Read a layer and its remarks, or remarks on the layer above."""
    layer, weights = split_remarks(piece)
    output = _read_output(layer)
    if output is not None:
        _add_volume(items, output)
    elif layer.text:
        items += read_item(layer)
    elif not items:
        raise piece.spot.refuse("expected a layer before its remarks, got none: write INPUT 32x32x3 first")
    if weights:
        _add_weights(items, weights)


def _read_output(piece: Piece) -> VolumeClaim | None:
    """Read ``Output: 55 x 55 x 96`` or ``Output volume [55x55x96]``; a layer labelled Output is none."""
    start = _OUTPUT.match(piece.text)
    if start is None:
        return None
    tokens = read_tokens(piece.cut(start.end()))
    if tokens[0].is_mark("["):
        volume, position = read_volume(tokens, 0)
        return volume if tokens[position].kind == "end" else None
    if tokens[0].kind != "size" or tokens[1].kind != "end":
        return None
    if len(tokens[0].sizes()) != 3:
        raise tokens[0].spot.refuse(
            f"expected height x width x channels as the output, got {tokens[0].got}: correct it"
        )
    return VolumeClaim(tokens[0].sizes(), tokens[0].spot)


def _add_volume(items: list[Item], volume: VolumeClaim) -> None:
    """Note a volume at the last layer, which a SOFTMAX without a number may follow."""
    place = len(items) - 1
    if place > 0 and isinstance(items[place], Scores):
        place -= 1
    layer = items[place] if items else None
    if not isinstance(layer, Draft):
        got = name_item(layer) if layer else "nothing"
        raise volume.spot.refuse(f"expected a layer above its output, got {got}: leave the output out")
    items[place] = replace(layer, volumes=(*layer.volumes, volume))


def _add_weights(items: list[Item], weights: tuple[WeightClaim, ...]) -> None:
    """Note numbers of weights at what was read last; SOFTMAX 1000 is a layer and then the scores."""
    place = len(items) - 1
    if place > 0 and isinstance(items[place], Scores) and items[place].spot == items[place - 1].spot:
        place -= 1
    item = items[place]
    items[place] = replace(item, weights=(*item.weights, *weights))


def _is_remark(line: Piece) -> bool:
    """Whether a line is a sum of the slide, "TOTAL params: 138M", or a remark in parentheses."""
    in_parentheses = line.text.startswith("(") and line.text.endswith(")") and not is_pattern(line)
    return in_parentheses or line.text.split(maxsplit=1)[0].lower().rstrip(":") == "total"


def _is_heading(line: Piece) -> bool:
    """Whether a line before INPUT is a heading, "Full (simplified) AlexNet architecture:".

    It ends in a colon, and has no word for a layer or a setting, no size and no number on its own.
    """
    if not line.text.endswith(":") or len(line.text) > _MAX_HEADING or _NO_HEADING.search(line.text):
        return False
    words = re.findall(r"[a-z]+", line.text.lower())
    return bool(words) and _OTHER_WORDS.isdisjoint(words) and not names_layer(words)
