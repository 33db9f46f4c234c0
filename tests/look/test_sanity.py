"""Cascading randomisation, and the measures of similarity by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from striate.core.errors import UsageError
from striate.look.saliency import gradient
from striate.look.sanity import (
    randomise,
    rank_correlation,
    sanity,
    structural_similarity,
    weighted_layers,
)
from striate.nets import build


def mean_ranks(values):
    """Rank by counting: those below, and half of those that are equal."""
    flat = values.flatten().numpy()
    return np.array([(flat < one).sum() + ((flat == one).sum() + 1) / 2 for one in flat])


def test_rank_correlation_is_the_correlation_of_ranks_also_with_ties():
    first = torch.randint(0, 9, (4, 2, 5, 6)).float()
    second = torch.randint(0, 9, (4, 2, 5, 6)).float() - first / 3
    expected = [np.corrcoef(mean_ranks(a), mean_ranks(b))[0, 1] for a, b in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected)


def test_rank_correlation_of_a_constant_is_not_defined():
    flat, other = torch.ones(1, 1, 3, 3), torch.arange(9.0).view(1, 1, 3, 3)
    assert math.isnan(rank_correlation(flat, other)[0])
    assert math.isnan(rank_correlation(other, flat)[0])
    assert rank_correlation(other, other.exp())[0] == pytest.approx(1)
    assert rank_correlation(other, -other)[0] == pytest.approx(-1)


def test_ssim_of_one_window_by_the_formula():
    a, b = torch.rand(1, 1, 5, 5).double(), torch.rand(1, 1, 5, 5).double()
    x, y = (((m - m.min()) / (m.max() - m.min())).numpy().ravel() for m in (a, b))
    c1, c2 = 1e-4, 9e-4
    expected = (2 * x.mean() * y.mean() + c1) * (2 * np.mean((x - x.mean()) * (y - y.mean())) + c2)
    expected /= (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)
    assert structural_similarity(a, b)[0] == pytest.approx(expected)
    assert structural_similarity(a, 5 * a + 1)[0] == pytest.approx(1)
    assert structural_similarity(torch.ones_like(a), a)[0] < 0.2


def test_cascade_from_the_top():
    net = build("lenet5_modern").eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    states = []

    def method(changed, images, classes):
        states.append({key: value.clone() for key, value in changed.state_dict().items()})
        return gradient(changed, images, classes)

    told = []
    stages = sanity(
        net, torch.randn(2, 1, 32, 32), 3, method=method, progress=lambda *words: told.append(words[1:3])
    )
    layers = ["output", "F6", "C5", "C3", "C1"]
    assert [stage.layer for stage in stages] == ["", *layers]
    assert told[-1] == (6, 6)
    for number, state in enumerate(states):
        for key, value in state.items():
            is_random = key.partition(".")[0] in layers[:number]
            assert torch.equal(value, before[key]) != is_random
        if number:  # what was random stays as it is
            top = {key for key in state if key.partition(".")[0] in layers[: number - 1]}
            assert all(torch.equal(state[key], states[number - 1][key]) for key in top)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert stages[0].rank_correlation.tolist() == pytest.approx([1, 1])
    assert stages[0].similarity.tolist() == pytest.approx([1, 1])
    assert stages[-1].rank_correlation.max() < 0.9


def test_a_method_that_does_not_look_at_the_network_stays_the_same():
    stages = sanity(
        build("lenet5_modern"), torch.randn(1, 1, 32, 32), None, method=lambda net, images, classes: images
    )
    assert [float(stage.rank_correlation[0]) for stage in stages] == pytest.approx([1] * 6)
    assert [float(stage.similarity[0]) for stage in stages] == pytest.approx([1] * 6)


def test_the_class_stays_that_of_the_network_as_it_came():
    net, images = build("lenet5_modern").eval(), torch.randn(3, 1, 32, 32)
    asked = []
    sanity(net, images, None, method=lambda changed, x, classes: asked.append(classes.tolist()) or x)
    assert asked == [net(images).argmax(1).tolist()] * 6


def test_seeds_repeat_and_global_numbers_are_left_alone():
    net, images = build("lenet5_modern"), torch.randn(1, 1, 32, 32)
    state = torch.get_rng_state()
    runs = [sanity(net, images, 1, method=gradient, seed=seed)[-1].maps for seed in (4, 4, 5)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_random_weights_keep_their_spread_and_biases_their_values():
    layer = nn.Linear(300, 200)
    nn.init.normal_(layer.weight, 0.1, 0.3)
    bias = layer.bias.detach().clone()
    randomise(layer, torch.Generator().manual_seed(0))
    assert float(layer.weight.detach().std()) == pytest.approx(0.3, rel=0.02)
    assert float(layer.weight.detach().mean()) == pytest.approx(0, abs=0.01)
    assert layer.bias.detach().sort().values.tolist() == bias.sort().values.tolist()
    assert layer.bias.tolist() != bias.tolist()


def test_layers_of_deep_networks_are_blocks():
    with torch.device("meta"):
        net = build("resnet50")
    layers = weighted_layers(net, (3, 224, 224))
    assert layers[0] == "conv1"
    assert layers[-1] == "fc"
    assert len(layers) == 19  # conv1, bn1, 3 + 4 + 6 + 3 blocks, fc


def test_wrong_wishes():
    net, images = build("lenet5_modern"), torch.randn(1, 1, 32, 32)
    with pytest.raises(UsageError, match="name of a layer"):
        sanity(net, images, 0, method=gradient, layers=["C9"])
    with pytest.raises(UsageError, match="layers with weights"):
        sanity(nn.Sequential(nn.Flatten()), torch.randn(1, 1, 2, 2), 0, method=gradient)
