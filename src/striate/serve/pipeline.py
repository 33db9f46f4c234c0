"""From images to logits: threads decode while the network runs.

Memory is bounded, however many images there are: ``2 x batch_images`` decoded ones wait, and a few batches
are in the engine.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from striate.core.compute import cores
from striate.data.batches import ordered_map
from striate.data.find import Item
from striate.data.preprocess import Preprocessing
from striate.serve.engine import Engine
from striate.serve.images import PixelItem, Prepared, prepare


def stream_logits(
    engine: Engine,
    preprocessing: Preprocessing,
    items: Iterable[Item | PixelItem],
    *,
    threads: int | None = None,
) -> Generator[tuple[Prepared, NDArray[np.float32] | None], None, None]:
    """Run images through decoder and network, in order.

    Args:
        engine: runs the network.
        preprocessing: of the bundle that the engine was opened for.
        items: any number of images; read a little ahead of the results.
        threads: that decode; None takes one for each core.

    Yields:
        Each image with its ``K`` logits, None for a broken one.
    """
    prepared = cast(
        "Generator[Prepared, None, None]",
        ordered_map(
            lambda item: prepare(item, preprocessing),
            items,
            threads or cores(),
            ahead=2 * engine.batch_images,
        ),
    )
    waiting: deque[list[Prepared]] = deque()
    empty = (0, preprocessing.height_px, preprocessing.width_px, preprocessing.channels)

    def batches() -> Iterator[NDArray[np.uint8]]:
        while group := list(islice(prepared, engine.batch_images)):
            waiting.append(group)
            good = [one.pixels for one in group if one.pixels is not None]
            yield np.stack(good) if good else np.empty(empty, np.uint8)

    with closing(prepared), closing(engine.stream(batches())) as results:
        for logits in results:
            rows = iter(logits)
            for one in waiting.popleft():
                yield one, None if one.pixels is None else next(rows)
