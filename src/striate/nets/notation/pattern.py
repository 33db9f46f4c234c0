"""The pattern of the lectures, ``[(CONV-RELU)*N-POOL]*M-(FC-RELU)*K-SOFTMAX with ...``, into drafts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from striate.nets.notation.forms import make_draft
from striate.nets.notation.phrases import Clauses, Draft, Item, Scores, read_clauses, read_phrase, suggest
from striate.nets.notation.record import MAX_LAYERS
from striate.nets.notation.text import Piece, Spot, Token

MAX_DEPTH = 8
_POOLS = ("pool", "max pool", "avg pool")
_CLOSING = {"(": ")", "[": "]"}
_SEPARATORS = ("-", "->", ",")
_SIGNS = re.compile(
    r"[\])]\s*[*\u00d7]\s*[A-Za-z0-9]"
    r"|^\s*[\[(][\s\[(]*(?:CONV|POOL|MAX|AVG|FC|RELU)\b"
    r"|\b(?:CONV|RELU|POOL|FC)\s*-\s*[A-Za-z(\[]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Leaf:
    kind: str
    token: Token
    count: Token | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    parts: "tuple[_Leaf | _Group, ...]"
    times: int


@dataclass(frozen=True, slots=True)
class _With:
    """What follows ``with``: the numbers for the letters, and the clauses for kinds of layers."""

    letters: dict[str, int]
    kinds: dict[str, tuple[str, Clauses, Spot]]


def is_pattern(piece: Piece) -> bool:
    """Whether a line repeats groups of layers, or joins layers by hyphens."""
    return _SIGNS.search(piece.text) is not None


def split_input(piece: Piece, tokens: list[Token]) -> tuple[Piece | None, list[Token]]:
    """Cut INPUT and its size off the front of a pattern.

    Args:
        piece: the line.
        tokens: its tokens.

    Returns:
        The piece with INPUT, if there is one, and the tokens of the pattern.
    """
    stop = next((i for i, token in enumerate(tokens) if token.is_mark("-", "->")), len(tokens) - 1)
    if not any(token.is_word("input") for token in tokens[:stop]):
        return None, tokens
    end = tokens[stop].spot.column - piece.spot.column
    return piece.cut(0, end).stripped(), tokens[stop + (tokens[stop].kind != "end") :]


def expand_pattern(tokens: list[Token]) -> list[Item]:
    """Write a pattern out.

    Args:
        tokens: the pattern and what follows ``with``.

    Returns:
        Drafts of layers in order; the scores last, if the pattern ends in SOFTMAX.
    """
    stop = next((i for i, token in enumerate(tokens) if token.is_word("with")), len(tokens) - 1)
    given = _read_with(tokens[stop + (tokens[stop].kind != "end") :])
    end = Token("end", "", tokens[stop].spot)
    parts, _ = _read_parts([*tokens[:stop], end], 0, "", given.letters, 0)
    if _count(_Group(parts, 1)) > MAX_LAYERS:
        raise tokens[0].spot.refuse(
            f"expected a pattern of at most {MAX_LAYERS:,} layers, got more: use smaller numbers"
        )
    named = {_family(leaf.kind) for leaf in _kinds_of(parts)}
    for kind, (_, _, spot) in given.kinds.items():
        if kind not in named:
            raise spot.refuse(
                f"expected kinds of layers that the pattern has, got {kind.upper()}: leave it out"
            )
    leaves = list(_expand(_prune(parts)))
    widths = _share_widths(leaves, given)
    items: list[Item] = []
    for number, (leaf, _) in enumerate(leaves):
        if leaf.kind == "softmax" and number != len(leaves) - 1:
            raise leaf.token.spot.refuse("expected SOFTMAX as the last layer, got more behind it: move it")
        items.append(_draft(leaf, widths[number], given))
    if leaves and leaves[-1][0].kind == "softmax":
        items.append(Scores(leaves[-1][0].token.spot))
    return items


def _read_with(tokens: list[Token]) -> _With:
    given = _With({}, {})
    position = 0
    while tokens[position].kind != "end":
        token = tokens[position]
        if token.is_mark(",", ";") or token.is_word("and"):
            position += 1
        elif _is_letter(tokens, position):
            letter = token.text.upper()
            if letter in given.letters:
                raise token.spot.refuse(f"expected one number for {letter}, got two: leave one out")
            given.letters[letter] = tokens[position + 2].whole()
            position += 3
        else:
            phrase = read_phrase(tokens, position)
            if phrase is None or phrase.number:
                raise token.spot.refuse(
                    f"expected N=2 or a kind of layer behind `with`, got {token.got}: {suggest(token)}"
                )
            stop = phrase.stop
            while not (
                tokens[stop].kind == "end"
                or _is_letter(tokens, stop)
                or read_phrase(tokens, stop) is not None
            ):
                stop += 1
            family = _family(phrase.kind)
            if family in given.kinds:
                raise token.spot.refuse(
                    f"expected {family.upper()} once behind `with`, got it twice: join them"
                )
            clauses = Clauses()
            inside = [*tokens[phrase.stop : stop], Token("end", "", tokens[stop].spot)]
            read_clauses(inside, clauses, phrase.kind, many_counts=phrase.kind in ("conv", "fc"))
            if clauses.volume is not None:
                raise clauses.volume.spot.refuse("expected widths behind `with`, got a volume: leave it out")
            given.kinds[family] = (phrase.kind, clauses, token.spot)
            position = stop
    return given


def _is_letter(tokens: list[Token], position: int) -> bool:
    token = tokens[position]
    return token.kind == "word" and len(token.text) == 1 and tokens[position + 1].is_mark("=")


def _read_parts(
    tokens: list[Token], position: int, closing: str, letters: dict[str, int], depth: int
) -> tuple[tuple[_Leaf | _Group, ...], int]:
    """Read parts up to the closing bracket ("" for the end); return them and the place behind it."""
    if depth > MAX_DEPTH:
        raise tokens[position].spot.refuse(
            f"expected brackets at most {MAX_DEPTH} deep, got more: write the groups out"
        )
    parts: list[_Leaf | _Group] = []
    while True:
        part, position = _read_part(tokens, position, letters, depth)
        parts.append(part)
        token = tokens[position]
        if token.is_mark("?"):
            raise token.spot.refuse("expected a layer that is there or not, got '?': keep it or leave it out")
        if token.kind == "end" and not closing:
            return tuple(parts), position
        if token.is_mark(closing):
            return tuple(parts), position + 1
        if not token.is_mark(*_SEPARATORS):
            wanted = f"- or {closing}" if closing else "- or the end of the pattern"
            remedy = "close every bracket once"
            if isinstance(part, _Leaf) and token.kind in ("number", "size", "word"):
                remedy = "write > between layers that have numbers, as in CONV 16 3x3 > RELU"
            raise token.spot.refuse(f"expected {wanted}, got {token.got}: {remedy}")
        position += 1
        position += tokens[position - 1].is_mark(",") and tokens[position].is_mark(*_SEPARATORS)


def _read_part(
    tokens: list[Token], position: int, letters: dict[str, int], depth: int
) -> tuple[_Leaf | _Group, int]:
    token = tokens[position]
    if token.kind == "mark" and token.text in _CLOSING:
        parts, position = _read_parts(tokens, position + 1, _CLOSING[token.text], letters, depth + 1)
        if not tokens[position].is_mark("*"):
            return _Group(parts, 1), position
        return _Group(parts, _times(tokens[position + 1], letters)), position + 2
    if token.kind == "number" and token.text == "1" and tokens[position + 1].kind == "end":
        return _Leaf("softmax", token), position + 1  # some slides end the pattern in 1
    phrase = read_phrase(tokens, position)
    if phrase is None or phrase.number or phrase.kind == "flatten":
        raise token.spot.refuse(f"expected a kind of layer or a bracket, got {token.got}: {suggest(token)}")
    position = phrase.stop
    if phrase.kind == "softmax" and tokens[position].kind == "number":
        return _Leaf("softmax", token, tokens[position]), position + 1
    return _Leaf(phrase.kind, token), position


def _times(token: Token, letters: dict[str, int]) -> int:
    if token.kind == "word" and len(token.text) == 1:
        if token.text.upper() not in letters:
            raise token.spot.refuse(
                f"expected a number for {token.text}, got none: write `with {token.text}=2` at the end"
            )
        return letters[token.text.upper()]
    return token.whole()


def _count(part: _Leaf | _Group) -> int:
    return 1 if isinstance(part, _Leaf) else part.times * sum(map(_count, part.parts))


def _kinds_of(parts: tuple[_Leaf | _Group, ...]) -> Iterator[_Leaf]:
    for part in parts:
        if isinstance(part, _Leaf):
            yield part
        else:
            yield from _kinds_of(part.parts)


def _prune(parts: tuple[_Leaf | _Group, ...]) -> tuple[_Leaf | _Group, ...]:
    """Leave out groups that give no layer, so that writing them out takes no time."""
    kept: list[_Leaf | _Group] = []
    for part in parts:
        if isinstance(part, _Leaf):
            kept.append(part)
        elif _count(part):
            kept.append(_Group(_prune(part.parts), part.times))
    return tuple(kept)


def _expand(parts: tuple[_Leaf | _Group, ...]) -> Iterator[tuple[_Leaf, int]]:
    """Give each layer with the number of its block: a turn of an outermost group, or a layer on its own."""
    block = 0
    for part in parts:
        if isinstance(part, _Leaf):
            yield part, block
            block += 1
        else:
            for _ in range(part.times):
                for leaf, _ in _expand(part.parts):
                    yield leaf, block
                block += 1


def _share_widths(leaves: list[tuple[_Leaf, int]], given: _With) -> list[Token | None]:
    """Say which width belongs to which layer of the pattern."""
    widths: list[Token | None] = [leaf.count for leaf, _ in leaves]
    for kind, each in (("conv", "for each block or each CONV"), ("fc", "for each FC")):
        places = [number for number, (leaf, _) in enumerate(leaves) if leaf.kind == kind]
        if not places:
            continue
        first = leaves[places[0]][0].token
        counts = given.kinds[kind][1].counts if kind in given.kinds else []
        if not counts:
            raise first.spot.refuse(
                f"expected the widths of {kind.upper()} behind `with`, got none:"
                f" write `with {kind.upper()} 64`, or one number {each}"
            )
        blocks = sorted({leaves[place][1] for place in places})
        if len(counts) == 1:
            chosen = counts * len(places)
        elif kind == "conv" and len(counts) == len(blocks):
            chosen = [counts[blocks.index(leaves[place][1])] for place in places]
        elif len(counts) == len(places):
            chosen = counts
        else:
            fitting = {1, len(places)} | ({len(blocks)} if kind == "conv" else set())
            numbers = " or ".join(map(str, sorted(fitting)))
            raise counts[0].spot.refuse(
                f"expected {numbers} widths of {kind.upper()}, got {len(counts)}: write one {each}"
            )
        for place, count in zip(places, chosen, strict=True):
            widths[place] = count
    return widths


def _draft(leaf: _Leaf, width: Token | None, given: _With) -> Draft:
    kind, clauses, _ = given.kinds.get(_family(leaf.kind), (leaf.kind, Clauses(), leaf.token.spot))
    if leaf.kind != "pool":
        kind = leaf.kind
    if width is not None:
        clauses = replace(clauses, counts=[width])
    if kind == "conv" and not clauses.kernel:
        clauses = replace(clauses, kernel=(3, 3))
    if kind == "softmax" and not clauses.counts:
        raise leaf.token.spot.refuse(
            "expected the number of classes behind `with`, got none: write `with SOFTMAX 10`, for example"
        )
    draft = make_draft(kind, "", clauses, leaf.token.spot, drawn=kind == "conv")
    return replace(draft, drawn=False, patterned=True)


def _family(kind: str) -> str:
    return "pool" if kind in _POOLS else kind
