"""A text into a ``Notation``: what each line is, then what all lines together say."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from striate.core.errors import UsageError
from striate.nets.notation.checking import (
    add_activations,
    check_volumes,
    check_weightless,
    name_layers,
    settle_windows,
)
from striate.nets.notation.forms import read_item
from striate.nets.notation.pattern import expand_pattern, is_pattern, split_input
from striate.nets.notation.phrases import (
    Draft,
    Flatten,
    Input,
    Item,
    Rule,
    Scores,
    VolumeClaim,
    name_item,
    names_layer,
    read_volume,
)
from striate.nets.notation.record import (
    MAX_LAYERS,
    MAX_SIZE,
    Conv,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Notation,
    Pool,
    check_name,
    shorten,
)
from striate.nets.notation.text import (
    MAX_TEXT,
    Piece,
    Spot,
    WeightClaim,
    cut_remarks,
    read_lines,
    read_tokens,
    split_arrows,
    split_remarks,
)

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
    """Refuse a text of too many layers."""
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


def parse(text: str, *, name: str = "net") -> Notation:
    """Read a network that is written the way the lectures write it.

    The network is not built: sizes and counts come from arithmetic.

    Args:
        text: at most 100,000 characters; ``docs/notation.md`` lists the forms.
        name: the network's name, at most 100 printable characters; errors start with it.

    Returns:
        The network as a value.

    Raises:
        UsageError: what is wrong, with line and column: ``net:3:8: expected ..., got ...: remedy``.

    Paper: none; the layer lists, tables and patterns of lectures on convolutional networks.
    Departures: what a text leaves open is settled as ``docs/notation.md`` says.
    """
    check_name(name)
    if not isinstance(text, str):
        raise UsageError(f"expected a text in the notation, got {shorten(text)}: pass a string")
    return _parse(text, name, name)


def read(path: str | Path) -> Notation:
    """Read a network from a ``.net`` file.

    Args:
        path: a UTF-8 text of at most 100,000 bytes; its stem becomes the network's name.

    Returns:
        The network as a value.

    Raises:
        UsageError: no such file, not UTF-8, too large, or an error in the text: ``lenet.net:3:8: ...``.
    """
    path = Path(path)
    shown = path.name if path.name.isprintable() else shorten(path.name)
    if not path.is_file():
        raise UsageError(f"expected a file in the notation, got {shown}, which is none: check the path")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise UsageError(
            f"expected a file that can be read, got {shown} ({error.strerror}): check it"
        ) from None
    if len(data) > MAX_TEXT:
        raise UsageError(f"{shown}: expected at most {MAX_TEXT:,} bytes, got more: shorten it")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {data[error.start]:#04x} at place {error.start}"
        raise UsageError(f"{shown}: expected UTF-8 text, got {got}: save it as UTF-8") from None
    check_name(path.stem)
    return _parse(text, path.stem, shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """Layers as a text says them: nothing is added, and their sizes need not fit.

    Attributes:
        input_shape: channels, height and width in pixels.
        layers: in order, each with its own label.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]


def sketch(text: str, *, name: str = "net") -> Sketch:
    """Read layers that need not be a network yet, for whoever works out their sizes.

    Args:
        text: as for ``parse``.
        name: errors start with it.

    Returns:
        The layers that the text names, without activations that it leaves out. Windows may not fit, and
        claims about volumes and weights are not checked.

    Raises:
        UsageError: the text is none of the forms, with line and column.
    """
    check_name(name)
    items = read_items(text, name)
    start = _input_of(items, name)
    drafts = name_layers(settle_windows(_drafts_of(items, start.spot)))
    check_number(len(drafts), drafts[-1].spot)
    return Sketch(input_shape=start.shape, layers=tuple(draft.layer for draft in drafts))


def _parse(text: str, name: str, source: str) -> Notation:
    items = read_items(text, source)
    start, rule = _input_of(items, source), _rule_of(items)
    drafts = settle_windows(_drafts_of(items, start.spot))
    drafts = name_layers(add_activations(drafts, rule))
    check_number(len(drafts), drafts[-1].spot)
    check_weightless(items)
    check_volumes(start.shape, drafts)
    return Notation(name=name, input_shape=start.shape, layers=tuple(draft.layer for draft in drafts))


def _input_of(items: list[Item], source: str) -> Input:
    inputs = [item for item in items if isinstance(item, Input)]
    first = next((item for item in items if not isinstance(item, Rule)), None)
    if first is None or not isinstance(first, Input):
        raise (first.spot if first else Spot(source, 1, 1)).refuse(
            f"expected INPUT before the first layer, got {'a layer' if first else 'none'}:"
            " write INPUT 32x32x3 (height x width x channels) on the first line"
        )
    if len(inputs) > 1:
        raise inputs[1].spot.refuse(
            f"expected one INPUT, got a second one beside that of line {inputs[0].spot.line}: leave one out"
        )
    channels, height, width = first.shape
    if not all(1 <= size <= MAX_SIZE for size in first.shape):
        raise first.spot.refuse(
            f"expected an input of three sizes (height x width x channels) from 1 to {MAX_SIZE:,},"
            f" got {height}x{width}x{channels}: correct the input"
        )
    return first


def _rule_of(items: list[Item]) -> Rule | None:
    rules = [item for item in items if isinstance(item, Rule)]
    if len(rules) > 1:
        raise rules[1].spot.refuse(
            f"expected one line ACTIVATION, got a second one beside line {rules[0].spot.line}: leave one out"
        )
    return rules[0] if rules else None


def _drafts_of(items: list[Item], start: Spot) -> list[Draft]:
    """Return the layers; check that nothing follows SOFTMAX, and no layer of maps follows FLATTEN."""
    drafts: list[Draft] = []
    flat = False
    scores: Scores | None = None
    for item in items:
        if scores is not None and not isinstance(item, Rule):
            raise item.spot.refuse(
                f"expected nothing behind SOFTMAX of line {scores.spot.line}, got more:"
                " move SOFTMAX to the end"
            )
        match item:
            case Flatten():
                flat = True
            case Scores():
                scores = item
            case Draft():
                if flat and isinstance(item.layer, Conv | Pool | GlobalAvgPool | Norm):
                    raise item.spot.refuse(
                        "expected FC behind FLATTEN, got a layer of maps: leave FLATTEN out, FC implies it"
                    )
                drafts.append(item)
    if not drafts:
        raise start.refuse("expected a layer behind INPUT, got none: write one, such as SOFTMAX 10")
    if scores is not None and scores.spot == drafts[-1].spot and len(drafts) > 1:
        _check_scores(drafts[-2], drafts[-1])
    return drafts


def _check_scores(before: Draft, scores: Draft) -> None:
    """Refuse ``FC 1000`` and then ``SOFTMAX 1000``: two layers here, one on slides."""
    match before.layer, scores.layer:
        case FullyConnected(units=hidden), FullyConnected(units=units) if hidden == units:
            raise scores.spot.refuse(
                f"expected SOFTMAX alone behind FC {units}, got SOFTMAX {units}, a further layer:"
                " write SOFTMAX, or another FC if two layers are meant"
            )
