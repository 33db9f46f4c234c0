"""The first artificial neurons: the unit of McCulloch and Pitts, and Rosenblatt's perceptron.

Neither is in ``NETS``: they are small enough to check by hand, and they are what the networks are made of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.core.errors import UsageError


def fires(excitatory: Sequence[int], inhibitory: Sequence[int] = (), *, threshold: int) -> bool:
    """Say whether a McCulloch-Pitts unit fires: enough excitatory inputs are on, and no inhibitory one.

    Args:
        excitatory: inputs that are counted, each 0 or 1.
        inhibitory: inputs each of which alone keeps the unit silent, each 0 or 1.
        threshold: number of excitatory inputs that suffices (theta).

    Returns:
        True when at least ``threshold`` excitatory inputs are 1 and every inhibitory one is 0.

    Raises:
        UsageError: an input is neither 0 nor 1.

    Paper: McCulloch and Pitts 1943.
    Departures: none. A lecture says that the sum must exceed the threshold; here, as usual, reaching it is
        enough.
    """
    for value in (*excitatory, *inhibitory):
        if value not in (0, 1):
            raise UsageError(
                f"a McCulloch-Pitts unit expects inputs of 0 or 1, got {value!r}: threshold it first"
            )
    return sum(excitatory) >= threshold and not any(inhibitory)


def all_on(*inputs: int) -> bool:
    """AND: a unit whose threshold is the number of its inputs."""
    return fires(inputs, threshold=len(inputs))


def any_on(*inputs: int) -> bool:
    """OR: a unit with threshold 1."""
    return fires(inputs, threshold=1)


def is_off(value: int) -> bool:
    """NOT: a unit with threshold 0 and one inhibitory input."""
    return fires((), (value,), threshold=0)


def differ(first: int, second: int) -> bool:
    """XOR: three units on two levels, for no single unit can do it.

    The first level has "first and not second" and "second and not first"; the second level is an OR.
    """
    only_first = fires((first,), (second,), threshold=1)
    only_second = fires((second,), (first,), threshold=1)
    return fires((only_first, only_second), threshold=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Perceptron:
    """A linear threshold unit over fixed features.

    Attributes:
        weights: one number per feature.
        bias: what the weighted sum starts from.
    """

    weights: NDArray[np.float64]
    bias: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What ``learn`` gives.

    Attributes:
        perceptron: the unit after the last pass.
        mistakes: how often an example was on the wrong side, which is how often the weights moved.
        passes: passes through the examples, the last one included.
        converged: whether the last pass was free of mistakes. If not, ``max_passes`` ended the learning.
    """

    perceptron: Perceptron
    mistakes: int
    passes: int
    converged: bool


def predict(perceptron: Perceptron, features: ArrayLike) -> NDArray[np.int64]:
    """Classify examples: ``y = sign(sum_i W_i F_i + b)``.

    Args:
        perceptron: the unit.
        features: ``N x num_features``, the values F of the fixed features of each example.

    Returns:
        ``N`` labels, +1 or -1; a sum of zero gives +1.

    Raises:
        UsageError: another number of features.

    Paper: Rosenblatt 1958.
    Departures: the sign of zero is +1, a choice.
    """
    values = _examples(features)
    if values.shape[1] != len(perceptron.weights):
        raise UsageError(
            f"this perceptron expects {len(perceptron.weights)} features, got {values.shape[1]}:"
            " use the features that it learnt from"
        )
    return np.where(values @ perceptron.weights + perceptron.bias >= 0, 1, -1)


def learn(features: ArrayLike, labels: ArrayLike, *, rate: float = 1.0, max_passes: int = 1000) -> Learned:
    """Learn by correcting mistakes: ``w += rate t F``, ``b += rate t`` for each example on the wrong side.

    Starts from zero and shows the examples in their order, again and again, until a pass has no mistake. That
    happens if and only if a hyperplane separates the two classes; otherwise ``max_passes`` ends it.

    Args:
        features: ``N x num_features``, finite.
        labels: ``N`` targets t, +1 or -1.
        rate: size of a correction, above 0. From a start at zero it scales the weights, and that is all.
        max_passes: passes after which to give up, at least 1.

    Returns:
        The unit, and how the learning went.

    Raises:
        UsageError: a label is neither +1 nor -1, or the numbers do not fit.

    Paper: Rosenblatt 1958.
    Departures: the standard form with labels of +-1; the paper speaks of the values of association units.
    """
    values, targets = _labelled(features, labels)
    if max_passes < 1:
        raise UsageError(f"learn expects max_passes of at least 1, got {max_passes}: use 1000, the default")
    if rate <= 0:
        raise UsageError(f"learn expects a rate above 0, got {rate}: use 1, the default")
    weights, bias, mistakes, passes, converged = np.zeros(values.shape[1]), 0.0, 0, 0, False
    while not converged and passes < max_passes:
        before = mistakes
        for example, target in zip(values, targets, strict=True):
            guess = 1 if example @ weights + bias >= 0 else -1
            if guess != target:
                weights += rate * target * example
                bias += float(rate * target)
                mistakes += 1
        passes += 1
        converged = mistakes == before
    return Learned(
        perceptron=Perceptron(weights=weights, bias=bias),
        mistakes=mistakes,
        passes=passes,
        converged=converged,
    )


def mistake_bound(separator: Perceptron, features: ArrayLike, labels: ArrayLike) -> float:
    """Return the number of mistakes that ``learn`` can't exceed, ``(R / gamma)^2``, whatever the order.

    R is the length of the longest example, and gamma the distance of the closest one from the hyperplane of
    ``separator``. The bias counts as a weight of one more feature that is always 1.

    Args:
        separator: any unit that classifies all examples rightly; the wider its margin, the lower the bound.
        features: ``N x num_features``.
        labels: ``N`` targets, +1 or -1.

    Raises:
        UsageError: ``separator`` does not separate the examples.

    Paper: Novikoff 1962.
    Departures: none.
    """
    values, targets = _labelled(features, labels)
    margins = targets * (values @ separator.weights + separator.bias)
    if margins.min() <= 0:
        raise UsageError(
            f"mistake_bound expects a unit that separates the examples, got one that misses"
            f" {int((margins <= 0).sum())} of {len(margins)}: use the unit of a learning that converged"
        )
    longest_squared = (values**2).sum(axis=1).max() + 1
    length_squared = (separator.weights**2).sum() + separator.bias**2
    return float(longest_squared * length_squared / margins.min() ** 2)


def _examples(features: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise UsageError(
            f"a perceptron expects finite features of shape N x num_features, got {values.shape}:"
            " give one row for each example"
        )
    return values


def _labelled(features: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values, targets = _examples(features), np.asarray(labels, dtype=np.float64)
    if targets.shape != (len(values),) or not np.isin(targets, (-1, 1)).all():
        raise UsageError(
            f"a perceptron expects {len(values)} labels of +1 or -1, got {targets.tolist()}:"
            " write one class as +1 and the other as -1"
        )
    return values, targets
