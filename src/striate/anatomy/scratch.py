"""What an operation holds only while it runs, on a CPU: copies in the layout that it computes in.

Shapes alone don't show these copies: torch makes them inside its kernels. Two rules, read off torch's record
of allocations (``docs/memory.md``), cover all that is more than a few hundred kilobytes:

- A convolution (oneDNN) holds a copy of its weights in oneDNN's own order. Its backward pass holds two: the
  gradient of the weights in oneDNN's order, and in torch's before it is put into the weights' layout.
- The backward pass of a pool computes in the layout of the gradient that comes in. It copies the places of
  the maxima and the gradient that it gives where they have another one, and an incoming gradient that is a
  part of a larger tensor.

Left out: buffers of each thread (below a megabyte each), and the matrix X_col of torch's own convolution,
which some batches of a single small image take instead of oneDNN.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format


def scratch_bytes(func: Any, args: Sequence[Any], results: Sequence[Tensor]) -> int:
    """Return the bytes that an operation holds besides its inputs and results.

    Args:
        func: torch's operator.
        args: its positional arguments.
        results: the tensors that it gave.
    """
    rule = _RULES.get(getattr(func, "overloadpacket", None))
    return rule(args, results) if rule is not None else 0


def _convolution(args: Sequence[Any], results: Sequence[Tensor]) -> int:
    weight: Tensor = args[1]
    return weight.nbytes


def _convolution_backward(args: Sequence[Any], results: Sequence[Tensor]) -> int:
    weight: Tensor = args[2]
    return 2 * weight.nbytes


def _max_pool_backward(args: Sequence[Any], results: Sequence[Tensor]) -> int:
    gradient, places = args[0], args[-1]
    return _copies(suggest_memory_format(gradient), (gradient, places, results[0]))


def _pool_backward(args: Sequence[Any], results: Sequence[Tensor]) -> int:
    gradient = args[0]
    return _copies(suggest_memory_format(gradient), (gradient, results[0]))


def _copies(layout: torch.memory_format, tensors: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors if not tensor.is_contiguous(memory_format=layout))


_RULES: dict[Any, Callable[[Sequence[Any], Sequence[Tensor]], int]] = {
    torch.ops.aten.convolution: _convolution,
    torch.ops.aten.convolution_backward: _convolution_backward,
    torch.ops.aten.max_pool2d_with_indices_backward: _max_pool_backward,
    torch.ops.aten.avg_pool2d_backward: _pool_backward,
    torch.ops.aten._adaptive_avg_pool2d_backward: _pool_backward,
}
