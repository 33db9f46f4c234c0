"""Finding numbers that are not finite, in a few bytes of memory."""

from collections.abc import Mapping

import torch


def first_non_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or an infinity, or None.

    Nothing of a tensor's size is made: a finite sum has finite terms, and where the sum overflows, the
    smallest and the largest value decide, which are NaN as soon as one value is.

    Args:
        state: tensors by name, on any device; those of whole numbers are always finite.
    """
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel() and not _is_finite(tensor.detach()):
            return name
    return None


def _is_finite(tensor: torch.Tensor) -> bool:
    if torch.isfinite(tensor.sum()):
        return True
    # aminmax copies a tensor that is not contiguous; the dimensions in the order of memory are.
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor.permute(order)))).all())
