"""Convolution arithmetic: the one place of the output-size formula."""

from dataclasses import dataclass

from striate.core.errors import InputSizeError


@dataclass(frozen=True, slots=True)
class OutputSize:
    """How many windows fit along one axis, and what is left over.

    Attributes:
        size: number of output positions (at least 1).
        lost_px: input pixels (padding included) at the far edge that no window reads. The lectures call a
            layer with ``lost_px > 0`` one that "doesn't fit". Zero in ceil mode, where the last window may
            hang over the edge instead.
    """

    size: int
    lost_px: int

    @property
    def fits(self) -> bool:
        """Whether the windows cover the padded input exactly."""
        return self.lost_px == 0


def output_size(
    input_px: int,
    kernel_px: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> OutputSize:
    """Count the positions of a sliding window along one axis.

    Args:
        input_px: input size in pixels, at least 1.
        kernel_px: window size in pixels, at least 1.
        stride: step between windows in pixels, at least 1.
        padding: zeros added on each side.
        dilation: spacing between the window's taps.
        ceil_mode: round up instead of down, and drop a last window that would start in the padding
            (Caffe pooling).

    Returns:
        The size and the pixels lost.

    Raises:
        InputSizeError: the window is larger than the padded input, with the arithmetic.

    Paper: ``floor((N + 2P - F)/S) + 1``, the formula of every lecture on convolutional networks; F is the
        dilated extent ``D(F - 1) + 1``.
    Departures: none.
    """
    extent = dilation * (kernel_px - 1) + 1
    span = input_px + 2 * padding - extent
    if span < 0:
        raise InputSizeError(
            f"expected an input of at least {extent - 2 * padding} px for a {kernel_px}x{kernel_px} window"
            f" (padding {padding}), got {input_px} px: use larger images or more padding"
        )
    steps, lost = divmod(span, stride)
    if ceil_mode and lost:
        starts_inside = (steps + 1) * stride < input_px + padding
        return OutputSize(steps + 2, 0) if starts_inside else OutputSize(steps + 1, lost)
    return OutputSize(steps + 1, lost)
