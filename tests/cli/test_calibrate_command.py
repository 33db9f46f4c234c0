"""``striate calibrate`` as a person sees it."""

import json

import pytest

import striate
from striate.cli import show
from striate.recipes.recipe import parse_changes
from striate.weights.bundle import load_bundle


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("calibrate") / "run"
    settings = {"batch_images": "64", "val_fraction": "0.1", "test_fraction": "0.2"}
    striate.train("mlp1", "digits", out=run, epochs=3, **parse_changes(settings))
    return run


@pytest.mark.parametrize("width", [80, 120])
def test_before_and_after(run, trained, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run("calibrate", trained, "--data", "digits")
    assert (code, err) == (0, "")
    assert f"temperature {load_bundle(trained).temperature:.3f}" in out
    for word in ("NLL", "ECE", "Brier", "fitted on", "test", "before", "after"):
        assert word in out
    assert max(map(len, out.splitlines())) <= width


def test_json(run, trained, tmp_path):
    target = tmp_path / "x.safetensors"
    code, out, _ = run("calibrate", trained, "--data", "digits", "-o", target, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["temperature"] == load_bundle(target).temperature
    assert record["nll_after"] <= record["nll_before"]
    assert record["test"]["after"]["temperature"] == record["temperature"]
    assert len(record["fitted_on"]["before"]["bins"]) == 15


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--split", "test"], 2, "--split val"),
        (["--split", "train"], 2, "--split val"),
        (["-o", "x.pth"], 2, "ending in .safetensors"),
    ],
)
def test_wrong_input_gives_one_line(run, trained, words, code, message):
    before = (trained / "model.safetensors").read_bytes()
    found, out, err = run("calibrate", trained, "--data", "digits", *words)
    assert (found, out) == (code, "")
    assert len(err.splitlines()) == 1
    assert message in err
    assert (trained / "model.safetensors").read_bytes() == before


def test_a_missing_bundle_gives_one_line(run, tmp_path):
    found, out, err = run("calibrate", tmp_path / "nothing", "--data", "digits")
    assert (found, out) == (1, "")
    assert "no such file" in err


def test_help_has_an_example(run):
    code, out, _ = run("calibrate", "--help")
    assert code == 0
    assert "Example" in out
