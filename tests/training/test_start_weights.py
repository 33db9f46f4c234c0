"""A training that starts from given weights goes on without the file that they came from."""

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.recipes.recipe import parse_changes
from striate.weights.bundle import load_bundle


class Stopped(BaseException):
    """Stands for a kill."""


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 20), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(level, level + 40, (32, 32), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    return tmp_path / "photos"


def train(photos, out, weights, progress=lambda *_: None):
    settings = {"batch_images": "8", "average": "none"}
    return striate.train(
        "lenet5_modern",
        photos,
        recipe="photos",
        **parse_changes(settings),
        epochs=3,
        weights=weights,
        out=out,
        checkpoint_s=0,
        compute=Compute(device="cpu", precision="fp32"),
        progress=progress,
    )


def given_weights(path):
    generator = torch.Generator().manual_seed(7)
    shapes = {
        "C1": (6, 1, 5, 5),
        "C3": (16, 6, 5, 5),
        "C5": (120, 16, 5, 5),
        "F6": (84, 120),
        "output": (2, 84),
    }
    state = {}
    for layer, shape in shapes.items():
        state[f"{layer}.weight"] = torch.randn(shape, generator=generator) * 0.1
        state[f"{layer}.bias"] = torch.zeros(shape[0])
    torch.save(state, path)
    return path


@pytest.mark.parametrize("stop_after_epochs", [0, 2])
def test_resuming_needs_no_file_and_ends_alike(photos, tmp_path, stop_after_epochs):
    whole = train(photos, tmp_path / "whole", given_weights(tmp_path / "start.pth"))

    def stop(stage, done, total, note=""):
        if (stage == "epoch" and done == stop_after_epochs) or (stage == "train" and not stop_after_epochs):
            raise Stopped

    with pytest.raises(Stopped):
        train(photos, tmp_path / "cut", tmp_path / "start.pth", stop)
    (tmp_path / "start.pth").unlink()
    resumed = striate.resume(tmp_path / "cut")
    expected = load_bundle(whole.bundle).state
    got = load_bundle(resumed.bundle).state
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[key], expected[key]) for key in expected)


def test_the_data_count_the_classes(photos, tmp_path):
    with pytest.raises(UsageError, match="expected no num_classes, got 5"):
        striate.train("lenet5_modern", photos, arguments={"num_classes": 5}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_without_weights_is_refused_and_leaves_nothing(photos, tmp_path):
    text = "INPUT 2x1x1\nPOOL 1x1 stride 1\n"
    with pytest.raises(UsageError):
        striate.train(text, photos, epochs=1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
