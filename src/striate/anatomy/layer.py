"""What one layer costs and what its units see, and the sums over a network's layers."""

from collections.abc import Iterator
from dataclasses import dataclass

from striate.anatomy.field import Field

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How a convolution or a pool slides: (rows, columns) each.

    Attributes:
        kernel: size of the window.
        stride: step.
        padding: zeros on each side.
        dilation: spacing of the taps.
        ceil_mode: whether the last window may hang over the edge (Caffe's pooling).
        groups: of a convolution.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Im2col:
    """The matrices of a convolution written as a product, for each group.

    Attributes:
        columns: shape of X_col, ``(C_in/g) k^2 x H_out W_out``.
        weights: shape of W_row, ``C_out/g x (C_in/g) k^2``.
        groups: number of such products.
    """

    columns: tuple[int, int]
    weights: tuple[int, int]
    groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One row: a module without children, or an operation that a module does outside of its children.

    Attributes:
        name: path of the module, such as ``inception_3a.conv5x5``; an operation has its module's path and its
            own name, ``conv2_1.add``; a module that is used again gets ``#2``.
        kind: class of the module, or name of the operation.
        role: what it is in a ledger: ``input``, ``conv``, ``fc``, ``pool``, ``norm``, ``activation``,
            ``join`` (sum, concatenation), ``view`` (no new values) or ``other``.
        inputs: names of the rows whose outputs it reads.
        output: sizes of what it gives for one image, without the batch.
        weights: trainable values besides biases; those of a module used again are counted the first time.
        biases: trainable biases.
        macs: multiply-accumulates of convolutions and matrix products for one image.
        field: receptive fields of its units; None where no one size describes them (see ``note``).
        window: of a convolution or pool.
        im2col: of a convolution.
        note: what a reader should know, or "".
    """

    name: str
    kind: str
    role: str
    inputs: tuple[str, ...]
    output: Shape
    weights: int = 0
    biases: int = 0
    macs: int = 0
    field: Field | None = None
    window: Window | None = None
    im2col: Im2col | None = None
    note: str = ""

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def values(self) -> int:
        """Numbers in the output for one image."""
        count = 1
        for size in self.output:
            count *= size
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """A network's layers and their sums; ``Anatomy`` adds the ways to show them.

    Attributes:
        name: of the network.
        input_shape: channels, height and width in pixels.
        layers: rows in the order of computation; the first is the input.
        outputs: names of the rows that the network returns.
        idle_parameters: trainable values that the computation at test time does not use, such as auxiliary
            classifiers.
    """

    name: str
    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    idle_parameters: int = 0

    def __iter__(self) -> Iterator[Layer]:
        """Go through the rows."""
        return iter(self.layers)

    def __getitem__(self, name: str) -> Layer:
        """Return a row by name.

        Raises:
            KeyError: there is none of that name.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    @property
    def parameters(self) -> int:
        """Trainable values used at test time."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def weights(self) -> int:
        """Trainable values used at test time, without biases."""
        return sum(layer.weights for layer in self.layers)

    @property
    def biases(self) -> int:
        """Trainable biases used at test time."""
        return sum(layer.biases for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and matrix products for one image."""
        return sum(layer.macs for layer in self.layers)
