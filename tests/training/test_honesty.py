"""What keeps a measured number honest: no image on two sides, and plain words about what was measured."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import striate
from striate.core.compute import Compute
from striate.core.errors import CheckpointError, DataError, UsageError
from striate.recipes.recipe import parse_changes


def draw(folder, seed, level):
    folder.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(level, level + 50, (32, 32), np.uint8)
    Image.fromarray(pixels).save(folder)


def train(data, out, **settings):
    base = {"batch_images": "8", "normalise": "dataset", **settings}
    return striate.train(
        "lenet5_modern", data, out=out, epochs=1, **parse_changes(base), compute=Compute(precision="fp32")
    )


@pytest.fixture
def split_folder(tmp_path):
    root = tmp_path / "data"
    for k in range(10):
        for level, name in ((10, "dark"), (190, "light")):
            draw(root / "train" / name / f"{k}.png", k, level)
            draw(root / "test" / name / f"{k}.png", 100 + k, level)
    return root


def test_training_images_that_stand_in_the_test_split_too_are_left_out_and_counted(split_folder, tmp_path):
    for k in range(3):
        shutil.copy(
            split_folder / "test" / "dark" / f"{k}.png", split_folder / "train" / "dark" / f"copy{k}.png"
        )
    result = train(split_folder, tmp_path / "run")
    assert result.num_images == {"train": 20, "val": 0, "test": 20}
    assert "3 training images were left out" in (tmp_path / "run" / "report.html").read_text()


def test_evaluate_says_when_training_images_are_measured(tmp_path):
    root = tmp_path / "data"
    for k in range(2):
        for level, name in ((10, "dark"), (190, "light")):
            draw(root / name / f"{k}.png", k, level)
    train(root, tmp_path / "run", test_fraction="0")
    assert "says nothing about new images" in striate.evaluate(tmp_path / "run", root).split
    draw(root / "dark" / "more.png", 9, 10)
    assert "may be among those the bundle was trained on" in striate.evaluate(tmp_path / "run", root).split


def test_one_label_and_several_do_not_mix(split_folder, tmp_path):
    lines = [f"{path},{path.parent.name}|odd" for path in sorted((split_folder / "train").rglob("*.png"))]
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(["path,labels", *lines]))
    train(manifest, tmp_path / "several")
    assert "mean average precision" in (tmp_path / "several" / "report.html").read_text()
    with pytest.raises(DataError, match="expected several labels an image"):
        striate.evaluate(tmp_path / "several", split_folder)


def test_a_resume_over_reordered_files_is_refused(split_folder, tmp_path):
    train(split_folder, tmp_path / "run")
    (split_folder / "train" / "dark" / "0.png").rename(split_folder / "train" / "dark" / "zz.png")
    with pytest.raises(CheckpointError, match="changed since this run began"):
        striate.resume(tmp_path / "run")


def test_a_refused_run_leaves_nothing_and_its_folder_can_be_used_again(split_folder, tmp_path):
    with pytest.raises(UsageError, match="colour images"):
        train(split_folder, tmp_path / "run", normalise="imagenet")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")  # a run that was killed before its first checkpoint
    train(split_folder, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["net"] == "lenet5_modern"


def test_the_reported_command_carries_what_was_chosen(split_folder, tmp_path):
    train(split_folder, tmp_path / "run")
    command = json.loads((tmp_path / "run" / "run.json").read_text())["command"]
    assert command.startswith("striate.train('lenet5_modern', ")
    for words in ("precision='fp32'", "normalise='dataset'", "epochs=1", "batch_images=8"):
        assert words in command
    assert "weights" not in command


def test_plateau_without_validation_images_is_refused(split_folder, tmp_path):
    with pytest.raises(UsageError, match="plateau needs validation images"):
        train(split_folder, tmp_path / "run", schedule="plateau", val_fraction="0.01")
