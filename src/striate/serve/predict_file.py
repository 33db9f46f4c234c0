"""Predictions of any number of images in a file; a killed run is resumed."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from striate.core.choices import EngineChoice, EngineName, EnginePrecision
from striate.core.compute import Compute
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.data.find import find_images
from striate.serve.engine import (
    engine_for,
    open_trained,
    pick_engine,
    pick_engine_precision,
)
from striate.serve.output import open_predictions, rows_for
from striate.serve.predict import Prediction, check_top, predict
from striate.weights.open import NetworkChoice

_NAMED_BROKEN = 10  # broken images that a result lists; all are in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictResult:
    """What a call of ``predict_to_file`` did.

    Attributes:
        num_images: rows in the file now.
        num_new: rows that this call wrote.
        num_broken: rows of images that could not be read.
        broken: the first ten of those that this call met.
        seconds: from the first image to the last row, without opening network and engine.
        engine: what ran the network.
        precision: what it computed in.
    """

    num_images: int
    num_new: int
    num_broken: int
    broken: tuple[Prediction, ...]
    seconds: float
    engine: EngineName
    precision: EnginePrecision


def predict_to_file(
    network: NetworkChoice,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    top: int = 5,
    engine: EngineChoice = "auto",
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> PredictResult:
    """Classify images into a file with one row for each; a file that the same call started is resumed.

    Args:
        network: a bundle, a run folder, or a network that was opened from one.
        paths: images, folders and archives.
        out: a name that ends in ``.csv`` or ``.jsonl``; ``OUT.json`` beside it says what made it.
        top: how many classes to name, at least 1.
        engine: see ``open_engine``.
        compute: see ``predict``.
        progress: listener; stage ``"predict"`` counts images.

    Raises:
        UsageError: a path does not exist, or the file was started with another network or other options.
        BundleError: the bundle is damaged.
        DataError: the file is damaged, or another process is writing it.
        WriteError: the disk is full.
    """
    check_top(top)
    path = Path(out)
    rows_for(path, top)
    opened = open_trained(network)
    if opened.path is None:
        raise UsageError(
            f"{opened.name}: expected a network from a file, got one in memory, which `out` can't refer to:"
            " save it as a bundle first"
        )
    device = compute.torch_device
    name = pick_engine(engine, device)
    precision = pick_engine_precision(compute.precision, name, opened.bundle, device)
    num_named = min(top, len(opened.classes))
    about: dict[str, Any] = {
        "bundle": _fingerprint(opened.path),
        "net": opened.bundle.net,
        "paths": [str(one) for one in paths],
        "topk": num_named,
        "engine": name,
        "precision": precision,
        "device": device.type,
    }
    found = find_images(paths)
    broken: list[Prediction] = []
    seconds = 0.0
    with open_predictions(path, about, num_named) as file:
        missing = file.missing(found)
        first = list(islice(missing, 1))  # a file that is complete needs no engine
        if first:
            with engine_for(opened, engine=name, compute=compute, progress=progress) as running:
                started = time.perf_counter()
                items = chain(first, missing)
                with closing(predict(opened, items, top=top, engine=running, compute=compute)) as predictions:
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
            precision=precision,
        )


def _fingerprint(path: Path) -> str:
    """Hash a bundle's file."""
    try:
        with open(path, "rb") as file:
            return "blake2b " + hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: can't be read ({error.strerror or error})") from None
