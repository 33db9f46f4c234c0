"""Time the search for the strongest images against the bare forward passes, in the same run.

The search keeps, for every unit of one layer, the 9 strongest of 1,000 images with their places. It is
compared with running the same batches through the whole network, and with running them up to that layer: the
search stops there too. Images are random and lie in memory, so that nothing is decoded on either side. Rounds
alternate, so that a busy machine slows all alike; ratios are of medians.

Example: ``OMP_NUM_THREADS=1 python benchmarks/look_strongest.py resnet18 conv3_1 --input-px 64``
"""

import argparse
import statistics
import time

import torch

from striate.look.running import reading
from striate.look.stream import TensorImages
from striate.look.strongest import find_strongest
from striate.nets import arguments_of, build, find


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net")
    parser.add_argument("layers", nargs="+", help="each is measured on its own")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--input-px", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    sized = options.input_px is not None and "input_px" in arguments_of(find(options.net))
    net = build(options.net, **({"input_px": options.input_px} if sized else {})).eval()
    shape = tuple(net.input_shape)
    if options.input_px is not None and not sized:
        shape = (shape[0], options.input_px, options.input_px)
    images = torch.randn(options.images, *shape)
    if options.channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    batches = images.split(options.batch)

    def whole() -> None:
        with torch.no_grad():
            for batch in batches:
                net(batch)

    size = "x".join(map(str, shape))
    print(f"{options.net} at {size}, {options.images} images in batches of {options.batch},")
    print(f"{torch.get_num_threads()} thread(s), torch {torch.__version__}; s, medians of {options.rounds}")
    heads = f"{'layer':20}{'units':>6}{'maps':>10}{'whole':>8}{'up to it':>10}{'search':>8}"
    print(f"{heads}{'/whole':>8}{'/up to it':>11}")
    for layer in options.layers:
        source = TensorImages(images=images, batch_images=options.batch)
        times: dict[str, list[float]] = {"whole": [], "part": [], "search": []}
        for _ in range(options.rounds):
            started = time.perf_counter()
            whole()
            times["whole"].append(time.perf_counter() - started)
            started = time.perf_counter()
            with reading(net, [layer], images[:1]) as run:
                for batch in batches:
                    run(batch, lambda name, maps: None)
            times["part"].append(time.perf_counter() - started)
            started = time.perf_counter()
            found = find_strongest(net, source, [layer])[layer]
            times["search"].append(time.perf_counter() - started)
        full, part, search = (statistics.median(times[key]) for key in ("whole", "part", "search"))
        size = "x".join(map(str, found.map_size))
        print(
            f"{layer:20}{len(found.values):6}{size:>10}{full:8.2f}{part:10.2f}{search:8.2f}"
            f"{search / full:8.2f}{search / part:11.2f}"
        )


if __name__ == "__main__":
    main()
