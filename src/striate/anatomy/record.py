"""What ``trace`` returns: a network, layer by layer."""

from dataclasses import dataclass

from striate.anatomy.columns import Row
from striate.anatomy.layer import Layers
from striate.anatomy.tabulate import tabulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy(Layers):
    """A network, layer by layer; a table where it is printed or shown in a notebook."""

    def to_rows(self) -> list[Row]:
        """Return a dict of plain values for each row, by the lecture ledger; see ``tabulate``."""
        return tabulate(self).rows

    def __str__(self) -> str:
        return str(tabulate(self))

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        return tabulate(self).to_html()
