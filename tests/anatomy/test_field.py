"""The arithmetic of receptive fields, by hand."""

import pytest

from striate.anatomy.field import PIXELS, Axis, join

PIXEL = PIXELS.rows


def test_three_small_windows_see_what_one_large_one_sees() -> None:
    """3 + 3 - 1 + 3 - 1 = 7 (seed 003)."""
    small = PIXEL.window(3, padding=1).window(3, padding=1).window(3, padding=1)
    assert small == PIXEL.window(7, padding=3) == Axis(7, 1, -3)


def test_two_windows_of_five_see_nine() -> None:
    """5 + 5 - 1 = 9 (seed 003)."""
    assert PIXEL.window(5).window(5).size_px == 9


@pytest.mark.parametrize(("layers", "size", "start"), [(1, 3, -1), (5, 11, -5), (13, 27, -13)])
def test_stack_of_3x3_sees_2n_plus_1(layers: int, size: int, start: int) -> None:
    axis = PIXEL
    for _ in range(layers):
        axis = axis.window(3, padding=1)
    assert axis == Axis(size, 1, start)


def test_alexnet_layer_by_layer() -> None:
    """Size and jump of every layer, the fact sheet's C.1; starts by hand from the paddings."""
    axis = PIXEL.window(11, stride=4)
    assert axis == Axis(11, 4, 0)
    axis = axis.window(3, stride=2)
    assert axis == Axis(19, 8, 0)
    axis = axis.window(5, padding=2)
    assert axis == Axis(51, 8, -16)
    axis = axis.window(3, stride=2)
    assert axis == Axis(67, 16, -16)
    for size, start in ((99, -32), (131, -48), (163, -64)):
        axis = axis.window(3, padding=1)
        assert axis == Axis(size, 16, start)
    assert axis.window(3, stride=2) == Axis(195, 32, -64)


def test_dilation_spreads_the_taps() -> None:
    """Taps at -2, 0, 2, then at multiples of 4 pixels: -2 - 4 .. 2 + 4."""
    axis = PIXEL.window(3, padding=2, dilation=2)
    assert axis == Axis(5, 1, -2)
    assert axis.window(3, padding=4, dilation=4) == Axis(13, 1, -6)


def test_box_of_a_unit() -> None:
    axis = Axis(7, 4, -3)
    assert axis.box(0) == (-3, 3)
    assert axis.box(2) == (5, 11)
    assert axis.box(0, 10) == (0, 3)
    assert axis.box(2, 10) == (5, 9)


def test_box_leaves_out_pixels_that_a_lower_layer_lost() -> None:
    """7 pixels, 3 windows of 2 at stride 2: pixel 6 is lost, also to the padded window above."""
    pooled = PIXEL.reached(7).window(2, stride=2)
    axis = pooled.reached(3).window(3, padding=1)
    assert axis.box(2) == (2, 7)
    assert axis.box(2, 7) == (2, 5)


def test_everything_has_no_jump() -> None:
    """6 units of 195 pixels, 32 apart: 195 + 5 * 32 = 355."""
    whole = Axis(195, 32, -64).everything(6)
    assert whole == Axis(355, None, -64)
    assert whole.covers(224)
    assert not whole.covers(300)
    assert whole.box(3) == (-64, 290)
    assert whole.window(3, stride=2) == whole


def test_join_takes_the_hull_not_the_largest_size() -> None:
    """Windows 0..2 and 4..5 at unit 0: the hull is 0..5, larger than each."""
    assert join([Axis(3, 1, 0), Axis(2, 1, 4)], [8, 8]) == Axis(6, 1, 0)


def test_join_of_a_residual_block() -> None:
    """A shortcut of one unit beside two 3x3 windows, on a grid of 4 pixels."""
    block = Axis(11, 4, -5)
    assert join([block, block.window(3, padding=1).window(3, padding=1)], [8, 8]) == Axis(27, 4, -13)


def test_join_refuses_different_grids() -> None:
    assert join([Axis(3, 1, -1), Axis(3, 2, -1)], [8, 8]) is None


def test_join_of_a_grid_with_one_unit_that_sees_all() -> None:
    assert join([Axis(3, 1, -1), Axis(8, None, 0)], [8, 1]) == Axis(10, None, -1)


def test_join_of_single_units() -> None:
    assert join([Axis(8, None, 0), Axis(4, None, 2)], [1, 1]) == Axis(8, None, 0)
