"""Soups against recipe 1 written again, and against optima that are known."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from striate.blend.average import average_states
from striate.blend.learned import learned_soup
from striate.blend.soup import greedy_soup, uniform_soup
from striate.core.errors import BundleError, NonFiniteLossError, UsageError
from striate.data.batch import Batch


def linear_task(seed, num=60, spread=0.8):
    """States of a linear classifier around a true one, and images that it labels."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(3, 5))
    x = rng.normal(size=(num, 5))
    y = (x @ true.T).argmax(1)
    states = [
        {"weight": torch.tensor(true + spread * rng.normal(size=(3, 5)), dtype=torch.float32)}
        for _ in range(5)
    ]

    def accuracy(state):
        return float(((x @ state["weight"].double().numpy().T).argmax(1) == y).mean())

    return states, accuracy


def recipe_1(states, accuracy, strict):
    """The algorithm of the paper, on plain arrays."""
    weights = [s["weight"].double().numpy() for s in states]
    acc = [accuracy(s) for s in states]
    order = sorted(range(len(states)), key=lambda i: -acc[i])
    ingredients, best = [], -1.0
    for i in order:
        mean = np.mean([weights[j] for j in [*ingredients, i]], axis=0)
        value = accuracy({"weight": torch.tensor(mean.astype(np.float32))})
        if value > best if strict else value >= best:
            ingredients.append(i)
            best = value
    return ingredients, best


@pytest.mark.parametrize("strict", [False, True])
def test_greedy_is_recipe_1_and_never_worse_than_its_best(strict):
    left_out = 0
    for seed in range(20):
        states, accuracy = linear_task(seed)
        accuracies = [accuracy(state) for state in states]
        if len(set(accuracies)) < len(accuracies):
            continue  # recipe 1 does not say which of equals goes first
        soup = greedy_soup(states, accuracies, accuracy, strict=strict)
        kept, best = recipe_1(states, accuracy, strict)
        assert list(soup.kept) == kept
        assert soup.accuracy == best == accuracy(soup.state)
        assert soup.accuracy >= max(accuracies)
        expected = average_states([states[i] for i in kept])["weight"]
        assert torch.allclose(soup.state["weight"], expected, atol=1e-7)
        assert [taste.kept for taste in soup.steps].count(True) == len(kept)
        left_out += len(states) - len(kept)
    assert left_out > 0


def test_greedy_does_not_depend_on_the_order_even_with_ties():
    states, accuracy = linear_task(3, num=6)  # six images: ties
    accuracies = [accuracy(state) for state in states]
    assert len(set(accuracies)) < len(accuracies)
    first = greedy_soup(states, accuracies, accuracy)
    for order in itertools.permutations(range(5)):
        soup = greedy_soup([states[i] for i in order], [accuracies[i] for i in order], accuracy)
        assert [order[i] for i in soup.kept] == list(first.kept)
        assert torch.equal(soup.state["weight"], first.state["weight"])


def test_equal_accuracy_is_kept_unless_strict():
    states = [{"w": torch.tensor([float(k)])} for k in range(3)]
    assert len(greedy_soup(states, [0.5] * 3, lambda state: 0.5).kept) == 3
    assert len(greedy_soup(states, [0.5] * 3, lambda state: 0.5, strict=True).kept) == 1


def test_mixtures_are_finished_and_single_networks_are_not():
    states = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, {"w": torch.tensor([100.0])}]
    finished = []

    def finish(state):
        finished.append(state["w"].item())
        return {"w": state["w"] + 0.25}

    soup = greedy_soup(states, [0.9, 0.8, 0.1], lambda s: 1.0 if s["w"] < 10 else 0.0, finish=finish)
    assert finished == [2.0, pytest.approx(104 / 3)]
    assert soup.state["w"].item() == 2.25
    alone = greedy_soup(states, [0.9, 0.8, 0.1], lambda s: 0.0, finish=finish)
    assert alone.state["w"].item() == 1.0
    assert uniform_soup(states[:2], finish=finish)["w"].item() == 2.25
    assert uniform_soup([states[0], dict(states[0])], finish=finish)["w"].item() == 1.0


def test_greedy_refuses_nothing_to_mix():
    with pytest.raises(UsageError, match="ingredient"):
        greedy_soup([], [], lambda state: 0.0)
    with pytest.raises(UsageError, match="ingredient"):
        greedy_soup([{"w": torch.zeros(1)}], [], lambda state: 0.0)


def two_networks(bias=False):
    """A linear net and two states; labels are drawn from a mixture that neither of them is."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 4)) for _ in range(2)]
    x = rng.normal(size=(400, 4))
    logits = 1.7 * x @ (0.7 * weights[0] + 0.3 * weights[1]).T
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    y = np.array([rng.choice(3, p=row) for row in p])
    batch = Batch(torch.tensor(x, dtype=torch.float32), torch.tensor(y), np.arange(400))
    states = [{"weight": torch.tensor(w, dtype=torch.float32)} for w in weights]
    return nn.Linear(4, 3, bias=False), states, batch, weights, x, y


def nll(x, y, weight):
    logits = x @ weight.T
    logits = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))


def test_learned_soup_finds_the_known_optimum():
    net, states, batch, (a, b), x, y = two_networks()
    best = minimize(lambda v: nll(x, y, v[1] * (v[0] * a + (1 - v[0]) * b)), [0.5, 1.0], tol=1e-10)
    soup = learned_soup(net, states, lambda epoch: [batch], epochs=400, lr=0.05)
    assert soup.coefficients[0] == pytest.approx(best.x[0], abs=2e-3)
    assert sum(soup.coefficients) == pytest.approx(1.0, abs=1e-12)
    assert 1 / soup.temperature == pytest.approx(best.x[1], rel=2e-3)
    mixed = soup.coefficients[0] * a + soup.coefficients[1] * b
    np.testing.assert_allclose(soup.state["weight"].numpy(), mixed, rtol=1e-5, atol=1e-6)
    assert soup.losses[-1] == pytest.approx(best.fun, abs=1e-4)
    assert soup.losses[0] == pytest.approx(nll(x, y, (a + b) / 2), rel=1e-5)  # it starts from equal shares


def test_learned_soup_does_not_depend_on_the_order_and_leaves_the_network_alone():
    net, states, batch, *_ = two_networks()
    before = net.weight.detach().clone()
    soup = learned_soup(net, states, lambda epoch: [batch])
    again = learned_soup(net, states[::-1], lambda epoch: [batch])
    assert again.coefficients == soup.coefficients[::-1]
    assert torch.equal(again.state["weight"], soup.state["weight"])
    assert torch.equal(net.weight, before)
    assert net.weight.grad is None
    assert net.training


def test_free_coefficients_may_leave_the_simplex():
    net, states, batch, (a, b), x, y = two_networks()
    far = [{"weight": 3 * states[0]["weight"] - 2 * states[1]["weight"]}, states[1]]
    soup = learned_soup(net, far, lambda epoch: [batch], free=True, epochs=400, lr=0.02)
    weight = sum(c * s["weight"].double().numpy() for c, s in zip(soup.coefficients, far, strict=True))
    best = minimize(lambda v: nll(x, y, v[0] * a + v[1] * b), [0.5, 0.5], tol=1e-10)
    assert nll(x, y, weight / soup.temperature) == pytest.approx(best.fun, abs=1e-4)


def test_by_layer_takes_each_layer_from_where_it_is_right():
    torch.manual_seed(0)
    good = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module in (good[0], good[2]):
            module.weight.mul_(3)
        y = good(x).argmax(1)
    state = {name: tensor.clone() for name, tensor in good.state_dict().items()}
    noise = torch.Generator().manual_seed(2)
    bad = {name: torch.randn(tensor.shape, generator=noise) for name, tensor in state.items()}
    one = {name: (state if name.startswith("0") else bad)[name] for name in state}
    two = {name: (bad if name.startswith("0") else state)[name] for name in state}
    batch = Batch(x, y, np.arange(300))
    soup = learned_soup(good, [one, two], lambda epoch: [batch], by_layer=True, epochs=100)
    assert set(soup.layers) == {"0", "2"}
    assert soup.layers["0"][0] > 0.8
    assert soup.layers["2"][1] > 0.8
    sizes = {"0": 40, "2": 27}
    for i in range(2):
        overall = sum(soup.layers[k][i] * sizes[k] for k in sizes) / 67
        assert soup.coefficients[i] == pytest.approx(overall)
    expected = soup.layers["2"][0] * one["2.bias"].double() + soup.layers["2"][1] * two["2.bias"].double()
    assert torch.allclose(soup.state["2.bias"], expected.float(), atol=1e-6)


def test_learned_soup_with_batch_norm_and_dropout_is_repeatable():
    def net():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 2)
        )

    one = net().state_dict()
    two = {n: t + 0.1 if t.is_floating_point() else t + 3 for n, t in one.items()}
    images = torch.randn(32, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.arange(32) % 2, np.arange(32))
    trained = net()
    first = learned_soup(trained, [one, two], lambda epoch: [batch])
    second = learned_soup(net(), [one, two], lambda epoch: [batch])
    assert first.coefficients == second.coefficients
    assert first.coefficients[0] != 0.5
    assert all(torch.equal(t, one[n]) for n, t in trained.state_dict().items())
    assert trained[2].momentum == 0.1
    assert first.state["2.num_batches_tracked"].item() == 3


def test_learned_soup_of_half_precision_weights():
    net, states, batch, *_ = two_networks()
    halves = [{"weight": s["weight"].half()} for s in states]
    soup = learned_soup(net, halves, lambda epoch: [batch])
    assert soup.state["weight"].dtype == torch.float16
    full = learned_soup(net, [{"weight": h["weight"].float()} for h in halves], lambda epoch: [batch])
    assert soup.coefficients == pytest.approx(full.coefficients, abs=1e-6)


def test_learned_soup_of_several_labels():
    net, states, batch, *_ = two_networks()
    y = torch.nn.functional.one_hot(batch.labels, 3).float()
    soup = learned_soup(net, states, lambda epoch: [Batch(batch.images, y, batch.indices)], epochs=20)
    assert soup.losses[-1] < soup.losses[0]


def test_learned_soup_refuses_what_cannot_be():
    net, states, batch, *_ = two_networks()
    for wrong in ({"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}):
        with pytest.raises(UsageError, match="learning rate"):
            learned_soup(net, states, lambda epoch: [batch], **wrong)
    with pytest.raises(BundleError, match="same tensors"):
        learned_soup(net, [states[0], {"other": states[1]["weight"]}], lambda epoch: [batch])
    broken = {"weight": torch.full((3, 4), float("nan"))}
    with pytest.raises(NonFiniteLossError, match="mixed network"):
        learned_soup(net, [states[0], broken], lambda epoch: [batch])
