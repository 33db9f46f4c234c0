"""Measuring networks on labelled images, by any of the published protocols."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from striate.core.compute import (
    DeviceChoice,
    Precision,
    PrecisionChoice,
    autocast_dtype,
    pick_device,
    pick_precision,
)
from striate.core.errors import BundleError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batches import in_order
from striate.data.dataset import fit_preprocessing, for_network
from striate.data.members import broken_files, input_shape, loader_for
from striate.data.preprocess import Preprocessing
from striate.data.sources import Source
from striate.data.views import SMALL_PX
from striate.evaluation.evaluate import Evaluation, evaluate
from striate.evaluation.labelled import DataChoice, LabelledImages, Split, check_split
from striate.evaluation.protocol import SINGLE, Protocol, evaluate_protocol, make_showing
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import is_predictions_file, load_answers
from striate.nets import build, find
from striate.weights.bundle import Bundle
from striate.weights.open import about_int8, open_bundle

_SEED = 0
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_THREADS = 2
_PASS_PIXELS = 32 * 224 * 224  # of crops in one pass: more takes memory and no less time


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateResult:
    """A bundle's answers on labelled images.

    Attributes:
        evaluation: scores and every answer.
        files: name of each image, in the order of the answers.
        split: which images were taken, in words.
        broken: files left out, with reasons.
    """

    evaluation: Evaluation
    files: tuple[str, ...]
    split: str
    broken: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measurement:
    """What one network answered by one protocol.

    Attributes:
        source: the word that named the network or the predictions file.
        answers: to every image; ``answers.split`` says which images.
        protocol: how the images were shown; None for answers read from a file.
        views: how many views there were of an image.
        words: what was done to an image, for people.
        images_per_s: decoding and cutting included, save where the pixels of single crops were kept in
            memory; None for a file.
        trained: False for a network with random weights, whose figures mean nothing.
        broken: files left out, with reasons.
        note: what the figures leave out: of a quantized bundle, its int8 network.
    """

    source: str
    answers: Predictions
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
        return self.answers.temperature


def answers_of(
    network: str | Path,
    data: DataChoice | None = None,
    *,
    protocol: Protocol = SINGLE,
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    strict: bool = False,
    progress: Progress = silent,
) -> Predictions:
    """Get a network's answers to labelled images.

    Args:
        network: a bundle, a run folder, a predictions file (``.csv``, ``.parquet``: its answers, no data is
            read), or the name of a network, which then has random weights.
        data: as in ``train``.
        protocol: how images are shown.
        split: as ``evaluate_bundle``.
        batch_images: images in a forward pass; of crops at most as many as 32 of 224 px have pixels.
        precision: as ``evaluate_bundle``.
        device: as ``evaluate_bundle``.
        strict: a broken image is an error.
        progress: listener.

    Raises:
        UsageError: nothing of that name, no data, or a protocol that does not fit.
        BundleError: the bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    return measure(
        [network],
        data,
        protocols=[protocol],
        split=split,
        batch_images=batch_images,
        precision=precision,
        device=device,
        strict=strict,
        progress=progress,
    )[0].answers


def measure(
    networks: Sequence[str | Path],
    data: DataChoice | None = None,
    *,
    protocols: Sequence[Protocol] = (SINGLE,),
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Get the answers of several networks by several protocols; images are read once where that is possible.

    Networks whose images are cut alike share one reading. Protocols other than single crops decode the images
    again, once each.

    Args:
        networks: each as ``answers_of``. Random weights have seed 0; such a network gets as many classes as
            the data has.
        data: as in ``train``; None only if all networks are predictions files.
        protocols: how images are shown; files of predictions have theirs behind them.
        split: as ``evaluate_bundle``.
        batch_images: crops in a forward pass.
        precision: as ``evaluate_bundle``.
        device: as ``evaluate_bundle``.
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
    place, chosen = _checked(split, device, precision)
    reading = LabelledImages(data, split, strict, progress)
    found: list[Measurement] = []
    for word in networks:
        if is_predictions_file(word):
            found.append(_from_file(word, protocols, progress))
            continue
        net, record, trained = _open(word, reading)
        for protocol in protocols:
            make_showing(protocol, record.preprocessing)  # a wrong size is told before anything is read
        dataset, members, words = reading.of(record)
        if not trained:
            words = words.partition(" (")[0]  # what it was trained on is no question
        pictures = loader_for(dataset, members, record.preprocessing, batch_images, place)
        net.to(place)
        files = tuple(dataset.source.files[i] for i in members.tolist())
        for protocol in protocols:
            showing = make_showing(protocol, record.preprocessing)
            if protocol == SINGLE:
                begun = time.perf_counter()
                evaluation = evaluate(
                    net,
                    in_order(pictures),
                    record.classes,
                    device=place,
                    autocast_dtype=autocast_dtype(chosen),
                    total=len(members),
                    progress=progress,
                )
                logits, seconds = evaluation.logits, time.perf_counter() - begun
                if dataset.store is not None:
                    showing = replace(showing, words=f"{showing.words}; of pixels kept in memory")
            else:
                run = evaluate_protocol(
                    net,
                    dataset.source,
                    members,
                    record.preprocessing,
                    protocol,
                    multi_label=record.multi_label,
                    batch_views=_crops_in_a_pass(batch_images, record.preprocessing),
                    threads=_THREADS,
                    device=place,
                    autocast_dtype=autocast_dtype(chosen),
                    progress=progress,
                )
                logits, seconds = run.logits, run.seconds
            name = _name(word) if protocol == SINGLE else f"{_name(word)}, {protocol.kind}"
            answers = Predictions(
                name=name,
                classes=record.classes,
                files=files,
                labels=dataset.source.labels[members],
                logits=logits,
                split=words,
                temperature=record.temperature if showing.num_views == 1 else 1.0,
            )
            found.append(
                Measurement(
                    source=str(word),
                    answers=answers,
                    protocol=protocol,
                    views=showing.num_views,
                    words=showing.words,
                    images_per_s=len(members) / seconds,
                    trained=trained,
                    broken=broken_files(dataset),
                    note=about_int8(record),
                )
            )
    return tuple(found)


def evaluate_bundle(
    bundle: str | Path,
    data: DataChoice,
    *,
    split: Split = "auto",
    batch_images: int = 128,
    precision: PrecisionChoice = "auto",
    device: DeviceChoice = "auto",
    strict: bool = False,
    progress: Progress = silent,
) -> EvaluateResult:
    """Measure a trained network on labelled images.

    Args:
        bundle: file or run folder.
        data: as in ``train``.
        split: ``auto`` takes the source's test images, else its validation images; where the source has no
            splits, the test images that the training held out if the data are the same, else all.
        batch_images: images in a batch.
        precision: ``auto`` takes bf16 where the hardware has it.
        device: ``auto`` takes the fastest there is.
        strict: a broken image is an error.
        progress: listener.

    Raises:
        BundleError: the bundle can't be used.
        DataError: the classes differ, or the split is empty.
    """
    place, chosen = _checked(split, device, precision)
    net, record = open_bundle(bundle)
    dataset, members, words = LabelledImages(data, split, strict, progress).of(record)
    evaluation = evaluate(
        net.to(place),
        in_order(loader_for(dataset, members, record.preprocessing, batch_images, place)),
        record.classes,
        device=place,
        autocast_dtype=autocast_dtype(chosen),
        total=len(members),
        progress=progress,
    )
    files = tuple(dataset.source.files[i] for i in evaluation.indices.tolist())
    return EvaluateResult(evaluation=evaluation, files=files, split=words, broken=broken_files(dataset))


def _checked(
    split: Split, device: DeviceChoice, precision: PrecisionChoice
) -> tuple[torch.device, Precision]:
    check_split(split)
    place = pick_device(device)
    return place, pick_precision(precision, place)


def _open(word: str | Path, reading: LabelledImages) -> tuple[nn.Module, Bundle, bool]:
    """Open a bundle, or build a network by name with random weights for the classes of the data."""
    path = Path(word)
    if path.suffix != ".net" and (path.exists() or path.suffix == ".safetensors" or len(path.parts) > 1):
        return (*open_bundle(path), True)
    try:
        entry = find(str(word))
    except UsageError as error:
        if path.suffix == ".net":
            raise
        hint = str(error).partition(": ")[2]
        raise BundleError(
            f"{word}: no such file; expected a bundle, a run folder, a predictions file (.csv, .parquet) or"
            f" the name of a network: {hint}"
        ) from None
    source = reading.source()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        net = build(str(word), num_classes=len(source.classes)).eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    record = Bundle(
        net=entry.reference,
        classes=source.classes,
        multi_label=source.multi_label,
        preprocessing=_usual_preprocessing(source, input_shape(net)),
        state={},
    )
    return net, record, False


def _usual_preprocessing(source: Source, shape: tuple[int, int, int]) -> Preprocessing:
    """Choose what images of an untrained network go through: 256 px for a crop of 224, ImageNet's colours."""
    side = max(shape[1:])
    canvas = fit_preprocessing(source, shape, canvas_px=None if side <= SMALL_PX else round(side * 256 / 224))
    mean, std = _IMAGENET if shape[0] == 3 else ((0.5,), (0.5,))
    return replace(for_network(canvas, shape), mean=mean, std=std)


def _crops_in_a_pass(asked: int, preprocessing: Preprocessing) -> int:
    fitting = _PASS_PIXELS // (preprocessing.height_px * preprocessing.width_px)
    return max(1, min(asked, fitting))


def _from_file(word: str | Path, protocols: Sequence[Protocol], progress: Progress) -> Measurement:
    other = [protocol.kind for protocol in protocols if protocol != SINGLE]
    if other:
        raise UsageError(
            f"{word}: expected a network for --protocol {other[0]}, got a file of answers: name the bundle"
        )
    path = Path(word)
    if not path.is_file():
        raise DataError(f"{word}: no such file; expected predictions as `striate evaluate --save` writes")
    return Measurement(source=str(word), answers=load_answers(path, progress=progress), protocol=None)


def _name(word: str | Path) -> str:
    """Name a network in tables: a run folder by its folder, a bundle by its file."""
    path = Path(word)
    if path.name == "model.safetensors":
        return path.resolve().parent.name
    return path.resolve().name if path.is_dir() else path.name
