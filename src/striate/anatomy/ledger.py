"""Activation memory, counted by a named rule: there is no one figure, so each ledger says what it counts."""

from collections.abc import Callable
from dataclasses import dataclass

from striate.anatomy.layer import Layer, Layers
from striate.core.errors import UsageError

VALUE_BYTES = 4
"""Of a 32-bit float, the unit in which every ledger counts values."""

_INDEX_BYTES = 8

LEDGERS: dict[str, str] = {
    "lecture": (
        "outputs of the input, convolutions, pools, local response normalisation and fully connected layers,"
        " each once; activations, batch normalisation and joins (made in place), padding, dropout and views"
        " are free"
    ),
    "separate": "the output of every row that makes new values, activations and batch normalisation too",
    "training": (
        "values kept for the backward pass: what convolutions, fully connected layers, pools and"
        " normalisation read, what ReLU, tanh, sigmoid and softmax give, 64-bit places of maxima, masks of"
        " dropout; with weights, gradients and momentum"
    ),
    "im2col": (
        "the matrix X_col of each convolution, written out in full, for 1x1 convolutions and all groups too"
    ),
}
"""The ledgers by name, and the rule of each."""

_GIVES = frozenset(
    [
        *("ReLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Softmax2d"),
        *("relu", "tanh", "sigmoid", "softmax", "log_softmax", "sqrt", "exp"),
    ]
)
_KEEPS_NOTHING = frozenset(("add", "sub", "rsub", "neg", "cat", "stack", "pad", "sum", "mean", "slice"))
_DROPOUT = frozenset(("Dropout", "Dropout2d", "AlphaDropout"))
_READS = frozenset(("conv", "fc", "pool", "norm", "activation", "join", "other"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Memory row by row.

    Attributes:
        name: key of ``LEDGERS``.
        rule: what is counted, in words.
        batch_images: number of images.
        rows: bytes by row name, for the whole batch, in the order of computation.
        besides: bytes that belong to no one row, by name: in the training ledger weights, gradients and
            momentum.
    """

    name: str
    rule: str
    batch_images: int
    rows: dict[str, int]
    besides: dict[str, int]

    @property
    def activation_bytes(self) -> int:
        """Sum of the rows."""
        return sum(self.rows.values())

    @property
    def values(self) -> int:
        """The rows in numbers of 4 bytes."""
        return self.activation_bytes // VALUE_BYTES

    @property
    def total_bytes(self) -> int:
        """Rows and what is besides."""
        return self.activation_bytes + sum(self.besides.values())

    @property
    def largest(self) -> tuple[str, int]:
        """Name and bytes of the largest row."""
        return max(self.rows.items(), key=lambda row: row[1])


def ledger(anatomy: Layers, name: str = "lecture", *, batch_images: int = 1) -> Ledger:
    """Count the memory of a network's activations by a named rule.

    The training ledger is arithmetic on the record, as every ledger: one value of a tensor is counted once,
    however many rows read it; nothing is done in place; the loss and the temporary memory of the
    convolutions are left out. Auxiliary classifiers are not in the record, so only their weights are counted.

    Args:
        anatomy: of the network.
        name: ``lecture``, ``separate``, ``training`` or ``im2col``; ``LEDGERS`` has the rules.
        batch_images: number of images, at least 1.

    Raises:
        UsageError: no such ledger, or no image.

    Paper: the lecture ledger is the rule of the lectures' VGG-16 table, whose rows sum to 15,237,608 values.
    """
    if name not in LEDGERS:
        raise UsageError(f"expected a ledger of {', '.join(LEDGERS)}, got {name!r}")
    if batch_images < 1:
        raise UsageError(f"expected a batch of at least 1 image, got {batch_images}")
    one_image = _RULES[name](anatomy)
    besides = {}
    if name == "training":
        parameter_bytes = VALUE_BYTES * (anatomy.parameters + anatomy.idle_parameters)
        besides = dict.fromkeys(("weights", "gradients", "momentum"), parameter_bytes)
    return Ledger(
        name=name,
        rule=LEDGERS[name],
        batch_images=batch_images,
        rows={row: count * batch_images for row, count in one_image.items()},
        besides=besides,
    )


def is_batch_norm(layer: Layer) -> bool:
    """Whether a row is batch normalisation, module or function."""
    return layer.role == "norm" and "batch" in layer.kind.lower()


def _lecture(anatomy: Layers) -> dict[str, int]:
    return {
        layer.name: 0
        if layer.role in ("activation", "join", "view") or is_batch_norm(layer) or _is_padding(layer)
        else VALUE_BYTES * layer.values
        for layer in anatomy
    }


def _is_padding(layer: Layer) -> bool:
    return layer.role == "other" and "pad" in layer.kind.lower()


def _separate(anatomy: Layers) -> dict[str, int]:
    return {layer.name: 0 if layer.role == "view" else VALUE_BYTES * layer.values for layer in anatomy}


def _im2col(anatomy: Layers) -> dict[str, int]:
    counts = {}
    for layer in anatomy:
        product = layer.im2col
        counts[layer.name] = (
            0 if product is None else VALUE_BYTES * product.groups * product.columns[0] * product.columns[1]
        )
    return counts


def _training(anatomy: Layers) -> dict[str, int]:
    by_name = {layer.name: layer for layer in anatomy}

    def makers(name: str) -> set[str]:
        """Rows whose values a row's output shows: itself, or what its views look at."""
        layer = by_name[name]
        if layer.role != "view" or layer.kind in _DROPOUT:
            return {name}
        return {maker for source in layer.inputs for maker in makers(source)}

    kept: set[str] = set()
    counts = dict.fromkeys(by_name, 0)
    for layer in anatomy:
        if layer.kind in _GIVES:
            kept.add(layer.name)
        elif layer.role in _READS and layer.kind not in _KEEPS_NOTHING:
            for source in layer.inputs:
                kept |= makers(source)
        if is_batch_norm(layer):
            counts[layer.name] += 2 * VALUE_BYTES * layer.output[0]  # the batch's mean and deviation
        elif layer.role == "norm" or layer.kind in _DROPOUT:
            counts[layer.name] += VALUE_BYTES * layer.values  # the divisor; the mask
        elif layer.role == "pool" and "max" in layer.kind.lower():
            counts[layer.name] += _INDEX_BYTES * layer.values
    for name in kept:
        counts[name] += VALUE_BYTES * by_name[name].values
    return counts


_RULES: dict[str, Callable[[Layers], dict[str, int]]] = {
    "lecture": _lecture,
    "separate": _separate,
    "training": _training,
    "im2col": _im2col,
}
