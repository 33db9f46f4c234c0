"""What slides write beside a layer: ``memory:`` is passed over, ``params:`` is checked."""

import re
from dataclasses import dataclass

from striate.nets.notation.layers import shorten
from striate.nets.notation.scan import Piece, Spot

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
    """Cut the remarks off the end of a piece and read what each ``params:`` says.

    Raises:
        UsageError: ``params:`` is not a number or a product.
    """
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
