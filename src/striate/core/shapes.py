"""Operations on torch's meta device, where tensors have sizes and no values, without a detour through Python.

For most operations torch works the result's size out in Python code that also broadcasts, promotes and
checks, 0.2 ms each. Networks do few kinds of things that keep a size; these are answered here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_KEEPS_SIZE = frozenset((_aten.relu.default, _aten.tanh.default, _aten.sigmoid.default))
_BATCH_NORM = frozenset((_aten.native_batch_norm.default, _aten._native_batch_norm_legit_no_training.default))
_PRODUCTS = frozenset((_aten.addmm.default, _aten.mm.default))
_DRAWS = frozenset(
    (
        _aten.normal_.default,
        _aten.uniform_.default,
        _aten.zero_.default,
        _aten.fill_.Scalar,
        _aten.mul_.Tensor,
        _aten.mul_.Scalar,
    )
)


def on_meta(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None = None) -> Any:
    """Run one operation on meta tensors.

    Args:
        func: torch's operator, as a dispatch mode gets it.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Returns:
        What the operator gives on the meta device. Statistics that batch normalisation returns beside its
        result are empty.
    """
    if func in _DRAWS:
        return args[0]
    if func in _KEEPS_SIZE:
        return torch.empty_like(args[0])
    if func in _BATCH_NORM:
        return torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
    if func is _aten.add.Tensor and _alike(args[0], args[1]):
        return torch.empty_like(args[0])
    if func in _PRODUCTS and not kwargs and args[-2].dim() == args[-1].dim() == 2:
        left, right = args[-2:]
        biased = len(args) == 2 or args[0].shape == right.shape[1:]
        if biased and left.shape[1] == right.shape[0] and left.dtype == right.dtype:
            return left.new_empty(left.shape[0], right.shape[1])
    if func is _aten.convolution.default and (shape := _convolved(args)) is not None:
        return args[0].new_empty(shape)
    return func(*args, **(kwargs or {}))


def _alike(a: Any, b: Any) -> bool:
    return (
        isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())
    )


def _convolved(args: Sequence[Any]) -> tuple[int, ...] | None:
    """Return the size of a convolution's result; None where torch should say what is wrong, or transposed."""
    maps, weight, bias, stride, padding, dilation, transposed, _, groups = args
    axes = weight.dim() - 2
    fits = maps.dim() == weight.dim() and axes >= 1 and maps.shape[1] == weight.shape[1] * groups
    if transposed or not fits or weight.shape[0] % groups or len({maps.dtype, weight.dtype}) > 1:
        return None
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != maps.dtype):
        return None
    sizes = []
    for axis in range(axes):
        step, zeros, gap = (value[axis % len(value)] for value in (stride, padding, dilation))
        span = maps.shape[2 + axis] + 2 * zeros - gap * (weight.shape[2 + axis] - 1) - 1
        if span < 0 or step < 1:
            return None
        sizes.append(span // step + 1)
    return (maps.shape[0], weight.shape[0], *sizes)


class SizesOnly(TorchDispatchMode):
    """Runs what is done on the meta device through ``on_meta``."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler, most of a second: nothing is compiled under this mode."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation."""
        return on_meta(func, args, kwargs)
