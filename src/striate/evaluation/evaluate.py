"""Running a network over labelled batches and keeping all predictions."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batch import Batch
from striate.data.batches import in_order, loader_for
from striate.data.dataset import Dataset
from striate.data.preprocess import Preprocessing
from striate.metrics.multilabel import MultiLabelScores, score_multilabel
from striate.metrics.scores import Scores, score


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A network's predictions on one set of images, in the order of the batches.

    Attributes:
        scores: the summary; its kind follows the labels.
        probabilities: ``N x K`` float32; rows sum to 1 (softmax), or hold one independent value per class for
            multi-label data (sigmoid).
        logits: ``N x K`` float32, as the network gave them.
        labels: ``N`` int64 class indices, or ``N x K`` float32 in {0, 1}.
        indices: ``N`` int64, each image's index in its source.
    """

    scores: Scores | MultiLabelScores
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[Any]
    indices: NDArray[np.int64]


def evaluate(
    net: nn.Module,
    batches: Iterable[Batch],
    classes: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    autocast_dtype: torch.dtype | None = None,
    total: int | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Run ``net`` in eval mode over ``batches`` and score its predictions.

    Each module's training flag is restored afterwards, also after an error. Logits become probabilities and
    losses in float32 whatever precision the network ran in. Labels of a float type mean multi-label data.

    Args:
        net: maps ``N x C x H x W`` images to ``N x K`` logits; already on ``device``.
        batches: labelled batches; images keep the memory format they come in.
        classes: the ``K`` class names.
        device: where the network is; images are moved there.
        autocast_dtype: lower precision for the forward pass (bfloat16, or float16 on CUDA); None for none.
        total: number of images to come, for ``progress`` only.
        progress: listener; counts images, as stage ``"evaluate"``.

    Returns:
        The scores and all predictions. Its arrays are on the CPU.

    Raises:
        DataError: no images, labels out of range, or single- and multi-label batches mixed.
        UsageError: the network is on another device, or its output is not ``N x K`` logits.
        NonFiniteLossError: the network gives NaN or infinity.
    """
    device = torch.device(device)
    _check_device(net, device)
    probabilities: list[Tensor] = []
    raw: list[Tensor] = []
    losses: list[Tensor] = []
    labels: list[Tensor] = []
    indices: list[NDArray[np.int64]] = []
    done = 0
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        # Autocast spans the loop so that each weight is cast once; inference mode covers only the network, so
        # that tensors which the batches keep for themselves stay usable in training.
        with _autocast(device, autocast_dtype):
            for batch in batches:
                _check_labels(batch.labels, labels, len(classes))
                with torch.inference_mode():
                    logits = net(batch.images.to(device, non_blocking=True))
                    _check_logits(logits, len(batch.images), len(classes))
                    p, loss = _probabilities_and_losses(logits, batch.labels.to(device, non_blocking=True))
                probabilities.append(p)
                raw.append(logits.float())
                losses.append(loss)
                labels.append(batch.labels)
                indices.append(batch.indices)
                done += len(batch.images)
                progress("evaluate", done, total)
    finally:
        for module, training in modes:
            module.training = training
    if done == 0:
        raise DataError(
            "expected at least one image to evaluate, got none: check the data source and its split"
        )
    found = torch.cat(probabilities).cpu().numpy()
    nats = torch.cat(losses).cpu().numpy()
    truth: NDArray[Any] = torch.cat(labels).cpu().numpy()
    scores = (
        score(found, truth, classes, losses=nats)
        if truth.ndim == 1
        else score_multilabel(found, truth, classes, losses=nats)
    )
    return Evaluation(scores, found, torch.cat(raw).cpu().numpy(), truth, np.concatenate(indices))


def evaluate_images(
    net: nn.Module,
    dataset: Dataset,
    indices: NDArray[np.int64],
    preprocessing: Preprocessing,
    *,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Evaluation:
    """Run a network over some images of a dataset and score its predictions.

    Args:
        net: maps ``N x C x H x W`` images to ``N x K`` logits; it is moved to the device.
        dataset: with the classes in the order of the logits.
        indices: of its images, in the order of the result.
        preprocessing: of the network.
        compute: where and how; 128 images in a batch unless it says otherwise.
        progress: listener; counts images, as stage ``"evaluate"``.

    Raises:
        DataError: no images.
        UsageError: the output is not ``N x K`` logits.
        NonFiniteLossError: the network gives NaN or infinity.
    """
    device = compute.torch_device
    return evaluate(
        net.to(device),
        in_order(loader_for(dataset, indices, preprocessing, compute.batch(128), device)),
        dataset.classes,
        device=device,
        autocast_dtype=compute.autocast_dtype,
        total=len(indices),
        progress=progress,
    )


def _probabilities_and_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return float32 probabilities ``N x K`` and ``N`` losses in nats."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        if labels.ndim == 1:
            return logits.softmax(dim=1), functional.cross_entropy(logits, labels, reduction="none")
        losses = functional.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
        return logits.sigmoid(), losses.mean(dim=1)


def _autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _check_device(net: nn.Module, device: torch.device) -> None:
    home = next((parameter.device for parameter in net.parameters()), device)
    if home.type != device.type:
        raise UsageError(
            f"expected a network on {device.type}, got one on {home.type}:"
            f" move it with net.to({device.type!r}) first"
        )


def _check_logits(logits: object, num_images: int, num_classes: int) -> None:
    got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if got != (num_images, num_classes):
        raise UsageError(
            f"expected logits of shape ({num_images}, {num_classes}) from the network, got {got}:"
            " use the class names and the head that belong to these weights"
        )


def _check_labels(labels: Tensor, seen: Sequence[Tensor], num_classes: int) -> None:
    multi = labels.is_floating_point()
    if seen and seen[0].is_floating_point() != multi:
        raise DataError(
            "expected one kind of labels, got single- and multi-label batches: evaluate them separately"
        )
    if labels.ndim != (2 if multi else 1) or (multi and labels.shape[1] != num_classes):
        raise DataError(
            f"expected labels of shape N (int64) or N x {num_classes} (float), got {tuple(labels.shape)}"
            f" {labels.dtype}: fix the data source"
        )
    if not multi and len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise DataError(
            f"expected class indices in 0..{num_classes - 1}, got {int(labels.min())}..{int(labels.max())}:"
            " use the class list that the labels were made with"
        )
