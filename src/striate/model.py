"""Model: one handle for a network, trained or not, and how to get one: ``load`` and ``wrap``."""

from typing import TYPE_CHECKING

from torch import nn

from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork

if TYPE_CHECKING:
    pass


class Model:
    """A network with all that is needed to use it.

    ``striate.load`` and ``striate.wrap`` make one. Its methods call the same functions as the command line.

    Images are paths, Pillow's images, uint8 arrays ``H x W x 3`` (RGB) or ``H x W`` (grey).

    Attributes:
        opened: network and bundle, as the functions of striate's rooms take them.
    """

    def __init__(self, opened: OpenNetwork) -> None:
        self.opened = opened

    @property
    def net(self) -> nn.Module:
        """The network, an ordinary ``torch.nn.Module`` in eval mode."""
        return self.opened.net

    @property
    def bundle(self) -> Bundle | None:
        """What was read from a file, or None for random weights and modules of one's own."""
        return self.opened.bundle if self.opened.bundle.state else None

    @property
    def name(self) -> str:
        """Short name: of the run, the file, or the network."""
        return self.opened.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores."""
        return self.opened.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What images go through on their way to the network."""
        return self.opened.preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input in pixels."""
        return self.opened.input_shape

    @property
    def trained(self) -> bool:
        """False for random weights, whose answers mean nothing."""
        return self.opened.trained

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        return self.opened.bundle.multi_label

    @property
    def temperature(self) -> float:
        """What scores are divided by before they become probabilities."""
        return self.opened.bundle.temperature
