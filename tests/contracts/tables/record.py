"""How the published table of a network is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Volume = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One layer: its name, its output (channels, height, width; or features), its trainable parameters."""

    name: str
    volume: Volume
    parameters: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A network's table and its totals.

    Attributes:
        rows: every layer (or block) that has parameters or changes the volume; top-level module names.
        parameters: total of ``rows``.
        macs: multiply-accumulates of convolutions and fully connected layers at test time.
        macs_rounding: how far off the printed number may be by rounding.
        training_only: rows of layers that only training uses (auxiliary classifiers); not in ``parameters``.
        small: arguments of the builder that make the network quick to run; the table is checked on the meta
            device with the default arguments. ``None``: too deep to run at all in the default suite.
    """

    rows: tuple[Row, ...]
    parameters: int
    macs: float
    macs_rounding: float = 0
    training_only: tuple[Row, ...] = ()
    small: Mapping[str, int] | None = field(default_factory=dict)
