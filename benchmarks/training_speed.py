"""Measure striate's training epoch beside the usual loop's in the same run, and print the ratio.

The two scripts that call this (``train_cifar.py``, ``train_mnist.py``) say what is trained on what. Each
round measures striate, the bare step (no loading, no augmentation) and the peer, one after the other, each in
a process of its own that inherits the decoded images; medians are compared.
"""

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from usual_loop import Loader as PeerPictures
from usual_loop import bare_step_rate, run_epoch

from striate.core.compute import autocast_dtype, pick_precision
from striate.core.environment import describe_machine
from striate.data.batches import Loader
from striate.data.dataset import colour_statistics, fit_preprocessing, for_network, open_dataset
from striate.data.sources import open_source
from striate.nets import build, find
from striate.recipes import find_recipe
from striate.training.loop import Trainer, Training
from striate.training.loss import make_loss
from striate.weights.run_folder import RunFolder


def arguments(default_data: str, text: str) -> argparse.Namespace:
    """Parse the options that both scripts share."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--data", nargs="+", default=[default_data], help="as for striate train --data")
    parser.add_argument("--images", type=int, default=0, help="images in an epoch (0: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true", help="as --compile off in striate train")
    return parser.parse_args()


def compare(
    net_name: str,
    recipe_name: str,
    options: argparse.Namespace,
    transform: Callable[[object], object],
    target: float,
    compiled: bool = False,
) -> None:
    """Measure and print.

    ``transform`` makes the peer's transform from torchvision's module. ``compiled``: what ``--compile auto``
    decides for a training of the usual length. striate's rate is that of its second epoch, as measured by its
    own clock.
    """
    from usual_loop import transforms

    compiled = compiled and not options.no_compile
    recipe = replace(find_recipe(recipe_name), epochs=2, batch_images=128, average="none")
    cpu = torch.device("cpu")
    precision = pick_precision("auto", cpu)
    begun = time.perf_counter()
    source = open_source(options.data)
    shape = find(net_name).input_shape
    canvas = fit_preprocessing(source, shape, canvas_px=None)
    dataset = open_dataset(source, canvas, val_fraction=0.0, test_fraction=0.0)
    opened_s = time.perf_counter() - begun
    members = dataset.splits.train[: options.images or None]
    colours = colour_statistics(dataset, members)
    pre = replace(for_network(canvas, shape), mean=colours.mean, std=colours.std)
    pictures = Loader(dataset=dataset, indices=members, preprocessing=pre, batch_images=128, threads=0)
    labels = np.asarray(source.labels)[members]

    pixels = np.stack([np.asarray(image) for image in peer_images(source, members)])
    peer_data = PeerPictures(pixels, labels, transform(transforms()))

    def striate_rate() -> float:
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            training = Training(
                net=build(net_name),
                train=pictures,
                val=None,
                colours=colours,
                recipe=recipe,
                loss=make_loss(recipe, labels, 10, cpu),
                run=RunFolder(Path(folder)),
                save=lambda path, state, metrics: None,
                key="",
                seed=0,
                device=cpu,
                precision=precision,
                compiled=compiled,
            )
            first, second = (float(row["seconds"] or 0) for row in Trainer(training).run().history)
            if compiled:
                print(f"  (compiling took {first - second:.0f} s, once in a training; not in the rates)")
            return len(members) / second

    def peer_rate() -> float:
        torch.manual_seed(0)
        return run_epoch(build(net_name), peer_data, batch=128, lr=0.01, momentum=0.9, decay=1e-4)

    def bare_rate() -> float:
        steps = max(20, len(members) // 128 // 4)
        return bare_step_rate(build(net_name), (128, *shape), dtype=autocast_dtype(precision), steps=steps)

    machine = describe_machine(cpu)
    print(f"{net_name} on {', '.join(options.data)}: {len(members):,} images an epoch, batch 128")
    print(
        f"{machine['processor']}, {machine['threads']} threads;"
        f" torch {torch.__version__}, Python {platform.python_version()}"
    )
    print(f"opening and decoding {len(source.files):,} images: {opened_s:.1f} s (once, not in the rates)")
    rates: dict[str, list[float]] = {"striate": [], "usual loop": [], "bare step": []}
    for _ in range(options.rounds):
        rates["striate"].append(in_own_process(striate_rate))
        rates["bare step"].append(in_own_process(bare_rate))
        rates["usual loop"].append(in_own_process(peer_rate))
        print(
            "  round: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), flush=True
        )
    for name, values in rates.items():
        detail = (
            f"({precision}, channels_last)" if name != "usual loop" else "(fp32, DataLoader with 2 workers)"
        )
        print(
            f"{name:11} {statistics.median(values):9,.0f} images/s"
            f"  [{min(values):,.0f} to {max(values):,.0f}]  {detail}"
        )
    ratios = [ours / peer for ours, peer in zip(rates["striate"], rates["usual loop"], strict=True)]
    shares = [ours / bare for ours, bare in zip(rates["striate"], rates["bare step"], strict=True)]
    print(
        f"ratio to the usual loop {statistics.median(ratios):.2f}x"
        f"  [{min(ratios):.2f} to {max(ratios):.2f}]  target {target}x"
    )
    print(
        f"share of the bare step  {statistics.median(shares):.1%}  [{min(shares):.1%} to {max(shares):.1%}]"
    )


def in_own_process(measure: Callable[[], float]) -> float:
    """Measure in a forked process, so that no setting of one loop helps another."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(measure()))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def peer_images(source, members):
    """Decode the images with plain Pillow."""
    import io

    from PIL import Image

    for index in members.tolist():
        content = source.fetch(index)
        yield Image.open(io.BytesIO(content)) if isinstance(content, bytes) else content
