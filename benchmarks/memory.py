"""Peak resident memory of training from a folder, and from one ten times larger.

Draws photos (noise of photo size, JPEG) into two folders, trains the same network for one epoch on each in a
process of its own, and prints both peaks and their ratio. Target: less than 1.10.

Example: ``python benchmarks/memory.py --images 300 --side 400`` (photos), ``--images 3000 --side 32``
(thumbnails).
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_PROGRAM = """
import resource, sys, striate
result = striate.train("resnet20", sys.argv[1], recipe=sys.argv[2], epochs=1, out=sys.argv[3])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, result.num_images)
"""


def draw(folder: Path, images: int, side: int) -> None:
    """Write ``images`` different JPEG files in two classes."""
    rng = np.random.default_rng(0)
    patterns = [rng.integers(0, 256, (side, side * 4 // 3, 3), np.uint8) for _ in range(8)]
    for k in range(images):
        path = folder / f"class{k % 2}" / f"{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(patterns[k % 8]).save(buffer, "jpeg", quality=70, comment=str(k))
        path.write_bytes(buffer.getvalue())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=400)
    parser.add_argument(
        "--recipe", default="photos", help="photos streams from files; resnet_cifar keeps canvases"
    )
    options = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for times in (1, 10):
            folder = Path(scratch) / f"x{times}"
            draw(folder, options.images * times, options.side)
            words = [
                sys.executable,
                "-c",
                _PROGRAM,
                str(folder),
                options.recipe,
                str(Path(scratch) / f"run{times}"),
            ]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            peaks.append(int(re.search(r"PEAK (\d+)", done.stdout)[1]) / 1024)
            print(f"{options.images * times:6,} images: peak {peaks[-1]:,.0f} MiB", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}  (target below 1.10)")


if __name__ == "__main__":
    main()
