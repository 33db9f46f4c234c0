"""What a piece of text says before it is put together: drafts of layers, the input, and settings."""

from dataclasses import dataclass

from striate.nets.notation.layers import Activation, Layer
from striate.nets.notation.remarks import WeightClaim
from striate.nets.notation.scan import Spot

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


def name_item(item: Item) -> str:
    """Say how an error names an item."""
    match item:
        case Draft():
            return "a layer"
        case Input():
            return "INPUT"
        case Rule():
            return "ACTIVATION"
        case Flatten():
            return "FLATTEN"
        case Scores():
            return "SOFTMAX"
