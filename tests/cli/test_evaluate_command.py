"""``striate evaluate`` as a person sees it."""

import csv
import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from striate.cli import show
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, load_bundle, save_bundle, with_graphs


@pytest.fixture
def run(run):
    """Run ``striate evaluate WORDS...``."""
    return partial(run, "evaluate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in six classes, and two bundles of which the first is untrained."""
    root = tmp_path_factory.mktemp("evaluate")
    rng = np.random.default_rng(1)
    classes = tuple("abcdef")
    for name in classes:
        (root / "photos" / name).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(rng.integers(0, 256, (36, 40, 3), np.uint8)).save(
                root / "photos" / name / f"{k}.png"
            )
    for seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = build("lenet5_modern", num_classes=6)
        pre = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=36, mean=(0.5,), std=(0.3,))
        made = Bundle(net="lenet5_modern", classes=classes, preprocessing=pre, state=dict(net.state_dict()))
        save_bundle(made, root / f"{seed}.safetensors")
    return root


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_of_protocols(run, folder, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run(
        folder / "0.safetensors", "-d", folder / "photos", "-p", "ten-crop,dense", "-p", "flip"
    )
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= width
    for words in ("single", "ten-crop", "dense", "flip", "top-1", "top-5", "18 images", "10 views"):
        assert words in out
    assert "central square of 36" in " ".join(out.split())


def test_json_has_the_gain_and_what_was_done(run, folder):
    words = [folder / "0.safetensors", "-d", folder / "photos", "--json", "--precision", "fp32"]
    _, plain, _ = run(*words)
    single = json.loads(plain)
    _, text, _ = run(*words, "-p", "ten-crop", "--top", "1,2")
    ten = json.loads(text)
    assert (single["protocol"], ten["protocol"]) == ("single", "ten-crop")
    assert ten["views"] == 10
    assert ten["trained"] is True
    assert [figure["what"] for figure in ten["figures"]] == ["top-1", "top-2", "loss"]
    figure = ten["figures"][0]
    assert figure["gain"] == pytest.approx(ten["top1"] - single["top1"])
    assert figure["gain_interval"][0] <= figure["gain"] <= figure["gain_interval"][1]
    _, text, _ = run(*words, "-p", "single,flip")
    assert [one["protocol"] for one in json.loads(text)["results"]] == ["single", "flip"]


def test_csv_has_a_row_for_every_figure_and_class(run, folder, tmp_path):
    code, _, _ = run(
        folder / "0.safetensors",
        folder / "1.safetensors",
        "-d",
        folder / "photos",
        "-p",
        "flip",
        "--csv",
        tmp_path / "f.csv",
    )
    assert code == 0
    with open(tmp_path / "f.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    figures = [row for row in rows if not row["class"]]
    assert len(figures) == 2 * 2 * 3  # networks, protocols, top-1, top-5 and loss
    recalls = [row for row in rows if row["what"] == "recall"]
    assert len(recalls) == 2 * 2 * 6
    assert {row["class"] for row in recalls} == set("abcdef")
    gains = [row for row in figures if row["protocol"] == "flip" and row["what"] == "top-1"]
    for row in gains:
        before = next(
            one
            for one in figures
            if (one["bundle"], one["protocol"], one["what"]) == (row["bundle"], "single", "top-1")
        )
        assert float(row["gain"]) == pytest.approx(float(row["value"]) - float(before["value"]))


def test_saved_answers_are_evaluated_again_without_the_network(run, folder, tmp_path):
    kept = tmp_path / "kept.csv"
    code, first, _ = run(
        folder / "0.safetensors", "-d", folder / "photos", "-p", "dense", "--save", kept, "--json"
    )
    assert code == 0
    code, again, _ = run(kept, "--json", "--suspects", 2)
    assert code == 0
    before, after = json.loads(first), json.loads(again)
    for key in ("top1", "top5", "loss", "per_class", "confusion"):
        assert after[key] == pytest.approx(before[key]) if key == "loss" else after[key] == before[key]
    code, out, _ = run(kept, "--suspects", 2, "--classes", "hardest")
    assert code == 0
    assert "likely wrong" in out


def test_random_weights_are_called_so(run, folder):
    code, out, _ = run("lenet5_modern", "-d", folder / "photos", "-p", "multi-scale")
    assert code == 0
    assert "random weights" in out
    assert "multi-scale" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-p", "crops"], 2, "expected a protocol out of single"),
        (["--scales", "40"], 2, "expected --scales with"),
        (["-p", "dense", "--scales", "a"], 2, "such as 256,384,512"),
        (["-p", "dense", "--scales", "20"], 2, "at least 32 px"),
        (["-p", "ten-crop", "--canvas", "40", "--pad", "4"], 2, "choose one"),
        (["--top", "0"], 2, "whole numbers such as 1,5"),
        (["--top", "9"], 2, "from 1 to 6"),
        (["--classes", "some"], 2, "--classes"),
        (["--save", "x.txt"], 2, ".csv or .parquet"),
        (["-p", "single,flip", "--save", "x.csv"], 2, "save one at a time"),
    ],
)
def test_wrong_words_give_one_line(run, folder, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = run(folder / "0.safetensors", "-d", folder / "photos", *words)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_bundle_is_said_to_be_measured_with_its_fp32_weights(run, folder, tmp_path):
    plain = folder / "0.safetensors"
    small = tmp_path / "small.safetensors"
    save_bundle(with_graphs(load_bundle(plain), {"int8.xml": b"<net/>", "int8.bin": b"0"}), small)
    words = ("--data", folder / "photos")
    assert "tested with its fp32 weights" in " ".join(run(small, *words)[1].split())
    assert "fp32 weights" not in run(plain, *words)[1]
