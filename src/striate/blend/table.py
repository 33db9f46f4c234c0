"""The lectures' table of blends: best on validation, ensemble and soups of one set of runs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from striate.blend.ensemble import average_predictions, macs_of
from striate.blend.ingredients import BATCH_IMAGES, gather, open_images
from striate.blend.kinship import refuse_unrelated
from striate.blend.merge_bundles import STATISTICS_IMAGES
from striate.blend.merging import make_soup, open_merger, why_worse
from striate.core.choices import AverageOf, SoupKind
from striate.core.compute import Compute
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.evaluation.labelled import DataChoice
from striate.evaluation.measure import RunChoice, network_of, predict_labelled
from striate.metrics.interval import Interval, wilson
from striate.metrics.paired import Paired, paired
from striate.metrics.predictions import Predictions
from striate.weights.run_folder import RunFolder, snapshot_files

_SOUPS: tuple[tuple[SoupKind, bool], ...] = (("uniform", False), ("greedy", False), ("learned", False))
_BY_LAYER: tuple[tuple[SoupKind, bool], ...] = (("learned", True),)


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """One way to use a set of networks. Rates are fractions in [0, 1].

    Attributes:
        method: which, with the number of networks that it uses.
        held_out: accuracy on the images that chose.
        test: accuracy on the test images, or None where there are none.
        interval: its 95% Wilson interval, or None.
        gain: against the network that is best on the held-out images, on the test images; None for itself
            and where there are none.
        passes: forward passes at prediction: 1 whatever the number of networks (O(1)), or as many as there
            are (O(k)).
        macs: multiply-accumulates for one image, all passes together.
        cost: relative to the best single network's.
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
    """The table, and what it was made from. Rates are fractions in [0, 1].

    Attributes:
        rows: best on validation first.
        ingredients: (name, held-out accuracy, test accuracy or None) of each network.
        held_out_words: which images chose.
        num_held_out: number of these.
        num_test: number of test images.
        notes: what to know before trusting the figures.
        multi_label: whether an image may carry several labels; it then counts as correct when all are.
    """

    rows: tuple[TableRow, ...]
    ingredients: tuple[tuple[str, float, float | None], ...]
    held_out_words: str
    num_held_out: int
    num_test: int
    notes: tuple[str, ...]
    multi_label: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``."""
        return {
            "multi_label": self.multi_label,
            "held_out": self.held_out_words,
            "num_test": self.num_test,
            "ingredients": [
                {"name": name, "held_out": held, "test": test} for name, held, test in self.ingredients
            ],
            "rows": [row.to_json() for row in self.rows],
        }


def blend_table(
    networks: Sequence[RunChoice],
    data: DataChoice,
    *,
    of: AverageOf = "probabilities",
    snapshots: bool = False,
    held_out: str = "auto",
    by_layer: bool = False,
    batch_norm: bool = True,
    statistics_images: int = STATISTICS_IMAGES,
    seed: int = 0,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> BlendTable:
    """Try every way to use a set of networks, each chosen by held-out images and tested on others.

    Args:
        networks: at least two bundles, run folders or results of trainings; of different architectures there
            are no soups.
        data: as in ``train``.
        of: what the ensembles average.
        snapshots: add the ensemble of the snapshots of each run that has them.
        held_out: as ``open_images``.
        by_layer: add a learned soup with coefficients for each layer.
        batch_norm: measure batch norm's statistics of every merge again.
        statistics_images: at most this many training images for that.
        seed: of the choice of these images, and of the order in which a soup is learned.
        compute: where and how; 256 images in a forward pass.
        progress: listener.

    Raises:
        UsageError: fewer than two networks, or a setting out of range.
        DataError: no usable images.
    """
    words = [network_of(one) for one in networks]
    found = gather(words)
    if len(found) < 2:
        raise UsageError(f"expected at least two networks to compare, got {len(found)}: name more runs")
    runs = [word for word in words if isinstance(word, str | Path)] if snapshots else []
    with_snapshots = [run for run in runs if snapshot_files(RunFolder(Path(run)))]
    if snapshots and not with_snapshots:
        raise UsageError(
            "expected a run with snapshots, got none: train it with a cyclic schedule (`schedule=cyclic`,"
            " `cycles=5`)"
        )
    extra = [gather([run], snapshots=True) for run in with_snapshots]
    compute = replace(compute, batch_images=compute.batch(BATCH_IMAGES))
    everyone = [*found, *(one for group in extra for one in group)]
    images = open_images(everyone, data, held_out=held_out, progress=progress)
    chosen: list[Predictions] = []
    tested: list[Predictions] = []
    for turn, (one, dataset) in enumerate(zip(everyone, images.datasets, strict=True), 1):
        net = one.build()
        for indices, kept in ((images.held_out, chosen), (images.test, tested)):
            if len(indices):
                kept.append(
                    predict_labelled(net, one.bundle, dataset, indices, name=one.name, compute=compute)
                )
        progress("evaluating networks", turn, len(everyone))
    macs = [macs_of(one.bundle) or 0 for one in everyone]
    accuracies = [float(one.correct.mean()) for one in chosen]
    best = min(range(len(found)), key=lambda i: (-accuracies[i], found[i].digest))

    def row(method: str, held: float, test: Predictions | None, cost: int, passes: int) -> TableRow:
        correct = None if test is None else test.correct
        return TableRow(
            method=method,
            held_out=held,
            test=None if correct is None else float(correct.mean()),
            interval=None if correct is None else wilson(int(correct.sum()), len(correct)),
            gain=None if correct is None or test is tested[best] else paired(tested[best].correct, correct),
            passes=passes,
            macs=cost,
            cost=cost / max(1, macs[best]),
        )

    def together(method: str, indices: Sequence[int]) -> TableRow:
        held = average_predictions([chosen[i] for i in indices], of=of)
        test = average_predictions([tested[i] for i in indices], of=of) if tested else None
        return row(method, float(held.correct.mean()), test, sum(macs[i] for i in indices), len(indices))

    k = len(found)
    rows = [
        row(
            f"best on validation ({found[best].name})",
            accuracies[best],
            tested[best] if tested else None,
            macs[best],
            1,
        ),
        together(f"ensemble of {k}", range(k)),
    ]
    first = k
    for run, group in zip(with_snapshots, extra, strict=True):
        own = range(first, first + len(group))
        rows.append(together(f"ensemble of {len(group)} snapshots ({Path(run).name})", own))
        first += len(group)
    notes = list(images.notes)
    try:
        refuse_unrelated([one.bundle for one in found], [one.name for one in found])
    except BundleError as error:
        notes.append(f"no soups: {error}")
    else:
        merger = open_merger(
            found,
            images,
            batch_norm=batch_norm,
            statistics_images=statistics_images,
            seed=seed,
            compute=compute,
            accuracies=accuracies[:k],
            progress=progress,
        )
        for kind, layered in (*_SOUPS, *_BY_LAYER) if by_layer else _SOUPS:
            merge = make_soup(kind, merger, seed=seed, by_layer=layered, progress=progress)
            used = sum(share != 0 for share in merge.shares)
            held = merger.accuracy(merge.state)
            test = merger.predictions(merge.state, images.test, kind) if tested else None
            name = f"{kind} soup{' by layer' if layered else ''}"
            name += f" of {used}" + (f" (of {k})" if used < k else "")
            reason = why_worse(merger, merge, held)
            rows.append(row(name, held, test, macs[best], 1))
            if reason is not None:
                notes.append(f"{name}: {reason}")
    return BlendTable(
        rows=tuple(rows),
        ingredients=tuple(
            (one.name, accuracies[i], float(tested[i].correct.mean()) if tested else None)
            for i, one in enumerate(everyone)
        ),
        held_out_words=images.held_out_words,
        num_held_out=len(images.held_out),
        num_test=len(images.test),
        notes=tuple(notes),
        multi_label=found[0].bundle.multi_label,
    )
