"""Boxes of units against hand-made arithmetic."""

import pytest
import torch
from torch import nn

from striate import nets
from striate.anatomy import trace, unit_box
from striate.anatomy.units import read_unit
from striate.core.errors import UsageError


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):
        return trace(nets.build("vgg16"))


def test_pool5_of_vgg16(vgg16):
    # Size 212, stride 32; padding puts the start at -(1 + 1) - (2 + 2) - 3 * (4 + 8 + 16) = -90.
    box = unit_box(vgg16, "pool5", 3, 0)
    assert box.rows == (-90 + 96, -90 + 96 + 211) == (6, 217)
    assert box.columns == (-90, 121)
    assert box.clipped_rows == (6, 217)
    assert box.clipped_columns == (0, 121)
    assert box.size == (212, 212)
    assert box.clipped_size == (212, 122)
    assert "rows 6 to 217, columns -90 to 121" in box.in_words()
    assert "212x122 px: rows 6 to 217, columns 0 to 121; the rest is padding" in box.in_words()


def test_inside_needs_no_clipping(vgg16):
    assert unit_box(vgg16, "conv1_1", 1, 1).in_words() == (
        "conv1_1 at row 1, column 1 (one of 224x224 units) sees 3x3 px: rows 0 to 2, columns 0 to 2."
        " All of it lies inside the 224x224 px image."
    )


def test_fully_connected_units_see_everything(vgg16):
    box = unit_box(vgg16, "fc8")
    assert box.grid == (1, 1)
    assert box.clipped_rows == box.clipped_columns == (0, 223)


def test_json_is_plain(vgg16):
    assert unit_box(vgg16, "conv1_1", 0, 223).to_json() == {
        "layer": "conv1_1",
        "row": 0,
        "column": 223,
        "units": [224, 224],
        "rows": [-1, 1],
        "columns": [222, 224],
        "clipped_rows": [0, 1],
        "clipped_columns": [222, 223],
        "size_px": [3, 3],
        "clipped_size_px": [2, 2],
        "image_px": [224, 224],
    }


def test_units_in_the_padding_see_nothing():
    record = trace(nn.Sequential(nn.Conv2d(1, 1, 1, padding=3)), (1, 4, 4))
    box = unit_box(record, "0", 0, 4)
    assert box.rows == (-3, -3)
    assert box.clipped_rows is None
    assert box.clipped_columns == (1, 1)
    assert box.clipped_size == (0, 0)
    assert "All of it is padding" in box.in_words()


def test_read_unit():
    assert read_unit("pool5:3,12") == ("pool5", 3, 12)
    assert read_unit("fc8") == ("fc8", 0, 0)
    with pytest.raises(UsageError, match=r"LAYER:ROW,COL, such as pool5:3,3, got 'pool5:3'"):
        read_unit("pool5:3")


def test_refuses(vgg16):
    with pytest.raises(UsageError, match="rows 0 to 6 and columns 0 to 6, got 7,0"):
        unit_box(vgg16, "pool5", 7, 0)
    with pytest.raises(UsageError, match="a row of vgg16, got 'pool6': did you mean pool5"):
        unit_box(vgg16, "pool6")

    class Grids(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.MaxPool2d(2), nn.Conv2d(1, 1, 5)

        def forward(self, images):
            return self.a(images) + self.b(images)

    with pytest.raises(UsageError, match=r"add has no receptive field to show: .*different grids"):
        unit_box(trace(Grids(), (1, 8, 8)), "add")
