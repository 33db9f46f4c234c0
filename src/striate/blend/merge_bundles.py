"""Blends of bundles: weighted averages and soups, made from files and written to one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from striate.blend.average import State, average_states, state_digest
from striate.blend.batch_norm import has_batch_norm
from striate.blend.ingredients import BlendImages, HeldOut, Ingredient, gather, open_images
from striate.blend.kinship import refuse_unrelated
from striate.blend.merging import Cooked, Kitchen, SoupKind, cook, open_kitchen, taste_each, why_worse
from striate.core.compute import DeviceChoice, PrecisionChoice, autocast_dtype, pick_device, pick_precision
from striate.core.environment import versions
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.data.dataset import Dataset
from striate.metrics.paired import Paired, paired
from striate.metrics.predictions import Predictions
from striate.recipes.recipe import Recipe
from striate.weights.bundle import save_bundle
from striate.weights.open import open_bundle
from striate.weights.run_folder import bundle_path

_STATISTICS_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Helping:
    """One ingredient of a blend, as it was judged and used. Rates are fractions in [0, 1].

    Attributes:
        name: of the ingredient.
        digest: of its tensors.
        coefficient: its share of the mixture; 0 where it was left out.
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
        """Return the record that a bundle keeps of an ingredient."""
        record: dict[str, Any] = {
            "file": self.name,
            "state_blake2b": self.digest,
            "coefficient": self.coefficient,
            "held_out_accuracy": self.held_out,
            "test_accuracy": self.test,
            "seed": self.seed,
            "recipe": self.recipe,
        }
        return record if self.layers is None else record | {"layers": dict(self.layers)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BlendResult:
    """A blend and what it was made from. Rates are fractions in [0, 1].

    Attributes:
        bundle: the file, or None where none was asked for.
        kind: ``average`` or the kind of soup.
        helpings: one for each ingredient, in the order given.
        held_out: accuracy on the held-out images, or None where there was no data.
        test: predictions to the test images, or None where there are none.
        best: the ingredient that is best on the held-out images (an index), or None where there was no data.
        gain: the blend against ``best`` on the test images, or None where there are none.
        num_held_out: number of held-out images; 0 where there was no data.
        temperature: of the written bundle: what a learned soup learned, an ingredient's where the mixture is
            that ingredient, else 1.
        statistics_images: images that batch norm's statistics were measured on; 0 where they were averaged,
            or nothing had to be measured.
        split: what the held-out images are, in words.
        notes: what to know before trusting the figures.
        warning: why the blend is worse than its ingredients, or None.
        multi_label: whether an image may carry several labels; it then counts as right when all are.
    """

    bundle: Path | None
    kind: str
    helpings: tuple[Helping, ...]
    held_out: float | None
    test: Predictions | None
    best: int | None
    gain: Paired | None
    num_held_out: int
    temperature: float
    statistics_images: int
    split: str
    notes: tuple[str, ...]
    warning: str | None
    multi_label: bool


def average_bundles(
    paths: Sequence[str | Path],
    out: str | Path | None,
    *,
    weights: Sequence[float] | None = None,
    data: str | Path | Sequence[str | Path] | None = None,
    snapshots: bool = False,
    held_out: HeldOut = "auto",
    batch_norm: bool = True,
    statistics_images: int = _STATISTICS_IMAGES,
    batch_images: int = 256,
    seed: int = 0,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    force: bool = False,
    progress: Progress = silent,
) -> BlendResult:
    """Average the weights of bundles, and measure the average where there is data.

    Args:
        paths: at least two bundles or run folders of one architecture.
        out: the bundle to write, ``.safetensors``; None writes nothing.
        weights: one number of at least 0 for each bundle; None for equal ones.
        data: as in ``train``; needed for batch norm's statistics.
        snapshots: take the snapshots of the runs.
        held_out: as ``open_images``.
        batch_norm: measure batch norm's statistics again; otherwise they are averaged like weights.
        statistics_images: at most so many training images for that.
        batch_images: images in a batch.
        seed: of the choice of these images.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        force: replace a file that is there.
        progress: listener.

    Raises:
        UsageError: fewer than two bundles, wrong weights, or a target that is in the way.
        BundleError: the bundles are not of one architecture.
    """
    found = _related(paths, snapshots, out, force)
    if weights is not None and len(weights) != len(found):
        raise UsageError(f"expected one weight for each of {len(found)} networks, got {len(weights)}")
    states, names = [one.bundle.state for one in found], [one.name for one in found]
    mean: State = average_states(states, weights, names)
    given = [1.0] * len(found) if weights is None else [float(weight) for weight in weights]
    shares = [share / sum(given) for share in given]
    alike = len({one.digest for one, share in zip(found, shares, strict=True) if share}) == 1
    if alike:
        mean = next(state for state, share in zip(states, shares, strict=True) if share)
    if data is None:
        notes = []
        if has_batch_norm(open_bundle(found[0].path)[0]) and not alike:
            notes.append(
                "batch norm's statistics were averaged, which is not what the averaged network needs: name"
                " --data to measure them again"
            )
        cooked = _with_own_temperature(Cooked("average", mean, shares), found)
        notes += _uncalibrated(cooked, found)
        result = BlendResult(
            bundle=None if out is None else Path(out),
            kind="average",
            helpings=tuple(_helping(one, share) for one, share in zip(found, shares, strict=True)),
            held_out=None,
            test=None,
            best=None,
            gain=None,
            num_held_out=0,
            temperature=cooked.temperature,
            statistics_images=0,
            split="",
            notes=tuple(notes),
            warning=None,
            multi_label=found[0].bundle.multi_label,
        )
        if out is not None:
            _write(result, cooked, found, None)
        return result
    images, place, dtype = _set_out(found, data, held_out, precision, device, progress)
    kitchen = open_kitchen(found, images, batch_norm, statistics_images, batch_images, seed, place, dtype)
    cooked = Cooked("average", mean if alike else kitchen.finish(mean), shares, choice={"seed": seed})
    return _served(cooked, found, kitchen, taste_each(found, kitchen, progress), out, progress)


def soup_bundles(
    paths: Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    out: str | Path | None,
    *,
    kind: SoupKind = "greedy",
    snapshots: bool = False,
    held_out: HeldOut = "auto",
    strict: bool = False,
    by_layer: bool = False,
    free: bool = False,
    epochs: int = 3,
    lr: float = 0.1,
    batch_norm: bool = True,
    statistics_images: int = _STATISTICS_IMAGES,
    batch_images: int = 256,
    seed: int = 0,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    force: bool = False,
    progress: Progress = silent,
) -> BlendResult:
    """Make one network of several that were fine-tuned from one parent, chosen by held-out images.

    Args:
        paths: at least two bundles or run folders of one architecture.
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
        batch_norm: measure batch norm's statistics of every mixture again before it is tasted.
        statistics_images: at most so many training images for that.
        batch_images: images in a batch.
        seed: of the choice of these images, and of the order of the held-out ones.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        force: replace a file that is there.
        progress: listener.

    Raises:
        UsageError: fewer than two bundles, the test images asked for to choose by, or a target that is in
            the way.
        BundleError: the bundles are not of one architecture.
        DataError: no usable images.
    """
    if kind not in get_args(SoupKind):
        raise UsageError(f"expected a soup out of {', '.join(get_args(SoupKind))}; got {kind!r}")
    found = _related(paths, snapshots, out, force)
    images, place, dtype = _set_out(found, data, held_out, precision, device, progress)
    kitchen = open_kitchen(found, images, batch_norm, statistics_images, batch_images, seed, place, dtype)
    accuracies = taste_each(found, kitchen, progress)
    cooked = cook(
        kind,
        found,
        kitchen,
        accuracies,
        seed=seed,
        strict=strict,
        by_layer=by_layer,
        free=free,
        epochs=epochs,
        lr=lr,
        progress=progress,
    )
    return _served(cooked, found, kitchen, accuracies, out, progress)


def _served(
    cooked: Cooked,
    found: Sequence[Ingredient],
    kitchen: Kitchen,
    accuracies: Sequence[float],
    out: str | Path | None,
    progress: Progress,
) -> BlendResult:
    """Measure a mixture and its ingredients, say what is wrong with it, and write it."""
    images = kitchen.images
    cooked = _with_own_temperature(cooked, found)
    accuracy = kitchen.accuracy(cooked.state)
    best = min(range(len(found)), key=lambda i: (-accuracies[i], found[i].digest))
    tests: list[NDArray[np.bool_] | None] = [None] * len(found)
    test = gain = None
    if len(images.test):
        for i, one in enumerate(found):
            tests[i] = kitchen.predictions(one.bundle.state, images.test, one.name).correct
            progress("testing ingredients", i + 1, len(found))
        test = replace(kitchen.predictions(cooked.state, images.test, cooked.kind), split="test")
        champion = tests[best]
        assert champion is not None
        gain = paired(champion, test.correct)
    helpings = [
        _helping(
            one,
            cooked.shares[i],
            accuracies[i],
            None if (correct := tests[i]) is None else float(correct.mean()),
            None if cooked.layers is None else cooked.layers[i],
        )
        for i, one in enumerate(found)
    ]
    untouched = state_digest(cooked.state) in {one.digest for one in found}
    statistics = 0 if kitchen.statistics is None or untouched else len(kitchen.statistics)
    result = BlendResult(
        bundle=None if out is None else Path(out),
        kind=cooked.kind,
        helpings=tuple(helpings),
        held_out=accuracy,
        test=test,
        best=best,
        gain=gain,
        num_held_out=len(images.held_out),
        temperature=cooked.temperature,
        statistics_images=statistics,
        split=images.held_out_words,
        notes=(*images.notes, *_uncalibrated(cooked, found)),
        warning=why_worse(found, kitchen, cooked, accuracy, accuracies),
        multi_label=kitchen.base.multi_label,
    )
    if out is not None:
        _write(result, cooked, found, kitchen.dataset)
    return result


def _with_own_temperature(cooked: Cooked, found: Sequence[Ingredient]) -> Cooked:
    """Give a mixture that is one of its ingredients, bit for bit, that one's temperature."""
    if cooked.kind == "learned":
        return cooked
    digest = state_digest(cooked.state)
    own = [one.bundle.temperature for one in found if one.digest == digest]
    return replace(cooked, temperature=own[0]) if own else cooked


def _uncalibrated(cooked: Cooked, found: Sequence[Ingredient]) -> list[str]:
    """Say that a mixture has no temperature where its ingredients had one."""
    used = [one for one, share in zip(found, cooked.shares, strict=True) if share]
    if cooked.temperature != 1.0 or all(one.bundle.temperature == 1.0 for one in used):
        return []
    return [
        "its probabilities are not calibrated, though its ingredients' are: striate calibrate BUNDLE --data"
        " DATA"
    ]


def _write(result: BlendResult, cooked: Cooked, found: Sequence[Ingredient], dataset: Dataset | None) -> None:
    """Put a mixture into a bundle that tells what it is."""
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
            **cooked.choice,
        },
        "note": f"{words}, chosen by {result.split}" if chosen else words,
    }
    data, recipe = dict(base.data), base.recipe
    if result.test is not None:
        metrics |= {"split": "test", "scores": result.test.scores(cooked.temperature).to_json()}
    if dataset is not None:
        data |= {"fingerprint": dataset.fingerprint, "num_images": dataset.num_images}
        recipe = _with_shares(recipe, found)
    blend = replace(
        base,
        state=dict(cooked.state),
        recipe=recipe,
        metrics=metrics,
        data=data,
        versions=versions(),
        seed=None,
        temperature=cooked.temperature,
        ingredients=tuple(helping.to_json() for helping in result.helpings),
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
    paths: Sequence[str | Path], snapshots: bool, out: str | Path | None, force: bool
) -> tuple[Ingredient, ...]:
    if out is not None:
        check_writable(
            Path(out), (".safetensors",), force, sources=[bundle_path(Path(path)) for path in paths]
        )
    found = gather(paths, snapshots=snapshots)
    if len(found) < 2:
        raise UsageError(
            f"expected at least two networks to mix, got {len(found)}: name more bundles or runs"
        )
    refuse_unrelated([one.bundle for one in found], [one.name for one in found])
    return found


def _set_out(
    found: Sequence[Ingredient],
    data: str | Path | Sequence[str | Path],
    held_out: HeldOut,
    precision: PrecisionChoice,
    device: DeviceChoice,
    progress: Progress,
) -> tuple[BlendImages, torch.device, torch.dtype | None]:
    place = pick_device(device)
    dtype = autocast_dtype(pick_precision(precision, place))
    return open_images(found, data, held_out=held_out, progress=progress), place, dtype


def _helping(
    one: Ingredient,
    share: float,
    held_out: float | None = None,
    test: float | None = None,
    layers: Mapping[str, float] | None = None,
) -> Helping:
    return Helping(
        name=one.name,
        digest=one.digest,
        coefficient=share,
        held_out=held_out,
        test=test,
        seed=one.bundle.seed,
        recipe=str(one.bundle.recipe.get("name", "")),
        layers=layers,
    )
