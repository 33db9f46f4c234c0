"""``striate compare-runs`` as a person sees it."""

import json

import numpy as np
import pytest

from striate.cli import show
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import save_predictions


@pytest.fixture
def files(tmp_path):
    """Two networks on 400 images: A alone is right on 4 of them, B alone on 24; 12 defeat both."""
    labels = np.arange(400) % 2
    kinds = np.repeat(["both", "a", "b", "none"], [360, 4, 24, 12])
    for name in ("a", "b"):
        right = (kinds == "both") | (kinds == name)
        said = np.where(right, labels, 1 - labels)
        logits = np.where(np.arange(2) == said[:, None], 2.0, 0.0).astype(np.float32)
        one = Predictions(
            name=name,
            classes=("[b]cat", "dog"),
            files=tuple(f"{k:03}.png" for k in range(400)),
            labels=labels,
            logits=logits,
            split="test images",
        )
        save_predictions(one, tmp_path / f"{name}.csv")
    return tmp_path / "a.csv", tmp_path / "b.csv"


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_and_the_verdict(run, files, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run("compare-runs", *files)
    assert (code, err) == (0, "")
    words = " ".join(out.split())
    assert "400 images: test images" in words
    assert "91.0%" in words  # 364 of 400
    assert "96.0%" in words  # 384 of 400
    assert "only A correct 4 1.0%" in words
    assert "only B correct 24 6.0%" in words
    assert "accuracy, B minus A: +5.0 points" in words
    # 2 (C(28,0) + ... + C(28,4)) / 2^28 = 2 x 24158 / 2^28
    assert "McNemar's exact p 0.0002" in words
    assert "B is better by 5.0 points (2." in words
    assert "[b]cat" in words
    assert "Images that only one classifies correctly, 5 of 28" in words
    assert max(map(len, out.splitlines())) <= width


def test_no_difference_is_said_so(run, files):
    code, out, _ = run("compare-runs", files[0], files[0])
    assert code == 0
    assert "No difference that this test set can show" in " ".join(out.split())


def test_json(run, files):
    code, out, _ = run("compare-runs", *files, "--json")
    record = json.loads(out)
    assert code == 0
    assert [one["accuracy"] for one in record["networks"]] == [0.91, 0.96]
    assert record["pairs"][0]["only_b"] == 24
    assert len(record["pairs"][0]["disagreements"]) == 28


def test_images_can_be_left_out(run, files):
    assert "Images that only one" not in run("compare-runs", *files, "--images", 0)[1]


def test_several_pairs_are_said_to_be_corrected(run, files):
    out = " ".join(run("compare-runs", files[0], files[1], files[0])[1].split())
    assert "corrected for 2 pairs (Holm)" in out


def test_files_are_no_seeds_of_a_recipe(run, files):
    code, out, _ = run("compare-runs", *files, "--seeds")
    assert code == 0
    assert "One seed says nothing" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a.csv"], 2, "at least two networks"),
        (["nowhere", "nothing"], 1, "nowhere"),
        (["nowhere", "a.csv", "--data", "digits"], 1, "no such file"),
        (["a.csv", "nowhere.csv"], 1, "nowhere.csv"),
    ],
)
def test_wrong_input_gives_one_line(run, files, monkeypatch, words, code, message):
    monkeypatch.chdir(files[0].parent)
    found, out, err = run("compare-runs", *words)
    assert (found, out) == (code, "")
    assert len(err.splitlines()) == 1
    assert message in err


def test_help_has_an_example(run):
    code, out, _ = run("compare-runs", "--help")
    assert code == 0
    assert "Example" in out
