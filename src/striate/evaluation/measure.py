"""Figures of networks on labelled images, by any of the published protocols: the one way to get them."""

import time
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.core.compute import Compute
from striate.core.errors import BundleError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.dataset import Dataset
from striate.data.preprocess import Preprocessing
from striate.evaluation.evaluate import evaluate_images
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.evaluation.protocol import SINGLE, Protocol, evaluate_protocol, make_showing
from striate.metrics.calibration import Calibration, calibration
from striate.metrics.gains import Figure, figures
from striate.metrics.interval import Interval, wilson
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import is_predictions_file, load_predictions
from striate.metrics.scores import Scores
from striate.metrics.suspects import Suspect, label_errors
from striate.weights.bundle import Bundle
from striate.weights.open import (
    NetworkChoice,
    OpenNetwork,
    about_int8,
    is_file_word,
    open_network,
    unknown_hint,
)

_THREADS = 2
_PASS_PIXELS = 32 * 224 * 224  # of crops in one pass: more takes memory and no less time


class Run(typing.Protocol):
    """What has a run folder, such as the result of ``striate.train``."""

    @property
    def run(self) -> Path:
        """The folder."""


@typing.runtime_checkable
class HasNetwork(typing.Protocol):
    """What holds an open network: ``striate.Model``."""

    @property
    def opened(self) -> OpenNetwork:
        """The network."""


RunChoice = NetworkChoice | Run | HasNetwork
"""What names a network to measure: as ``NetworkChoice``, the result of a training, or a ``striate.Model``."""


def network_of(choice: RunChoice) -> NetworkChoice:
    """Return the run folder of a training's result, and the network of a model; anything else as it is."""
    if isinstance(choice, str | Path | OpenNetwork):
        return choice
    if isinstance(choice, HasNetwork):
        return choice.opened
    if isinstance(run := getattr(choice, "run", None), Path):
        return run
    raise UsageError(
        f"expected a network as a path, a name, a model or the result of a training, got {choice!r}"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """What one network predicts by one protocol.

    Attributes:
        source: what named the network or the predictions file.
        predictions: on every image; ``predictions.split`` says which images.
        protocol: how the images were shown; None for predictions read from a file.
        views: number of views of an image.
        words: what was done to an image, for people.
        images_per_s: decoding and cutting included, save where the pixels of single crops were kept in
            memory; None for a file.
        trained: False for a network with random weights, whose figures mean nothing.
        broken: files left out, with reasons.
        note: what the figures leave out: of a quantized bundle, its int8 network.
    """

    source: str
    predictions: Predictions
    protocol: Protocol | None
    views: int = 1
    words: str = ""
    images_per_s: float | None = None
    trained: bool = True
    broken: tuple[tuple[str, str], ...] = ()
    note: str = ""

    @property
    def temperature(self) -> float:
        """The bundle's, which its probabilities go through; averages of several views have 1."""
        return self.predictions.temperature

    @property
    def split(self) -> str:
        """Which images were taken, in words."""
        return self.predictions.split

    @cached_property
    def scores(self) -> Scores | MultiLabelScores:
        """The figures, at the bundle's temperature.

        Raises:
            NonFiniteLossError: a logit is NaN or infinite.
        """
        return self.predictions.scores(self.temperature)

    @property
    def top1(self) -> float:
        """Share of images whose most probable class is the true one (several labels: all of them correct)."""
        scores = self.scores
        return scores.exact_match if isinstance(scores, MultiLabelScores) else scores.top1

    @property
    def top1_interval(self) -> Interval:
        """95% Wilson interval of ``top1``."""
        correct = self.predictions.correct
        return wilson(int(correct.sum()), len(correct))

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return self.scores.loss

    @cached_property
    def calibration(self) -> Calibration:
        """Calibration error and the like, at the bundle's temperature."""
        return calibration(self.predictions.logits, self.predictions.labels, self.temperature)

    def figures(
        self, *, top: Sequence[int] | None = None, against: "Measurement | None" = None
    ) -> tuple[Figure, ...]:
        """Return the rates with their intervals and the loss, and what they gain over another measurement.

        Args:
            top: which top-k accuracies; None: top-1, and top-5 from 6 classes on. Not for multi-label data.
            against: of the same images, such as that of single crops; None for no gains.

        Raises:
            UsageError: a k out of range.
            DataError: the two are not of the same images.
        """
        return figures(self.predictions, top=top, against=None if against is None else against.predictions)

    def suspects(self, num: int | None = None) -> tuple[Suspect, ...]:
        """Return the images whose label is likely wrong, likeliest first; as ``label_errors``.

        Args:
            num: how many at most; None for all.

        Raises:
            UsageError: images with several labels.
        """
        return label_errors(self.predictions, num, temperature=self.temperature)


def evaluate(
    network: RunChoice,
    data: DataChoice | None = None,
    *,
    protocol: Protocol = SINGLE,
    split: Split = "auto",
    compute: Compute = Compute(),
    strict: bool = False,
    progress: Progress = silent,
) -> Measurement:
    """Measure one network on labelled images.

    Args:
        network: a bundle, a run folder, a predictions file (``.csv``, ``.parquet``: no data is read), the
            result of a training, or the name of a network, which then has random weights (seed 0).
        data: as in ``train``.
        protocol: how images are shown.
        split: ``auto`` takes the source's test images, else its validation images; where the source has no
            splits, the test images that the training held out if the data is the same, else all.
        compute: where and how; 128 images in a forward pass, of crops at most as many as 32 of 224 px have
            pixels.
        strict: a broken image is an error.
        progress: listener.

    Raises:
        UsageError: nothing of that name, no data, or a protocol that does not fit.
        BundleError: the bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    return measure(
        [network], data, protocols=[protocol], split=split, compute=compute, strict=strict, progress=progress
    )[0]


def measure(
    networks: Sequence[RunChoice],
    data: DataChoice | None = None,
    *,
    protocols: Sequence[Protocol] = (SINGLE,),
    split: Split = "auto",
    compute: Compute = Compute(),
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Measure several networks by several protocols; images are read once where that is possible.

    Networks whose images are prepared alike share one reading. Protocols other than single crops decode the
    images again, once each.

    Args:
        networks: each as in ``evaluate``. One with random weights gets as many classes as the data has.
        data: as in ``train``; None only if all networks are predictions files.
        protocols: how images are shown; not for predictions files.
        split: as in ``evaluate``.
        compute: as in ``evaluate``.
        strict: a broken image is an error.
        progress: listener.

    Returns:
        By network, then by protocol.

    Raises:
        UsageError: nothing of that name, no data, or a protocol that does not fit.
        BundleError: a bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    if not networks or not protocols:
        raise UsageError("expected at least one network and one protocol, got none: name them")
    check_split(split)
    images = LabelledImages(data, split, strict, progress)
    found: list[Measurement] = []
    for word in map(network_of, networks):
        if not isinstance(word, OpenNetwork) and is_predictions_file(word):
            found.append(_from_file(word, protocols, progress))
            continue
        opened = _open(word, images)
        bundle = opened.bundle
        for protocol in protocols:
            make_showing(protocol, bundle.preprocessing)  # refuse a wrong size before anything is read
        dataset, indices, words = images.of(bundle)
        if not opened.trained:
            words = words.partition(" (")[0]  # it was trained on nothing
        for protocol in protocols:
            showing = make_showing(protocol, bundle.preprocessing)
            if protocol == SINGLE:
                started = time.perf_counter()
                predictions = predict_labelled(
                    opened.net, bundle, dataset, indices, name=opened.name, compute=compute, progress=progress
                )
                seconds = time.perf_counter() - started
                if dataset.store is not None:
                    showing = replace(showing, words=f"{showing.words}; of pixels kept in memory")
            else:
                run = evaluate_protocol(
                    opened.net,
                    dataset.source,
                    indices,
                    bundle.preprocessing,
                    protocol,
                    multi_label=bundle.multi_label,
                    compute=_of_crops(compute, bundle.preprocessing),
                    progress=progress,
                )
                seconds = run.seconds
                name = f"{opened.name}, {protocol.kind}"
                temperature = bundle.temperature if showing.num_views == 1 else 1.0
                predictions = _predictions(run.logits, bundle, dataset, indices, name, temperature)
            found.append(
                Measurement(
                    source=opened.name if isinstance(word, OpenNetwork) else str(word),
                    predictions=replace(predictions, split=words),
                    protocol=protocol,
                    views=showing.num_views,
                    words=showing.words,
                    images_per_s=len(indices) / seconds,
                    trained=opened.trained,
                    broken=dataset.broken_files,
                    note=about_int8(bundle),
                )
            )
    return tuple(found)


def predict_labelled(
    net: nn.Module,
    bundle: Bundle,
    dataset: Dataset,
    indices: NDArray[np.int64],
    *,
    name: str,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Predictions:
    """Return a network's predictions on single crops of some images of a dataset.

    Args:
        net: with any weights of the bundle's architecture; it is moved to the device.
        bundle: its preprocessing, classes and temperature; its tensors do not count.
        dataset: with the classes of the bundle, in their order.
        indices: of its images, in the order of the result.
        name: of the network, for tables.
        compute: where and how; 128 images in a forward pass.
        progress: listener.

    Raises:
        DataError: no images.
        UsageError: the output is not ``N x K`` logits.
        NonFiniteLossError: the network gives NaN or infinity.
    """
    found = evaluate_images(net, dataset, indices, bundle.preprocessing, compute=compute, progress=progress)
    return _predictions(found.logits, bundle, dataset, indices, name, bundle.temperature)


def _predictions(
    logits: NDArray[np.float32],
    bundle: Bundle,
    dataset: Dataset,
    indices: NDArray[np.int64],
    name: str,
    temperature: float,
) -> Predictions:
    return Predictions(
        name=name,
        classes=bundle.classes,
        files=tuple(dataset.source.files[i] for i in indices.tolist()),
        labels=dataset.source.labels[indices],
        logits=logits,
        temperature=temperature,
    )


def _open(word: NetworkChoice, images: LabelledImages) -> OpenNetwork:
    """Open a network; one with random weights is built for the classes of the data."""
    if isinstance(word, OpenNetwork) or is_file_word(str(word)):
        return open_network(word)
    hint = unknown_hint(str(word))
    if hint is not None:
        raise BundleError(
            f"{word}: no such file; expected a bundle, a run folder, a predictions file (.csv, .parquet) or"
            f" the name of a network: {hint}"
        )
    source = images.source()
    return open_network(word, classes=source.classes, multi_label=source.multi_label)


def _of_crops(compute: Compute, preprocessing: Preprocessing) -> Compute:
    """Limit the crops in a forward pass by their pixels."""
    fitting = _PASS_PIXELS // (preprocessing.height_px * preprocessing.width_px)
    crops = max(1, min(compute.batch(128), fitting))
    return replace(compute, batch_images=crops, threads=compute.threads or _THREADS)


def _from_file(word: str | Path, protocols: Sequence[Protocol], progress: Progress) -> Measurement:
    other = [protocol.kind for protocol in protocols if protocol != SINGLE]
    if other:
        raise UsageError(
            f"{word}: expected a network for `protocol={other[0]}`, got a predictions file: name the bundle"
        )
    path = Path(word)
    if not path.is_file():
        raise DataError(f"{word}: no such file; expected predictions as `striate evaluate` saves them")
    return Measurement(source=str(word), predictions=load_predictions(path, progress=progress), protocol=None)
