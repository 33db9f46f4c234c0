"""The temperature in the bundle: fitted on validation images, used by predictions, never on the test's."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize_scalar

import striate
from striate.core.compute import Compute
from striate.core.errors import BundleError, DataError, UsageError
from striate.data.find import find_images
from striate.serve.predict import predict
from striate.weights.bundle import load_bundle, save_bundle

SETTINGS = {"batch_images": "64", "val_fraction": "0.1", "test_fraction": "0.2", "lr": "0.05"}

FP32 = Compute(precision="fp32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("calibrated") / "run"
    striate.train("mlp1", "digits", out=run, epochs=8, settings=SETTINGS, precision="fp32")
    return run


def best_temperature(run) -> tuple[float, float]:
    """Let scipy find the temperature, and its loss, on the validation images."""
    found = striate.evaluate(run, "digits", split="val", compute=FP32).predictions
    logits, labels = torch.tensor(found.logits, dtype=torch.float64), torch.tensor(found.labels)
    best = minimize_scalar(
        lambda t: torch.nn.functional.cross_entropy(logits / t, labels).item(),
        bounds=(0.05, 20),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(best.x), float(best.fun)


def test_training_leaves_a_fitted_temperature(trained):
    bundle = load_bundle(trained)
    temperature, nll = best_temperature(trained)
    record = bundle.metrics["calibration"]
    assert bundle.temperature == pytest.approx(temperature, rel=1e-4)
    assert bundle.temperature == record["temperature"] != 1.0
    assert record["nll_after"] == pytest.approx(nll, rel=1e-6)
    assert record["nll_after"] < record["nll_before"]
    assert record["split"] == "val"
    assert record["num_images"] == striate.evaluate(trained, "digits", split="val").scores.num_images


def test_few_or_no_validation_images_leave_it_at_one(tmp_path):
    for fraction in ("0", "0.02"):
        out = tmp_path / fraction
        striate.train("mlp1", "digits", out=out, epochs=1, settings=SETTINGS | {"val_fraction": fraction})
        bundle = load_bundle(out)
        assert bundle.temperature == 1.0
        assert "calibration" not in bundle.metrics
    with pytest.raises(DataError, match="expected validation images"):
        striate.calibrate(tmp_path / "0", "digits")


def test_it_is_written_into_the_bundle_and_nothing_else_changes(trained, tmp_path):
    target = tmp_path / "again.safetensors"
    raw = replace(load_bundle(trained), temperature=1.0, metrics={"epoch": 3})
    save_bundle(raw, target)
    result = striate.calibrate(target, "digits", compute=FP32)
    after = load_bundle(target)
    assert result.replaced == 1.0
    assert result.bundle == target
    assert (
        after.temperature == result.fit.temperature == pytest.approx(best_temperature(trained)[0], rel=1e-4)
    )
    assert after.metrics["epoch"] == 3
    assert after.metrics["calibration"]["ece_after"] == result.fit.after.ece
    assert all(torch.equal(after.state[name], raw.state[name]) for name in raw.state)
    assert replace(after, temperature=1.0, metrics={"epoch": 3}, state={}) == replace(raw, state={})
    tested = striate.evaluate(target, "digits", split="test", compute=FP32)
    assert result.test_before.nll == pytest.approx(tested.predictions.scores().loss, rel=1e-5)
    assert result.test_after.nll == pytest.approx(tested.loss, rel=1e-5)
    assert result.test_after.nll < result.test_before.nll
    again = striate.calibrate(target, "digits", compute=FP32)
    assert (again.replaced, again.fit) == (result.fit.temperature, result.fit)


def test_elsewhere_leaves_the_bundle_as_it_was(trained, tmp_path):
    before = hashlib.sha256((trained / "model.safetensors").read_bytes()).digest()
    target = tmp_path / "out.safetensors"
    striate.calibrate(trained, "digits", out=target)
    assert hashlib.sha256((trained / "model.safetensors").read_bytes()).digest() == before
    assert load_bundle(target).temperature != 1.0
    with pytest.raises(UsageError, match="`force`"):
        striate.calibrate(trained, "digits", out=target)
    striate.calibrate(trained, "digits", out=target, force=True)
    with pytest.raises(UsageError, match="got the folder"):
        striate.calibrate(trained, "digits", out=tmp_path)
    with pytest.raises(UsageError, match=r"ending in \.safetensors, got x\.pth: write .*x\.safetensors"):
        striate.calibrate(trained, "digits", out=tmp_path / "x.pth")


def test_predictions_are_calibrated_and_rank_as_before(trained, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    net, bundle = striate.open_bundle(trained)
    ranked = [
        next(iter(predict(net, one, find_images([tmp_path / "noise.png"]), topk=10))).ranked
        for one in (bundle, replace(bundle, temperature=1.0))
    ]
    assert [name for name, _ in ranked[0]] == [name for name, _ in ranked[1]]
    raw = np.log([p for _, p in ranked[1]]) / bundle.temperature
    expected = np.exp(raw) / np.exp(raw).sum()
    assert [p for _, p in ranked[0]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_only_validation_images_fit_a_temperature(trained, split):
    with pytest.raises(UsageError, match="`split=val`"):
        striate.calibrate(trained, "digits", split=split)


def test_changed_data_are_pointed_out(trained, tmp_path):
    draw = np.random.default_rng(1)
    for label in range(10):
        (tmp_path / "own" / str(label)).mkdir(parents=True)
        for k in range(12):
            pixels = draw.integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / str(label) / f"{k}.png")
    result = striate.calibrate(trained, tmp_path / "own", out=tmp_path / "x.safetensors")
    assert any("not the data" in note for note in result.notes)
    assert any("only 10 validation images" in note for note in result.notes)


def test_a_file_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        striate.calibrate(tmp_path / "nothing", "digits")
