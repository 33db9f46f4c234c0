"""Soups: one network from several fine-tuned ones, by their mean or by adding what helps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from striate.blend.average import State, average_states, state_digest
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class GreedyStep:
    """One step of a greedy soup.

    Attributes:
        index: the ingredient that was tried.
        accuracy: held-out accuracy of the soup with it, in [0, 1].
        kept: whether it stayed.
    """

    index: int
    accuracy: float
    kept: bool


@dataclass(frozen=True, slots=True, eq=False)
class GreedySoup:
    """A greedy soup.

    Attributes:
        state: the mean of the ingredients that were kept, finished.
        kept: their indices, in the order in which they went in.
        accuracy: held-out accuracy of ``state``.
        steps: all, in order.
    """

    state: dict[str, Tensor]
    kept: tuple[int, ...]
    accuracy: float
    steps: tuple[GreedyStep, ...]


def unchanged(state: State) -> State:
    """Finish a mixture by doing nothing, as networks without batch norm need it."""
    return state


def greedy_soup(
    states: Sequence[State],
    accuracies: Sequence[float],
    accuracy_of: Callable[[State], float],
    *,
    finish: Callable[[State], State] = unchanged,
    strict: bool = False,
    progress: Progress = silent,
) -> GreedySoup:
    """Add ingredients one by one, best first, and keep those that don't make the soup worse.

    Ingredients of equal accuracy go by the digest of their tensors, so their order never matters. The best
    one alone is taken as it is; its own batch-norm statistics are correct. The soup is therefore never worse
    on the held-out images than the best ingredient.

    Args:
        states: the ingredients, at least one, of one architecture.
        accuracies: of each on held-out images that are not the test images, in [0, 1].
        accuracy_of: measures a state on the same held-out images.
        finish: applied to each mixture before it is evaluated: recomputes batch-norm statistics.
        strict: keep an ingredient only if the soup gets better; by default equal is enough.
        progress: listener; counts ingredients, as stage ``"trying ingredients"``.

    Returns:
        The soup.

    Raises:
        UsageError: no ingredients, or not one accuracy for each.
        BundleError: the ingredients' tensors differ in name or shape.

    Paper: Wortsman et al. 2022, "Model soups", recipe 1 (``>=``).
    Departures: none by default. ``strict`` is what the authors' published code does.
    """
    if not states or len(accuracies) != len(states):
        raise UsageError(
            f"expected one accuracy for each of at least one ingredient, got {len(accuracies)} for"
            f" {len(states)}"
        )
    digests = [state_digest(state) for state in states]
    first, *others = sorted(range(len(states)), key=lambda i: (-accuracies[i], digests[i]))
    kept, soup, best = [first], dict(states[first]), accuracies[first]
    steps = [GreedyStep(first, best, True)]
    progress("trying ingredients", 1, len(states))
    for index in others:
        chosen = [*kept, index]
        if len({digests[i] for i in chosen}) == 1:
            candidate = dict(states[first])  # copies of one network: their mean is that network
            accuracy = best
        else:
            candidate = dict(finish(average_states([states[i] for i in chosen])))
            accuracy = accuracy_of(candidate)
        keep = accuracy > best if strict else accuracy >= best
        steps.append(GreedyStep(index, accuracy, keep))
        if keep:
            kept, soup, best = chosen, candidate, accuracy
        progress("trying ingredients", len(steps), len(states))
    return GreedySoup(soup, tuple(kept), best, tuple(steps))


def uniform_soup(
    states: Sequence[State], *, finish: Callable[[State], State] = unchanged
) -> dict[str, Tensor]:
    """Return the mean of all ingredients; copies of one network give that network.

    Args:
        states: at least one, of one architecture.
        finish: applied to the mean, unless all ingredients are the same network.

    Raises:
        UsageError: no ingredients.
        BundleError: the ingredients' tensors differ in name or shape.

    Paper: Wortsman et al. 2022, "Model soups", sec. 2.
    """
    mean = average_states(states)
    if len({state_digest(state) for state in states}) == 1:
        return dict(states[0])
    return dict(finish(mean))
