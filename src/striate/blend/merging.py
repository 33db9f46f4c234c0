"""Merging networks of one architecture: the network, its images, and one merge at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.blend.average import State
from striate.blend.batch_norm import has_batch_norm, recompute_batch_norm
from striate.blend.ingredients import BATCH_IMAGES, BlendImages, Ingredient, statistics_loader
from striate.blend.kinship import barrier, common_start, explain
from striate.blend.learned import learned_soup
from striate.blend.soup import greedy_soup, uniform_soup
from striate.core.choices import SoupKind
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress
from striate.core.random import permutation
from striate.data.batch import Batch
from striate.data.batches import Loader, in_order, loader_for
from striate.data.dataset import Dataset
from striate.evaluation.measure import predict_labelled
from striate.metrics.predictions import Predictions
from striate.weights.bundle import Bundle, fill_network

_ORDER = 2002  # the random stream of the held-out images' order while a soup is learned


@dataclass(frozen=True, slots=True, eq=False)
class Merger:
    """Ingredients of one architecture, and what their merges are finished and measured with.

    Attributes:
        ingredients: at least one.
        net: of their architecture, on the device; it is filled with one state after the other.
        images: that choose and test.
        compute: with the number of images in a forward pass.
        statistics: training images for batch norm's statistics, or None where none are measured.
        accuracies: of each ingredient on the held-out images.
    """

    ingredients: Sequence[Ingredient]
    net: nn.Module
    images: BlendImages
    compute: Compute
    statistics: Loader | None
    accuracies: tuple[float, ...] = ()

    @property
    def bundle(self) -> Bundle:
        """The first ingredient's."""
        return self.ingredients[0].bundle

    @property
    def dataset(self) -> Dataset:
        """The images, in the ingredients' geometry."""
        return self.images.datasets[0]

    def finish(self, state: State) -> dict[str, Tensor]:
        """Measure batch norm's statistics of a merge again."""
        if self.statistics is None:
            return dict(state)
        fill_network(self.net, state, "the mixture")
        recompute_batch_norm(
            self.net,
            in_order(self.statistics),
            device=self.compute.torch_device,
            autocast_dtype=self.compute.autocast_dtype,
        )
        return {name: tensor.detach().cpu().clone() for name, tensor in self.net.state_dict().items()}

    def predictions(self, state: State, indices: NDArray[np.int64], name: str) -> Predictions:
        """Return what a state predicts on some images, at a temperature of 1."""
        fill_network(self.net, state, name)
        found = predict_labelled(
            self.net, self.bundle, self.dataset, indices, name=name, compute=self.compute
        )
        return replace(found, temperature=1.0)

    def accuracy(self, state: State) -> float:
        """Return a state's accuracy on the held-out images."""
        return float(self.predictions(state, self.images.held_out, "the mixture").correct.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """A merge before it is measured.

    Attributes:
        kind: ``average`` or the kind of soup.
        state: its tensors, batch norm's statistics included.
        shares: one coefficient for each ingredient; 0 where it was left out.
        temperature: what its logits are to be divided by.
        layers: by ingredient, its coefficient in each layer; None where there is one for all.
        choice: how it was made, for the bundle.
    """

    kind: str
    state: Mapping[str, Tensor]
    shares: Sequence[float]
    temperature: float = 1.0
    layers: Sequence[Mapping[str, float]] | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)


def open_merger(
    ingredients: Sequence[Ingredient],
    images: BlendImages,
    *,
    batch_norm: bool,
    statistics_images: int,
    seed: int,
    compute: Compute,
    accuracies: Sequence[float] | None = None,
    progress: Progress,
) -> Merger:
    """Build the network of some ingredients and measure them on the held-out images.

    Args:
        ingredients: of one architecture.
        images: that choose and test.
        batch_norm: measure batch norm's statistics of every merge again.
        statistics_images: at most this many training images for that.
        seed: of the choice of these images.
        compute: where and how.
        accuracies: the ingredients' on the held-out images, where they are known; None measures them.
        progress: listener.

    Raises:
        UsageError: fewer than two images in a batch or for the statistics, or a negative seed.
        DataError: there are no training images to measure statistics on.
    """
    compute = replace(compute, batch_images=compute.batch(BATCH_IMAGES))
    if compute.batch(2) < 2 or statistics_images < 2:
        raise UsageError(
            f"expected at least two images in a batch and for batch norm's statistics, got"
            f" `batch_images={compute.batch_images}` and `statistics_images={statistics_images}`"
        )
    if seed < 0:
        raise UsageError(f"expected `seed` of at least 0, got {seed}")
    net = ingredients[0].build()
    statistics = None
    if batch_norm and has_batch_norm(net):
        bundle = ingredients[0].bundle
        statistics = statistics_loader(images, bundle, statistics_images, seed, compute)
    merger = Merger(ingredients, net.to(compute.torch_device), images, compute, statistics)
    if accuracies is None:
        measured = []
        for turn, one in enumerate(ingredients, 1):
            measured.append(merger.accuracy(one.bundle.state))
            progress("evaluating ingredients", turn, len(ingredients))
        accuracies = measured
    return replace(merger, accuracies=tuple(accuracies))


def make_soup(
    kind: SoupKind,
    merger: Merger,
    *,
    seed: int,
    strict: bool = False,
    by_layer: bool = False,
    free: bool = False,
    epochs: int = 3,
    lr: float = 0.1,
    progress: Progress,
) -> Merge:
    """Make one soup; all arguments are those of ``merge_bundles.soup``."""
    found = merger.ingredients
    states = [one.bundle.state for one in found]
    if kind == "greedy":
        soup = greedy_soup(
            states,
            merger.accuracies,
            merger.accuracy,
            finish=merger.finish,
            strict=strict,
            progress=progress,
        )
        steps = [
            {"file": found[step.index].name, "held_out_accuracy": step.accuracy, "kept": step.kept}
            for step in soup.steps
        ]
        rule = "kept if better" if strict else "kept if not worse"
        shares = [1 / len(soup.kept) if i in soup.kept else 0.0 for i in range(len(found))]
        return Merge(kind, soup.state, shares, choice={"rule": rule, "steps": steps, "seed": seed})
    if kind == "uniform":
        state = uniform_soup(states, finish=merger.finish)
        return Merge(kind, state, [1 / len(found)] * len(found), choice={"seed": seed})
    learned = learned_soup(
        merger.net,
        states,
        lambda epoch: _shuffled(merger, seed, epoch),
        by_layer=by_layer,
        free=free,
        epochs=epochs,
        lr=lr,
        device=merger.compute.torch_device,
        progress=progress,
    )
    layers = [{name: row[i] for name, row in learned.layers.items()} for i in range(len(found))]
    choice = {"epochs": epochs, "lr": lr, "free": free, "by_layer": by_layer, "seed": seed}
    return Merge(
        kind,
        merger.finish(learned.state),
        learned.coefficients,
        learned.temperature,
        layers if by_layer else None,
        {**choice, "losses": list(learned.losses)},
    )


def why_worse(merger: Merger, merge: Merge, accuracy: float) -> str | None:
    """Say why a merge is worse than what is in it, after measuring the barriers; None where it is not."""
    found, accuracies = merger.ingredients, merger.accuracies
    used = [i for i, share in enumerate(merge.shares) if share != 0]
    known = [accuracies[i] for i in used]
    start = common_start([one.bundle for one in found])
    if explain(accuracy, known, start, ()) is None:
        return None
    top = max(used, key=lambda i: accuracies[i])
    barriers = [
        barrier(
            (found[top].bundle.state, found[i].bundle.state),
            (accuracies[top], accuracies[i]),
            merger.accuracy,
            merger.finish,
        )
        for i in used
        if i != top
    ]
    return explain(accuracy, known, start, barriers)


def _shuffled(merger: Merger, seed: int, epoch: int) -> Iterator[Batch]:
    """Yield the held-out images in another order each epoch; a last batch of one image is left out."""
    held_out, batch_images = merger.images.held_out, merger.compute.batch(BATCH_IMAGES)
    order = held_out[permutation(len(held_out), seed, _ORDER, epoch)]
    if len(order) > 1 and len(order) % batch_images == 1:
        order = order[:-1]
    device = merger.compute.torch_device
    return in_order(loader_for(merger.dataset, order, merger.bundle.preprocessing, batch_images, device))
