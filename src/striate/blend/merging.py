"""Where mixtures of one architecture are made and tasted: the network, its images, and one soup at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.blend.average import State
from striate.blend.batch_norm import has_batch_norm, recompute_batch_norm
from striate.blend.ingredients import BlendImages, Ingredient, statistics_pictures
from striate.blend.kinship import barrier, common_start, explain
from striate.blend.learned import learned_soup
from striate.blend.soup import greedy_soup, uniform_soup
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.core.random import permutation
from striate.data.batch import Batch
from striate.data.batches import Loader, in_order, loader_for
from striate.data.dataset import Dataset
from striate.evaluation.evaluate import evaluate
from striate.metrics.predictions import Predictions
from striate.weights.bundle import Bundle, fill_network
from striate.weights.open import open_bundle

SoupKind = Literal["uniform", "greedy", "learned"]

_ORDER = 2002  # the random stream of the held-out images' order while a soup is learned


@dataclass(frozen=True, slots=True, eq=False)
class Kitchen:
    """Everything that mixtures of one architecture are made and tasted with."""

    net: nn.Module
    images: BlendImages
    base: Bundle
    batch_images: int
    device: torch.device
    dtype: torch.dtype | None
    statistics: Loader | None

    @property
    def dataset(self) -> Dataset:
        """The images, in the ingredients' geometry."""
        return self.images.datasets[0]

    def finish(self, state: State) -> dict[str, Tensor]:
        """Measure batch norm's statistics of a mixture again."""
        if self.statistics is None:
            return dict(state)
        fill_network(self.net, state, "the mixture")
        recompute_batch_norm(
            self.net, in_order(self.statistics), device=self.device, autocast_dtype=self.dtype
        )
        return {name: tensor.detach().cpu().clone() for name, tensor in self.net.state_dict().items()}

    def predictions(self, state: State, indices: NDArray[np.int64], name: str) -> Predictions:
        """Let a state answer some images."""
        fill_network(self.net, state, name)
        return answers_of(
            self.net, self.base, self.dataset, indices, name, self.batch_images, self.device, self.dtype
        )

    def accuracy(self, state: State) -> float:
        """Return the share of held-out images that a state predictions rightly."""
        return float(self.predictions(state, self.images.held_out, "the mixture").correct.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Cooked:
    """A mixture before it is measured.

    Attributes:
        kind: ``average`` or the kind of soup.
        state: its tensors, batch norm's statistics included.
        shares: one coefficient for each ingredient; 0 where it was left out.
        temperature: what its logits are to be divided by.
        layers: by ingredient, its coefficient in each layer; None where there is one for all.
        choice: how it was made, for the record.
    """

    kind: str
    state: Mapping[str, Tensor]
    shares: Sequence[float]
    temperature: float = 1.0
    layers: Sequence[Mapping[str, float]] | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)


def open_kitchen(
    found: Sequence[Ingredient],
    images: BlendImages,
    batch_norm: bool,
    statistics_images: int,
    batch_images: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Kitchen:
    """Build the network of some ingredients and choose the images for batch norm's statistics.

    Raises:
        UsageError: fewer than two images in a batch or for the statistics, or a negative seed.
        DataError: there are no training images to measure statistics on.
    """
    if batch_images < 2 or statistics_images < 2:
        raise UsageError(
            f"expected at least two images in a batch and for batch norm's statistics, got {batch_images} and"
            f" {statistics_images}"
        )
    if seed < 0:
        raise UsageError(f"expected a seed of at least 0, got {seed}")
    net, base = open_bundle(found[0].path)
    statistics = None
    if batch_norm and has_batch_norm(net):
        statistics = statistics_pictures(
            images, base.preprocessing, statistics_images, batch_images, seed, device
        )
    return Kitchen(net.to(device), images, base, batch_images, device, dtype, statistics)


def answers_of(
    net: nn.Module,
    bundle: Bundle,
    dataset: Dataset,
    indices: NDArray[np.int64],
    name: str,
    batch_images: int,
    device: torch.device,
    dtype: torch.dtype | None,
    progress: Progress = silent,
) -> Predictions:
    """Let a network answer some images of a dataset."""
    pictures = loader_for(dataset, indices, bundle.preprocessing, batch_images, device)
    evaluation = evaluate(
        net,
        in_order(pictures),
        dataset.classes,
        device=device,
        autocast_dtype=dtype,
        total=len(indices),
        progress=progress,
    )
    return Predictions(
        name=name,
        classes=dataset.classes,
        files=tuple(dataset.source.files[i] for i in evaluation.indices.tolist()),
        labels=evaluation.labels,
        logits=evaluation.logits,
    )


def taste_each(found: Sequence[Ingredient], kitchen: Kitchen, progress: Progress) -> list[float]:
    """Return each ingredient's accuracy on the held-out images."""
    accuracies = []
    for turn, one in enumerate(found, 1):
        accuracies.append(kitchen.accuracy(one.bundle.state))
        progress("tasting ingredients", turn, len(found))
    return accuracies


def cook(
    kind: SoupKind,
    found: Sequence[Ingredient],
    kitchen: Kitchen,
    accuracies: Sequence[float],
    *,
    seed: int,
    strict: bool = False,
    by_layer: bool = False,
    free: bool = False,
    epochs: int = 3,
    lr: float = 0.1,
    progress: Progress = silent,
) -> Cooked:
    """Cook one soup; see ``soup_bundles``.

    Args:
        kind: of soup.
        found: the ingredients.
        kitchen: what they are mixed and tasted with.
        accuracies: each ingredient's on the held-out images, in [0, 1].
        seed: as ``soup_bundles``, as are the following.
        strict: of ``greedy``.
        by_layer: of ``learned``.
        free: of ``learned``.
        epochs: of ``learned``.
        lr: of ``learned``.
        progress: listener.
    """
    states = [one.bundle.state for one in found]
    if kind == "greedy":
        soup = greedy_soup(
            states, accuracies, kitchen.accuracy, finish=kitchen.finish, strict=strict, progress=progress
        )
        steps = [
            {"file": found[t.index].name, "held_out_accuracy": t.accuracy, "kept": t.kept}
            for t in soup.tastes
        ]
        rule = "kept if better" if strict else "kept if not worse"
        shares = [1 / len(soup.kept) if i in soup.kept else 0.0 for i in range(len(found))]
        return Cooked(kind, soup.state, shares, choice={"rule": rule, "steps": steps, "seed": seed})
    if kind == "uniform":
        state = uniform_soup(states, finish=kitchen.finish)
        return Cooked(kind, state, [1 / len(found)] * len(found), choice={"seed": seed})
    learned = learned_soup(
        kitchen.net,
        states,
        lambda epoch: _mixed_up(kitchen, seed, epoch),
        by_layer=by_layer,
        free=free,
        epochs=epochs,
        lr=lr,
        device=kitchen.device,
        progress=progress,
    )
    layers = [{name: row[i] for name, row in learned.layers.items()} for i in range(len(found))]
    choice = {"epochs": epochs, "lr": lr, "free": free, "by_layer": by_layer, "seed": seed}
    return Cooked(
        kind,
        kitchen.finish(learned.state),
        learned.coefficients,
        learned.temperature,
        layers if by_layer else None,
        {**choice, "losses": list(learned.losses)},
    )


def why_worse(
    found: Sequence[Ingredient],
    kitchen: Kitchen,
    cooked: Cooked,
    accuracy: float,
    accuracies: Sequence[float],
) -> str | None:
    """Say why a mixture is worse than what is in it, after measuring where it breaks; None if it is not."""
    used = [i for i, share in enumerate(cooked.shares) if share != 0]
    known = [accuracies[i] for i in used]
    kin = common_start([one.bundle for one in found])
    net = found[0].bundle.net
    if explain(accuracy, known, kin, (), net) is None:
        return None
    top = max(used, key=lambda i: accuracies[i])
    barriers = [
        barrier(
            (found[top].bundle.state, found[i].bundle.state),
            (accuracies[top], accuracies[i]),
            kitchen.accuracy,
            kitchen.finish,
        )
        for i in used
        if i != top
    ]
    return explain(accuracy, known, kin, barriers, net)


def _mixed_up(kitchen: Kitchen, seed: int, epoch: int) -> Iterator[Batch]:
    """Yield the held-out images in another order each epoch; a last batch of one image is left out."""
    indices = kitchen.images.held_out
    order = indices[permutation(len(indices), seed, _ORDER, epoch)]
    if len(order) > 1 and len(order) % kitchen.batch_images == 1:
        order = order[:-1]
    return in_order(
        loader_for(kitchen.dataset, order, kitchen.base.preprocessing, kitchen.batch_images, kitchen.device)
    )
