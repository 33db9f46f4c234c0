"""The record that passes from data to networks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of labelled images, ready for a network.

    Attributes:
        images: ``N x C x H x W`` float32, in the *normed* state (mean subtracted, divided by the standard
            deviation).
        labels: ``N`` int64 class indices, or ``N x K`` float32 in {0, 1} for multi-label data.
        indices: ``N`` int64, each image's place in its source.
    """

    images: torch.Tensor
    labels: torch.Tensor
    indices: NDArray[np.int64]
