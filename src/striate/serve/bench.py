"""How fast a network runs on this machine: every engine, each in a process of its own."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from striate.anatomy.trace import trace
from striate.core.choices import EngineChoice, EngineName, EnginePrecision, EnginePrecisionChoice
from striate.core.compute import Compute, pick_precision
from striate.core.errors import StriateError, UsageError
from striate.core.progress import Progress, silent
from striate.data.find import find_images
from striate.serve.bench_engine import Speed, matrix_ceiling, measure_engine, peak_mib
from striate.serve.engine import (
    engine_for,
    int8_graph,
    pick_engine,
    pick_engine_precision,
)
from striate.serve.predict import predict
from striate.weights.bundle import Bundle
from striate.weights.open import NetworkChoice, OpenNetwork, open_network

EnginesChoice = EngineChoice | Literal["all"]
PrecisionsChoice = EnginePrecisionChoice | Literal["all"]

_WARM_IMAGES = 32  # images of the folder that are predicted before the clock starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Benched:
    """One engine in one precision.

    Attributes:
        engine: ``"torch"`` or ``"openvino"``.
        precision: what it computed in.
        speeds: one for each batch size; empty if it failed.
        ceiling: operations a second of this machine's matrix product in that precision.
        macs: multiply-accumulates for one image.
        open_s: seconds from the network in memory to the first logits.
        peak_mib: peak memory of the process, libraries included; on a GPU that of the tensors there; None
            where it is not known.
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
        """Return the fraction of the ceiling that the network's own multiplications reach."""
        return 2.0 * self.macs * speed.images_per_s / self.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    network: NetworkChoice
    engine: EngineName
    precision: EnginePrecision
    batches: Sequence[int]
    seconds: float
    folder: str | Path | None
    compute: Compute


def bench(
    network: NetworkChoice,
    *,
    engine: EnginesChoice = "all",
    precision: PrecisionsChoice = "all",
    batches: Sequence[int] = (1, 16),
    seconds: float = 3.0,
    folder: str | Path | None = None,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> tuple[Benched, ...]:
    """Measure how fast a network runs on this machine, each engine and precision in a new process.

    Args:
        network: a bundle, a run folder, an open network, or a name (random weights).
        engine: ``all``, ``auto``, ``torch`` or ``openvino``.
        precision: ``all`` that machine and bundle have, ``auto``, ``fp32``, ``bf16`` or ``int8``.
        batches: sizes of the batches, each at least 1.
        seconds: how long to measure each of latency and images a second, above 0.
        folder: images to predict too, from files to labels.
        compute: device and threads; ``precision`` and ``batches`` replace the rest.
        progress: listener; stage ``"bench"`` counts engines.

    Returns:
        One for each engine and precision; one that fails says why instead of stopping the others.

    Raises:
        UsageError: an unknown network, engine or precision, or a number out of range.
        BundleError: the bundle can't be used.
    """
    if not batches or min(batches) < 1 or not seconds > 0:
        raise UsageError(f"expected `batches` of at least 1 and `seconds` above 0, got {batches}, {seconds}")
    for argument, choice, choices in (
        ("engine", engine, EngineChoice),
        ("precision", precision, EnginePrecisionChoice),
    ):
        if choice not in (known := ("all", *get_args(choices))):
            raise UsageError(f"expected `{argument}` out of {', '.join(known)}; got {choice!r}")
    device = compute.torch_device
    bundle = open_network(network).bundle
    if precision == "int8" and engine == "all":
        engine = "openvino"  # the only one that has it
    engines = _engines(device) if engine == "all" else [pick_engine(engine, device)]
    tasks = [
        _Task(
            network=network,
            engine=name,
            precision=chosen,
            batches=batches,
            seconds=seconds,
            folder=folder,
            compute=replace(compute, precision=chosen),
        )
        for name in engines
        for chosen in _precisions(precision, name, bundle, device)
    ]
    if folder is not None and next(find_images([folder]), None) is None:
        raise UsageError(f"{folder}: expected a folder or archive with images, got none")
    done = []
    for number, task in enumerate(tasks):
        progress("bench", number, len(tasks), f"{task.engine} {task.precision}")
        done.append(_in_new_process(task))
    progress("bench", len(tasks), len(tasks))
    return tuple(done)


def _engines(device: torch.device) -> list[EngineName]:
    """List the engines that run on a device."""
    found: list[EngineName] = []
    for name in get_args(EngineName):
        with suppress(UsageError):
            found.append(pick_engine(name, device))
    return found


def _precisions(
    choice: PrecisionsChoice, name: EngineName, bundle: Bundle, device: torch.device
) -> tuple[EnginePrecision, ...]:
    if choice != "all":
        return (pick_engine_precision(choice, name, bundle, device),)
    found: list[EnginePrecision] = ["fp32"]
    if pick_precision("auto", device) == "bf16":
        found.append("bf16")
    if int8_graph(bundle) is not None and name == "openvino":
        found.append("int8")
    return tuple(found)


def _in_new_process(task: _Task) -> Benched:
    """Measure in a fresh process, whose memory and threads are this engine's alone."""
    context = multiprocessing.get_context("spawn")
    results, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, task), daemon=True)
    with _ctrl_c_ignored():
        process.start()
    sender.close()
    try:
        found: Benched | Exception = results.recv()
    except EOFError:
        words = "the process was killed, probably because memory ran out: use smaller batches"
        found = Benched(engine=task.engine, precision=task.precision, error=words)
    finally:  # at once, also after Ctrl-C
        process.kill()
        process.join()
        results.close()
    if isinstance(found, Exception):
        raise found
    return found


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Let a process started in this block ignore Ctrl-C: this process handles it and ends the other."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signals
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _send(sender: Connection, task: _Task) -> None:
    try:
        sender.send(_measure(task))
    except StriateError as error:
        sender.send(Benched(engine=task.engine, precision=task.precision, error=str(error)))
    except Exception as error:
        sender.send(error)


def _measure(task: _Task) -> Benched:
    network = open_network(task.network)
    taken = network.preprocessing
    speeds: list[Speed] = []
    open_s = 0.0
    for size in task.batches:
        compute = replace(task.compute, batch_images=size)
        started = time.perf_counter()
        with engine_for(network, engine=task.engine, compute=compute, latency=size == 1) as engine:
            if not speeds:
                engine.logits(np.zeros((size, taken.height_px, taken.width_px, taken.channels), np.uint8))
                open_s = time.perf_counter() - started
            speeds.append(measure_engine(engine, taken, size, seconds=task.seconds))
    device = task.compute.torch_device
    peak = peak_mib(device)
    folder_images, folder_rate = (0, None) if task.folder is None else _through_folder(network, task)
    return Benched(
        engine=task.engine,
        precision=task.precision,
        speeds=tuple(speeds),
        ceiling=matrix_ceiling(task.precision, device),
        macs=trace(network.net, network.input_shape).macs,
        open_s=open_s,
        peak_mib=peak,
        folder_images_per_s=folder_rate,
        folder_images=folder_images,
    )


def _through_folder(network: OpenNetwork, task: _Task) -> tuple[int, float]:
    """Return how many images the folder holds, and how many a second went from file to label."""
    assert task.folder is not None
    with engine_for(network, engine=task.engine, compute=task.compute) as engine:
        classify = partial(predict, network, engine=engine, compute=task.compute)
        list(classify(islice(find_images([task.folder]), _WARM_IMAGES)))
        started = time.perf_counter()
        number = sum(1 for _ in classify(task.folder))
        return number, number / (time.perf_counter() - started)
