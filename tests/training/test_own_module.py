"""Training a module of one's own: what is checked, stored, reloaded and resumed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import striate
from striate.core.compute import Compute
from striate.core.errors import BundleError, CheckpointError, UsageError
from striate.weights.bundle import load_bundle
from striate.weights.open import open_bundle

QUICK = {"epochs": 1, "batch_images": 8, "compute": Compute(device="cpu", precision="fp32")}


class TinyNet(nn.Module):
    """One convolution with batch normalisation, and a classifier."""

    def __init__(self, num_classes=2, width=4):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images):
        return self.fc(self.features(images).mean((2, 3)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 20), ("light", 160)):
        (root / name).mkdir()
        for k in range(20):
            pixels = rng.integers(level, level + 80, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    net = TinyNet()
    return net, striate.train(
        net, photos, input=(3, 16, 16), out=tmp_path_factory.mktemp("r") / "run", **QUICK
    )


def equal(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_bundle_names_the_class_and_takes_the_module_to_load(trained):
    net, result = trained
    bundle = load_bundle(result.bundle)
    assert bundle.net == "<TinyNet>"
    assert equal(bundle.state, net.state_dict())
    with pytest.raises(BundleError, match="a module of class TinyNet"):
        open_bundle(result.run)
    assert equal(open_bundle(result.run, TinyNet())[0].state_dict(), bundle.state)
    assert "TinyNet" in result.report.read_text()
    command = json.loads((result.run / "run.json").read_text())["command"]
    assert command.startswith("striate.train(TinyNet(), ")
    assert "input=(3, 16, 16)" in command


def test_a_resume_takes_the_module(trained):
    _, result = trained
    before = load_bundle(result.bundle).state
    with pytest.raises(CheckpointError, match="net=MODULE"):
        striate.resume(result.run)
    assert equal(load_bundle(striate.resume(result.run, net=TinyNet()).bundle).state, before)


def test_weights_of_the_same_shapes_only(trained, photos, tmp_path):
    _, result = trained
    options = {"input": (3, 16, 16), "weights": result.run, **QUICK}
    assert striate.train(TinyNet(), photos, out=tmp_path / "run", **options).run.exists()
    with pytest.raises(BundleError, match="size mismatch"):
        striate.train(TinyNet(width=6), photos, out=tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


def test_an_open_network_is_trained_further_at_its_size(trained, photos, tmp_path):
    _, result = trained
    model = striate.load(result.run, net=TinyNet())
    further = striate.train(model, photos, out=tmp_path / "run", **QUICK)
    assert load_bundle(further.bundle).net == "<TinyNet>"
    assert load_bundle(further.bundle).preprocessing.width_px == 16


def test_a_factory_is_given_the_number_of_classes(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factory_of_test.py").write_text(
        "from torch import nn\n\n\ndef build(num_classes=7):\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, num_classes))\n"
        "    net.input_shape = (3, 16, 16)\n    return net\n"
    )
    word = "factory_of_test:build"
    result = striate.train(word, photos, out=tmp_path / "run", **QUICK)
    assert load_bundle(result.bundle).net == word
    with pytest.raises(CheckpointError, match=word):
        striate.resume(result.run)
    assert striate.resume(result.run, net=word).scores.top1 == result.scores.top1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"what images the module takes: `input="),
        ({"input": 16}, r"`input` as channels, height and width"),
        ({"input": (1, 16, 16)}, r"takes images \(1, 16, 16\)"),
        ({"input": (3, 16, 16), "arguments": {"width": 3}}, "no `arguments` with a module"),
        ({"input": (3, 16, 16), "settings": {"lr": "1"}}, "no field 'settings'"),
        ({"input": (3, 16, 16), "compute": "cpu"}, r"`compute` as a striate\.Compute"),
        ({"input": (3, 16, 16), "compute": Compute(batch_images=3)}, "`batch_images`, a field of the recipe"),
        ({"input": (3, 16, 16), "checkpoint_s": "x"}, "`checkpoint_s` of at least 0"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(photos, tmp_path, options, words):
    with pytest.raises(UsageError, match=words):
        striate.train(TinyNet(), photos, out=tmp_path / "run", **{**QUICK, **options})
    assert not (tmp_path / "run").exists()


def test_as_many_scores_as_classes(photos, tmp_path):
    with pytest.raises(UsageError, match=r"expected scores of shape \(1, 2\) .* got \(1, 5\)"):
        striate.train(TinyNet(5), photos, input=(3, 16, 16), out=tmp_path / "run", **QUICK)
