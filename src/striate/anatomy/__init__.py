"""What networks cost and what their units see: one record, ``Anatomy``, read from any network."""

from striate.anatomy.columns import Row
from striate.anatomy.conventions import Convention, conventions
from striate.anatomy.field import Axis, Field
from striate.anatomy.layer import Im2col, Layer, Window
from striate.anatomy.ledger import LEDGERS, Ledger, ledger
from striate.anatomy.perturb import FieldCheck, check_fields
from striate.anatomy.record import Anatomy
from striate.anatomy.table import Table
from striate.anatomy.tabulate import tabulate
from striate.anatomy.trace import trace
from striate.anatomy.units import UnitBox, unit_box

__all__ = [
    "LEDGERS",
    "Anatomy",
    "Axis",
    "Convention",
    "Field",
    "FieldCheck",
    "Im2col",
    "Layer",
    "Ledger",
    "Row",
    "Table",
    "UnitBox",
    "Window",
    "check_fields",
    "conventions",
    "ledger",
    "tabulate",
    "trace",
    "unit_box",
]
