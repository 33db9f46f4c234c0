"""Which networks can be averaged: the same architecture, and one start of their training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from striate.blend.average import State, average_states, refuse_other_tensors
from striate.core.errors import BundleError
from striate.weights.bundle import Bundle

STABLE = 0.02
"""Largest barrier at which two networks count as connected (Frankle et al. 2020, sec. 2; from memory)."""

_FREE_ARGUMENTS = ("dropout",)  # builds the same tensors and the same function at prediction


@dataclass(frozen=True, slots=True)
class Barrier:
    """How accuracy falls between two networks, on the straight line from one's weights to the other's.

    Attributes:
        ends: mean accuracy of the two, in [0, 1].
        middle: accuracy of their mean.
    """

    ends: float
    middle: float

    @property
    def height(self) -> float:
        """How much the middle is worse than the ends; below 0 where it is better."""
        return self.ends - self.middle

    @property
    def connected(self) -> bool:
        """Whether the two lie in one basin, as far as the middle shows: the height is at most 2 points."""
        return self.height <= STABLE


def refuse_unrelated(bundles: Sequence[Bundle], names: Sequence[str]) -> None:
    """Check that bundles are of one network, for the same classes and the same inputs.

    Raises:
        BundleError: network, arguments, classes, preprocessing or tensors differ; the message names the
            first difference.
    """
    first, called = bundles[0], names[0]
    for other, name in zip(bundles[1:], names[1:], strict=True):
        if other.net != first.net:
            raise _unrelated(name, called, "network", _short(other.net), _short(first.net))
        for key in sorted(first.net_arguments.keys() | other.net_arguments.keys()):
            got, expected = other.net_arguments.get(key), first.net_arguments.get(key)
            if key not in _FREE_ARGUMENTS and got != expected:
                raise _unrelated(name, called, f"argument {key}", got, expected)
        if other.multi_label != first.multi_label:
            kinds = ("one label an image", "several labels an image")
            raise _unrelated(name, called, "labels", kinds[other.multi_label], kinds[first.multi_label])
        if other.classes != first.classes:
            if sorted(other.classes) == sorted(first.classes):
                raise _unrelated(name, called, "order of classes", "another", "the same")
            missing = sorted(set(first.classes) ^ set(other.classes))[:3]
            words = f"{len(other.classes)} classes (difference: {', '.join(missing)})"
            raise _unrelated(name, called, "classes", words, f"{len(first.classes)}")
        mine, theirs = first.preprocessing.to_json(), other.preprocessing.to_json()
        for key, expected in mine.items():
            if theirs[key] != expected:
                raise _unrelated(name, called, f"preprocessing {key}", theirs[key], expected)
    refuse_other_tensors([bundle.state for bundle in bundles], names)


def common_start(bundles: Sequence[Bundle]) -> str | None:
    """Return in words what start the bundles share; None where they record none.

    Bundles of one run (same recipe, seed, data and start) share it, and so do bundles that were trained from
    the same weights.
    """
    starts = {str(bundle.data.get("started_from") or "") for bundle in bundles}
    if len(starts) == 1 and starts != {""}:
        return f"all were trained from {starts.pop()}"
    runs = [(b.seed, b.recipe, b.data.get("fingerprint"), b.data.get("started_from")) for b in bundles]
    if bundles[0].seed is not None and all(run == runs[0] for run in runs):
        return "all are of one run"
    return None


def barrier(
    pair: tuple[State, State],
    accuracies: tuple[float, float],
    accuracy_of: Callable[[State], float],
    finish: Callable[[State], State],
) -> Barrier:
    """Measure the error barrier between two networks at the midpoint of the line between their weights.

    Args:
        pair: two states of one architecture.
        accuracies: of each on held-out images, in [0, 1].
        accuracy_of: measures a state on the same images.
        finish: applied to the mean before it is measured: recomputes batch-norm statistics.

    Paper: Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis", sec. 2: error
        along the line less the mean error of the ends; up to 2 points count as connected (this number is
        quoted from memory).
    Departures: one point, the middle, instead of the highest of 30.
    """
    middle = accuracy_of(finish(average_states(pair)))
    return Barrier(ends=sum(accuracies) / 2, middle=middle)


def explain(
    soup: float, ingredients: Sequence[float], start: str | None, barriers: Sequence[Barrier]
) -> str | None:
    """Return why a soup is worse than what went into it; None where it is not.

    Args:
        soup: its held-out accuracy, in [0, 1].
        ingredients: held-out accuracies of the networks in it.
        start: what ``common_start`` returned.
        barriers: between the best ingredient and each other.
    """
    mean = sum(ingredients) / len(ingredients)
    if soup >= min(ingredients) or mean - soup <= STABLE:
        return None
    fact = f"the soup has an accuracy of {soup:.0%}, its ingredients {mean:.0%} on average"
    apart = sum(not one.connected for one in barriers)
    where = "the two" if len(barriers) == 1 else f"the best and {apart} of the {len(barriers)} others"
    line = f" (half-way between {where} accuracy breaks down)" if apart else ""
    if start is None:
        return (
            f"{fact}: these networks were trained from different starts, so their weights do not"
            f" correspond{line}; train each from one parent, `weights=PARENT`"
        )
    return (
        f"{fact}: {start}, but they have moved too far apart since{line}; train them for fewer epochs or with"
        " a lower lr, or take the greedy soup"
    )


def _unrelated(name: str, called: str, what: str, got: Any, expected: Any) -> BundleError:
    return BundleError(
        f"expected {name} to have the same {what} as {called} ({expected}), got {got}: only networks of one"
        " kind can be averaged; `striate blend ensemble` takes any"
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:37]}..."
