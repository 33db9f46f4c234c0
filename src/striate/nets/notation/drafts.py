"""From the clauses of one layer to its record, with what is usual where the text leaves something out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from striate.core.errors import UsageError
from striate.nets.notation.clauses import Clauses
from striate.nets.notation.items import UNNAMED, Draft
from striate.nets.notation.layers import (
    DEFAULT_CONSTANTS,
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
from striate.nets.notation.phrases import FORMS
from striate.nets.notation.scan import Spot


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
        clauses: what stands behind its name, with at most one count.
        spot: its place.
        drawn: whether it is written as in VGG's tables, where a convolution keeps the size.

    Raises:
        UsageError: something is missing or out of range.
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
    """Return the padding that keeps the size at stride 1, ``(F - 1)/2``.

    Raises:
        UsageError: the filter has an even side.
    """
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise spot.refuse(
            f"expected filters of odd sides, for a pad of (F - 1)/2, got {kernel[0]}x{kernel[1]}:"
            " write the pad as a number"
        )
    return kernel[0] // 2, kernel[1] // 2
