"""From a trained network to a file that runs without striate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_writable
from striate.serve.engine import int8_graph, open_trained
from striate.serve.export_example import example_path
from striate.serve.export_images import given_pixels, sample_pixels
from striate.serve.export_network import SUFFIXES, ExportPrecision, check_format, export_network
from striate.serve.export_network import Exported as Exported
from striate.weights.open import NetworkChoice

ExportPrecisionChoice = Literal["auto", "fp32", "int8"]


def export(
    network: NetworkChoice,
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
        network: a bundle, a run folder or an open network.
        to: ``onnx``, ``openvino`` or ``torch-export``.
        out: file to write; None takes the bundle's name and folder with the format's ending.
        batch_images: fixed number of images, at least 1; None allows any number.
        precision: ``auto`` takes int8 for a quantized bundle, else fp32. int8 goes to OpenVINO only.
        check: images to check the file with: files, folders and archives of any images, or labelled data as
            in ``train``; 16 of them are used. None: images that come with scikit-learn.
        force: whether to replace files that are there.
        progress: listener.

    Returns:
        What was written and how it was checked.

    Raises:
        UsageError: an unknown format, a missing package, a file in the way, a network that is not trained, or
            int8 where it can't be.
        BundleError: the bundle is damaged, or the file gives other numbers than the network; then nothing is
            written.
        DataError: none of the images to check with can be read.
        WriteError: the folder can't be written to.
    """
    chosen = check_format(to)
    if batch_images is not None and batch_images < 1:
        raise UsageError(
            f"expected `batch_images` of at least 1, got {batch_images}: leave it out to allow any number"
        )
    if precision not in ("auto", "fp32", "int8"):
        raise UsageError(f"expected `precision` out of auto, fp32, int8; got {precision!r}")
    opened = open_trained(network)
    suffix = SUFFIXES[chosen]
    if out is not None:
        path = Path(out)
    elif opened.path is not None:
        path = opened.path.with_suffix(suffix)
    else:
        raise UsageError(f"{opened.name}: expected `out` for a network in memory, got none: name a file")
    check_writable(path, (suffix,), force)
    check_writable(example_path(path), (".py",), force)
    if to == "openvino":
        check_writable(path.with_suffix(".bin"), (".bin",), force)
    quantized = int8_graph(opened.bundle) is not None
    real: ExportPrecision = ("int8" if quantized else "fp32") if precision == "auto" else precision
    if real == "int8" and chosen != "openvino" and quantized:
        raise UsageError(
            f"{opened.name} is quantized, and its int8 network goes to openvino only, got `to={to}`: use"
            " `precision=fp32` for its unquantized weights"
        )
    taken = opened.preprocessing
    pixels, words = sample_pixels(taken) if check is None else given_pixels(check, taken, progress)
    return export_network(
        opened.net,
        opened.bundle,
        path,
        to=chosen,
        pixels=pixels,
        images=words,
        precision=real,
        batch_images=batch_images,
        progress=progress,
    )
