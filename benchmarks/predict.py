"""Classifying a folder of JPEGs on a CPU: ``striate predict`` beside the usual ways, in the same run.

The images of an archive are unpacked, repeated to ``--images`` files, and go through decoding, resizing to
256, cropping to 224 and the network. Networks have random weights: speed does not depend on them.

- ``torchvision``: its network, ``DataLoader`` with two workers, batch 16, eager, fp32 (the usual script)
- ``timm``: the same with timm's network, where timm has it
- ``onnxruntime``: the same loader, the network in ONNX Runtime's CPU provider, fp32
- ``striate fp32``, ``bf16``, ``int8``: what ``striate predict`` runs; int8 is calibrated on 64 of the images

Every measurement is a process of its own; its clock starts when network and engine are made, and stops after
the last image. Rounds go over all ways in turn, so that a busy machine slows them alike. Numbers are medians
with the range; ratios are medians of the rounds' ratios.

Then: the latency of a single image (ResNet-50), and the time from the command to the first line it prints
(ResNet-18, the second start, so that the disk cache is warm).

Needs ``pip install --no-deps torchvision timm`` and ``onnx onnxscript onnxruntime nncf``; what is missing is
left out.

Example: ``python benchmarks/predict.py imagenet-samples.tar --images 1000 --rounds 3``
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NETWORKS = ("resnet50", "vgg16", "alexnet", "googlenet")
WAYS = ("torchvision", "timm", "onnxruntime", "striate fp32", "striate bf16", "striate int8")
TARGETS = {
    ("resnet50", "striate bf16", "torchvision"): 5.0,
    ("resnet50", "striate int8", "torchvision"): 9.0,
    ("vgg16", "striate bf16", "torchvision"): 4.5,
    ("alexnet", "striate bf16", "torchvision"): 4.0,
    ("googlenet", "striate bf16", "torchvision"): 5.0,
}
_STRIATE_NAMES = {"resnet50": "resnet50_v1_5"}  # the same arithmetic as torchvision's and timm's
_BATCH = 16
_SIDE = 224


def _pillow_images(folder: Path) -> Any:
    """Make the usual data loader."""
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    prepared = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(_SIDE),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    files = sorted(folder.iterdir())

    class Images(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, place: int) -> torch.Tensor:
            with Image.open(files[place]) as image:
                tensor: torch.Tensor = prepared(image.convert("RGB"))
                return tensor

    assert np  # the loader's workers need it
    return DataLoader(Images(), batch_size=_BATCH, num_workers=2)


def _import_torchvision() -> Any:
    """Import torchvision beside a CPU-only torch, for which its compiled operations don't load."""
    import torch

    real = torch.library.register_fake

    def register(name: Any, *rest: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return real(name, *rest, **options)

    torch.library.register_fake = register
    try:
        import torchvision
    finally:
        torch.library.register_fake = real
    return torchvision


def _peer_network(way: str, network: str) -> Any:
    import torch

    torchvision = _import_torchvision()
    torch.manual_seed(0)
    if way == "timm":
        import timm

        if not timm.is_model(network):
            raise SystemExit(f"timm has no {network}")
        return timm.create_model(network, num_classes=1000).eval()
    options = {"aux_logits": False, "init_weights": True} if network == "googlenet" else {}
    return getattr(torchvision.models, network)(weights=None, **options).eval()


def _bundle(network: str) -> tuple[Any, Any]:
    import torch

    from striate.data.preprocess import Preprocessing
    from striate.nets import build
    from striate.weights.bundle import Bundle

    torch.manual_seed(0)
    name = _STRIATE_NAMES.get(network, network)
    net = build(name, num_classes=1000).eval()
    pre = Preprocessing(
        channels=3,
        height_px=_SIDE,
        width_px=_SIDE,
        resize_px=256,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    names = tuple(f"class {k}" for k in range(1000))
    return net, Bundle(net=name, classes=names, preprocessing=pre, state=net.state_dict())


def _onnx_session(network: str, cache: Path) -> Any:
    import onnxruntime
    import torch

    path = cache / f"{network}.onnx"
    if not path.exists():
        example = (torch.zeros(_BATCH, 3, _SIDE, _SIDE),)
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(
            _peer_network("torchvision", network), example, str(path), dynamo=True, dynamic_shapes=(batch,)
        )
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _quantized(net: Any, bundle: Any, network: str, folder: Path, cache: Path) -> Any:
    """Return the bundle with an int8 graph, made once for all rounds."""
    from dataclasses import replace

    import numpy as np

    from striate.data.find import find_images
    from striate.serve.images import prepare
    from striate.serve.quantize_network import quantize_network

    kept = [cache / f"{network}.{suffix}" for suffix in ("int8.xml", "int8.bin")]
    if not all(path.exists() for path in kept):
        found = [item for item, _ in zip(find_images([folder]), range(64), strict=False)]
        pixels = [prepare(item, bundle.preprocessing).pixels for item in found]
        graphs = quantize_network(net, bundle, np.stack([one for one in pixels if one is not None]))
        for path, content in zip(kept, (graphs["int8.xml"], graphs["int8.bin"]), strict=True):
            path.write_bytes(content)
    graphs = {"int8.xml": kept[0].read_bytes(), "int8.bin": kept[1].read_bytes()}
    return replace(bundle, graphs=graphs)


def _classifier(way: str, network: str, folder: Path, cache: Path) -> Callable[[], int]:
    """Make one way ready; what it returns classifies the folder and counts the images."""
    import numpy as np
    import torch

    if way.startswith("striate"):
        from striate.core.compute import Compute
        from striate.serve.engine import open_engine
        from striate.serve.predict import predict
        from striate.weights.open import OpenNetwork

        net, bundle = _bundle(network)
        precision: Any = way.split()[1]
        if precision == "int8":
            bundle = _quantized(net, bundle, network, folder, cache)
        opened = OpenNetwork(net=net, bundle=bundle, name=network)
        engine = open_engine(opened, compute=Compute(precision=precision))
        return lambda: sum(one.error is None for one in predict(opened, folder, engine=engine))
    if way == "onnxruntime":
        session = _onnx_session(network, cache)
        name = session.get_inputs()[0].name

        def with_onnx() -> int:
            return sum(len(session.run(None, {name: x.numpy()})[0]) for x in _pillow_images(folder))

        _import_torchvision()
        return with_onnx
    net = _peer_network(way, network)

    def with_torch() -> int:
        done = 0
        with torch.inference_mode():
            for images in _pillow_images(folder):
                done += len(np.argmax(net(images).numpy(), axis=1))
        return done

    return with_torch


def measure_folder(way: str, network: str, folder: Path, cache: Path) -> dict[str, float]:
    """Classify the folder once."""
    run = _classifier(way, network, folder, cache)
    started = time.perf_counter()
    done = run()
    return {"images_per_s": done / (time.perf_counter() - started)}


def measure_latency(way: str, network: str, folder: Path, cache: Path) -> dict[str, float]:
    """Give one image after the other, already resized, to the network; the median in milliseconds."""
    import numpy as np
    import torch

    pixels = np.random.default_rng(0).integers(0, 256, (1, _SIDE, _SIDE, 3), np.uint8)
    answer: Callable[[], Any]
    if way.startswith("striate"):
        from striate.core.compute import Compute
        from striate.serve.engine import open_engine
        from striate.weights.open import OpenNetwork

        net, bundle = _bundle(network)
        precision: Any = way.split()[1]
        if precision == "int8":
            bundle = _quantized(net, bundle, network, folder, cache)
        opened = OpenNetwork(net=net, bundle=bundle, name=network)
        engine = open_engine(opened, compute=Compute(precision=precision, batch_images=1), latency=True)

        def answer() -> Any:
            return engine.logits(pixels)
    else:
        net = _peer_network(way, network)
        mean = torch.tensor((0.485, 0.456, 0.406))
        std = torch.tensor((0.229, 0.224, 0.225))

        def answer() -> Any:
            with torch.inference_mode():
                images = ((torch.from_numpy(pixels) / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()
                return net(images).numpy()

    seconds = []
    for _ in range(40):
        started = time.perf_counter()
        answer()
        seconds.append(time.perf_counter() - started)
    return {"milliseconds": 1000 * statistics.median(seconds[10:])}


def measure_first_result(folder: Path, cache: Path) -> dict[str, float]:
    """Start the command and wait for its first line."""
    bundle = cache / "resnet18.safetensors"
    if not bundle.exists():
        from striate.weights.bundle import save_bundle

        save_bundle(_bundle("resnet18")[1], bundle)
    command = [sys.executable, "-m", "striate.cli.main", "predict", str(bundle), str(folder), "--json"]
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            process.stdout.readline()
            seconds.append(time.perf_counter() - started)
            process.kill()
    return {"seconds": seconds[1]}


def _unpack(archive: Path, num_images: int, folder: Path) -> None:
    import tarfile

    folder.mkdir()
    with tarfile.open(archive) as tar:
        kept = [
            tar.extractfile(one).read()  # type: ignore[union-attr]
            for one in tar
            if one.isfile() and one.name.lower().endswith((".jpg", ".jpeg"))
        ]
    if not kept:
        sys.exit(f"{archive}: no JPEGs in it")
    for place in range(num_images):
        (folder / f"{place:06}.jpg").write_bytes(kept[place % len(kept)])


def _once(words: list[str]) -> dict[str, float] | None:
    command = [sys.executable, "-W", "ignore", __file__, "--once", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line.removeprefix("READ ") for line in done.stdout.splitlines() if line.startswith("READ ")]
    if not found:
        print(f"  {' '.join(words[:3])}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", flush=True)
        return None
    record: dict[str, float] = json.loads(found[0])
    return record


def _rows(
    found: dict[str, list[float]], against: str, network: str, targets: dict[tuple[str, str, str], float]
) -> Iterator[str]:
    for way, values in found.items():
        spread = f"{min(values):.1f}-{max(values):.1f}"
        row = f"{network:10} {way:14}{statistics.median(values):>10.1f}  {spread:>14}"
        if against in found and way != against:
            ratios = [a / b for a, b in zip(values, found[against], strict=False)]
            row += f"{statistics.median(ratios):>8.2f}x"
            if target := targets.get((network, way, against)):
                row += f"  (aim {target}x: {'met' if statistics.median(ratios) >= target else 'missed'})"
        yield row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", nargs="?", type=Path, help="a tar file with JPEGs")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default=",".join(WAYS), help="ways, with commas between them")
    parser.add_argument("--once", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        what, way, network, folder, cache = options.once
        if what == "folder":
            found = measure_folder(way, network, Path(folder), Path(cache))
        elif what == "latency":
            found = measure_latency(way, network, Path(folder), Path(cache))
        else:
            found = measure_first_result(Path(folder), Path(cache))
        print("READ", json.dumps(found))
        return
    if options.archive is None or not options.archive.exists():
        sys.exit("expected a tar file with JPEGs: python benchmarks/predict.py ARCHIVE")
    ways = [way.strip() for way in options.peers.split(",")]
    place = Path(tempfile.mkdtemp(prefix="striate-predict-"))
    try:
        folder, cache = place / "images", place / "cache"
        _unpack(options.archive, options.images, folder)
        cache.mkdir()
        few = place / "few"
        _unpack(options.archive, 64, few)
        for network in options.networks.split(","):
            for way in ("striate int8", "onnxruntime"):  # what is kept for all rounds
                if way in ways:
                    _once(["folder", way, network, str(few), str(cache)])
            speeds: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for way in ways:
                    if record := _once(["folder", way, network, str(folder), str(cache)]):
                        speeds.setdefault(way, []).append(record["images_per_s"])
            print(f"\n{'folder':25}{'images/s':>10}  {'range':>14}  against torchvision")
            print(*_rows(speeds, "torchvision", network, TARGETS), sep="\n", flush=True)
        latencies: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for way in ways:
                if way != "onnxruntime" and (
                    record := _once(["latency", way, "resnet50", str(few), str(cache)])
                ):
                    latencies.setdefault(way, []).append(record["milliseconds"])
        print(f"\n{'one image':25}{'ms':>10}  {'range':>14}  against torchvision (aim 0.4x)")
        print(*_rows(latencies, "torchvision", "resnet50", {}), sep="\n", flush=True)
        starts = [
            record["seconds"]
            for _ in range(options.rounds)
            if (record := _once(["first", "striate", "resnet18", str(few), str(cache)]))
        ]
        if starts:
            median, spread = statistics.median(starts), f"{min(starts):.1f}-{max(starts):.1f}"
            print(f"\nfirst line of `striate predict`, ResNet-18: {median:.1f} s ({spread}); aim 4 s")
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
