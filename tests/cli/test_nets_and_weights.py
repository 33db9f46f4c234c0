"""``striate nets`` and ``striate weights``, and the user's own networks and weights in ``striate train``."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate import nets
from striate.cli import show
from striate.cli.main import main
from striate.weights.bundle import load_bundle

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "weights"

WRITTEN = """INPUT 16x16x3
CONV1: 4 5x5 filters at stride 1, pad 2
RELU1
MAX POOL1: 4x4 filters at stride 4
FC: 10 neurons
"""


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run ``striate WORDS...`` in an empty folder; return exit code, standard output and error output."""
    monkeypatch.chdir(tmp_path)
    for console in (show.out, show.err):
        monkeypatch.setattr(console, "_width", 400)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["striate", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def photos(tmp_path):
    """Twenty pictures of each of two classes, dark and light."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 20), ("light", 200)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(level, level + 40, (20, 20, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{k}.png")
    return tmp_path / "photos"


def lenet5_state(num_classes):
    """Weights of ``lenet5_modern`` for so many classes, drawn here."""
    generator = torch.Generator().manual_seed(7)
    shapes = {
        "C1": (6, 1, 5, 5),
        "C3": (16, 6, 5, 5),
        "C5": (120, 16, 5, 5),
        "F6": (84, 120),
        "output": (num_classes, 84),
    }
    state = {}
    for layer, shape in shapes.items():
        state[f"{layer}.weight"] = torch.randn(shape, generator=generator) * 0.1
        state[f"{layer}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return state


def test_every_network_is_listed(run):
    code, out, _ = run("nets", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert len(rows) >= 45
    # The counts that the issue and the fact sheet name.
    for name, parameters in {
        "lenet5_rbf": 60_000,
        "lenet5_modern": 61_706,
        "alexnet": 60_965_224,
        "alexnet_owt": 61_100_840,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "googlenet": 6_998_552,
        "googlenet_tv": 6_624_904,
        "resnet50": 25_557_032,
    }.items():
        assert rows[name]["parameters"] == parameters
    assert rows["googlenet"]["training_only_parameters"] == 13_378_280 - 6_998_552
    assert rows["googlenet_tv"]["training_only_parameters"] == 13_004_888 - 6_624_904


def test_one_network_is_shown_under_any_of_its_names(run):
    code, out, _ = run("nets", "show", "vgg_d")
    assert code == 0
    for words in ("VGG-16", "vgg_d", "138,357,544", "15,470,264,320", "docs/nets/vgg.md", "conv5_3"):
        assert words in out


def test_a_network_is_written_in_the_notation_and_read_back(run, tmp_path):
    _, text, _ = run("nets", "show", "lenet5_modern", "--notation")
    (tmp_path / "mine.net").write_text(text)
    code, out, _ = run("nets", "show", "mine.net", "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["name"], shown["parameters"]) == ("mine", 61_706)
    assert shown["layers"][0] == {"name": "C1", "kind": "Conv2d", "output": [6, 28, 28], "parameters": 156}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nets", "show", "vgg-61"), "did you mean"),
        (("nets", "show", "none.net"), "none.net"),
        (("nets", "show", "resnet18", "--notation"), "no blocks or branches"),
        (("weights", "convert", "torchvision", "x.safetensors"), "--net NAME"),
        (("weights", "convert", "a.pth", "b.pth", "--to", "caffe"), "expected --to bundle or torchvision"),
        (("weights", "convert", "a", "b.pth", "--to", "torchvision", "--net", "vgg16"), "no --net"),
    ],
)
def test_wrong_words_are_refused_in_one_line(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_size_that_does_not_fit_is_refused_with_the_arithmetic(run, tmp_path):
    (tmp_path / "bad.net").write_text("INPUT 7x7x3\nCONV 8 3x3 filters at stride 3, pad 0\nFC 10\n")
    code, _, err = run("nets", "show", "bad.net")
    assert code == 2
    assert "bad.net:2:1: (7 - 3)/3 + 1 = 2.33: a 3x3 filter at stride 3 doesn't fit a 7x7 input" in err


def test_a_written_network_trains_and_its_bundle_needs_no_file(run, photos, tmp_path):
    (tmp_path / "mine.net").write_text(WRITTEN)
    words = ("--epochs", 8, "--set", "batch_images=8", "--set", "test_fraction=0.3", "--device", "cpu")
    words += ("--set", "lr=0.01", "--set", "average=none")
    code, out, err = run("train", "mine.net", "--data", photos, "--out", "run", "--json", *words)
    assert code == 0, err
    assert json.loads(out)["scores"]["top1"] == 1.0
    (tmp_path / "mine.net").unlink()
    code, out, _ = run("predict", "run", photos / "dark" / "0.png", "--format", "csv")
    assert code == 0
    assert out.splitlines()[1].split(",")[1] == "dark"
    assert "<title>mine on photos" in (tmp_path / "run" / "report.html").read_text()


def test_training_starts_from_given_weights_and_says_what_is_new(run, photos, tmp_path):
    given = lenet5_state(num_classes=5)
    torch.save(given, tmp_path / "old.pth")
    words = ("--epochs", 1, "--set", "lr=1e-12", "--set", "average=none", "--device", "cpu")
    code, _, err = run(
        "train", "lenet5_modern", "--weights", "old.pth", "--data", photos, "--out", "run", *words
    )
    assert code == 0, err
    assert "output: 5 classes in the file, 2 here: drawn anew" in err
    state = load_bundle(tmp_path / "run").state
    for key in given:
        if not key.startswith("output"):
            torch.testing.assert_close(state[key], given[key], rtol=0, atol=1e-6)
    assert state["output.weight"].shape == (2, 84)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["weights"] == str(tmp_path / "old.pth")


def test_weights_that_do_not_fit_leave_no_run_behind(run, photos, tmp_path):
    state = lenet5_state(num_classes=2)
    state["C3.weight"] = torch.zeros(16, 6, 3, 3)
    del state["F6.bias"]
    torch.save(state, tmp_path / "bad.pth")
    code, _, err = run("train", "lenet5_modern", "--weights", "bad.pth", "--data", photos, "--out", "run")
    assert code == 1
    assert "2 differences" in err
    assert "16x6x3x3 in the file, 16x6x5x5 here" in err
    assert "F6.bias is missing, 84 expected" in err
    assert not (tmp_path / "run").exists()


def test_torchvisions_names_come_in_and_go_out(run, tmp_path):
    torch.manual_seed(3)
    net = nets.build("resnet18", num_classes=4)
    names = {"conv1.weight": "conv1.weight", "conv3_1.shortcut.conv.weight": "layer2.0.downsample.0.weight"}
    (tmp_path / "run").mkdir()
    code, _, err = run("weights", "show", "run")
    assert code == 1
    assert "a folder" in err
    torch.save(net.state_dict(), tmp_path / "ours.pth")
    code, _, err = run("weights", "convert", "ours.pth", "ours.safetensors", "--net", "resnet18")
    assert code == 1
    assert "what pictures the weights" in err
    from striate.weights.layouts import to_torchvision

    torch.save(to_torchvision("resnet18", net.state_dict()), tmp_path / "theirs.pth")
    code, out, err = run("weights", "convert", "theirs.pth", "bundle.safetensors")
    assert code == 0, err
    assert "resnet18, 122 tensors" in out
    assert "torchvision's preprocessing is assumed" in err
    code, out, _ = run("weights", "convert", "bundle.safetensors", "back.pth", "--to", "torchvision")
    assert code == 0
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert len(back) == 122
    for ours, theirs in names.items():
        assert torch.equal(back[theirs], net.state_dict()[ours])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared trained weights are not on this machine")
def test_every_shared_file_is_shown(run):
    files = sorted(SHARED.iterdir())
    assert files
    for file in files:
        code, out, err = run("weights", "show", file, "--json")
        assert code == 0, err
        shown = json.loads(out)
        assert shown["tensors"]
    _, out, _ = run("weights", "show", SHARED / "lenet-mnist.pth")
    for words in ("torch, 10 tensors, 44,426 values", "conv2.weight", "16x6x5x5", "fits none"):
        assert words in out
