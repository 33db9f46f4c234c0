"""Merges of bundles: weighted averages and soups, made from files and written to one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from striate.blend.average import State, average_states, state_digest
from striate.blend.batch_norm import has_batch_norm
from striate.blend.ingredients import Ingredient, bundle_files, gather, open_images
from striate.blend.kinship import refuse_unrelated
from striate.blend.merging import Merge, Merger, make_soup, open_merger, why_worse
from striate.core.choices import SoupKind
from striate.core.compute import Compute
from striate.core.environment import versions
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.data.dataset import Dataset
from striate.evaluation.labelled import DataChoice
from striate.evaluation.measure import RunChoice, network_of
from striate.metrics.paired import Paired, paired
from striate.metrics.predictions import Predictions
from striate.recipes.recipe import Recipe
from striate.weights.bundle import save_bundle

STATISTICS_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class IngredientResult:
    """How one ingredient of a blend was judged and used. Rates are fractions in [0, 1].

    Attributes:
        name: of the ingredient.
        digest: of its tensors.
        coefficient: its share of the merge; 0 where it was left out.
        held_out: its accuracy on the held-out images, or None where there was no data.
        test: its accuracy on the test images, or None where there are none.
        seed: of its training, or None.
        recipe: name of its training's recipe, or "".
        layers: its share in each layer, where coefficients were learned by layer.
    """

    name: str
    digest: str
    coefficient: float
    held_out: float | None = None
    test: float | None = None
    seed: int | None = None
    recipe: str = ""
    layers: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a bundle keeps of an ingredient, as plain values."""
        kept: dict[str, Any] = {
            "file": self.name,
            "state_blake2b": self.digest,
            "coefficient": self.coefficient,
            "held_out_accuracy": self.held_out,
            "test_accuracy": self.test,
            "seed": self.seed,
            "recipe": self.recipe,
        }
        return kept if self.layers is None else kept | {"layers": dict(self.layers)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlendResult:
    """A blend and what it was made from. Rates are fractions in [0, 1].

    Attributes:
        bundle: the file, or None where none was asked for.
        kind: ``average`` or the kind of soup.
        ingredients: in the order given.
        temperature: of the blend: what a learned soup learned, an ingredient's where the blend is that
            ingredient, else 1.
        multi_label: whether an image may carry several labels; it then counts as correct when all are.
        held_out: accuracy on the held-out images, or None where there was no data.
        test: predictions on the test images, or None where there are none.
        best: index of the ingredient that is best on the held-out images, or None where there was no data.
        gain: the blend against ``best`` on the test images, or None where there are none.
        num_held_out: number of held-out images; 0 where there was no data.
        statistics_images: images that batch norm's statistics were measured on; 0 where they were averaged,
            or nothing had to be measured.
        split: what the held-out images are, in words.
        notes: what to know before trusting the figures.
        warning: why the blend is worse than its ingredients, or None.
    """

    bundle: Path | None
    kind: str
    ingredients: tuple[IngredientResult, ...]
    temperature: float
    multi_label: bool
    held_out: float | None = None
    test: Predictions | None = None
    best: int | None = None
    gain: Paired | None = None
    num_held_out: int = 0
    statistics_images: int = 0
    split: str = ""
    notes: tuple[str, ...] = ()
    warning: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "bundle": None if self.bundle is None else str(self.bundle),
            "kind": self.kind,
            "multi_label": self.multi_label,
            "held_out": self.split or None,
            "held_out_accuracy": self.held_out,
            "best": None if self.best is None else self.ingredients[self.best].name,
            "test": None if self.test is None else self.test.scores(self.temperature).to_json(),
            "gain": None if self.gain is None else self.gain.to_json(),
            "temperature": self.temperature,
            "batch_norm_images": self.statistics_images,
            "ingredients": [one.to_json() for one in self.ingredients],
        }


def average(
    networks: Sequence[RunChoice],
    out: str | Path | None,
    *,
    weights: Sequence[float] | None = None,
    data: DataChoice | None = None,
    snapshots: bool = False,
    held_out: str = "auto",
    batch_norm: bool = True,
    statistics_images: int = STATISTICS_IMAGES,
    seed: int = 0,
    compute: Compute = Compute(),
    force: bool = False,
    progress: Progress = silent,
) -> BlendResult:
    """Average the weights of networks, and measure the average where there is data.

    Args:
        networks: at least two bundles, run folders or results of trainings, of one architecture.
        out: the bundle to write, ``.safetensors``; None writes nothing.
        weights: one number of at least 0 for each network; None for equal ones.
        data: as in ``train``; needed for batch norm's statistics.
        snapshots: take the snapshots of the runs.
        held_out: as ``open_images``.
        batch_norm: measure batch norm's statistics again; otherwise they are averaged like weights.
        statistics_images: at most this many training images for that.
        seed: of the choice of these images.
        compute: where and how; 256 images in a forward pass.
        force: whether ``out`` may replace an existing file.
        progress: listener.

    Raises:
        UsageError: fewer than two networks, wrong weights, or ``out`` exists.
        BundleError: the networks are not of one architecture.
    """
    found = _related(networks, snapshots, out, force)
    if weights is not None and len(weights) != len(found):
        raise UsageError(f"expected one weight for each of {len(found)} networks, got {len(weights)}")
    states, names = [one.bundle.state for one in found], [one.name for one in found]
    mean: State = average_states(states, weights, names)
    given = [1.0] * len(found) if weights is None else [float(weight) for weight in weights]
    shares = [share / sum(given) for share in given]
    alike = len({one.digest for one, share in zip(found, shares, strict=True) if share}) == 1
    if alike:
        mean = next(state for state, share in zip(states, shares, strict=True) if share)
    if data is not None:
        images = open_images(found, data, held_out=held_out, progress=progress)
        merger = open_merger(
            found,
            images,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            seed=seed,
            compute=compute,
            progress=progress,
        )
        state = mean if alike else merger.finish(mean)
        return _measured(Merge("average", state, shares, choice={"seed": seed}), merger, out, progress)
    notes = []
    if has_batch_norm(found[0].build()) and not alike:
        notes.append(
            "batch norm's statistics were averaged, which is not what the averaged network needs: name `data`"
            " to measure them again"
        )
    merge = _with_own_temperature(Merge("average", mean, shares), found)
    result = BlendResult(
        bundle=None if out is None else Path(out),
        kind="average",
        ingredients=tuple(_ingredient_result(one, share) for one, share in zip(found, shares, strict=True)),
        temperature=merge.temperature,
        multi_label=found[0].bundle.multi_label,
        notes=(*notes, *_uncalibrated(merge, found)),
    )
    if out is not None:
        _write(result, merge, found, None)
    return result


def soup(
    networks: Sequence[RunChoice],
    data: DataChoice,
    out: str | Path | None,
    *,
    kind: SoupKind = "greedy",
    snapshots: bool = False,
    held_out: str = "auto",
    strict: bool = False,
    by_layer: bool = False,
    free: bool = False,
    epochs: int = 3,
    lr: float = 0.1,
    batch_norm: bool = True,
    statistics_images: int = STATISTICS_IMAGES,
    seed: int = 0,
    compute: Compute = Compute(),
    force: bool = False,
    progress: Progress = silent,
) -> BlendResult:
    """Make one network of several that were fine-tuned from one parent, chosen by held-out images.

    Args:
        networks: at least two bundles, run folders or results of trainings, of one architecture.
        data: as in ``train``.
        out: the bundle to write, ``.safetensors``; None writes nothing.
        kind: ``uniform`` takes all, ``greedy`` those that don't make it worse, ``learned`` finds
            coefficients and a temperature by gradient.
        snapshots: take the snapshots of the runs.
        held_out: as ``open_images``.
        strict: ``greedy``: keep an ingredient only if the soup gets better.
        by_layer: ``learned``: coefficients for each layer.
        free: ``learned``: coefficients that may be any numbers.
        epochs: ``learned``: passes over the held-out images.
        lr: ``learned``: learning rate.
        batch_norm: measure batch norm's statistics of every merge again before it is evaluated.
        statistics_images: at most this many training images for that.
        seed: of the choice of these images, and of the order of the held-out ones.
        compute: where and how; 256 images in a forward pass.
        force: whether ``out`` may replace an existing file.
        progress: listener.

    Raises:
        UsageError: fewer than two networks, the test images asked for to choose by, or ``out`` exists.
        BundleError: the networks are not of one architecture.
        DataError: no usable images.
    """
    if kind not in get_args(SoupKind):
        raise UsageError(f"expected a soup out of {', '.join(get_args(SoupKind))}; got {kind!r}")
    found = _related(networks, snapshots, out, force)
    images = open_images(found, data, held_out=held_out, progress=progress)
    merger = open_merger(
        found,
        images,
        batch_norm=batch_norm,
        statistics_images=statistics_images,
        seed=seed,
        compute=compute,
        progress=progress,
    )
    merge = make_soup(
        kind,
        merger,
        seed=seed,
        strict=strict,
        by_layer=by_layer,
        free=free,
        epochs=epochs,
        lr=lr,
        progress=progress,
    )
    return _measured(merge, merger, out, progress)


def _measured(merge: Merge, merger: Merger, out: str | Path | None, progress: Progress) -> BlendResult:
    """Measure a merge and its ingredients, say what is wrong with it, and write it."""
    images, found, accuracies = merger.images, merger.ingredients, merger.accuracies
    merge = _with_own_temperature(merge, found)
    accuracy = merger.accuracy(merge.state)
    best = min(range(len(found)), key=lambda i: (-accuracies[i], found[i].digest))
    tested: list[Predictions] = []
    test = gain = None
    if len(images.test):
        for i, one in enumerate(found):
            tested.append(merger.predictions(one.bundle.state, images.test, one.name))
            progress("testing ingredients", i + 1, len(found))
        test = merger.predictions(merge.state, images.test, merge.kind)
        test = replace(test, split="test", temperature=merge.temperature)
        gain = paired(tested[best].correct, test.correct)
    results = [
        _ingredient_result(
            one,
            merge.shares[i],
            accuracies[i],
            float(tested[i].correct.mean()) if tested else None,
            None if merge.layers is None else merge.layers[i],
        )
        for i, one in enumerate(found)
    ]
    untouched = state_digest(merge.state) in {one.digest for one in found}
    result = BlendResult(
        bundle=None if out is None else Path(out),
        kind=merge.kind,
        ingredients=tuple(results),
        temperature=merge.temperature,
        multi_label=merger.bundle.multi_label,
        held_out=accuracy,
        test=test,
        best=best,
        gain=gain,
        num_held_out=len(images.held_out),
        statistics_images=0 if merger.statistics is None or untouched else len(merger.statistics),
        split=images.held_out_words,
        notes=(*images.notes, *_uncalibrated(merge, found)),
        warning=why_worse(merger, merge, accuracy),
    )
    if out is not None:
        _write(result, merge, found, merger.dataset)
    return result


def _with_own_temperature(merge: Merge, found: Sequence[Ingredient]) -> Merge:
    """Give a merge that is one of its ingredients, bit for bit, that one's temperature."""
    if merge.kind == "learned":
        return merge
    digest = state_digest(merge.state)
    own = [one.bundle.temperature for one in found if one.digest == digest]
    return replace(merge, temperature=own[0]) if own else merge


def _uncalibrated(merge: Merge, found: Sequence[Ingredient]) -> list[str]:
    """Say that a merge has no temperature where its ingredients had one."""
    used = [one for one, share in zip(found, merge.shares, strict=True) if share]
    if merge.temperature != 1.0 or all(one.bundle.temperature == 1.0 for one in used):
        return []
    return ["its probabilities are not calibrated, though its ingredients' are: `striate calibrate BUNDLE`"]


def _write(result: BlendResult, merge: Merge, found: Sequence[Ingredient], dataset: Dataset | None) -> None:
    """Write a merge to a bundle that says how it was made."""
    assert result.bundle is not None
    base = found[result.best or 0].bundle
    words = f"{result.kind}{'' if result.kind == 'average' else ' soup'} of {len(found)} networks"
    chosen = result.kind in ("greedy", "learned")
    metrics: dict[str, Any] = {
        "blend": {
            "kind": result.kind,
            "held_out": result.split or None,
            "held_out_accuracy": result.held_out,
            "batch_norm_images": result.statistics_images,
            **merge.choice,
        },
        "note": f"{words}, chosen by {result.split}" if chosen else words,
    }
    data, recipe = dict(base.data), base.recipe
    if result.test is not None:
        metrics |= {"split": "test", "scores": result.test.scores(merge.temperature).to_json()}
    if dataset is not None:
        data |= {"fingerprint": dataset.fingerprint, "num_images": dataset.num_images}
        recipe = _with_shares(recipe, found)
    blend = replace(
        base,
        state=dict(merge.state),
        recipe=recipe,
        metrics=metrics,
        data=data,
        versions=versions(),
        seed=None,
        temperature=merge.temperature,
        ingredients=tuple(one.to_json() for one in result.ingredients),
        graphs={},
    )
    save_bundle(blend, result.bundle)


def _with_shares(recipe: dict[str, Any], found: Sequence[Ingredient]) -> dict[str, Any]:
    """Let a blend's recipe hold out what all ingredients' recipes hold out: evaluation goes by it."""
    known = [Recipe.from_json(one.bundle.recipe) for one in found if one.bundle.recipe]
    if not recipe or not known:
        return recipe
    shares = {
        "val_fraction": min(one.val_fraction for one in known),
        "test_fraction": min(one.test_fraction for one in known),
    }
    return {**recipe, **shares}


def _related(
    networks: Sequence[RunChoice], snapshots: bool, out: str | Path | None, force: bool
) -> tuple[Ingredient, ...]:
    if out is not None:
        sources = bundle_files(map(network_of, networks))
        check_writable(Path(out), (".safetensors",), force, sources=sources)
    found = gather(networks, snapshots=snapshots)
    if len(found) < 2:
        raise UsageError(
            f"expected at least two networks to blend, got {len(found)}: name more bundles or runs"
        )
    refuse_unrelated([one.bundle for one in found], [one.name for one in found])
    return found


def _ingredient_result(
    one: Ingredient,
    share: float,
    held_out: float | None = None,
    test: float | None = None,
    layers: Mapping[str, float] | None = None,
) -> IngredientResult:
    return IngredientResult(
        name=one.name,
        digest=one.digest,
        coefficient=share,
        held_out=held_out,
        test=test,
        seed=one.bundle.seed,
        recipe=str(one.bundle.recipe.get("name", "")),
        layers=layers,
    )
