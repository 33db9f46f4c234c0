"""What networks cost and what their units see: one record, ``Anatomy``, read from any network."""

from striate.anatomy.field import Axis, Field
from striate.anatomy.record import Anatomy, Im2col, Layer, Window
from striate.anatomy.trace import trace

__all__ = ["Anatomy", "Axis", "Field", "Im2col", "Layer", "Window", "trace"]
