"""Measuring how fast a network runs here: every engine, each in a process of its own."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import nn

from striate.core.compute import DeviceChoice, pick_device, pick_precision
from striate.core.errors import StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.data.find import find_images
from striate.data.preprocess import Preprocessing
from striate.nets import build, describe, find
from striate.serve.engine import (
    EngineChoice,
    EngineName,
    EnginePrecision,
    EnginePrecisionChoice,
    int8_graph,
    open_engine,
    pick_engine,
    pick_engine_precision,
)
from striate.serve.engine_speed import Speed, matrix_ceiling, measure_engine, peak_mib
from striate.serve.predict import predict_with
from striate.weights.bundle import Bundle
from striate.weights.open import open_bundle

_WARM_IMAGES = 32  # of the folder are predicted before the clock starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Benched:
    """One engine in one precision.

    Attributes:
        engine: ``"torch"`` or ``"openvino"``.
        precision: what it computed in.
        speeds: one for each batch size; empty if it failed.
        ceiling: operations a second of this machine's matrix product in that precision.
        macs: multiply-accumulates for one image.
        open_s: seconds from the network in memory to the first answer.
        peak_mib: most memory of the process, that of the libraries included, on a GPU that of the tensors
            there; None where it is not known.
        folder_images_per_s: of ``striate predict`` on the folder, decoding included; None without a folder.
        folder_images: images in the folder.
        error: why it could not be measured, or None.
    """

    engine: EngineName
    precision: EnginePrecision
    speeds: tuple[Speed, ...] = ()
    ceiling: float = 0.0
    macs: int = 0
    open_s: float = 0.0
    peak_mib: float | None = None
    folder_images_per_s: float | None = None
    folder_images: int = 0
    error: str | None = None

    def share(self, speed: Speed) -> float:
        """Return which part of the ceiling the network's own multiplications reach, a fraction."""
        return 2.0 * self.macs * speed.images_per_s / self.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    target: str
    engine: EngineName
    precision: EnginePrecision
    batches: tuple[int, ...]
    seconds: float
    folder: str | None
    device: DeviceChoice


def bench(
    target: str | Path,
    *,
    engine: EngineChoice | str = "all",
    precision: EnginePrecisionChoice | str = "all",
    batches: Sequence[int] = (1, 16),
    seconds: float = 3.0,
    folder: str | Path | None = None,
    device: DeviceChoice = "auto",
    progress: Progress = silent,
) -> tuple[Benched, ...]:
    """Measure how fast a network runs on this machine, each engine and precision in a new process.

    Args:
        target: a bundle, a run folder, or the name of a network (with random weights).
        engine: ``all``, ``auto``, ``torch`` or ``openvino``.
        precision: ``all`` that the machine and the bundle have, ``auto``, ``fp32``, ``bf16`` or ``int8``.
        batches: sizes of the batches, each at least 1.
        seconds: how long to measure each of latency and images a second, above 0.
        folder: images to predict too, from files to labels.
        device: where.
        progress: told the number of engines done, as stage ``"bench"``.

    Returns:
        One for each engine and precision; one that fails says why instead of stopping the others.

    Raises:
        UsageError: an unknown network, engine or precision, or sizes that make no sense.
        BundleError: the bundle can't be used.
    """
    if not batches or min(batches) < 1 or not seconds > 0:
        raise UsageError(
            f"expected batches of at least 1 image and above 0 seconds, got {batches}, {seconds}"
        )
    for word, choice, known in (
        ("an engine", engine, ("all", *get_args(EngineChoice))),
        ("a precision", precision, ("all", *get_args(EnginePrecisionChoice))),
    ):
        if choice not in known:
            raise UsageError(f"expected {word} out of {', '.join(known)}; got {choice!r}")
    place = pick_device(device)
    _, record = _open(str(target))
    if precision == "int8" and engine == "all":
        engine = "openvino"  # the only one that has it
    names: list[EngineName] = (
        [name for name in get_args(EngineName) if _is_there(name, place)]
        if engine == "all"
        else [pick_engine(engine, place)]  # type: ignore[arg-type]
    )
    tasks = [
        _Task(
            target=str(target),
            engine=name,
            precision=chosen,
            batches=tuple(batches),
            seconds=seconds,
            folder=None if folder is None else str(folder),
            device=device,
        )
        for name in names
        for chosen in _precisions(precision, name, record, place)
    ]
    if folder is not None and next(find_images([folder]), None) is None:
        raise UsageError(f"{folder}: expected a folder or archive with images, got none")
    done = []
    for number, task in enumerate(tasks):
        progress("bench", number, len(tasks), f"{task.engine} {task.precision}")
        done.append(_in_new_process(task))
    progress("bench", len(tasks), len(tasks))
    return tuple(done)


def _open(target: str) -> tuple[nn.Module, Bundle]:
    """Open a bundle, or build a network with random weights."""
    path = Path(target)
    if path.is_dir() or path.suffix == ".safetensors":
        return open_bundle(path)
    entry = find(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(entry.reference).eval()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels, height, width = entry.input_shape
    preprocessing = Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=round(min(height, width) * 256 / 224),
        mean=(0.45,) * channels,
        std=(0.225,) * channels,
    )
    classes = tuple(f"class {k}" for k in range(entry.num_classes))
    return net, Bundle(net=entry.reference, classes=classes, preprocessing=preprocessing, state={})


def _is_there(name: EngineName, place: torch.device) -> bool:
    try:
        pick_engine(name, place)
    except UsageError:
        return False
    return True


def _precisions(
    choice: str, name: EngineName, record: Bundle, place: torch.device
) -> tuple[EnginePrecision, ...]:
    if choice != "all":
        return (pick_engine_precision(choice, name, record, place),)  # type: ignore[arg-type]
    there: list[EnginePrecision] = ["fp32"]
    if pick_precision("auto", place) == "bf16":
        there.append("bf16")
    if int8_graph(record) is not None and name == "openvino":
        there.append("int8")
    return tuple(there)


def _in_new_process(task: _Task) -> Benched:
    """Measure where nothing was loaded before: memory and threads are then this engine's alone."""
    context = multiprocessing.get_context("spawn")
    answers, gives = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(gives, task), daemon=True)
    with _deaf_to_ctrl_c():
        process.start()
    gives.close()
    try:
        found: Benched | Exception = answers.recv()
    except EOFError:
        words = "the process was killed, probably for want of memory: try --batch 1"
        found = Benched(engine=task.engine, precision=task.precision, error=words)
    finally:  # at once, also after Ctrl-C
        process.kill()
        process.join()
        answers.close()
    if isinstance(found, Exception):
        raise found
    return found


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let a process that is started in here ignore Ctrl-C: this one hears it and ends the other."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(gives: Connection, task: _Task) -> None:
    try:
        gives.send(_measure(task))
    except StriateError as error:
        gives.send(Benched(engine=task.engine, precision=task.precision, error=str(error)))
    except Exception as error:
        gives.send(error)


def _measure(task: _Task) -> Benched:
    place = pick_device(task.device)
    net, record = _open(task.target)
    macs = describe(record.net, num_classes=len(record.classes), **record.net_arguments).macs
    speeds: list[Speed] = []
    open_s = 0.0
    for size in task.batches:
        started = time.perf_counter()
        engine = open_engine(
            net,
            record,
            engine=task.engine,
            precision=task.precision,
            batch_images=size,
            latency=size == 1,
            device=task.device,
        )
        try:
            if not speeds:
                pre = record.preprocessing
                engine.logits(np.zeros((size, pre.height_px, pre.width_px, pre.channels), np.uint8))
                open_s = time.perf_counter() - started
            speeds.append(measure_engine(engine, record.preprocessing, size, seconds=task.seconds))
        finally:
            engine.close()
    peak = peak_mib(place)
    folder_rate, folder_images = None, 0
    if task.folder is not None:
        folder_images, folder_rate = _through_folder(net, record, task)
    return Benched(
        engine=task.engine,
        precision=task.precision,
        speeds=tuple(speeds),
        ceiling=matrix_ceiling(task.precision, place),
        macs=macs,
        open_s=open_s,
        peak_mib=peak,
        folder_images_per_s=folder_rate,
        folder_images=folder_images,
    )


def _through_folder(net: nn.Module, record: Bundle, task: _Task) -> tuple[int, float]:
    """Return how many images the folder holds, and how many a second went from file to labels."""
    assert task.folder is not None
    engine = open_engine(net, record, engine=task.engine, precision=task.precision, device=task.device)
    try:
        for _ in predict_with(engine, record, islice(find_images([task.folder]), _WARM_IMAGES)):
            pass
        started = time.perf_counter()
        number = sum(1 for _ in predict_with(engine, record, find_images([task.folder])))
        return number, number / (time.perf_counter() - started)
    finally:
        engine.close()
