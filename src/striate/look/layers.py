"""A network's layers by name, and what their units see. The network is left as it was."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from striate.anatomy import trace
from striate.anatomy.field import Field
from striate.core.errors import UsageError


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Run a block with the network in eval mode and its parameters frozen; afterwards all is as before.

    Restored, also after an exception: the mode of every module, ``requires_grad`` of every parameter, and its
    gradient, which nothing in the block can change.
    """
    modes = {module: module.training for module in net.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in net.parameters()}
    net.eval()
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, requires_grad in wanted.items():
            parameter.requires_grad_(requires_grad)


def find_layer(net: nn.Module, name: str) -> nn.Module:
    """Return a module by its path, such as ``conv3_1`` or ``inception_3a.conv5x5``.

    Raises:
        UsageError: there is none, with the names that come close.
    """
    known = {path: module for path, module in net.named_modules() if path}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:5]
    raise UsageError(f"expected the name of a layer, got {name!r}: did you mean {' or '.join(close)}?")


def device_of(net: nn.Module) -> torch.device:
    """Return the device of a network's weights; the CPU if it has none."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


@contextmanager
def on_device(net: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Move a network to a device for a block; afterwards it is where it was."""
    before = device_of(net)
    try:
        yield net.to(device)
    finally:
        net.to(before)


def field_of(net: nn.Module, input_shape: tuple[int, int, int], layer: str) -> Field | None:
    """Return the receptive fields of a layer's units by arithmetic.

    Of a block, those of its last operation; of a module used several times, those of its last use.

    Returns:
        None where no one size describes them, or the network runs but can't be read on shapes alone.

    Raises:
        UsageError: no such layer.
    """
    find_layer(net, layer)
    try:
        anatomy = trace(net, input_shape)
    except UsageError:  # code that depends on values
        return None
    rows = [row for row in anatomy if row.name.partition("#")[0] == layer or row.name.startswith(f"{layer}.")]
    return rows[-1].field if rows else None


def pixel_box(
    field: Field | None, row: int, column: int, input_shape: tuple[int, int, int]
) -> tuple[int, int, int, int]:
    """Return the first row, first column, last row and last column that a unit sees, inside the image.

    Without a field, the whole image.
    """
    _, height, width = input_shape
    if field is None:
        return 0, 0, height - 1, width - 1
    top, bottom = field.rows.box(row, height)
    left, right = field.columns.box(column, width)
    return top, left, bottom, right
