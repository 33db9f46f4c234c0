"""Blends of networks that give several labels an image, end to end, against NumPy and scikit-learn."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, log_loss

from striate.cli import show
from striate.data.preprocess import Preprocessing
from striate.recipes.recipe import Recipe
from striate.weights.bundle import Bundle, load_bundle, save_bundle

NET = "4x4x3 > fc 3"
CLASSES = ("blue", "green", "red")  # sorted, as a manifest's are
CHANNELS = (2, 1, 0)
# Member k says yes where slope * (level - threshold) > 0; levels are 0..1, one threshold for each class.
SLOPES = {"a": 9.0, "b": 14.0, "c": 6.0}
THRESHOLDS = {"a": (0.38, 0.55, 0.50), "b": (0.55, 0.45, 0.62), "c": (0.50, 0.66, 0.36)}
TEMPERATURES = {"a": 1.0, "b": 2.0, "c": 0.5}
FP32 = ("--precision", "fp32", "--device", "cpu")


@pytest.fixture
def run(run):
    """Run ``striate blend WORDS...``."""
    return partial(run, "blend")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Plain pictures with the labels of their colours in a manifest, and three networks made by hand."""
    root = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(4)
    levels = rng.integers(0, 256, (160, 3))
    rows = ["path,labels,split"]
    for number, (blue, green, red) in enumerate(levels.tolist()):
        pixels = np.full((4, 4, 3), (red, green, blue), np.uint8)
        pixels[0, 0, 0] = number  # no two pictures are the same
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        there = [
            name
            for name, level in zip(CLASSES, (blue, green, red), strict=True)
            if level + rng.normal(0, 25) > 127
        ]
        rows.append(f"{number:03}.png,{'|'.join(there)},{('train', 'val', 'test')[number % 3]}")
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    pre = Preprocessing(channels=3, height_px=4, width_px=4, resize_px=None, mean=(0.5,) * 3, std=(0.5,) * 3)
    recipe = Recipe(name="by hand", epochs=1, lr=0.1, val_fraction=0.1, test_fraction=0.1).to_json()
    for name, slope in SLOPES.items():
        weight = torch.zeros(3, 3, 4, 4)
        bias = torch.zeros(3)
        for k, channel in enumerate(CHANNELS):
            weight[k, channel] = slope * 0.5 / 16  # a normed pixel is 2 * level - 1
            bias[k] = slope * (0.5 - THRESHOLDS[name][k])
        made = Bundle(
            net=NET,
            classes=CLASSES,
            preprocessing=pre,
            state={"fc1.weight": weight.reshape(3, 48), "fc1.bias": bias},
            multi_label=True,
            temperature=TEMPERATURES[name],
            recipe=recipe,
            data={"started_from": "start"},
        )
        save_bundle(made, root / f"{name}.safetensors")
    return root


def part(place, wanted):
    """Return the mean levels in 0..1 and the labels of a split, images x classes."""
    levels, labels = [], []
    with open(place / "list.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == wanted:
                pixels = np.asarray(Image.open(place / row["path"])) / 255
                levels.append(pixels.mean((0, 1))[list(CHANNELS)])
                labels.append([name in row["labels"].split("|") for name in CLASSES])
    return np.array(levels), np.array(labels)


def logits(name, levels):
    return SLOPES[name] * (levels - np.array(THRESHOLDS[name]))


def all_right(scores, labels):
    return float(((scores > 0) == labels).all(1).mean())


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def files(place, names="abc"):
    return [place / f"{name}.safetensors" for name in names]


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_an_ensemble_averages_sigmoids_or_logits(run, place, tmp_path, of):
    saved = tmp_path / "answers.csv"
    words = (
        "ensemble",
        *files(place),
        "-d",
        place / "list.csv",
        "--of",
        of,
        "--save",
        saved,
        *FP32,
        "--json",
    )
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    found = json.loads(out)
    levels, labels = part(place, "test")
    assert found["multi_label"] is True
    for member in found["members"]:
        assert member["accuracy"] == pytest.approx(all_right(logits(member["name"], levels), labels))
    scaled = [logits(name, levels) / TEMPERATURES[name] for name in "abc"]
    odds = np.mean(scaled, axis=0)
    expected = sigmoid(odds) if of == "logits" else np.mean([sigmoid(one) for one in scaled], axis=0)
    assert found["ensemble"]["accuracy"] == pytest.approx(all_right(expected - 0.5, labels))
    loss = np.mean([log_loss(labels[:, k], expected[:, k]) for k in range(3)])
    assert found["ensemble"]["loss"] == pytest.approx(loss, rel=1e-4)
    with open(saved, newline="") as file:
        kept = [[float(row[f"logit:{name}"]) for name in CLASSES] for row in csv.DictReader(file)]
    np.testing.assert_allclose(sigmoid(np.array(kept)), expected, atol=1e-4)


@pytest.mark.parametrize("width", [80, 120])
def test_an_ensemble_says_what_right_means(run, place, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run("ensemble", *files(place), "-d", place / "list.csv", *FP32)
    assert (code, err) == (0, "")
    assert "every label correct" in out
    assert max(map(len, out.splitlines())) <= width


def soup_of(names, levels):
    """A mean of linear networks answers the mean of their logits."""
    return np.mean([logits(name, levels) for name in names], axis=0)


def test_uniform_and_greedy_soups_and_averages(run, place, tmp_path, monkeypatch):
    monkeypatch.setattr(show.out, "_width", 80)
    held, held_labels = part(place, "val")
    levels, labels = part(place, "test")
    ranked = sorted("abc", key=lambda name: -all_right(logits(name, held), held_labels))
    kept = ranked[0]
    for name in ranked[1:]:
        if all_right(soup_of(kept + name, held), held_labels) >= all_right(soup_of(kept, held), held_labels):
            kept += name
    for words, chosen in (
        (("soup", "--uniform"), "abc"),
        (("soup", "--greedy"), kept),
        (("average",), "abc"),
    ):
        target = tmp_path / f"{words[-1].strip('-')}.safetensors"
        words = (*words, *files(place), "-d", place / "list.csv", "-o", target, *FP32)
        code, out, _ = run(*words)
        assert code == 0
        assert "an image counts as correct when every label of it is" in out
        code, out, _ = run(*words, "--force", "--json")
        assert code == 0
        found = json.loads(out)
        assert found["multi_label"] is True
        assert found["held_out_accuracy"] == pytest.approx(all_right(soup_of(chosen, held), held_labels))
        assert found["test"]["exact_match"] == pytest.approx(all_right(soup_of(chosen, levels), labels))
        precision = [average_precision_score(labels[:, k], soup_of(chosen, levels)[:, k]) for k in range(3)]
        assert found["test"]["average_precision"] == pytest.approx(precision, abs=1e-6)
        made = load_bundle(target)
        assert made.multi_label
        assert made.classes == CLASSES
        expected = [np.mean([SLOPES[n] * (0.5 - THRESHOLDS[n][k]) for n in chosen]) for k in range(3)]
        np.testing.assert_allclose(made.state["fc1.bias"].numpy(), expected, rtol=1e-5)


def test_a_learned_soup_lowers_the_binary_loss(run, place, tmp_path):
    target = tmp_path / "soup.safetensors"
    words = ("soup", "--learned", "--epochs", 20, *files(place), "-d", place / "list.csv", "-o", target)
    code, out, _ = run(*words, *FP32, "--json")
    assert code == 0
    made = load_bundle(target)
    assert made.multi_label
    assert made.temperature == json.loads(out)["temperature"]
    shares = [one["coefficient"] for one in json.loads(out)["ingredients"]]
    held, labels = part(place, "val")
    learned = sum(share * logits(name, held) for share, name in zip(shares, "abc", strict=True))
    losses = [
        np.mean([log_loss(labels[:, k], sigmoid(scores)[:, k]) for k in range(3)])
        for scores in (learned / made.temperature, soup_of("abc", held))
    ]
    assert losses[0] < losses[1]


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_all_ways(run, place, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run("table", *files(place), "-d", place / "list.csv", *FP32)
    assert (code, err) == (0, "")
    assert "an image counts as correct when every label of it is" in out
    assert max(map(len, out.splitlines())) <= width
    _, out, _ = run("table", *files(place), "-d", place / "list.csv", *FP32, "--json")
    found = json.loads(out)
    levels, labels = part(place, "test")
    rows = {row["method"]: row for row in found["rows"]}
    assert found["multi_label"] is True
    assert rows["uniform soup of 3"]["test"] == pytest.approx(all_right(soup_of("abc", levels), labels))


def test_a_tenth_of_the_training_images_chooses_where_it_is_asked_for(run, place, tmp_path):
    words = ("soup", *files(place), "-d", place / "list.csv", "--held-out", "train", *FP32)
    code, out, err = run(*words, "-o", tmp_path / "x.safetensors", "--json")
    assert (code, err) == (0, "")
    assert "of the training images" in json.loads(out)["held_out"]


@pytest.mark.parametrize("command", ["ensemble", "soup", "table"])
def test_data_of_one_label_an_image_is_refused_in_one_line(run, place, tmp_path, command):
    target = ("-o", tmp_path / "x.safetensors") if command == "soup" else ()
    code, out, err = run(command, *files(place), "-d", "digits", *target)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "expected several labels an image, as the bundle was trained, got one label an image" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["ensemble", "soup", "table"])
def test_a_network_of_one_label_an_image_among_them_is_refused_in_one_line(run, place, tmp_path, command):
    other = load_bundle(place / "b.safetensors")
    save_bundle(replace(other, multi_label=False), tmp_path / "single.safetensors")
    target = ("-o", tmp_path / "x.safetensors") if command == "soup" else ()
    words = (*files(place, "ac"), tmp_path / "single.safetensors")
    code, out, err = run(command, *words, "-d", place / "list.csv", *target)
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "one label an image" in err
    assert "several labels an image" in err
    assert not (tmp_path / "x.safetensors").exists()
