import itertools

import numpy as np
import pytest

from striate.core.errors import UsageError
from striate.nets.perceptron import (
    Perceptron,
    all_on,
    any_on,
    differ,
    fires,
    is_off,
    learn,
    mistake_bound,
    predict,
)

CORNERS = [[0, 0], [0, 1], [1, 0], [1, 1]]
AND = [-1, -1, -1, 1]
XOR = [-1, 1, 1, -1]


def test_a_unit_fires_at_its_threshold():
    assert [fires(inputs, threshold=2) for inputs in CORNERS] == [False, False, False, True]
    assert fires((1, 1, 1), threshold=2)
    assert fires((), threshold=0)


def test_one_inhibitory_input_silences_any_sum():
    assert not fires((1, 1, 1, 1), (0, 1), threshold=1)
    assert fires((1, 1, 1, 1), (0, 0), threshold=1)


def test_gates():
    for a, b in CORNERS:
        assert all_on(a, b) == bool(a and b)
        assert any_on(a, b) == bool(a or b)
        assert differ(a, b) == (a != b)
    for inputs in itertools.product((0, 1), repeat=3):
        assert all_on(*inputs) == (sum(inputs) == 3)
        assert any_on(*inputs) == (sum(inputs) >= 1)
    assert is_off(0)
    assert not is_off(1)


def test_no_single_unit_computes_xor():
    """Every way to wire two inputs to one unit: excitatory, inhibitory or not at all, at every threshold."""
    xor = [False, True, True, False]
    for wiring in itertools.product("+-0", repeat=2):
        for threshold in range(4):
            got = []
            for inputs in CORNERS:
                excitatory = [value for value, sign in zip(inputs, wiring, strict=True) if sign == "+"]
                inhibitory = [value for value, sign in zip(inputs, wiring, strict=True) if sign == "-"]
                got.append(fires(excitatory, inhibitory, threshold=threshold))
            assert got != xor


def test_units_refuse_other_inputs():
    with pytest.raises(UsageError, match="inputs of 0 or 1, got 2: threshold it first"):
        fires((1, 2), threshold=1)


def test_learning_and_by_hand():
    """Six passes, eleven mistakes; after each: b, then w.

    Pass 1: (0,0) -1 0,0; (1,1) 0 1,1. Pass 2: (0,0) -1 1,1; (0,1) -2 1,0; (1,1) -1 2,1. Pass 3: (0,1) -2 2,0;
    (1,0) -3 1,0; (1,1) -2 2,1. Pass 4: (1,0) -3 1,1; (1,1) -2 2,2. Pass 5: (0,1) -3 2,1. Pass 6: none.
    """
    learned = learn(CORNERS, AND)
    assert (learned.mistakes, learned.passes, learned.converged) == (11, 6, True)
    assert learned.perceptron.weights.tolist() == [2, 1]
    assert learned.perceptron.bias == -3
    assert predict(learned.perceptron, CORNERS).tolist() == AND


def test_rate_only_scales_the_weights():
    learned = learn(CORNERS, AND, rate=0.25)
    assert (learned.mistakes, learned.passes) == (11, 6)
    assert learned.perceptron.weights.tolist() == [0.5, 0.25]
    assert learned.perceptron.bias == -0.75


def test_a_sum_of_zero_is_positive():
    unit = Perceptron(weights=np.array([1.0, -1.0]), bias=0.0)
    assert predict(unit, [[2, 2], [2, 3]]).tolist() == [1, -1]


def test_bound_by_hand():
    # w = (1, 1), b = -1.5: length^2 1 + 1 + 2.25; the closest corner has a margin of 0.5; the longest example
    # is (1, 1, 1): 3 x 4.25 / 0.25
    unit = Perceptron(weights=np.array([1.0, 1.0]), bias=-1.5)
    assert mistake_bound(unit, CORNERS, AND) == pytest.approx(51)
    assert learn(CORNERS, AND).mistakes <= 51


@pytest.mark.parametrize("seed", range(20))
def test_separable_examples_are_learnt_within_the_bound(seed):
    rng = np.random.default_rng(seed)
    truth = Perceptron(weights=rng.normal(size=3), bias=rng.normal())
    points = rng.normal(size=(60, 3))
    sums = points @ truth.weights + truth.bias
    points, sums = points[abs(sums) > 0.1], sums[abs(sums) > 0.1]
    labels = np.where(sums > 0, 1, -1)
    learned = learn(points, labels, max_passes=100_000)
    assert learned.converged
    assert (predict(learned.perceptron, points) == labels).all()
    assert learned.mistakes <= mistake_bound(truth, points, labels)


def test_xor_is_given_up_after_max_passes():
    learned = learn(CORNERS, XOR, max_passes=50)
    assert (learned.passes, learned.converged) == (50, False)
    assert learned.mistakes >= 50  # at least one a pass
    with pytest.raises(UsageError, match="a unit that separates the examples, got one that misses"):
        mistake_bound(learned.perceptron, CORNERS, XOR)


def test_a_better_feature_makes_xor_linear():
    """The features are fixed and do the work: with x1 x2 as a third, a perceptron learns XOR."""
    features = [[a, b, a * b] for a, b in CORNERS]
    learned = learn(features, XOR)
    assert learned.converged
    assert predict(learned.perceptron, features).tolist() == XOR


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 0, 0, 1]}, r"4 labels of \+1 or -1"),
        ({"labels": [1, -1]}, r"4 labels of \+1 or -1"),
        ({"features": [1.0, 2.0, 3.0, 4.0]}, "N x num_features"),
        ({"features": [[np.nan], [1], [1], [1]]}, "finite"),
        ({"max_passes": 0}, "max_passes of at least 1, got 0"),
        ({"rate": 0.0}, "rate above 0, got 0.0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        learn(**{"features": CORNERS, "labels": AND, **arguments})


def test_another_number_of_features_is_refused():
    with pytest.raises(UsageError, match="this perceptron expects 2 features, got 3"):
        predict(Perceptron(weights=np.zeros(2), bias=0.0), [[1, 2, 3]])
