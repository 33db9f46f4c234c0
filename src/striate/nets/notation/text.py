"""Text into lines, pieces and tokens, each with its place, and the remarks that slides write beside a layer.

Here and in the files that build on it, what a text gets wrong is a ``UsageError`` that names its place.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from striate.core.errors import UsageError
from striate.nets.notation.record import shorten

MAX_TEXT = 100_000
_MAX_DIGITS = 12
_MAX_REAL = 30


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a text; lines and columns count from 1."""

    source: str
    line: int
    column: int

    def refuse(self, message: str) -> UsageError:
        """Make the error for this place: ``lenet.net:3:8: message``."""
        return UsageError(f"{self.source}:{self.line}:{self.column}: {message}")

    def moved(self, columns: int) -> "Spot":
        """Return the place ``columns`` further to the right."""
        return Spot(self.source, self.line, self.column + columns)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one line and where it starts."""

    text: str
    spot: Spot

    def cut(self, start: int, stop: int | None = None) -> "Piece":
        """Return a part of the piece."""
        return Piece(self.text[start:stop], self.spot.moved(start))

    def stripped(self) -> "Piece":
        """Return the piece without the blanks at its ends."""
        return self.cut(len(self.text) - len(self.text.lstrip()), len(self.text.rstrip()))


TokenKind = Literal["number", "size", "word", "mark", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """A number, a size (``11x11``), a word or a mark; the last one of a piece is the "end"."""

    kind: TokenKind
    text: str
    spot: Spot

    @property
    def got(self) -> str:
        """How an error names it."""
        return "the end of the line" if self.kind == "end" else shorten(self.text)

    def is_mark(self, *marks: str) -> bool:
        """Whether it is one of these marks."""
        return self.kind == "mark" and self.text in marks

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these words, in small or capital letters."""
        return self.kind == "word" and self.text.lower() in words

    def whole(self) -> int:
        """Return the whole number that it is."""
        if self.kind != "number" or not self.text.isdigit():
            raise self.spot.refuse(f"expected a whole number, got {self.got}: write digits alone")
        return int(self.text)

    def real(self) -> float:
        """Return the number that it is."""
        if self.kind != "number":
            raise self.spot.refuse(f"expected a number, got {self.got}: write one, such as 0.5")
        return float(self.text)

    def sizes(self) -> tuple[int, ...]:
        """Return the numbers of a size, one for a plain number."""
        if self.kind == "size":
            return tuple(int(part) for part in _BY.split(self.text))
        return (self.whole(),)


_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?"
_BY = re.compile(r"\s*[xX*\u00d7]\s*")
_TOKEN = re.compile(
    rf"(?P<size>[0-9]+(?:\s*[xX*\u00d7]\s*[0-9]+)+)|(?P<number>{_NUMBER})"
    r"|(?P<word>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<mark>->|=>|[\[\](){}:;,=/*?>~+-]|[\u2192\u21d2\u00d7\u2013\u2212])"
)
_BROKEN_SIZE = re.compile(
    r"(?:[0-9]*\.[0-9]+\s*[xX*\u00d7]\s*[0-9.]+|[0-9]+(?:\s*[xX*\u00d7]\s*[0-9]+)+\.[0-9])[0-9.xX*\u00d7]*"
)
_ARROW = re.compile(r"->|=>|>|[\u2192\u21d2]")
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_lines(text: str, source: str) -> Iterator[Piece]:
    """Give the lines of a text without comments, blanks at the ends and empty lines."""
    if len(text) > MAX_TEXT:
        raise UsageError(
            f"{source}:1:1: expected a text of at most {MAX_TEXT:,} characters, got {len(text):,}: shorten it"
        )
    for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        piece = Piece(line.split("#", 1)[0], Spot(source, number, 1)).stripped()
        if piece.text:
            yield piece


def split_arrows(line: Piece) -> list[Piece]:
    """Cut a line at its arrows, ``->`` or ``>``; one at either end of a line cuts nothing."""
    pieces = []
    start = 0
    for arrow in _ARROW.finditer(line.text):
        pieces.append(line.cut(start, arrow.start()).stripped())
        start = arrow.end()
    pieces.append(line.cut(start).stripped())
    if len(pieces) > 1:
        pieces = pieces[not pieces[0].text : len(pieces) - (not pieces[-1].text)]
    for piece in pieces:
        if not piece.text:
            raise piece.spot.refuse("expected a layer between two arrows, got nothing: remove one arrow")
    return pieces


def read_tokens(piece: Piece) -> list[Token]:
    """Cut a piece into tokens; the last one is the end."""
    tokens: list[Token] = []
    position = 0
    text = piece.text
    while True:
        while position < len(text) and text[position].isspace():
            position += 1
        spot = piece.spot.moved(position)
        if position >= len(text):
            return [*tokens, Token("end", "", spot)]
        found = _TOKEN.match(text, position)
        if found is None:
            raise spot.refuse(
                f"expected letters, digits or the notation's symbols, got {text[position]!r}: remove it"
            )
        word = found.group()
        if broken := _BROKEN_SIZE.match(text, position):
            raise spot.refuse(
                f"expected a size of whole numbers such as 3x3, got {shorten(broken.group())}: correct it"
            )
        match found.lastgroup:
            case "size":
                _check_digits(word, spot)
                tokens.append(Token("size", word, spot))
            case "number":
                _check_digits(word, spot)
                tokens.append(Token("number", word, spot))
            case "word":
                tokens.append(Token("word", word, spot))
            case _:
                tokens.append(Token("mark", _MARKS.get(word, word), spot))
        position = found.end()


_MARKS = {
    **{"\u2192": "->", "\u21d2": "->", "=>": "->", ">": "->"},
    **{"\u2013": "-", "\u2212": "-", "\u00d7": "*"},
}
"""Signs that are written in more than one way: arrows, dashes, and the cross of sizes."""


def _check_digits(word: str, spot: Spot) -> None:
    for part in _BY.split(word):
        if len(part) > (_MAX_DIGITS if part.isdigit() else _MAX_REAL):
            raise spot.refuse(
                f"expected a number of at most {_MAX_DIGITS} digits, got {shorten(part)}: shorten it"
            )


_REMARK = re.compile(r"\b(memory|params|parameters)\s*:", re.IGNORECASE)
_EXACT = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+")
_ROUNDED = re.compile(r"([0-9]+)(\.[0-9]+)?\s*([KMG])", re.IGNORECASE)
_PRODUCT = re.compile(r"[0-9]+(?:\s*[xX*\u00d7]\s*[0-9]+)+")
_SCALE = {"K": 10**3, "M": 10**6, "G": 10**9}
_MAX_SIGNS = 100


@dataclass(frozen=True, slots=True)
class WeightClaim:
    """What ``params:`` says: the number of weights lies from ``low`` to ``high``."""

    low: float
    high: float
    text: str
    spot: Spot

    def allows(self, number: int) -> bool:
        """Whether the number of weights can be this one."""
        return self.low <= number <= self.high


def cut_remarks(piece: Piece) -> Piece:
    """Return a piece without its remarks, which are not read."""
    remark = _REMARK.search(piece.text)
    return piece if remark is None else piece.cut(0, remark.start()).stripped()


def split_remarks(piece: Piece) -> tuple[Piece, tuple[WeightClaim, ...]]:
    """Cut the remarks off the end of a piece and read what each ``params:`` says."""
    remarks = list(_REMARK.finditer(piece.text))
    if not remarks:
        return piece, ()
    claims = []
    stops = [remark.start() for remark in remarks[1:]] + [len(piece.text)]
    for remark, stop in zip(remarks, stops, strict=True):
        if remark.group(1).lower() != "memory":
            claims.append(_read_claim(piece.cut(remark.end(), stop).stripped()))
    return piece.cut(0, remarks[0].start()).stripped(), tuple(claims)


def _read_claim(remark: Piece) -> WeightClaim:
    result = remark.text.rpartition("=")[2].strip().rstrip("!.").replace("(", "").replace(")", "")
    if len(result) <= _MAX_SIGNS:
        if _EXACT.fullmatch(result):
            exact = int(result.replace(",", ""))
            return WeightClaim(exact, exact, result, remark.spot)
        if rounded := _ROUNDED.fullmatch(result):
            unit = _SCALE[rounded.group(3).upper()] * 10.0 ** (1 - len(rounded.group(2) or "."))
            number = float(rounded.group(1) + (rounded.group(2) or "")) * _SCALE[rounded.group(3).upper()]
            return WeightClaim(number - unit, number + unit, result, remark.spot)
        if _PRODUCT.fullmatch(result):
            product = 1
            for factor in re.split(r"\D+", result):
                product *= int(factor)
            return WeightClaim(product, product, result, remark.spot)
    raise remark.spot.refuse(
        f"expected a number of weights such as 1,728 or (3*3*3)*64, got {shorten(remark.text)}:"
        " correct the remark or leave it out"
    )
