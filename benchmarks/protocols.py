"""Measure images/s of every evaluation protocol, with random weights: speed alone, no accuracy.

Decoding and cutting the images is included: two threads do it while the network computes. Every figure is one
pass over the images, so that many of them tell more than few: 144 crops of VGG-16 take about as long as 144
images.

    python benchmarks/protocols.py ARCHIVE.tar --images 16
    python benchmarks/protocols.py ARCHIVE.tar --images 4 --protocols 144-crop --nets vgg16
"""

import argparse
import platform
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from striate.core.compute import Compute, Precision, has_bf16
from striate.core.environment import describe_machine
from striate.data.preprocess import Preprocessing
from striate.data.source import has_image_extension
from striate.data.sources import Source, open_source
from striate.evaluation.protocol import SINGLE, evaluate_protocol, read_protocols
from striate.nets import build

_KINDS = "single,flip,ten-crop,144-crop,dense,multi-scale"


def pictures(archive: Path, num: int, folder: Path) -> Source:
    """Unpack the first images of an archive and list them; their labels don't matter."""
    rows = ["path,label"]
    with tarfile.open(archive) as tar:
        for member in tar:
            if len(rows) > num:
                break
            if member.isfile() and has_image_extension(member.name):
                content = tar.extractfile(member)
                assert content is not None
                name = f"{len(rows)}{Path(member.name).suffix}"
                (folder / name).write_bytes(content.read())
                rows.append(f"{name},class {len(rows) % 2}")
    (folder / "list.csv").write_text("\n".join(rows) + "\n")
    return open_source(folder / "list.csv")


def measure(
    net_name: str, source: Source, kinds: str, precisions: list[Precision], scales: str | None
) -> None:
    """Run every protocol once in every precision and print a row for each."""
    torch.manual_seed(0)
    net = build(net_name).eval().to(memory_format=torch.channels_last)
    channels, height, width = net.input_shape
    preprocessing = Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=round(height * 256 / 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    members = np.arange(len(source.files))
    for precision in precisions:  # the first pass readies kernels; it is not counted
        evaluate_protocol(
            net,
            source,
            members[:1],
            preprocessing,
            SINGLE,
            compute=Compute(device="cpu", precision=precision),
        )
    for protocol in read_protocols([kinds], scales=scales):
        cells = []
        views = 0
        for precision in precisions:
            begun = time.perf_counter()

            def told(
                stage: str,
                done: int,
                total: int | None,
                note: str = "",
                *,
                begun: float = begun,
                kind: str = protocol.kind,
                precision: str = precision,
            ) -> None:
                seconds = time.perf_counter() - begun
                print(
                    f"\r{net_name} {kind} {precision}: {done} of {total} images, {seconds:.0f} s ",
                    end="",
                    flush=True,
                )

            run = evaluate_protocol(
                net,
                source,
                members,
                preprocessing,
                protocol,
                compute=Compute(device="cpu", precision=precision, batch_images=32, threads=2),
                progress=told,
            )
            views = run.showing.num_views
            cells.append(f"{len(members) / run.seconds:9.2f}")
        print("\r" + " " * 70 + "\r", end="")
        print(f"{net_name:<14}{protocol.kind:<13}{views:>5}  " + "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="a .tar of photos")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--nets", default="vgg16,googlenet")
    parser.add_argument("--protocols", default=_KINDS)
    parser.add_argument("--scales", help="for dense and multi-scale, e.g. 256,384,512")
    options = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    precisions: list[Precision] = ["fp32", "bf16"] if has_bf16(torch.device("cpu")) else ["fp32"]
    with tempfile.TemporaryDirectory() as folder:
        source = pictures(options.archive, options.images, Path(folder))
        print(
            f"{machine['processor']}, {machine['threads']} threads; torch {torch.__version__},"
            f" Python {platform.python_version()}; {len(source.files)} images"
        )
        print(
            f"{'images/s':<14}{'protocol':<13}{'views':>5}  " + "  ".join(f"{name:>9}" for name in precisions)
        )
        for net_name in options.nets.split(","):
            measure(net_name, source, options.protocols, precisions, options.scales)


if __name__ == "__main__":
    main()
