"""Reading a network's layers without leaving a trace on it."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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


def activations(net: nn.Module, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Run images through a network and keep what some layers give.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed, on the network's device.
        layers: paths of modules; of a module used several times, its last use counts.

    Returns:
        The outputs by name, detached: ``N x C x H x W``, or ``N x features``.

    Raises:
        UsageError: no such layer, or one that the images do not reach, or that gives no tensor.
    """
    kept: dict[str, Tensor] = {}
    with untouched(net), torch.no_grad(), outputs(net, layers, kept):
        net(images)
    missing = [name for name in layers if name not in kept]
    if missing:
        raise UsageError(
            f"expected layers that give a tensor for these images, got {', '.join(missing)}:"
            " such a layer is not used at test time"
        )
    return {name: tensor.detach() for name, tensor in kept.items()}


@contextmanager
def outputs(net: nn.Module, layers: Sequence[str], into: dict[str, Tensor]) -> Iterator[None]:
    """While the block runs, put what these layers give ``into`` a dict, gradients and all."""

    def keeper(name: str):  # type: ignore[no-untyped-def]
        def keep(module: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                into[name] = output

        return keep

    handles = []
    try:
        for name in layers:
            handles.append(find_layer(net, name).register_forward_hook(keeper(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def field_of(net: nn.Module, input_shape: tuple[int, int, int], layer: str) -> Field | None:
    """Return the receptive fields of a layer's units by arithmetic.

    Of a block, those of its last row; of a module used several times, those of its last use, whose output
    hooks see.

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
