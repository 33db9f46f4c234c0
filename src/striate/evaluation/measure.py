"""Figures of networks on labelled images, by any of the published protocols: the one way to get them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from striate import nets
from striate.core.compute import Compute
from striate.core.errors import BundleError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing
from striate.evaluation.evaluate import evaluate_images
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.evaluation.protocol import SINGLE, Protocol, evaluate_protocol, make_showing
from striate.metrics.interval import Interval, wilson
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import is_predictions_file, load_predictions
from striate.metrics.scores import Scores
from striate.weights.open import (
    NetworkChoice,
    OpenNetwork,
    about_int8,
    is_file_word,
    is_own,
    open_network,
)

_THREADS = 2
_PASS_PIXELS = 32 * 224 * 224  # of crops in one pass: more takes memory and no less time


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """What one network answered by one protocol.

    Attributes:
        source: the word that named the network or the predictions file.
        predictions: to every image; ``predictions.split`` says which images.
        protocol: how the images were shown; None for predictions read from a file.
        views: how many views there were of an image.
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


def evaluate(
    network: NetworkChoice,
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
        network: a bundle, a run folder, a predictions file (``.csv``, ``.parquet``: its predictions, no data is
            read), or the name of a network, which then has random weights (seed 0).
        data: as in ``train``.
        protocol: how images are shown.
        split: ``auto`` takes the source's test images, else its validation images; where the source has no
            splits, the test images that the training held out if the data are the same, else all.
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
    networks: Sequence[NetworkChoice],
    data: DataChoice | None = None,
    *,
    protocols: Sequence[Protocol] = (SINGLE,),
    split: Split = "auto",
    compute: Compute = Compute(),
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Measure several networks by several protocols; images are read once where that is possible.

    Networks whose images are cut alike share one reading. Protocols other than single crops decode the images
    again, once each.

    Args:
        networks: each as ``evaluate``. One with random weights gets as many classes as the data has.
        data: as in ``train``; None only if all networks are predictions files.
        protocols: how images are shown; files of predictions have theirs behind them.
        split: as ``evaluate``.
        compute: as ``evaluate``.
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
    compute = replace(compute, batch_images=compute.batch(128))
    device, dtype = compute.torch_device, compute.autocast_dtype
    reading = LabelledImages(data, split, strict, progress)
    found: list[Measurement] = []
    for word in networks:
        if not isinstance(word, OpenNetwork) and is_predictions_file(word):
            found.append(_from_file(word, protocols, progress))
            continue
        opened = _open(word, reading)
        bundle = opened.bundle
        for protocol in protocols:
            make_showing(protocol, bundle.preprocessing)  # a wrong size is refused before anything is read
        dataset, indices, words = reading.of(bundle)
        if not opened.trained:
            words = words.partition(" (")[0]  # what it was trained on is no question
        files = tuple(dataset.source.files[i] for i in indices.tolist())
        for protocol in protocols:
            showing = make_showing(protocol, bundle.preprocessing)
            if protocol == SINGLE:
                started = time.perf_counter()
                logits = evaluate_images(
                    opened.net, dataset, indices, bundle.preprocessing, compute=compute, progress=progress
                ).logits
                seconds = time.perf_counter() - started
                if dataset.store is not None:
                    showing = replace(showing, words=f"{showing.words}; of pixels kept in memory")
            else:
                run = evaluate_protocol(
                    opened.net.to(device),
                    dataset.source,
                    indices,
                    bundle.preprocessing,
                    protocol,
                    multi_label=bundle.multi_label,
                    batch_views=_crops_in_a_pass(compute.batch(128), bundle.preprocessing),
                    threads=_THREADS,
                    device=device,
                    autocast_dtype=dtype,
                    progress=progress,
                )
                logits, seconds = run.logits, run.seconds
            predictions = Predictions(
                name=opened.name if protocol == SINGLE else f"{opened.name}, {protocol.kind}",
                classes=bundle.classes,
                files=files,
                labels=dataset.source.labels[indices],
                logits=logits,
                split=words,
                temperature=bundle.temperature if showing.num_views == 1 else 1.0,
            )
            found.append(
                Measurement(
                    source=opened.name if isinstance(word, OpenNetwork) else str(word),
                    predictions=predictions,
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


def _open(word: NetworkChoice, reading: LabelledImages) -> OpenNetwork:
    """Open a network; one with random weights is built for the classes of the data."""
    if isinstance(word, OpenNetwork) or is_file_word(str(word)):
        return open_network(word)
    try:
        nets.find(str(word)) if not is_own(str(word)) else None
    except UsageError as error:
        if str(word).endswith(".net"):
            raise
        hint = str(error).partition(": ")[2]
        raise BundleError(
            f"{word}: no such file; expected a bundle, a run folder, a predictions file (.csv, .parquet) or"
            f" the name of a network: {hint}"
        ) from None
    source = reading.source()
    return open_network(word, classes=source.classes, multi_label=source.multi_label)


def _crops_in_a_pass(asked: int, preprocessing: Preprocessing) -> int:
    fitting = _PASS_PIXELS // (preprocessing.height_px * preprocessing.width_px)
    return max(1, min(asked, fitting))


def _from_file(word: str | Path, protocols: Sequence[Protocol], progress: Progress) -> Measurement:
    other = [protocol.kind for protocol in protocols if protocol != SINGLE]
    if other:
        raise UsageError(
            f"{word}: expected a network for `protocol={other[0]}`, got a file of predictions: name the bundle"
        )
    path = Path(word)
    if not path.is_file():
        raise DataError(f"{word}: no such file; expected predictions as `striate evaluate --save` writes")
    return Measurement(source=str(word), predictions=load_predictions(path, progress=progress), protocol=None)
