import numpy as np
import pytest
import torch

from striate.core.errors import UsageError
from striate.recipes.recipe import Recipe
from striate.training.loss import make_loss

CPU = torch.device("cpu")
OUTPUTS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])


def log_softmax(row):
    row = np.asarray(row, np.float64)
    return row - np.log(np.exp(row).sum())


def test_label_smoothing_by_hand():
    recipe = Recipe(name="x", epochs=1, lr=1, label_smoothing=0.3)
    loss = make_loss(recipe, np.array([0, 1, 2]), 3, CPU)(OUTPUTS, torch.tensor([0, 2]))
    rows = [log_softmax(row) for row in OUTPUTS]
    expected = -np.mean([0.7 * rows[0][0] + 0.1 * rows[0].sum(), 0.7 * rows[1][2] + 0.1 * rows[1].sum()])
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_inverse_frequencies():
    recipe = Recipe(name="x", epochs=1, lr=1, class_weights="balanced")
    labels = np.array([0] * 6 + [1] * 2 + [2] * 1)
    loss = make_loss(recipe, labels, 3, CPU)(OUTPUTS, torch.tensor([0, 2]))
    a, b = 9 / (3 * 6), 9 / (3 * 1)
    expected = -(a * log_softmax(OUTPUTS[0])[0] + b * log_softmax(OUTPUTS[1])[2]) / (a + b)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_several_labels_by_hand():
    labels = np.array([[1, 0, 0], [0, 1, 1]], np.float32)
    loss = make_loss(Recipe(name="x", epochs=1, lr=1), labels, 3, CPU)(OUTPUTS, torch.from_numpy(labels))
    p = 1 / (1 + np.exp(-OUTPUTS.numpy().astype(np.float64)))
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_networks_own_objective_takes_no_smoothing():
    own = torch.nn.functional.cross_entropy
    assert make_loss(Recipe(name="x", epochs=1, lr=1), np.array([0]), 3, CPU, own) is own
    with pytest.raises(UsageError, match="objective of its own"):
        make_loss(Recipe(name="x", epochs=1, lr=1, label_smoothing=0.1), np.array([0]), 3, CPU, own)
