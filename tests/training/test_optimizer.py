from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from striate.recipes.recipe import Recipe
from striate.training.optimizer import KrizhevskySGD, make_optimizer

RATES = [0.1, 0.1, 0.02, 0.02, 0.5]


def walk(make, rates=RATES):
    """Minimise half the squared distance to (1, 2) and record the weights."""
    weight = nn.Parameter(torch.tensor([5.0, -3.0], dtype=torch.float64))
    optimizer = make([weight])
    path = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        (0.5 * (weight - torch.tensor([1.0, 2.0])) ** 2).sum().backward()
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    return np.array(path)


def test_krizhevsky_against_the_papers_equations():
    # v <- 0.9 v - 0.0005 eps w - eps g;  w <- w + v  (Krizhevsky et al. 2012, sec. 5)
    w, v, expected = np.array([5.0, -3.0]), np.zeros(2), []
    for eps in RATES:
        v = 0.9 * v - 0.0005 * eps * w - eps * (w - np.array([1.0, 2.0]))
        w = w + v
        expected.append(w)
    found = walk(lambda p: KrizhevskySGD(p, lr=1, momentum=0.9, weight_decay=0.0005))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_two_forms_agree_at_a_constant_rate_and_part_when_it_changes():
    def krizhevsky(p):
        return KrizhevskySGD(p, lr=1, momentum=0.9, weight_decay=0.01)

    def pytorch(p):
        return torch.optim.SGD(p, lr=1, momentum=0.9, weight_decay=0.01)

    np.testing.assert_allclose(walk(krizhevsky, [0.1] * 6), walk(pytorch, [0.1] * 6), rtol=1e-12)
    assert np.abs(walk(krizhevsky) - walk(pytorch)).max() > 0.1


def test_rescaling_pytorchs_buffer_imitates_the_papers_form():
    weight = nn.Parameter(torch.tensor([5.0, -3.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    path, before = [], 0.1
    for rate in RATES:
        for state in optimizer.state.values():
            state["momentum_buffer"] *= before / rate
        optimizer.param_groups[0]["lr"] = before = rate
        optimizer.zero_grad()
        (0.5 * (weight - torch.tensor([1.0, 2.0])) ** 2).sum().backward()
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    np.testing.assert_allclose(
        path, walk(lambda p: KrizhevskySGD(p, lr=1, momentum=0.9, weight_decay=0)), rtol=1e-12
    )


def test_parameters_without_a_gradient_stay():
    used, unused = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = KrizhevskySGD([used, unused], lr=0.1, momentum=0.9, weight_decay=0.1)
    used.sum().backward()
    optimizer.step()
    assert unused.item() == 1
    assert used.item() == pytest.approx(1 - 0.1 * 1 - 0.1 * 0.1)


def test_biases_and_norms_decay_only_if_asked():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    recipe = Recipe(name="x", epochs=1, lr=0.1, weight_decay=0.5, decay_norm_and_bias=False)
    groups = make_optimizer(net, recipe).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.5), (3, 0.0)]
    both = make_optimizer(net, Recipe(name="x", epochs=1, lr=0.1, weight_decay=0.5)).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in both] == [(4, 0.5)]


@pytest.mark.parametrize("name", ["sgd", "krizhevsky", "nesterov", "adamw"])
def test_every_optimizer_finds_the_minimum_and_resumes_from_its_state(name):
    recipe = Recipe(name="x", epochs=1, lr=0.1, optimizer=name)

    def step(net, optimizer):
        optimizer.zero_grad()
        ((net.weight - 3.0) ** 2).sum().backward()
        optimizer.step()

    net = nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(net, recipe)
    for _ in range(150):
        step(net, optimizer)
    np.testing.assert_allclose(net.weight.detach(), 3.0, atol=0.1)
    twin = nn.Linear(2, 2, bias=False)
    twin.load_state_dict(net.state_dict())
    other = make_optimizer(twin, recipe)
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    step(net, optimizer)
    step(twin, other)
    assert torch.equal(net.weight, twin.weight)
