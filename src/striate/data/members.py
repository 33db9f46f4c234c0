"""Which images, in which form: what training, testing and the report all ask of a dataset."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.data.batches import Loader
from striate.data.dataset import (
    Dataset,
)
from striate.data.preprocess import Preprocessing


def loader_for(
    dataset: Dataset,
    members: NDArray[np.int64],
    preprocessing: Preprocessing,
    batch_images: int,
    device: torch.device,
) -> Loader:
    """Bundle some images of a dataset with what happens to them on their way to a network."""
    # From the store a batch takes less than a millisecond, so threads pay only when a GPU must not wait or
    # files are decoded.
    threads = 2 if dataset.store is None or device.type == "cuda" else 0
    return Loader(
        dataset=dataset,
        members=members,
        preprocessing=preprocessing,
        batch_images=batch_images,
        threads=threads,
    )


def input_shape(net: nn.Module) -> tuple[int, int, int]:
    """Return channels, height and width in pixels of the images that a network takes."""
    shape = net.input_shape
    assert isinstance(shape, tuple)
    return shape


def num_images(dataset: Dataset) -> dict[str, int]:
    """Count the images of each split."""
    splits = dataset.splits
    return {"train": len(splits.train), "val": len(splits.val), "test": len(splits.test)}


def broken_files(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    """Name the files that were left out, each with its reason."""
    return tuple((broken.file, broken.reason) for broken in dataset.scan.broken)
