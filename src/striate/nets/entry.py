"""What striate records about one network: a value that the network's own file fills in."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NetEntry:
    """One line of ``striate nets``.

    Attributes:
        name: the key in ``NETS`` and the word on the command line.
        title: the name in a heading.
        year: year of publication; None for a network that the user wrote.
        paper: authors, title and venue or arXiv number.
        input_shape: channels, height and width in pixels of the images that the default build takes.
        num_classes: classes of the published network, the default of ``build``.
        build: ``(num_classes, **documented keywords) -> nn.Module``. The module has the attribute
            ``input_shape`` and maps ``N x C x H x W`` normed images to ``N x num_classes`` scores of which
            the largest wins. A network with auxiliary classifiers returns them too while it trains,
            ``(scores, first, second, ...)``; it names those layers in ``training_only`` and the weight of
            their losses in ``auxiliary_weight``.
        recipe: name of the recipe that trains it by default.
        published_error: the paper's result with its protocol, or "not published" and why.
        departures: one sentence for each point where this network is not the paper's, or where the paper
            leaves a choice; the page repeats them word for word.
        page: its page, a path relative to the repository's root.
        aliases: other names that people use, such as a paper's letter.
        notation: for a network written in the lectures' notation (``nets.notation``), its text.
        loss: ``(scores, labels) -> scalar``, for a network whose paper defines its own; ``None`` means
            cross-entropy with the scores as logits.
    """

    name: str
    title: str
    year: int | None
    paper: str
    input_shape: tuple[int, int, int]
    num_classes: int
    build: Callable[..., nn.Module]
    recipe: str
    published_error: str
    departures: tuple[str, ...]
    page: str
    aliases: tuple[str, ...] = ()
    notation: str | None = None
    loss: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def reference(self) -> str:
        """What finds this network again, also on another machine: its name, or the text it is written in."""
        return self.name if self.notation is None else self.notation
