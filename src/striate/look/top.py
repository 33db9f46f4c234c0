"""Finding the top convolution layer of any network."""

from typing import NamedTuple

from torch import nn

from striate.anatomy import trace
from striate.core.errors import UsageError


class TopLayer(NamedTuple):
    """The layer whose feature map is summed.

    Attributes:
        name: path of a module.
        rectified: whether its output goes through max(0, x) first.
    """

    name: str
    rectified: bool


def top_layer(net: nn.Module, input_shape: tuple[int, int, int]) -> TopLayer | None:
    """Find the top convolution layer: the last convolution that gives maps of more than one pixel.

    What follows it without changing the maps' size belongs to it: normalisation, activation, the sum with a
    shortcut, the concatenation of branches.

    Returns:
        The module that gives those maps. Where the last such step is a function in the network's own code,
        the block around it, or the convolution, whose output is rectified if that function is a ReLU. None
        for a network without such a convolution.

    Raises:
        UsageError: the network can't be read on shapes alone, or does not take such images.
    """
    try:
        rows = list(trace(net, input_shape))
    except UsageError as error:
        raise UsageError(f"the top convolution layer can't be found, name it: {error}") from None
    known = dict(net.named_modules())

    def resolve(number: int) -> str | None:
        name, later = rows[number].name, [row.name for row in rows[number + 1 :]]
        module = name.partition("#")[0]
        if module in known:
            return None if any(other.startswith(f"{module}#") for other in later) else module
        block = module.rpartition(".")[0]
        return None if not block or any(other.startswith(f"{block}.") for other in later) else block

    convolutions = [k for k, row in enumerate(rows) if row.role == "conv" and _pixels(row.output) > 1]
    if not convolutions:
        return None
    last = convolutions[-1]
    chosen, chosen_row, rectified = resolve(last), rows[last].name, False
    for number in range(last + 1, len(rows)):
        row = rows[number]
        if len(row.output) != 3 or row.output[1:] != rows[last].output[1:]:
            break
        if row.role == "view":
            continue
        if row.role not in ("norm", "activation", "join"):
            break
        name = resolve(number)
        if name is not None:
            chosen, chosen_row, rectified = name, row.name, False
        elif row.kind.lower() in ("relu", "relu_") and row.inputs == (chosen_row,):
            rectified = True
    if chosen is None:
        raise UsageError(
            f"expected a top convolution layer that is a module, got {rows[last].name}, a function"
            " in the network's own code, or used again later: name another layer"
        )
    return TopLayer(chosen, rectified)


def _pixels(output: tuple[int, ...]) -> int:
    return output[1] * output[2] if len(output) == 3 else 0
