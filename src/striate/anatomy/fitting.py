"""Windows that don't fit: what each rounding gives, and what would fit.

The lectures allow a layer only where ``(N + 2P - F)/S + 1`` is a whole number. Programs round it.
"""

from dataclasses import dataclass

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError

_MAX_TRIED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """A window that slides along one axis: the N, F, S and P of the lectures, in pixels.

    Attributes:
        input_px: size of the input, N.
        kernel_px: size of the window, F.
        stride: step, S.
        padding: zeros on each side, P.
        ceil_mode: whether the size is rounded up, as in Caffe's pooling.
        pools: whether the window pools; a pool's padding is at most half its window.
    """

    input_px: int
    kernel_px: int
    stride: int = 1
    padding: int = 0
    ceil_mode: bool = False
    pools: bool = False

    @property
    def span_px(self) -> int:
        """Pixels that the window can move, ``N + 2P - F``; negative where it is too large."""
        return self.input_px + 2 * self.padding - self.kernel_px

    @property
    def fits(self) -> bool:
        """Whether the formula gives a whole number, whichever way the layer rounds."""
        return self.span_px >= 0 and self.span_px % self.stride == 0

    def size(self) -> int:
        """Return the output's size.

        Raises:
            UsageError: the window is larger than the padded input, with the arithmetic and what would do.
        """
        try:
            return output_size(
                self.input_px,
                self.kernel_px,
                stride=self.stride,
                padding=self.padding,
                ceil_mode=self.ceil_mode,
            ).size
        except InputSizeError:
            least = -(-(self.kernel_px - self.input_px) // 2)
            pad = "" if self.pools and least > self.kernel_px // 2 else f" or pad {least}"
            raise UsageError(
                f"expected a window of at most {self.input_px + 2 * self.padding} px, the padded input, got"
                f" {self.kernel_px} px: {self.span()} is below 0: use a smaller window{pad}"
            ) from None

    def span(self) -> str:
        """Write ``N + 2*P - F``; a pool without padding leaves 2*P out."""
        padding = "" if self.pools and not self.padding else f" + 2*{self.padding}"
        return f"{self.input_px}{padding} - {self.kernel_px}"

    def arithmetic(self) -> str:
        """Write the formula in numbers: ``(227 + 2*0 - 11)/4 + 1 = 55``, or ``= 2.33`` unrounded."""
        steps, lost = divmod(self.span_px, self.stride)
        value = str(steps + 1)
        if lost:
            quotient = self.span_px / self.stride + 1
            digits = next((d for d in range(2, 8) if not round(quotient, d).is_integer()), 8)
            value = f"{quotient:.{digits}f}"
        return f"({self.span()})/{self.stride} + 1 = {value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """One change that would make windows fit.

    Attributes:
        what: ``stride``, ``pad`` or ``input``.
        value: to use in its place.
        size: output size with it.
    """

    what: str
    value: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Windows that don't fit along one axis.

    Attributes:
        axis: ``side`` where height and width agree, else ``height`` or ``width``.
        arithmetic: the formula, with its result that is no whole number.
        floor: size rounded down: PyTorch, Caffe's convolutions.
        ceil: size rounded up: Caffe's pooling and PyTorch's ``ceil_mode``, which drop a last window that
            would start in the padding.
        zeros: size rounded up without that exception: cuda-convnet, convolutions too, with zeros past the
            edge.
        lost_px: pixels of the padded input that no window reads when rounded down.
        missing_px: pixels that the last window reads past the edge when rounded up.
        fitting: what would fit; nearest first.
    """

    axis: str
    arithmetic: str
    floor: int
    ceil: int
    zeros: int
    lost_px: int
    missing_px: int
    fitting: tuple[Fitting, ...]


def misfit(window: Sliding, axis: str = "side") -> Misfit | None:
    """Say what becomes of a window that doesn't fit, and what would fit.

    Args:
        window: no larger than its padded input.
        axis: its name.

    Returns:
        None where the window fits.
    """
    if window.fits:
        return None
    steps, lost = divmod(window.span_px, window.stride)
    ceil = output_size(
        window.input_px, window.kernel_px, stride=window.stride, padding=window.padding, ceil_mode=True
    )
    return Misfit(
        axis=axis,
        arithmetic=window.arithmetic(),
        floor=steps + 1,
        ceil=ceil.size,
        zeros=steps + 2,
        lost_px=lost,
        missing_px=window.stride - lost,
        fitting=(*_strides(window), *_paddings(window), *_inputs(window)),
    )


def _changed(window: Sliding, what: str, value: int) -> Fitting | None:
    """Try one change."""
    tried = Sliding(
        input_px=value if what == "input" else window.input_px,
        kernel_px=window.kernel_px,
        stride=value if what == "stride" else window.stride,
        padding=value if what == "pad" else window.padding,
        pools=window.pools,
    )
    return Fitting(what=what, value=value, size=tried.size()) if tried.fits else None


def _strides(window: Sliding) -> list[Fitting]:
    """Give the nearest smaller and the nearest larger stride; a larger one than the window skips pixels."""
    smaller = range(window.stride - 1, max(0, window.stride - 1 - _MAX_TRIED), -1)
    larger = range(window.stride + 1, min(window.kernel_px, window.stride + _MAX_TRIED) + 1)
    return _first(window, "stride", smaller) + _first(window, "stride", larger)


def _paddings(window: Sliding) -> list[Fitting]:
    """Give the nearest smaller and the nearest larger padding; by parity there may be none."""
    most = window.kernel_px // 2 if window.pools else window.kernel_px - 1
    smaller = range(window.padding - 1, max(-1, window.padding - 1 - _MAX_TRIED), -1)
    larger = range(window.padding + 1, min(most, window.padding + _MAX_TRIED) + 1)
    return _first(window, "pad", smaller) + _first(window, "pad", larger)


def _inputs(window: Sliding) -> list[Fitting]:
    """Give the next smaller and the next larger input."""
    lost = window.span_px % window.stride
    found = [_changed(window, "input", window.input_px - lost)] if window.input_px > lost else []
    found.append(_changed(window, "input", window.input_px + window.stride - lost))
    return [one for one in found if one is not None]


def _first(window: Sliding, what: str, values: range) -> list[Fitting]:
    return next(([one] for value in values if (one := _changed(window, what, value))), [])


@dataclass(frozen=True, slots=True, kw_only=True)
class SamePadding:
    """The padding that keeps an axis's size at stride 1.

    Attributes:
        kernel_px: size of the window, F.
        before: zeros at the near edge.
        after: zeros at the far edge; one more than before where F is even.
        arithmetic: ``(5 - 1)/2 = 2``.
    """

    kernel_px: int
    before: int
    after: int
    arithmetic: str

    @property
    def symmetric(self) -> bool:
        """Whether both edges get the same padding, which most layers ask for."""
        return self.before == self.after


def same_padding(kernel_px: int) -> SamePadding:
    """Answer the lectures' question backwards: which padding keeps the size at stride 1?

    Args:
        kernel_px: size of the window, at least 1.

    Raises:
        UsageError: the size is below 1.

    Paper: the lectures' ``P = (F - 1)/2``.
    Departures: an even window, for which the lectures give nothing, gets one zero more at the far edge.
    """
    if kernel_px < 1:
        raise UsageError(f"expected a window of at least 1 px, got {kernel_px}: write it as 5x5")
    all_zeros = kernel_px - 1
    half = all_zeros // 2
    result = str(half) if all_zeros % 2 == 0 else f"{all_zeros / 2:.1f}"
    return SamePadding(
        kernel_px=kernel_px,
        before=half,
        after=all_zeros - half,
        arithmetic=f"({kernel_px} - 1)/2 = {result}",
    )
