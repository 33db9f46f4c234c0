"""Run folder and bundles that striate 0.1.0 wrote before its rooms moved: they open and answer as they did.

Made by that version with a network of one convolution on 8 x 8 squares; ``expected.json`` holds what it
predicted (torch engine, fp32) for the three images.
"""

import json
from pathlib import Path

import pytest
import torch

import striate
from striate.recipes.recipe import Recipe
from striate.weights.bundle import load_bundle
from striate.weights.run_folder import RunFolder, read_settings, snapshot_files

HERE = Path(__file__).parent / "written_by_0_1"
EXPECTED = json.loads((HERE / "expected.json").read_text())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_it_opens_and_answers_as_it_did(name: str) -> None:
    bundle = load_bundle(HERE / name)
    assert bundle.temperature == EXPECTED[name]["temperature"]
    fp32 = striate.Compute(device="cpu", precision="fp32")
    images = [HERE / "images" / f"{k}.png" for k in range(3)]
    found = striate.predict(HERE / name, images, top=3, engine="torch", compute=fp32)
    for one, expected in zip(found, EXPECTED[name]["predictions"], strict=True):
        assert [label for label, _ in one.ranked] == [label for label, _ in expected]
        assert [p for _, p in one.ranked] == pytest.approx([p for _, p in expected], abs=1e-6)


def test_the_run_folder_is_read() -> None:
    run = RunFolder(HERE / "run")
    settings = read_settings(run)
    assert settings["precision"] == "fp32"
    assert Recipe.from_json(settings["recipe"]).average == "ema"
    assert len(snapshot_files(run)) == 2
    for file in (run.bundle, run.last, *snapshot_files(run)):
        assert load_bundle(file).classes == ("left", "right")
    kept = torch.load(run.checkpoint, weights_only=True)
    assert kept["position"]["epoch"] == 24


def test_its_report_is_made_again(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    striate.write_report([HERE / "run"], page)
    assert "tiny" in page.read_text()


def test_the_int8_network_is_still_in_its_bundle() -> None:
    assert {"int8.xml", "int8.bin"} <= load_bundle(HERE / "quantized.safetensors").graphs.keys()
