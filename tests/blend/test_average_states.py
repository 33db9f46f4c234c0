"""Averages of weights, against sums written out by hand."""

import numpy as np
import pytest
import torch

from striate.blend.average import average_states, mix_states, state_digest
from striate.blend.soup import uniform_soup
from striate.core.errors import BundleError, UsageError


def state(seed, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=rng).to(dtype),
        "conv.bias": torch.randn(4, generator=rng).to(dtype),
        "norm.running_var": torch.rand(4, generator=rng).to(dtype),
        "norm.num_batches_tracked": torch.tensor(10 * (seed + 1)),
    }


def test_weighted_mean_by_hand():
    one = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(4.0)}
    two = {"w": torch.tensor([3.0, 6.0]), "b": torch.tensor(0.0)}
    mean = average_states([one, two], [1, 3])
    assert mean["w"].tolist() == [2.5, 5.0]
    assert mean["b"].item() == 1.0


@pytest.mark.parametrize("weights", [None, [1, 2, 1], [0.1, 0.7, 0.2], [0, 0, 5]])
def test_against_numpy_in_double_precision(weights):
    states = [state(k) for k in range(3)]
    mean = average_states(states, weights)
    for name in ("conv.weight", "conv.bias", "norm.running_var"):
        stacked = np.stack([s[name].numpy().astype(np.float64) for s in states])
        expected = np.average(stacked, axis=0, weights=weights).astype(np.float32)
        np.testing.assert_allclose(mean[name].numpy(), expected, rtol=2e-7)
        assert mean[name].dtype == torch.float32
    assert mean["norm.num_batches_tracked"].item() == 30


def test_permuting_changes_no_bit():
    states = [state(k) for k in range(7)]
    weights = [1.0, 0.3, 2.5, 0.7, 1e-3, 4.0, 0.9]
    mean, weighted = average_states(states), average_states(states, weights)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(7)
        again = average_states([states[i] for i in order])
        weighted_again = average_states([states[i] for i in order], [weights[i] for i in order])
        for name in mean:
            assert torch.equal(mean[name], again[name])
            assert torch.equal(weighted[name], weighted_again[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("copies", [1, 2, 3, 7])
def test_copies_of_one_network_give_that_network(dtype, copies):
    one = state(0, dtype)
    mean = uniform_soup([{name: t.clone() for name, t in one.items()} for _ in range(copies)])
    for name, tensor in one.items():
        assert torch.equal(mean[name], tensor)
        assert mean[name].dtype == tensor.dtype


def test_half_precision_is_summed_without_overflow():
    big = {"w": torch.tensor([60000.0], dtype=torch.float16)}
    assert average_states([big, big, big])["w"].tolist() == [60000.0]
    mixed = average_states([big, {"w": torch.tensor([0.5], dtype=torch.float32)}])["w"]
    assert mixed.dtype == torch.float32
    assert mixed.tolist() == [60000.0 / 2 + 0.25]


def test_free_coefficients_by_tensor():
    one, two = state(0), state(1)
    mixed = mix_states([one, two], lambda name: (2.0, -1.0) if name.startswith("conv") else (0.0, 1.0))
    expected = 2 * one["conv.bias"].double() - two["conv.bias"].double()
    assert torch.equal(mixed["conv.bias"], expected.float())
    assert torch.equal(mixed["norm.running_var"], two["norm.running_var"])


@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], [1, float("inf")], [1e308] * 2]
)
def test_wrong_weights_are_refused(weights):
    with pytest.raises(UsageError, match="weight"):
        average_states([state(0), state(1)], weights)


def test_other_tensors_are_refused_by_name():
    one = state(0)
    for change, words in (
        ({"extra": torch.zeros(1)}, "extra"),
        ({"conv.bias": torch.zeros(5)}, "conv.bias of 4 float32 in B, as in A, got 5 float32"),
        ({"conv.bias": torch.zeros(4, dtype=torch.int64)}, "conv.bias"),
    ):
        with pytest.raises(BundleError, match=words):
            average_states([one, {**state(1), **change}], names=["A", "B"])
    with pytest.raises(BundleError, match="table to be equal in A and B"):
        average_states([{"table": torch.tensor([1, 2])}, {"table": torch.tensor([1, 3])}], names=["A", "B"])


def test_digest_follows_the_bits_and_nothing_else():
    one = state(0)
    backwards = dict(reversed(list(one.items())))
    assert state_digest(one) == state_digest(backwards)
    changed = {**one, "conv.bias": one["conv.bias"].clone()}
    changed["conv.bias"][2] += 1e-6
    assert state_digest(changed) != state_digest(one)
    halves = {name: t.bfloat16() if t.is_floating_point() else t for name, t in one.items()}
    assert state_digest(halves) != state_digest(one)
