"""Averages of weights: several networks of one shape become one."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from striate.core.errors import BundleError, UsageError

State = Mapping[str, Tensor]


def average_states(
    states: Sequence[State], weights: Sequence[float] | None = None, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Return the weighted mean of networks' tensors.

    Sums are in float64 and in an order that depends on the tensors alone, so that permuting the states
    (with their weights) changes no bit. Float tensors of different precision are averaged into the wider
    one. Batch norm's counters of batches can't be averaged: the largest is kept. Other integer tensors must
    agree.

    Args:
        states: at least one, with the same names and shapes.
        weights: one number of at least 0 for each state, not all 0; they need not sum to 1. None for equal
            ones.
        names: names of the states in messages.

    Returns:
        New tensors on the CPU, in the first state's order.

    Raises:
        UsageError: no states, or weights that don't fit.
        BundleError: the tensors differ in name, shape or kind.

    Paper: Wortsman et al. 2022, "Model soups", sec. 2 (the uniform soup is the mean with equal weights).
    """
    shares = [1.0] * len(states) if weights is None else [float(weight) for weight in weights]
    if not states or len(shares) != len(states):
        raise UsageError(f"expected one weight for each of {len(states)} networks, got {len(shares)}")
    total = sum(shares)
    if not all(share >= 0 for share in shares) or not 0 < total < math.inf:
        raise UsageError(
            "expected weights of at least 0 that are not all 0 and have a finite sum, got"
            f" {', '.join(f'{share:g}' for share in shares)}"
        )
    return mix_states(states, lambda name: shares, divisor=math.fsum(shares), names=names)


def mix_states(
    states: Sequence[State],
    coefficients: Callable[[str], Sequence[float]],
    *,
    divisor: float = 1.0,
    names: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Return ``sum_i c_i state_i / divisor``, tensor by tensor.

    Args:
        states: at least one, with the same names and shapes.
        coefficients: maps a tensor's name to one finite number for each state.
        divisor: what each sum is divided by.
        names: names of the states in messages.

    Returns:
        As ``average_states``.

    Raises:
        BundleError: the tensors differ in name, shape or kind.
    """
    called = list(names or (f"network {i + 1}" for i in range(len(states))))
    refuse_other_tensors(states, called)
    digests = [state_digest(state) for state in states]
    mixed = {}
    for name, first in states[0].items():
        tensors = [state[name].detach().cpu() for state in states]
        if not first.is_floating_point():
            mixed[name] = _whole_numbers(name, tensors, called)
            continue
        shares = [float(share) for share in coefficients(name)]
        total = torch.zeros(first.shape, dtype=torch.float64)
        for i in sorted(range(len(states)), key=lambda i: (digests[i], shares[i])):
            if shares[i] != 0.0:
                total.add_(tensors[i].to(torch.float64), alpha=shares[i])
        dtype = first.dtype
        for tensor in tensors[1:]:
            dtype = torch.promote_types(dtype, tensor.dtype)
        mixed[name] = total.div_(divisor).to(dtype)
    return mixed


def refuse_other_tensors(states: Sequence[State], names: Sequence[str]) -> None:
    """Refuse states that lack the tensors of the first.

    Raises:
        BundleError: a name, shape or kind (float or whole numbers) differs.
    """
    first = states[0]
    for state, name in zip(states[1:], names[1:], strict=True):
        if odd := sorted(first.keys() ^ state.keys()):
            raise BundleError(
                f"expected {name} to hold the same tensors as {names[0]}, got a difference in {odd[0]}: only"
                " networks of one architecture can be averaged; `striate blend ensemble` takes any"
            )
        for key, tensor in first.items():
            other = state[key]
            if (
                tensor.shape != other.shape
                or tensor.is_floating_point() != other.is_floating_point()
                or tensor.is_complex()
                or other.is_complex()
            ):
                raise BundleError(
                    f"expected {key} of {_shape(tensor)} in {name}, as in {names[0]}, got {_shape(other)}:"
                    " only networks of one architecture can be averaged; `striate blend ensemble` takes any"
                )


def state_digest(state: State) -> str:
    """Return 32 hex digits (BLAKE2b) of the names, types, shapes and bits of a network's tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _whole_numbers(name: str, tensors: Sequence[Tensor], called: Sequence[str]) -> Tensor:
    """Join tensors that hold no floats: counters by their largest, all others must be equal."""
    first = tensors[0]
    if name.endswith("num_batches_tracked"):
        return torch.stack([tensor.to(torch.int64) for tensor in tensors]).amax(0)
    for tensor, other in zip(tensors[1:], called[1:], strict=True):
        if not torch.equal(tensor.to(torch.int64), first.to(torch.int64)):
            raise BundleError(
                f"expected {name} to be equal in {called[0]} and {other}, got different whole numbers, which"
                " have no average: these networks are of different kinds"
            )
    return first.clone()


def _shape(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return f"{'x'.join(map(str, tensor.shape)) or 'one value'} {kind}"
