"""Writing a network as a file that runs without striate; the file is checked before it is kept."""

import copy
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.atomic import unwritable
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.core.version import __version__
from striate.serve.convert_openvino import convert, read_graph
from striate.serve.engine import int8_graph
from striate.serve.export_example import ExportFormat, example_of, example_path, words_of
from striate.serve.export_onnx import NEEDED, onnx_versions, run_onnx, write_onnx
from striate.serve.export_openvino import IN_FP32, openvino_versions, run_openvino, write_openvino
from striate.serve.export_torch import run_torch, write_torch
from striate.serve.graph import FromPixels, in_memory_format
from striate.serve.import_openvino import import_openvino
from striate.serve.packages import check_packages
from striate.weights.bundle import Bundle

ExportPrecision = Literal["fp32", "int8"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""How the files of each format end."""

TOLERANCE = 2e-5
"""How far a logit may be off, as a share of the largest logit: over seven times the largest float32 rounding
that was seen in any network of striate (docs/export.md)."""

_PROBABILITY_TOLERANCE = 1e-4

_BATCH = 4  # images at a time in the check of a graph that takes any number


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written, and how it was checked.

    Attributes:
        path: the file to give to the runtime.
        files: every file, ``path`` first, the example last.
        to: its format.
        precision: of its weights and arithmetic.
        pixels: shape of what it takes, ``N`` (None if any), height, width, channels.
        num_classes: ``K`` of what it gives, ``N x K``.
        num_images: how many images it was checked on.
        images: which, in words.
        difference: the largest difference of a logit between the file, run by its own runtime, and its
            original: the network in torch fp32, or the bundle's int8 network.
        tolerance: the largest difference that is allowed.
        largest_logit: the largest logit in absolute value, for scale.
        agreement: share of the images on which file and torch fp32 rank the same class first, in [0, 1]; for
            several labels an image, share of the probabilities on the same side of one half.
        versions: of striate, torch, the runtime; ONNX's opset.
        outside: in words, what must happen to an image before it goes in.
        example: the program that lies beside the file.
    """

    path: Path
    files: tuple[Path, ...]
    to: ExportFormat
    precision: ExportPrecision
    pixels: tuple[int | None, int, int, int]
    num_classes: int
    num_images: int
    images: str
    difference: float
    tolerance: float
    largest_logit: float
    agreement: float
    versions: dict[str, str]
    outside: str
    example: str


class WithProbabilities(nn.Module):
    """Maps *u8* pixels to logits and probabilities.

    Args:
        graph: maps pixels to logits.
        temperature: what logits are divided by before they become probabilities.
        multi_label: sigmoid instead of softmax.
    """

    def __init__(self, graph: FromPixels, temperature: float, multi_label: bool) -> None:
        super().__init__()
        self.from_pixels = graph  # "graph" is a name that torch.fx needs for itself
        self._temperature = temperature
        self._multi_label = multi_label

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Classify ``N x H x W x C`` uint8 pixels; return logits and probabilities, both ``N x K``."""
        logits = self.from_pixels(pixels)
        scaled = logits / self._temperature
        return logits, scaled.sigmoid() if self._multi_label else scaled.softmax(1)


def check_format(to: str) -> ExportFormat:
    """Return the format if it exists and its packages are installed.

    Raises:
        UsageError: an unknown format, or a missing package.
    """
    if to not in SUFFIXES:
        raise UsageError(f"expected `to` out of {', '.join(SUFFIXES)}; got {to!r}")
    needed = {"onnx": NEEDED, "openvino": ("openvino",), "torch-export": ()}[to]
    check_packages(f"writing {to}", *needed)
    return to


def export_network(
    net: nn.Module,
    bundle: Bundle,
    path: Path,
    *,
    to: ExportFormat,
    pixels: NDArray[np.uint8],
    images: str,
    precision: ExportPrecision = "fp32",
    batch_images: int | None = None,
    progress: Progress = silent,
) -> Exported:
    """Write a network with its normalisation inside, check the file, then put it in place.

    The files are made in a temporary folder beside ``path``, read back by the format's own runtime, and run
    on real images. Only if the logits agree do they get their names and replace what was there.

    Args:
        net: the network of ``open_bundle``, in eval mode, on the CPU.
        bundle: gives preprocessing, classes, temperature, and the int8 graph if it was quantized.
        path: file to write; ends as ``SUFFIXES`` says.
        to: its format.
        pixels: ``M x H x W x C`` uint8 images to check with, at least one.
        images: which these are, in words.
        precision: ``int8`` writes the bundle's int8 graph; for OpenVINO only.
        batch_images: fixed number of images; None allows any number.
        progress: listener of the stages ``"export"`` and ``"check"``.

    Raises:
        UsageError: int8 without an int8 graph or for another format than OpenVINO.
        BundleError: the file gives other numbers than the network, or the network gives NaN or infinity;
            nothing is written.
        WriteError: the folder can't be written to.
    """
    int8 = int8_graph(bundle) if precision == "int8" else None
    if precision == "int8" and (to != "openvino" or int8 is None):
        raise UsageError(
            "expected a bundle of `striate quantize` and `to=openvino` for int8, got"
            f" {'no int8 network' if int8 is None else f'`to={to}`'}: use `precision=fp32`"
        )
    pre = bundle.preprocessing
    graph = FromPixels(net, pre).eval()
    reference = expected = _logits_of(graph, pixels)
    if not np.isfinite(expected).all():
        raise BundleError("the network gives NaN or infinity: train it again, with a lower learning rate")
    example = example_of(to, path.name, pre, batch_images)
    versions = {"striate": __version__, "torch": torch.__version__}
    versions |= {"onnx": onnx_versions, "openvino": openvino_versions, "torch-export": dict}[to]()
    facts = _facts(bundle, to, precision, versions, example, batch_images)
    with _staged(path) as folder:
        staged = folder / path.name
        progress("export", 0, 1, path.name)
        if to == "openvino":
            if int8 is not None:
                reference = _run_model(read_graph(*int8), pixels)
                model = read_graph(*int8)
            else:
                model = convert(graph, pre)
            write_openvino(
                model,
                staged,
                facts,
                temperature=bundle.temperature,
                multi_label=bundle.multi_label,
                batch_images=batch_images,
            )
        else:
            # A copy, since torch.export.save wants the usual order of memory, and nets here have another.
            own = in_memory_format(copy.deepcopy(graph), torch.contiguous_format)
            whole = WithProbabilities(own, bundle.temperature, bundle.multi_label).eval()
            program = _trace(whole, (pre.height_px, pre.width_px, pre.channels), batch_images)
            (write_onnx if to == "onnx" else write_torch)(program, staged, facts)
        progress("export", 1, 1, path.name)
        progress("check", 0, len(pixels), images)
        run = {"onnx": run_onnx, "openvino": run_openvino, "torch-export": run_torch}[to]
        results = zip(*run(staged, _batches(pixels, batch_images)), strict=True)
        logits, probabilities = (np.concatenate(parts)[: len(pixels)] for parts in results)
        progress("check", len(pixels), len(pixels), images)
        difference, tolerance = _compare(path, bundle, reference, logits, probabilities)
        (folder / example_path(path).name).write_text(example, encoding="utf-8")
        files = _put_in_place(folder, path)
    if bundle.multi_label:
        agreement = float(((expected > 0) == (logits > 0)).mean())
    else:
        agreement = float((expected.argmax(1) == logits.argmax(1)).mean())
    return Exported(
        path=path,
        files=files,
        to=to,
        precision=precision,
        pixels=(batch_images, pre.height_px, pre.width_px, pre.channels),
        num_classes=len(bundle.classes),
        num_images=len(pixels),
        images=images,
        difference=difference,
        tolerance=tolerance,
        largest_logit=float(np.abs(reference).max()),
        agreement=agreement,
        versions=versions,
        outside=words_of(pre),
        example=example,
    )


def _facts(
    bundle: Bundle,
    to: ExportFormat,
    precision: ExportPrecision,
    versions: dict[str, str],
    example: str,
    batch_images: int | None,
) -> dict[str, str]:
    """Return the file's metadata; whatever is not plain text is JSON."""
    pre = bundle.preprocessing
    number = "N" if batch_images is None else str(batch_images)
    order = "grey" if pre.channels == 1 else "RGB"
    kind = "sigmoid" if bundle.multi_label else "softmax"
    return {
        "net": bundle.net,
        "net_arguments": json.dumps(bundle.net_arguments),
        "classes": json.dumps(bundle.classes),
        "precision": precision,
        "input": f"pixels: {number} x {pre.height_px} x {pre.width_px} x {pre.channels} uint8, {order},"
        " 0..255",
        "outputs": f"logits, probabilities ({kind} of logits / {bundle.temperature:g}):"
        f" {number} x {len(bundle.classes)} float32, in the order of classes",
        "before": words_of(pre),
        "preprocessing": json.dumps(pre.to_json()),
        "inside": "division by 255, mean, std and colour_order of preprocessing are inside the graph",
        "multi_label": json.dumps(bundle.multi_label),
        "temperature": json.dumps(bundle.temperature),
        "versions": json.dumps(versions),
        "example": example,
    }


def _trace(
    module: nn.Module, size: tuple[int, int, int], batch_images: int | None
) -> torch.export.ExportedProgram:
    """Trace a module on pixels; paths of its source are left out."""
    open_number = ({0: torch.export.Dim("N", min=1)},) if batch_images is None else None
    # Two: the tracer would take a single image for a fixed number.
    pixels = torch.zeros((batch_images or 2, *size), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(module, (pixels,), dynamic_shapes=open_number, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def _logits_of(graph: FromPixels, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        parts = [graph(torch.from_numpy(one)) for one in _batches(pixels, _BATCH)]
    return np.concatenate([one.numpy() for one in parts])[: len(pixels)]


def _run_model(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    compiled = import_openvino().Core().compile_model(model, "CPU", IN_FP32)
    return np.concatenate([np.array(compiled(one)[0]) for one in _batches(pixels, None)])


def _batches(pixels: NDArray[np.uint8], batch_images: int | None) -> list[NDArray[np.uint8]]:
    """Cut images into batches: a single one and then several, or all of one size, the last one repeated."""
    if batch_images is None:
        return [one for one in np.split(pixels, range(1, len(pixels), _BATCH)) if len(one)]
    missing = -len(pixels) % batch_images
    whole = np.concatenate([pixels, np.repeat(pixels[-1:], missing, 0)])
    return np.split(whole, len(whole) // batch_images)


def _compare(
    path: Path,
    bundle: Bundle,
    expected: NDArray[np.float32],
    logits: NDArray[np.float32],
    probabilities: NDArray[np.float32],
) -> tuple[float, float]:
    """Return the largest difference of a logit, and the largest that is allowed.

    Raises:
        BundleError: it is larger, or the probabilities are not those of the logits.
    """
    difference = float(np.abs(logits.astype(np.float64) - expected).max())
    tolerance = TOLERANCE * float(np.abs(expected).max())
    scaled = torch.from_numpy(logits).double() / bundle.temperature
    own = scaled.sigmoid() if bundle.multi_label else scaled.softmax(1)
    spread = float(np.abs(own.numpy() - probabilities).max())
    if not difference <= tolerance or not spread <= _PROBABILITY_TOLERANCE:  # NaN is not
        raise BundleError(
            f"{path.name} was not written: run by its own runtime it is off by {difference:.1e} in a logit"
            f" (allowed {tolerance:.1e}) and {spread:.1e} in a probability: please report this network"
        )
    return difference, tolerance


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``, which is deleted afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        yield folder
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put_in_place(folder: Path, path: Path) -> tuple[Path, ...]:
    """Move every file out of the staging folder, the main one last; return them with the main one first."""
    example = example_path(path)
    others = sorted(one.name for one in folder.iterdir() if one.name not in (path.name, example.name))
    for name in (*others, example.name, path.name):
        with open(folder / name, "rb") as written:
            os.fsync(written.fileno())
        os.replace(folder / name, path.parent / name)
    return (path, *(path.with_name(name) for name in others), example)
