"""What probabilities, logits and labels must look like before they are scored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError, NonFiniteLossError


def check_values(values: NDArray[np.floating], classes: Sequence[str], what: str = "probabilities") -> None:
    """Refuse probabilities or logits that are not ``N x K`` finite numbers with N at least 1.

    Args:
        values: probabilities or logits.
        classes: the ``K`` class names.
        what: their name in messages.

    Raises:
        DataError: another shape, or no images.
        NonFiniteLossError: NaN or infinity.
    """
    if values.ndim != 2 or values.shape[1] != len(classes):
        raise DataError(
            f"expected {what} of shape N x {len(classes)} (one per class), got {values.shape}:"
            " use the class names that the network was trained with"
        )
    if len(values) == 0:
        raise DataError("expected at least one image to score, got none: check the data source and its split")
    finite = np.isfinite(values)
    if not finite.all():
        raise not_finite(f"NaN or infinity for {int((~finite).any(axis=1).sum())} of {len(values)} images")


def check_labels(labels: NDArray[np.integer], num_images: int, num_classes: int) -> None:
    """Refuse labels that are not one class index for each image.

    Raises:
        DataError: another shape, another type, or an index out of range.
    """
    if labels.shape != (num_images,):
        raise DataError(
            f"expected one label for each of {num_images} images, got labels of shape {labels.shape}:"
            " pass N class indices (score_multilabel takes N x K)"
        )
    check_indices(labels, num_classes)


def check_marks(labels: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return multi-label marks as bool, after refusing anything but 0 and 1 in the given shape.

    Raises:
        DataError: another shape, or other values.
    """
    if labels.shape != shape or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"expected labels of shape {shape} holding 0 and 1, got shape {labels.shape}:"
            " mark each class of each image with 0 or 1"
        )
    return labels.astype(bool)


def check_indices(indices: NDArray[np.integer], num_classes: int) -> None:
    """Refuse class indices that are not integers in [0, ``num_classes``).

    Raises:
        DataError: another type, or an index out of range.
    """
    if not np.issubdtype(indices.dtype, np.integer):
        raise DataError(f"expected integer class indices, got {indices.dtype}: convert them to int64")
    if indices.size and not (indices.min() >= 0 and indices.max() < num_classes):
        raise DataError(
            f"expected class indices in 0..{num_classes - 1}, got {int(indices.min())}..{int(indices.max())}:"
            " use the class list that the labels were made with"
        )


def not_finite(got: str) -> NonFiniteLossError:
    """Return the error for values that are not finite numbers."""
    return NonFiniteLossError(
        f"expected finite probabilities and losses, got {got}: the network has diverged, so train again with"
        " a lower learning rate or load earlier weights"
    )
