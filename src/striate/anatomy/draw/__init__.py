"""Drawings: the architecture figure of a network, from its record."""

from striate.anatomy.draw.layout import PAPER_MM, SCALES, STYLES, layout
from striate.anatomy.draw.render import encode, pdf, png, svg
from striate.anatomy.draw.shapes import Picture
from striate.anatomy.draw.themes import THEMES

__all__ = ["PAPER_MM", "SCALES", "STYLES", "THEMES", "Picture", "encode", "layout", "pdf", "png", "svg"]
