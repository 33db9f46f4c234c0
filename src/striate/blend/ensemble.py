"""The ensemble: networks of any kind answer together, at the cost of all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import NonFiniteLossError, UsageError
from striate.metrics.predictions import Predictions, logits_of, on_same_images

AverageOf = Literal["probabilities", "logits"]


def ensemble(
    indices: Sequence[Predictions],
    *,
    of: AverageOf = "probabilities",
    temperatures: Sequence[float] | None = None,
    name: str = "ensemble",
) -> Predictions:
    """Average what several networks answered to the same images.

    Args:
        indices: at least one record, of the same images and classes in any order. Their order changes
            nothing, to the bit.
        of: ``probabilities`` averages softmax outputs (sigmoid for multi-label data), so that no member
            counts for more because its logits are larger; ``logits`` averages before the softmax, a
            geometric mean of the probabilities.
        temperatures: what each member's logits are divided by first (``Bundle.temperature``); None for 1.
        name: of the result.

    Returns:
        The ensemble's predictions, in the first member's order of images and classes. For probabilities the
        logits are logarithms (log-odds) of the averages.

    Raises:
        UsageError: an unknown ``of``, or temperatures that don't fit.
        DataError: the indices did not answer the same images with the same labels and classes.
        NonFiniteLossError: a logit is NaN or infinite.

    Paper: averaged softmax outputs as in Krizhevsky et al. 2012 sec. 6 and Simonyan and Zisserman 2015
        sec. 4.4; logits as in Wortsman et al. 2022, "Model soups", table 2.
    """
    if of not in get_args(AverageOf):
        raise UsageError(f"expected an average of probabilities or logits, got {of!r}")
    warmth = [1.0] * len(indices) if temperatures is None else list(temperatures)
    if not indices or len(warmth) != len(indices) or min(warmth) <= 0:
        raise UsageError(
            f"expected at least one member with one temperature above 0 each, got {len(indices)} indices and"
            f" temperatures {warmth}"
        )
    aligned = on_same_images(indices)
    for member in aligned:
        if not np.isfinite(member.logits).all():
            raise NonFiniteLossError(
                f"{member.name}: expected finite logits, got NaN or infinity: leave this network out, or"
                " train it again with a lower learning rate"
            )
    first = aligned[0]
    if of == "logits":
        parts = [
            member.logits.astype(np.float64) / heat for member, heat in zip(aligned, warmth, strict=True)
        ]
        logits = _mean(parts).astype(np.float32)
    else:
        parts = [member.probabilities(heat) for member, heat in zip(aligned, warmth, strict=True)]
        logits = logits_of(_mean(parts), multi_label=first.multi_label)
    return replace(first, name=name, logits=logits)


def _mean(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average arrays of one shape; sorting the summands first makes their order not matter."""
    stacked = np.stack(parts)
    stacked.sort(axis=0)
    return np.asarray(stacked.mean(axis=0))
