import numpy as np
import torch
from torch import nn

from striate.recipes.recipe import Recipe
from striate.training.average import WeightAverage, make_average


def feed(recipe, values, epochs=None):
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = WeightAverage(net, recipe)
    for step, value in enumerate(values):
        with torch.no_grad():
            net[0].weight.fill_(value)
            net[1].running_mean.fill_(2 * value)
            net[1].num_batches_tracked.fill_(step)
        average.update(net, 0 if epochs is None else epochs[step])
    return average.state


def test_polyak_is_the_mean_of_the_iterates_from_its_epoch_on():
    recipe = Recipe(name="x", epochs=9, lr=1, average="polyak", polyak_start_epoch=2)
    state = feed(recipe, [100.0, 50.0, 1.0, 2.0, 6.0], epochs=[0, 1, 2, 2, 3])
    assert state["0.weight"].item() == np.float32(3.0)
    assert state["1.running_mean"].item() == np.float32(6.0)
    assert state["1.num_batches_tracked"].item() == 4


def test_ema_against_its_recursion():
    recipe = Recipe(name="x", epochs=9, lr=1, average="ema", ema_decay=0.5)
    values = [1.0, -2.0, 4.0, 4.0, 0.0, 1.0, 3.0, 2.0, 8.0, 1.0, 0.5]
    state = feed(recipe, values)
    expected = None
    for t, value in enumerate(values, start=1):
        decay = min(0.5, (1 + t) / (10 + t))
        # the first value that is averaged in is the initial weight; with these decays its share is below 1e-3
        expected = (1 - decay) * value + decay * (expected if expected is not None else 0.0)
    np.testing.assert_allclose(state["0.weight"].item(), expected, atol=2e-3)


def test_no_average_unless_asked():
    assert make_average(nn.Linear(1, 1), Recipe(name="x", epochs=1, lr=1)) is None
