"""From a bundle to a file that runs without striate."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import BrokenImageError, DataError, UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.data.dataset import fetch_pixels
from striate.data.find import Item, find_images
from striate.data.preprocess import Preprocessing, decode_side_px, to_pixels
from striate.data.source import Source
from striate.data.sources import open_source
from striate.serve.export_example import example_path
from striate.serve.export_network import SUFFIXES, Exported, ExportPrecision, check_format, export_network
from striate.serve.export_pictures import PICTURES, check_pictures
from striate.serve.pipeline import prepare
from striate.weights.open import open_bundle

ExportPrecisionChoice = Literal["auto", "fp32", "int8"]

_CHECK_IMAGES = 16


def export_bundle(
    bundle: str | Path,
    to: str,
    out: str | Path | None = None,
    *,
    batch_images: int | None = None,
    precision: ExportPrecisionChoice = "auto",
    check: str | Path | Sequence[str | Path] | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Exported:
    """Write a trained network as a file for another runtime, with an example beside it.

    Args:
        bundle: file or run folder.
        to: ``onnx``, ``openvino`` or ``torch-export``.
        out: file to write; None takes the bundle's name and place with the format's ending.
        batch_images: fixed number of images, at least 1; None lets any number in.
        precision: ``auto`` takes int8 for a quantized bundle, else fp32. int8 goes to OpenVINO only.
        check: images to check the file with: files, folders and archives of any images, or labelled data as
            in ``train``; 16 of them are used. None: pictures that come with scikit-learn.
        force: whether to replace files that are there.
        progress: listener.

    Returns:
        What was written and how it was checked.

    Raises:
        UsageError: an unknown format, a missing package, a file in the way, or int8 where it can't be.
        BundleError: the bundle is damaged, or the file answers otherwise than the network; then nothing is
            written.
        DataError: none of the images to check with can be read.
        WriteError: the place can't be written to.
    """
    chosen = check_format(to)
    if batch_images is not None and batch_images < 1:
        raise UsageError(
            f"expected at least 1 image in a batch, got {batch_images}: or dynamic, for any number"
        )
    if precision not in ("auto", "fp32", "int8"):
        raise UsageError(f"expected a precision out of auto, fp32, int8; got {precision!r}")
    origin = Path(bundle)
    path = _default(origin, SUFFIXES[chosen]) if out is None else Path(out)
    check_writable(path, (SUFFIXES[chosen],), force)
    check_writable(example_path(path), (".py",), force)
    if chosen == "openvino":
        check_writable(path.with_suffix(".bin"), (".bin",), force)
    net, record = open_bundle(origin)
    quantized = "int8.xml" in record.graphs
    real: ExportPrecision = ("int8" if quantized else "fp32") if precision == "auto" else precision
    if real == "int8" and not quantized:
        raise UsageError(f"{bundle} has no int8 weights: make some with `striate quantize`, or use fp32")
    if real == "int8" and chosen != "openvino":
        raise UsageError(
            f"{bundle} is quantized, and its int8 network goes to openvino only, got --to {chosen}: add"
            " --precision fp32 to write its unquantized weights"
        )
    pre = record.preprocessing
    pixels, words = (check_pictures(pre), PICTURES) if check is None else _given(check, pre, progress)
    return export_network(
        net,
        record,
        path,
        to=chosen,
        pixels=pixels,
        images=words,
        precision=real,
        batch_images=batch_images,
        progress=progress,
    )


def _default(bundle: Path, suffix: str) -> Path:
    return (bundle / "model").with_suffix(suffix) if bundle.is_dir() else bundle.with_suffix(suffix)


def _given(
    where: str | Path | Sequence[str | Path], preprocessing: Preprocessing, progress: Progress
) -> tuple[NDArray[np.uint8], str]:
    """Read some of the images named: files, folders and archives of any images, or data known elsewhere."""
    paths = [where] if isinstance(where, str | Path) else list(where)
    read: Callable[[int], NDArray[np.uint8] | None]
    if all(Path(one).exists() and Path(one).suffix not in (".csv", ".jsonl") for one in paths):
        items = list(find_images(paths))
        name, number = ", ".join(map(str, paths)), len(items)
        read = partial(_of_items, items, preprocessing)
    else:
        source = open_source(where if isinstance(where, str | Path) else paths, progress=progress)
        name, number = source.name, len(source.files)
        read = partial(_of_source, source, preprocessing)
    if not number:
        raise DataError(f"no images in {name}: expected files such as .jpg or .png")
    places = np.unique(np.linspace(0, number - 1, _CHECK_IMAGES).astype(int)).tolist()
    found = [pixels for place in places if (pixels := read(place)) is not None]
    if not found:
        raise DataError(f"{name}: none of {len(places)} images can be decoded: name others with --check")
    return np.stack(found), name


def _of_items(items: Sequence[Item], preprocessing: Preprocessing, place: int) -> NDArray[np.uint8] | None:
    return prepare(items[place], preprocessing).pixels


def _of_source(source: Source, preprocessing: Preprocessing, place: int) -> NDArray[np.uint8] | None:
    try:
        return to_pixels(fetch_pixels(source, place, decode_side_px(preprocessing)), preprocessing)
    except BrokenImageError:
        return None
