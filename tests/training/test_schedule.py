import math
from itertools import pairwise

import pytest

from striate.recipes.recipe import Recipe
from striate.training.schedule import Plateau, after_epoch, cycle_ended, learning_rate


def rates(steps_per_epoch=10, **fields):
    recipe = Recipe(name="x", lr=1.0, **{"epochs": 10, **fields})
    return [
        learning_rate(recipe, s, steps_per_epoch, Plateau()) for s in range(recipe.epochs * steps_per_epoch)
    ]


def test_steps():
    found = rates(schedule="steps", step_epochs=(3.0, 7.5))
    assert found[:30] == [1.0] * 30
    assert found[30:75] == pytest.approx([0.1] * 45)
    assert found[75:] == pytest.approx([0.01] * 25)


def test_polynomial_and_cosine_by_hand():
    square = rates(schedule="polynomial", polynomial_power=2.0)
    assert square[0] == 1
    assert square[50] == pytest.approx(0.25)
    cosine = rates(schedule="cosine")
    assert [cosine[0], cosine[25], cosine[50]] == pytest.approx([1, 0.5 * (1 + math.sqrt(0.5)), 0.5])
    assert cosine[99] > 0


def test_warm_up_rises_to_the_peak_and_only_once():
    found = rates(schedule="constant", warmup_epochs=2.0)
    assert found[:20] == pytest.approx([(s + 1) / 20 for s in range(20)])
    assert found[20:] == [1.0] * 80


def test_one_cycle_has_one_peak():
    found = rates(schedule="one_cycle")
    assert found[0] == pytest.approx(1 / 25)
    assert found.index(max(found)) == 30
    assert max(found) == 1
    assert found[-1] == pytest.approx(1e-4)
    assert all(a < b for a, b in pairwise(found[:31]))
    assert all(a > b for a, b in pairwise(found[30:]))
    assert rates(schedule="one_cycle", warmup_epochs=5.0).index(1.0) == 50


def test_plateau_divides_by_ten_when_the_error_stalls_and_at_most_three_times():
    recipe = Recipe(name="x", epochs=99, lr=0.01, schedule="plateau", plateau_patience_epochs=2)
    plateau, seen = Plateau(), []
    for error in [0.5, 0.4, 0.4, 0.45, 0.3, 0.3, 0.31] + [0.35] * 8:
        plateau = after_epoch(plateau, error, recipe)
        seen.append(plateau.drops)
    #         best  best stall drop best stall drop  stall drop, then no more
    assert seen == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]
    assert learning_rate(recipe, 0, 1, plateau) == pytest.approx(1e-5)


def test_cyclic_is_huangs_equation():
    """Huang et al. 2017, eq. 2, with t from 1: T = 60 steps and M = 3 cycles of ceil(60 / 3) = 20."""
    found = rates(epochs=6, schedule="cyclic", cycles=3)
    expected = [0.5 * (math.cos(math.pi * ((t - 1) % 20) / 20) + 1) for t in range(1, 61)]
    assert found == pytest.approx(expected)
    assert [found[0], found[20], found[40]] == [1, 1, 1]
    assert [found[10], found[30], found[50]] == pytest.approx([0.5] * 3)
    assert max(found[19], found[39], found[59]) < 0.01


def test_one_cycle_of_cyclic_is_the_cosine():
    assert rates(schedule="cyclic", cycles=1) == pytest.approx(rates(schedule="cosine"))


def test_the_ends_of_cycles():
    recipe = Recipe(name="x", lr=1.0, epochs=12, schedule="cyclic", cycles=3)
    assert [cycle_ended(recipe, epoch) for epoch in range(1, 13)] == [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]
    assert cycle_ended(Recipe(name="x", lr=1.0, epochs=12, cycles=3), 4) == 0
