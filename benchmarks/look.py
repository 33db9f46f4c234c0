"""Measure striate's ways of looking beside their peers in the same run, and print the ratios.

Occlusion: Captum's ``Occlusion`` at its default settings (one window in a forward pass, eager float32), the
same network, image, windows and steps. Needs Captum: ``pip install --no-deps captum``.
Strongest patches against the bare forward passes: ``benchmarks/look_strongest.py``.
"""

import argparse
import platform
import statistics
import time

import torch

from striate.core.compute import Precision, has_bf16
from striate.core.environment import describe_machine
from striate.look.occlusion import OcclusionMaps, occlude, places
from striate.nets import build


def occlusion(net_name: str, *, size_px: int, stride_px: int, rounds: int, target: float) -> None:
    """Occlude one image, striate and the peer in turn; print seconds and their ratios."""
    try:
        from captum.attr import Occlusion
    except ImportError:
        raise SystemExit("this benchmark needs its peer: pip install --no-deps captum") from None
    torch.manual_seed(0)
    net = build(net_name).eval()
    image = torch.randn(1, *net.input_shape)
    windows = len(places(image.shape[2], size_px, stride_px)) * len(
        places(image.shape[3], size_px, stride_px)
    )
    print(
        f"occlusion: {net_name}, {image.shape[3]} px, size {size_px}, stride {stride_px}: {windows} windows"
    )
    seen = 0

    def count(module: torch.nn.Module, inputs: object, output: object) -> None:
        nonlocal seen
        seen += 1

    def peer() -> None:
        Occlusion(net).attribute(
            image,
            sliding_window_shapes=(image.shape[1], size_px, size_px),
            strides=(image.shape[1], stride_px, stride_px),
            baselines=0.0,
            target=0,
        )

    def ours(precision: Precision) -> OcclusionMaps:
        return occlude(net, image, 0, size_px=size_px, stride_px=stride_px, fill=0.0, precision=precision)

    precisions: list[Precision] = ["fp32", "bf16"] if has_bf16(image.device) else ["fp32"]
    seconds: dict[str, list[float]] = {name: [] for name in (*precisions, "Captum")}
    maps = {}
    for _ in range(rounds):
        for precision in precisions:
            begun = time.perf_counter()
            maps[precision] = ours(precision)
            seconds[precision].append(time.perf_counter() - begun)
        handle = net.register_forward_hook(count)
        begun = time.perf_counter()
        peer()
        seconds["Captum"].append(time.perf_counter() - begun)
        handle.remove()
        print(
            "  round: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items()),
            flush=True,
        )
    print(
        f"Captum: {statistics.median(seconds['Captum']):.2f} s, {seen // rounds} forward passes of one image"
    )
    for precision in precisions:
        ratios = [peer / own for own, peer in zip(seconds[precision], seconds["Captum"], strict=True)]
        difference = (maps[precision].probability.map - maps["fp32"].probability.map).abs().max()
        print(
            f"striate, {precision}: {statistics.median(seconds[precision]):.2f} s,"
            f" {statistics.median(ratios):.2f}x as fast as Captum [{min(ratios):.2f} to {max(ratios):.2f}]"
            f"  target {target:g}x  (probabilities differ from fp32 by at most {difference:.1e})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--size", type=int, default=50)
    parser.add_argument("--stride", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    print(
        f"{machine['processor']}, {machine['threads']} threads; torch {torch.__version__},"
        f" Python {platform.python_version()}"
    )
    occlusion(options.net, size_px=options.size, stride_px=options.stride, rounds=options.rounds, target=4.0)


if __name__ == "__main__":
    main()
