"""Time and memory of reading ResNet-152: striate beside torchinfo and fvcore in the same run.

Each reading is a process of its own: the imports are timed apart from the reading, the peak is the process's
resident memory. All read the same network. On ``meta`` no weights exist; on ``cpu``, as these tools are
usually run, they do, and making them is in the ``build`` column. The first operation on ``meta`` makes torch
import its compiler front end (``torch._dynamo``), about a second: it counts as import. ``values`` counts what
a tool says about a layer. Rounds go over all tools in turn, so that a busy machine slows them alike; times
are those of the fastest round, and the spread of the readings stands beside them.

Install the peers beside striate (without dependencies, or some of them bring torchvision along):
``pip install --no-deps torchinfo fvcore iopath yacs portalocker tabulate termcolor``

Example: ``OMP_NUM_THREADS=1 python benchmarks/anatomy.py --rounds 5``
"""

import argparse
import re
import resource
import subprocess
import sys
import time
from contextlib import nullcontext
from typing import Any

# Tool, device, and what it says about a layer.
_CASES = (
    ("striate", "meta", "row of striate's table, receptive field and im2col included"),
    ("trace", "meta", "striate.anatomy.trace alone, without the table"),
    ("torchinfo", "meta", "input, output, kernel, parameters, share, mult-adds, trainable"),
    ("torchinfo", "cpu", "the same"),
    ("fvcore", "cpu", "FLOPs by module; it can't read a network on meta"),
)
_SHAPE = (3, 224, 224)


def read_once(tool: str, device: str) -> None:
    """Import, build and read; print seconds and peak."""
    started = time.perf_counter()
    import torch

    from striate.core.shapes import SizesOnly
    from striate.nets import build

    read = {
        "striate": _striate,
        "trace": _trace,
        "torchinfo": _torchinfo,
        "fvcore": _fvcore,
    }[tool](device)
    imported = time.perf_counter()
    # As `striate anatomy` builds it: without torch's detour through Python for sizes.
    with torch.device(device), SizesOnly() if tool in ("striate", "trace") else nullcontext():
        net = build("resnet152_v1_5").eval()
    built = time.perf_counter()
    total, values = read(net)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("READ", imported - started, built - imported, done - built, peak / 1024, total, values)


def _striate(device: str) -> Any:
    from striate.anatomy import tabulate, trace

    def read(net: Any) -> tuple[int, int]:
        table = tabulate(trace(net, _SHAPE))
        return table.totals["macs"], len(table.rows[0])

    return read


def _trace(device: str) -> Any:
    from striate.anatomy import Layer, trace

    def read(net: Any) -> tuple[int, int]:
        return trace(net, _SHAPE).macs, len(Layer.__slots__)

    return read


def _torchinfo(device: str) -> Any:
    from torchinfo import summary

    columns = (
        "input_size",
        "output_size",
        "kernel_size",
        "num_params",
        "params_percent",
        "mult_adds",
        "trainable",
    )

    def read(net: Any) -> tuple[int, int]:
        found = summary(
            net, input_size=(1, *_SHAPE), device=device, col_names=columns, depth=9, verbose=0, mode="eval"
        )
        str(found)  # the table is made when it is printed
        return found.total_mult_adds, len(columns)

    return read


def _fvcore(device: str) -> Any:
    import logging

    import torch
    from fvcore.nn import FlopCountAnalysis

    logging.disable(logging.WARNING)

    def read(net: Any) -> tuple[int, int]:
        found = FlopCountAnalysis(net, torch.empty(1, *_SHAPE, device=device))
        found.by_module()
        return found.total(), 1

    return read


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", nargs=2, metavar=("TOOL", "DEVICE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        return read_once(*options.once)
    found: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(options.rounds):
        for tool, device, _ in _CASES:
            words = [sys.executable, __file__, "--once", tool, device]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            line = re.search(r"READ (.*)", done.stdout)
            if line is None:
                print(f"{tool} on {device}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
                continue
            found.setdefault((tool, device), []).append([float(word) for word in line[1].split()])
    if ("striate", "meta") not in found:
        sys.exit("striate could not be measured")
    heading = f"{'ResNet-152':16}{'import s':>9}{'build s':>9}{'read s':>8}{'(spread)':>13}{'sum s':>7}"
    print(f"{heading}{'peak MiB':>10}{'read':>7}{'sum':>7}{'peak':>7}{'values':>8}  MACs")
    ours: list[float] | None = None
    for tool, device, _ in _CASES:
        rows = found.get((tool, device))
        if not rows:
            continue
        columns = [min(column) for column in zip(*rows, strict=True)]
        imported, built, read, peak, total, values = columns
        whole = min(sum(row[:3]) for row in rows)
        ours = ours or [read, whole, peak]
        spread = f"({min(row[2] for row in rows):.2f}-{max(row[2] for row in rows):.2f})"
        times = f"{imported:9.2f}{built:9.2f}{read:8.2f}{spread:>13}{whole:7.2f}{peak:10,.0f}"
        ratios = "".join(f"{mine / own:7.2f}" for mine, own in zip((read, whole, peak), ours, strict=True))
        print(f"{tool + ' ' + device:16}{times}{ratios}{values:8.0f}  {total:,.0f}")
    print("  read, sum, peak: times that of striate")
    for tool, device, what in _CASES:
        print(f"  {tool} {device}: {what}")
    return None


if __name__ == "__main__":
    main()
