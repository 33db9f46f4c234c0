"""Auxiliary classifiers: what a network that returns several scores while it trains is trained on."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from striate.core.errors import NonFiniteLossError, UsageError
from striate.data.batches import Loader
from striate.data.dataset import colour_statistics, fit_preprocessing, for_network, open_dataset
from striate.data.sources import open_source
from striate.recipes.recipe import Recipe
from striate.training.loop import Trainer, Training
from striate.training.loss import make_loss, total_loss
from striate.weights.run_folder import create_run

CPU = torch.device("cpu")
SIDE_PX = 6
WEIGHT = 0.3
LR = 0.4


class ThreeHeads(nn.Module):
    """A linear trunk and three linear classifiers; no biases. It keeps the images of its last step."""

    def __init__(self):
        super().__init__()
        self.auxiliary_weight = WEIGHT
        self.trunk = nn.Linear(SIDE_PX**2, 3, bias=False)
        self.fc = nn.Linear(3, 2, bias=False)
        self.aux1 = nn.Linear(3, 2, bias=False)
        self.aux2 = nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(4842)
            for parameter in self.parameters():
                parameter.normal_(std=0.4, generator=generator)
            self.aux1.weight.copy_(-self.fc.weight)  # right where fc is wrong, and the other way round

    def forward(self, images):
        self.images = images
        features = self.trunk(images.flatten(1))
        scores = self.fc(features)
        return (scores, self.aux1(features), self.aux2(features)) if self.training else scores


@pytest.fixture
def noise(tmp_path):
    """A folder of 12 pictures of noise; the four of class ``b`` are lighter, 175 of 255 in the mean."""
    rng = np.random.default_rng(2014)
    for name, level, count in (("a", 0, 8), ("b", 100, 4)):
        (tmp_path / "noise" / name).mkdir(parents=True)
        for k in range(count):
            pixels = rng.integers(level, level + 150, (SIDE_PX, SIDE_PX), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "noise" / name / f"{k}.png")
    return tmp_path / "noise"


def one_step(net, folder, out, **options):
    """Train one epoch of one batch; return the row of the history."""
    recipe = Recipe(
        name="x", epochs=1, batch_images=12, lr=LR, val_fraction=0.0, test_fraction=0.0, select="last"
    )
    source = open_source(folder)
    canvas = fit_preprocessing(source, (1, SIDE_PX, SIDE_PX), canvas_px=None)
    dataset = open_dataset(source, canvas, val_fraction=0.0, test_fraction=0.0)
    members = dataset.splits.train
    assert len(members) == 12
    training = Training(
        net=net,
        train=Loader(
            dataset=dataset,
            indices=members,
            preprocessing=for_network(canvas, (1, SIDE_PX, SIDE_PX)),
            batch_images=12,
            threads=0,
        ),
        val=None,
        colours=colour_statistics(dataset, members),
        recipe=recipe,
        loss=make_loss(recipe, source.labels[members], 2, CPU),
        run=create_run(out, {}),
        save=lambda *_: None,
        key="x",
        seed=0,
        device=CPU,
        precision=options.pop("precision", "fp32"),
        **options,
    )
    return Trainer(training).run().history[0]


def by_hand(before, images):
    """One step of gradient descent on the weighted sum of three cross-entropies, in NumPy.

    Returns:
        The weights after it, and of the main scores alone the loss and the share of wrong answers.
    """
    x = images.double().numpy().reshape(len(images), -1)
    target = np.eye(2)[(x.mean(1) > 0.5).astype(int)]  # class b is lighter
    trunk = before["trunk.weight"]
    features = x @ trunk.T
    after, back = {}, np.zeros_like(features)
    for key, share in (("fc.weight", 1.0), ("aux1.weight", WEIGHT), ("aux2.weight", WEIGHT)):
        scores = features @ before[key].T
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        slope = share * (p - target) / len(x)
        after[key] = before[key] - LR * slope.T @ features
        back += slope @ before[key]
        if key == "fc.weight":
            loss = -np.mean(np.log((p * target).sum(1)))
            wrong = np.mean(scores.argmax(1) != target.argmax(1))
    after["trunk.weight"] = trunk - LR * back.T @ x
    return after, loss, wrong


def arrays(net):
    return {key: value.detach().double().numpy().copy() for key, value in net.state_dict().items()}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_is_that_of_the_weighted_sum(noise, tmp_path, monkeypatch, compiled):
    # the tracer of torch.compile without its compiler: the network still goes through the wrapped path
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    notes = []
    net = ThreeHeads()
    before = arrays(net)
    row = one_step(
        net,
        noise,
        tmp_path / "run",
        compiled=compiled,
        progress=lambda stage, _, __, text="": notes.append(text) if stage == "note" else None,
    )
    expected, loss, wrong = by_hand(before, net.images)
    got = arrays(net)
    assert notes == []
    assert got.keys() == expected.keys()
    for key in expected:
        np.testing.assert_allclose(got[key], expected[key], rtol=1e-4, atol=1e-6)
        assert np.abs(got[key] - before[key]).max() > 1e-3
    assert row["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert row["train_error"] == pytest.approx(wrong)
    assert wrong != 0.5  # else aux1's would be the same, 1 - wrong


def test_a_step_in_bf16_is_nearly_the_same(noise, tmp_path):
    net = ThreeHeads()
    before = arrays(net)
    one_step(net, noise, tmp_path / "run", precision="bf16")
    expected, _, _ = by_hand(before, net.images)
    for key, value in arrays(net).items():
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, expected[key], atol=0.02)


def test_an_auxiliary_loss_that_is_not_finite_stops_the_training(noise, tmp_path):
    net = ThreeHeads()
    with torch.no_grad():
        net.aux2.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="the loss became nan"):
        one_step(net, noise, tmp_path / "run")


def test_total_loss_by_hand():
    """Loss = sum of scores: 1 + 2, 10 + 20 and 100; weighted by 1, 0.5 and 0.5."""
    net = nn.Identity()
    net.auxiliary_weight = 0.5
    outputs = (torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]]), torch.tensor([[100.0, 0.0]]))
    summed = total_loss(lambda scores, labels: scores.sum() * labels, net, outputs, torch.tensor(2.0))
    assert summed.item() == 2 * (3 + 0.5 * 30 + 0.5 * 100)
    alone = total_loss(
        lambda scores, labels: scores.sum() * labels, nn.Identity(), outputs[0], torch.tensor(2.0)
    )
    assert alone.item() == 6


def test_several_outputs_without_a_weight_are_refused():
    scores = torch.zeros(2, 3)
    with pytest.raises(UsageError, match=r"2 outputs .* got None in Identity: set net\.auxiliary_weight"):
        total_loss(functional.cross_entropy, nn.Identity(), (scores, scores), torch.tensor([0, 1]))
