"""The lecture's table of blends: best on validation, ensemble and soups of one set of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.blend.ensemble import AverageOf, ensemble
from striate.blend.ensemble_bundles import macs_of
from striate.blend.ingredients import HeldOut, gather, open_images
from striate.blend.kinship import refuse_unrelated
from striate.blend.merging import SoupKind, answers_of, cook, open_kitchen, why_worse
from striate.core.compute import DeviceChoice, PrecisionChoice, autocast_dtype, pick_device, pick_precision
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.metrics.paired import Paired, paired
from striate.metrics.predictions import Predictions
from striate.metrics.scores import Interval, wilson
from striate.weights.open import open_bundle
from striate.weights.run_folder import RunFolder, snapshot_files

_SOUPS: tuple[tuple[SoupKind, bool], ...] = (("uniform", False), ("greedy", False), ("learned", False))
_BY_LAYER: tuple[tuple[SoupKind, bool], ...] = (("learned", True),)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One way to use a set of networks. Rates are fractions in [0, 1].

    Attributes:
        method: which, with the numbers of networks that it uses.
        held_out: accuracy on the images that chose.
        test: accuracy on the test images, or None where there are none.
        interval: its 95% Wilson interval, or None.
        gain: against the network that is best on the held-out images, on the test images; None for itself
            and where there are none.
        passes: forward passes at prediction: 1 whatever the number of networks (O(1)), or as many as there
            are (O(k)).
        macs: multiply-accumulates for one image, all passes together.
        cost: these, relative to the best single network's.
    """

    method: str
    held_out: float
    test: float | None
    interval: Interval | None
    gain: Paired | None
    passes: int
    macs: int
    cost: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "method": self.method,
            "held_out": self.held_out,
            "test": self.test,
            "interval": None if self.interval is None else [self.interval.low, self.interval.high],
            "gain": None if self.gain is None else self.gain.to_json(),
            "passes": self.passes,
            "macs": self.macs,
            "cost": self.cost,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class BlendTable:
    """The table, and what it was made from.

    Attributes:
        rows: best on validation first.
        ingredients: (name, held-out accuracy, test accuracy or None) of each network.
        held_out_words: which images chose.
        num_held_out: number of these.
        num_test: number of test images.
        notes: what to know before trusting the figures.
        multi_label: whether an image may carry several labels; it then counts as right when all are.
    """

    rows: tuple[TableRow, ...]
    ingredients: tuple[tuple[str, float, float | None], ...]
    held_out_words: str
    num_held_out: int
    num_test: int
    notes: tuple[str, ...]
    multi_label: bool


def blend_table(
    paths: Sequence[str | Path],
    data: str | Path | Sequence[str | Path],
    *,
    of: AverageOf = "probabilities",
    snapshots: bool = False,
    held_out: HeldOut = "auto",
    by_layer: bool = False,
    batch_norm: bool = True,
    statistics_images: int = 10_000,
    batch_images: int = 256,
    seed: int = 0,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> BlendTable:
    """Try every way to use a set of networks, each chosen by held-out images and tested on others.

    Args:
        paths: at least two bundles or run folders; of different architectures there are no soups.
        data: as in ``train``.
        of: what the ensembles average.
        snapshots: add the ensemble of the snapshots of each run that has them.
        held_out: as ``open_images``.
        by_layer: add a learned soup with coefficients for each layer.
        batch_norm: measure batch norm's statistics of every mixture again.
        statistics_images: at most so many training images for that.
        batch_images: images in a batch.
        seed: of the choice of these images, and of the order in which a soup is learned.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        progress: listener.

    Raises:
        UsageError: fewer than two networks, or a setting out of range.
        DataError: no usable images.
    """
    found = gather(paths)
    if len(found) < 2:
        raise UsageError(f"expected at least two networks to compare, got {len(found)}: name more runs")
    with_snapshots = [path for path in paths if snapshot_files(RunFolder(Path(path)))] if snapshots else []
    if snapshots and not with_snapshots:
        raise UsageError("expected a run with snapshots, got none: train it with --snapshots 5")
    extra = [gather([path], snapshots=True) for path in with_snapshots]
    place = pick_device(device)
    dtype = autocast_dtype(pick_precision(precision, place))
    everyone = [*found, *(one for group in extra for one in group)]
    images = open_images(everyone, data, held_out=held_out, progress=progress)
    chosen: list[Predictions] = []
    tested: list[Predictions | None] = []
    warmth, macs = [], []
    for turn, (one, dataset) in enumerate(zip(everyone, images.datasets, strict=True), 1):
        net, bundle = open_bundle(one.path)
        net.to(place)
        chosen.append(answers_of(net, bundle, dataset, images.held_out, one.name, batch_images, place, dtype))
        tested.append(
            answers_of(net, bundle, dataset, images.test, one.name, batch_images, place, dtype)
            if len(images.test)
            else None
        )
        warmth.append(bundle.temperature)
        macs.append(macs_of(bundle))
        progress("asking networks", turn, len(everyone))
    accuracies = [float(predictions.correct.mean()) for predictions in chosen]
    best = min(range(len(found)), key=lambda i: (-accuracies[i], found[i].digest))
    champion = tested[best]

    def row(method: str, held: float, test: Predictions | None, cost: int, passes: int) -> TableRow:
        correct = None if test is None else test.correct
        return TableRow(
            method=method,
            held_out=held,
            test=None if correct is None else float(correct.mean()),
            interval=None if correct is None else wilson(int(correct.sum()), len(correct)),
            gain=None
            if correct is None or champion is None or test is champion
            else paired(champion.correct, correct),
            passes=passes,
            macs=cost,
            cost=cost / max(1, macs[best]),
        )

    def together(method: str, places: Sequence[int]) -> TableRow:
        heats = [warmth[i] for i in places]
        held = ensemble([chosen[i] for i in places], of=of, temperatures=heats)
        theirs = [predictions for i in places if (predictions := tested[i]) is not None]
        test = ensemble(theirs, of=of, temperatures=heats) if theirs else None
        return row(method, float(held.correct.mean()), test, sum(macs[i] for i in places), len(places))

    k = len(found)
    rows = [
        row(f"best on validation ({found[best].name})", accuracies[best], champion, macs[best], 1),
        together(f"ensemble of {k}", range(k)),
    ]
    begin = k
    for path, group in zip(with_snapshots, extra, strict=True):
        places = range(begin, begin + len(group))
        rows.append(together(f"ensemble of {len(group)} snapshots ({Path(path).name})", places))
        begin += len(group)
    notes = list(images.notes)
    try:
        refuse_unrelated([one.bundle for one in found], [one.name for one in found])
    except BundleError as error:
        notes.append(f"no soups: {error}")
    else:
        kitchen = open_kitchen(found, images, batch_norm, statistics_images, batch_images, seed, place, dtype)
        for kind, layered in (*_SOUPS, *_BY_LAYER) if by_layer else _SOUPS:
            soup = cook(kind, found, kitchen, accuracies[:k], seed=seed, by_layer=layered, progress=progress)
            used = sum(share != 0 for share in soup.shares)
            held = kitchen.accuracy(soup.state)
            test = kitchen.predictions(soup.state, images.test, kind) if len(images.test) else None
            name = f"{kind} soup{' by layer' if layered else ''}"
            name += f" of {used}" + (f" (of {k})" if used < k else "")
            reason = why_worse(found, kitchen, soup, held, accuracies[:k])
            rows.append(row(name, held, test, macs[best], 1))
            if reason is not None:
                notes.append(f"{name}: {reason}")
    return BlendTable(
        rows=tuple(rows),
        ingredients=tuple(
            (one.name, accuracies[i], None if (t := tested[i]) is None else float(t.correct.mean()))
            for i, one in enumerate(everyone)
        ),
        held_out_words=images.held_out_words,
        num_held_out=len(images.held_out),
        num_test=len(images.test),
        notes=tuple(notes),
        multi_label=found[0].bundle.multi_label,
    )
