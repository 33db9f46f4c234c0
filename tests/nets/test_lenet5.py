import math

import numpy as np
import pytest
import torch
from numpy_layers import arrays, conv, max_pool, relu

from striate import nets
from striate.nets.lenet5 import C3_LINKS, digit_codes, rbf_loss

# LeCun et al. 1998, Table I, as printed: one row per S2 map, an X where the column's C3 map reads it.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""

# Digits whose drawing is plain in the table of codes: 84 pixels, # is +1.
ONE = """
...##..
..###..
.####..
...##..
...##..
...##..
...##..
...##..
...##..
.######
.......
.......
"""


def links_of_table_1():
    rows = TABLE_I.split()
    return tuple(tuple(s2 for s2 in range(6) if rows[s2][c3] == "X") for c3 in range(16))


def test_links_are_those_of_table_1():
    assert links_of_table_1() == C3_LINKS
    assert TABLE_I.count("X") == 60


def squash(a):
    return 1.7159 * math.tanh(2 / 3 * a)


def lenet5_by_loops(image, state):
    """Section II.B, unit by unit; returns the 84 states of F6."""
    c1 = np.empty((6, 28, 28))
    for k in range(6):
        for i in range(28):
            for j in range(28):
                patch = image[i : i + 5, j : j + 5]
                c1[k, i, j] = squash((state["C1.weight"][k, 0] * patch).sum() + state["C1.bias"][k])
    s2 = subsample_by_loops(c1, state["S2.coefficient"], state["S2.bias"])
    c3 = np.empty((16, 10, 10))
    link = 0
    for k, inputs in enumerate(links_of_table_1()):
        kernels = state["C3.weight"][link : link + len(inputs)]
        link += len(inputs)
        for i in range(10):
            for j in range(10):
                total = state["C3.bias"][k]
                for kernel, source in zip(kernels, inputs, strict=True):
                    total += (kernel * s2[source, i : i + 5, j : j + 5]).sum()
                c3[k, i, j] = squash(total)
    assert link == 60
    s4 = subsample_by_loops(c3, state["S4.coefficient"], state["S4.bias"])
    c5 = [squash((state["C5.weight"][k] * s4).sum() + state["C5.bias"][k]) for k in range(120)]
    return np.array([squash(state["F6.weight"][k] @ c5 + state["F6.bias"][k]) for k in range(84)])


def subsample_by_loops(maps, coefficient, bias):
    channels, height, width = maps.shape
    out = np.empty((channels, height // 2, width // 2))
    for k in range(channels):
        for i in range(height // 2):
            for j in range(width // 2):
                four = maps[k, 2 * i, 2 * j] + maps[k, 2 * i, 2 * j + 1]
                four += maps[k, 2 * i + 1, 2 * j] + maps[k, 2 * i + 1, 2 * j + 1]
                out[k, i, j] = squash(coefficient[k] * four + bias[k])
    return out


@pytest.mark.parametrize("name", ["lenet5", "lenet5_rbf"])
@torch.no_grad()
def test_forward_is_that_of_section_2b(name):
    net = nets.build(name).double().eval()
    for parameter in net.parameters():
        parameter.mul_(6)  # strong enough weights for the squashing functions to bend
    image = torch.randn(1, 1, 32, 32, dtype=torch.float64)
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    f6 = lenet5_by_loops(image[0, 0].numpy(), state)
    assert np.abs(f6).max() > 0.5
    if name == "lenet5":
        expected = state["output.weight"] @ f6 + state["output.bias"]
    else:
        expected = [-sum((f6[j] - code[j]) ** 2 for j in range(84)) for code in state["output.codes"]]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_initial_weights_fill_the_range_of_appendix_a():
    net = nets.build("lenet5")
    limits = {
        "C1": 2.4 / 25,
        "S2": 2.4 / 4,
        "S4": 2.4 / 4,
        "C5": 2.4 / 400,
        "F6": 2.4 / 120,
        "output": 2.4 / 84,
    }
    for layer, limit in limits.items():
        values = torch.cat(
            [parameter.detach().flatten() for parameter in net.get_submodule(layer).parameters()]
        )
        assert values.abs().max() <= limit
        assert values.abs().max() > 0.7 * limit
    start = 0
    for output, inputs in enumerate(C3_LINKS):
        limit = 2.4 / (25 * len(inputs))
        weights = net.C3.weight[start : start + len(inputs)]
        start += len(inputs)
        assert 0.9 * limit < weights.abs().max() <= limit
        assert net.C3.bias[output].abs() <= limit


def test_rbf_net_has_840_fixed_numbers_beside_its_60000_parameters():
    net = nets.build("lenet5_rbf")
    assert sum(parameter.numel() for parameter in net.parameters()) == 60_000
    assert {key: tuple(value.shape) for key, value in net.named_buffers() if key != "C3.link_slots"} == {
        "output.codes": (10, 84)
    }


def test_codes_are_drawings_at_least_12_bits_apart():
    codes = digit_codes().numpy()
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert (codes == 1).sum(axis=1).tolist() == [35, 27, 33, 32, 41, 35, 39, 25, 43, 39]
    drawing = np.array([[1.0 if pixel == "#" else -1.0 for pixel in line] for line in ONE.split()])
    np.testing.assert_array_equal(codes[1].reshape(12, 7), drawing)
    distances = {(a, b): int((codes[a] != codes[b]).sum()) for a in range(10) for b in range(a)}
    assert min(distances.values()) == 12
    assert [pair for pair, distance in distances.items() if distance == 12] == [(8, 6)]


def test_a_code_itself_scores_zero_and_a_flipped_bit_costs_four():
    net = nets.build("lenet5_rbf")
    seven = digit_codes()[7].clone()
    assert net.output(seven[None])[0, 7] == 0
    seven[40] *= -1
    scores = net.output(seven[None])[0]
    assert scores[7] == -4
    assert scores.argmax() == 7


def test_rbf_loss_is_equation_9():
    distances = [[1.0, 2.0, 3.0], [0.5, 0.25, 4.0]]
    labels = [2, 1]
    expected = 0.0
    for y, correct in zip(distances, labels, strict=True):
        expected += (y[correct] + math.log(math.exp(-0.1) + sum(math.exp(-y_i) for y_i in y))) / 2
    got = rbf_loss(-torch.tensor(distances), torch.tensor(labels))
    assert got.item() == pytest.approx(expected, rel=1e-6)
    expected = 0.0
    for y, correct in zip(distances, labels, strict=True):
        expected += (y[correct] + math.log(math.exp(-2) + sum(math.exp(-y_i) for y_i in y))) / 2
    larger_j = rbf_loss(-torch.tensor(distances), torch.tensor(labels), j=2.0)
    assert larger_j.item() == pytest.approx(expected, rel=1e-6)


def test_rbf_loss_survives_distances_that_underflow():
    scores = -torch.full((1, 10), 5000.0)
    # exp(-5000) is 0: what is left is y_D + log(exp(-0.1)) = 5000 - 0.1
    assert rbf_loss(scores, torch.tensor([3])).item() == pytest.approx(4999.9)


@pytest.mark.parametrize(
    ("last", "side", "jump"),
    [("C1", 5, 1), ("S2_squash", 6, 2), ("C3", 14, 2), ("S4_squash", 16, 4), ("C5", 32, 4)],
)
@torch.no_grad()
def test_receptive_fields(last, side, jump):
    """One lit pixel in each of 32x32 images: which of them does a unit see? (Positive weights, no bias.)"""
    net = nets.build("lenet5")
    for key, parameter in net.named_parameters():
        parameter.fill_(0.0 if key.endswith("bias") else 0.1)
    lit = torch.eye(32 * 32).view(-1, 1, 32, 32)
    names = [key for key, _ in net.named_children()]
    maps = net[: names.index(last) + 1](lit)

    def seen(unit):
        rows, columns = (maps[:, -1, unit, unit] > 0).view(32, 32).nonzero(as_tuple=True)
        box = (rows.min().item(), rows.max().item(), columns.min().item(), columns.max().item())
        assert len(rows) == (box[1] - box[0] + 1) * (box[3] - box[2] + 1)  # no holes
        return box

    assert seen(0) == (0, side - 1, 0, side - 1)
    if maps.shape[2] > 1:
        assert seen(1) == (jump, jump + side - 1, jump, jump + side - 1)


@torch.no_grad()
def test_lectured_version_computes_relu_and_plain_averages():
    net = nets.build("lenet5_modern").eval()
    image = torch.randn(1, 1, 32, 32)
    state = arrays(net)
    maps = relu(conv(image[0].double().numpy(), state["C1.weight"], state["C1.bias"]))
    maps = maps.reshape(6, 14, 2, 14, 2).mean(axis=(2, 4))
    maps = relu(conv(maps, state["C3.weight"], state["C3.bias"]))
    maps = maps.reshape(16, 5, 2, 5, 2).mean(axis=(2, 4))
    features = relu(conv(maps, state["C5.weight"], state["C5.bias"]))[:, 0, 0]
    features = relu(state["F6.weight"] @ features + state["F6.bias"])
    expected = state["output.weight"] @ features + state["output.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_caffes_version_has_one_relu_and_none_after_a_convolution():
    net = nets.build("lenet_caffe").eval()
    image = torch.randn(1, 1, 28, 28)
    state = arrays(net)
    maps = max_pool(conv(image[0].double().numpy(), state["conv1.weight"], state["conv1.bias"]))
    assert (maps < 0).any()
    maps = max_pool(conv(maps, state["conv2.weight"], state["conv2.bias"]))
    assert (maps < 0).any()
    features = relu(state["ip1.weight"] @ maps.ravel() + state["ip1.bias"])
    expected = state["ip2.weight"] @ features + state["ip2.bias"]
    np.testing.assert_allclose(net(image)[0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_caffes_version_starts_from_the_xavier_filler():
    net = nets.build("lenet_caffe")
    for layer, fan_in in (("conv1", 25), ("conv2", 500), ("ip1", 800), ("ip2", 500)):
        weight = net.get_submodule(layer).weight.detach()
        limit = math.sqrt(3 / fan_in)
        assert 0.95 * limit < weight.abs().max() <= limit
        assert not net.get_submodule(layer).bias.any()
