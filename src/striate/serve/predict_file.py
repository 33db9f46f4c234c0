"""Predictions of a whole folder in a file, gone on with after a kill."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from striate.core.compute import DeviceChoice, pick_device
from striate.core.errors import BundleError
from striate.core.progress import Progress, silent
from striate.data.find import find_images
from striate.serve.engine import (
    EngineChoice,
    EngineName,
    EnginePrecision,
    EnginePrecisionChoice,
    open_engine,
    pick_engine,
    pick_engine_precision,
)
from striate.serve.output import open_predictions, rows_for
from striate.serve.predict import Prediction, check_topk, predict_with
from striate.weights.open import open_bundle
from striate.weights.run_folder import bundle_path

_NAMED_BROKEN = 10  # broken images that a result names; all are in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What a run of ``predict_to_file`` did.

    Attributes:
        num_images: rows in the file now.
        num_new: rows that this run wrote.
        num_broken: rows of images that could not be read.
        broken: the first ten of those that this run met.
        seconds: from the first image to the last row, without opening bundle and engine.
        engine: that ran the network.
        precision: that it computed in.
    """

    num_images: int
    num_new: int
    num_broken: int
    broken: tuple[Prediction, ...]
    seconds: float
    engine: EngineName
    precision: EnginePrecision


def predict_to_file(
    bundle: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    topk: int = 5,
    engine: EngineChoice = "auto",
    precision: EnginePrecisionChoice = "auto",
    batch_images: int | None = None,
    threads: int | None = None,
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> PredictResult:
    """Classify images into a file with one row for each; go on with the file if the same question began it.

    Args:
        bundle: a bundle or a run folder.
        paths: images, folders and archives.
        out: a name that ends in ``.csv`` or ``.jsonl``; ``OUT.json`` beside it says what made it.
        topk: classes to name.
        engine: see ``serve.engine.open_engine``.
        precision: see there.
        batch_images: images in a forward pass; None takes what is fast.
        threads: that decode and that compute; None takes one for each core.
        device: where the torch engine computes.
        progress: told how many images are done.

    Raises:
        UsageError: a path does not exist, or the file was begun with another bundle or other options.
        BundleError: the bundle is damaged.
        DataError: the file is damaged, or being written by another process.
        WriteError: the disk is full.
    """
    check_topk(topk)
    path = Path(out)
    rows_for(path, topk)
    net, record = open_bundle(bundle)
    place = pick_device(device)
    name = pick_engine(engine, place)
    computed_in = pick_engine_precision(precision, name, record, place)
    num_named = min(topk, len(record.classes))
    about: dict[str, Any] = {
        "bundle": _fingerprint(Path(bundle)),
        "net": record.net,
        "paths": [str(one) for one in paths],
        "topk": num_named,
        "engine": name,
        "precision": computed_in,
        "device": place.type,
    }
    found = find_images(paths)
    broken: list[Prediction] = []
    seconds = 0.0
    with open_predictions(path, about, num_named) as file:
        missing = file.missing(found)
        first = list(islice(missing, 1))  # a file that is complete needs no engine
        if first:
            opened = open_engine(
                net,
                record,
                engine=name,
                precision=computed_in,
                batch_images=batch_images,
                threads=threads,
                device=device,
                progress=progress,
            )
            started = time.perf_counter()
            items = chain(first, missing)
            with (
                closing(opened),
                closing(predict_with(opened, record, items, topk=topk, threads=threads)) as predictions,
            ):
                for one in predictions:
                    file.write(one)
                    if one.error is not None and len(broken) < _NAMED_BROKEN:
                        broken.append(one)
                    progress("predict", file.num_written, None)
            seconds = time.perf_counter() - started
        return PredictResult(
            num_images=file.num_before + file.num_written,
            num_new=file.num_written,
            num_broken=file.num_broken,
            broken=tuple(broken),
            seconds=seconds,
            engine=name,
            precision=computed_in,
        )


def _fingerprint(path: Path) -> str:
    """Hash a bundle's file."""
    path = bundle_path(path)
    try:
        with open(path, "rb") as file:
            return "blake2b " + hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror or error})") from None
