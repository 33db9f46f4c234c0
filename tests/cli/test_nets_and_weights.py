"""``striate nets`` and ``striate weights``, and the user's own networks and weights in ``striate train``."""

import errno
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from striate import nets
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle, load_bundle, save_bundle, with_graphs

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "weights"

WRITTEN = """INPUT 16x16x3
CONV1: 4 5x5 filters at stride 1, pad 2
RELU1
MAX POOL1: 4x4 filters at stride 4
FC: 10 neurons
"""


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run, width=400)


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
        (("weights", "convert", "a.pth", "b.pth"), "ending in .safetensors, got b.pth: write b.safetensors"),
        (
            ("weights", "convert", "a.pth", "."),
            "expected a file to write, got the folder .: name a file in it",
        ),
        (("weights", "convert", "a.pth", "/dev/null/a.safetensors"), "/dev/null: name another folder"),
        (("weights", "convert", "a.pth", "b.safetensors", "--mean", "0.5"), "--mean and --std together"),
        (("weights", "convert", "a.pth", "b.safetensors", "--resize", "9"), "--resize only with them"),
        (
            ("weights", "convert", "a", "b.safetensors", "--mean", "a,b", "--std", "1"),
            "numbers between commas",
        ),
        (("weights", "convert", "a", "b.pth", "--to", "torchvision", "--mean", "1"), "no --mean"),
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
    assert "run/model.safetensors: expected a weights file, got no file of that name" in err
    torch.save(net.state_dict(), tmp_path / "ours.pth")
    code, _, err = run("weights", "convert", "ours.pth", "ours.safetensors", "--net", "resnet18")
    assert code == 1
    assert "what images the weights" in err
    assert "give --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 [--resize 256]" in err
    given = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--resize", 256)
    code, out, err = run("weights", "convert", "ours.pth", "ours.safetensors", "--net", "resnet18", *given)
    assert code == 0, err
    assert "shorter side to 256, centre 224x224, bilinear, mean 0.485 0.456 0.406" in out
    assert load_bundle(tmp_path / "ours.safetensors").preprocessing.std == (0.229, 0.224, 0.225)
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


def saved(net, path, **changed):
    """Save a network's state dict, with some tensors changed or, if None, left out."""
    state = dict(nets.build(net).state_dict()) | {key.replace("__", "."): one for key, one in changed.items()}
    torch.save({key: one for key, one in state.items() if one is not None}, path)


GREY = ("--mean", "0.5", "--std", "0.5")


def test_a_file_of_the_users_own_goes_before_a_listed_network_of_its_name(run, tmp_path):
    (tmp_path / "alexnet_owt.net").write_text(WRITTEN)
    saved(WRITTEN, tmp_path / "mine.pth")
    words = ("weights", "convert", "mine.pth", "mine.safetensors")
    given = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    code, out, err = run(*words, "--net", "alexnet_owt", *given)
    assert (code, out) == (1, "")
    code, out, err = run(*words, "--net", "./alexnet_owt.net", *given)
    assert code == 0, err
    assert "the written network alexnet_owt, 4 tensors" in out
    (tmp_path / "alexnet_owt.net").unlink()
    code, out, _ = run("weights", "show", "mine.safetensors")
    assert code == 0
    for line in (
        "holds a written network: alexnet_owt",
        "10 classes: 0, 1, 2, 3, 4, ...",
        "from mine.pth (striate weights)",
        "accuracy was not measured",
        "centre 16x16",
    ):
        assert line in out
    assert "{" not in out
    assert "CONV1" not in out
    _, out, _ = run("weights", "show", "mine.safetensors", "--json")
    shown = json.loads(out)
    assert (shown["net"], shown["written"], shown["fits"]) == ("alexnet_owt", True, [])
    (tmp_path / "alexnet_owt.net").write_text(WRITTEN)
    for other in ("x.safetensors", "y.safetensors"):
        code, _, err = run("weights", "convert", "torchvision", other, "--net", "alexnet_owt.net")
        assert code == 2
        assert "got alexnet_owt, which its user wrote" in err
    code, _, err = run("weights", "convert", "mine.safetensors", "x.pth", "--to", "torchvision")
    assert code == 2
    assert "expected a network that torchvision has, got alexnet_owt, which its user wrote" in err


def test_training_goes_on_from_the_bundle_of_the_same_written_network(run, photos, tmp_path):
    (tmp_path / "vgg16.net").write_text(WRITTEN)
    words = ("--data", photos, "--epochs", 1, "--set", "batch_images=8", "--device", "cpu")
    code, _, err = run("train", "vgg16.net", "--out", "first", *words)
    assert code == 0, err
    code, _, err = run("train", "vgg16.net", "--out", "second", "--weights", "first", *words)
    assert code == 0, err
    code, out, _ = run("weights", "show", "second")
    assert code == 0
    for line in (
        "holds a written network: vgg16",
        "2 classes: dark, light",
        "photos (32 train, 4 val, 4 test images) with the recipe photos",
        f"started from {tmp_path / 'first'}",
        "test accuracy ",
        ", 4 images)",
    ):
        assert line in out
    (tmp_path / "vgg16.net").write_text(WRITTEN.replace("4 5x5 filters", "6 5x5 filters"))
    code, _, err = run("train", "vgg16.net", "--out", "third", "--weights", "first", *words)
    assert code == 1
    assert "4x3x5x5 in the file, 6x3x5x5 here" in err
    assert "the bundle holds the written network vgg16" in err
    assert "POOL1" not in err


def test_nothing_is_written_over_unasked_and_the_source_never(run, tmp_path):
    saved("lenet_caffe", tmp_path / "own.pth")
    convert = ("weights", "convert", "own.pth", "own.safetensors", "--net", "lenet_caffe", *GREY)
    assert run(*convert)[0] == 0
    before = (tmp_path / "own.safetensors").read_bytes()
    code, _, err = run(*convert)
    assert code == 2
    assert "own.safetensors is there already: name a new file, or replace it with --force" in err
    (tmp_path / "link.safetensors").symlink_to("own.safetensors")
    for source, target in (
        ("own.safetensors", "own.safetensors"),
        ("own.safetensors", "link.safetensors"),
        ("link.safetensors", "./own.safetensors"),
    ):
        for to in ("bundle", "torchvision"):
            code, _, err = run("weights", "convert", source, target, "--to", to, "--force")
            assert code == 2
            assert "expected another file to write than" in err
    assert (tmp_path / "own.safetensors").read_bytes() == before
    (tmp_path / "own.safetensors").write_bytes(b"something else")
    assert run(*convert, "--force")[0] == 0
    assert load_bundle(tmp_path / "own.safetensors").net == "lenet_caffe"


def test_a_target_that_can_not_be_written_gets_fitting_words(run, tmp_path, monkeypatch):
    saved("lenet_caffe", tmp_path / "own.pth")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("striate.core.atomic.os.replace", full)
    words = ("weights", "convert", "own.pth", "new/own.safetensors", "--net", "lenet_caffe", *GREY)
    code, _, err = run(*words)
    assert code == 1
    assert "can't write new/own.safetensors (No space left on device): free some space" in err
    assert "resume" not in err
    monkeypatch.setattr("striate.core.writable.os.access", lambda *_: False)
    code, _, err = run(*words)
    assert code == 1
    assert "name a folder that you may write to" in err


def test_messages_name_what_would_help(run, tmp_path):
    saved("convnetjs_cifar", tmp_path / "near.pth", conv2__bias=None)
    code, _, err = run("weights", "convert", "near.pth", "near.safetensors")
    assert code == 2
    assert "convnetjs_cifar is nearest, 7 of 8 tensors agree: --net convnetjs_cifar lists" in err
    _, out, _ = run("weights", "show", "near.pth")
    assert "fits none of striate's networks; convnetjs_cifar is nearest, 7 of 8" in out
    saved("convnetjs_cifar", tmp_path / "own.pth")
    code, _, err = run("weights", "convert", "own.pth", "out.pth", "--to", "torchvision")
    assert code == 2
    assert "make a bundle of it first, striate weights convert own.pth BUNDLE.safetensors" in err
    code, _, err = run("weights", "convert", "none.pth", "out.pth", "--to", "torchvision")
    assert code == 1
    assert "no file of that name" in err


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared trained weights are not on this machine")
def test_a_graph_is_only_shown(run):
    for file in SHARED.glob("*.onnx"):
        code, _, err = run("weights", "convert", file, "x.safetensors")
        assert code == 2
        assert "graphs are only shown (`striate weights show`)" in err
        _, out, _ = run("weights", "show", file)
        assert "graphs are only shown" in out


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared trained weights are not on this machine")
def test_every_shared_file_is_shown(run):
    files = sorted(SHARED.iterdir())
    assert files
    for file in files:
        code, out, err = run("weights", "show", file, "--json")
        if "openvino" in file.name:  # a graph whose tensors have no names
            assert code == 1
            assert "of OpenVINO?): name the weights file that it was converted from" in err
            continue
        assert code == 0, err
        shown = json.loads(out)
        assert shown["tensors"]
    _, out, _ = run("weights", "show", SHARED / "lenet-mnist.pth")
    for words in ("torch, 10 tensors, 44,426 values", "conv2.weight", "16x6x5x5", "fits none"):
        assert words in out


def lenet5_bundle(**changed):
    """A bundle made by hand; ``lenet5_state`` draws its weights."""
    pre = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=None, mean=(0.1,), std=(0.5,))
    return Bundle(
        net="lenet5_modern",
        classes=("ant", "bee"),
        preprocessing=pre,
        state=lenet5_state(num_classes=2),
        **changed,
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_quantized_bundle_names_its_int8_network(run, tmp_path, width):
    measured = {
        "measure": "top-1",
        "accuracy_fp32": 0.96875,
        "accuracy_int8": 0.9375,
        "num_images": 160,
        "split": "val split",
    }
    files = {"int8.xml": b"x" * 40_000, "int8.bin": b"b" * 588_000}
    bundle = lenet5_bundle(metrics={"int8": measured}, temperature=1.25)
    save_bundle(with_graphs(bundle, files), tmp_path / "small.safetensors")
    code, out, err = run("weights", "show", "small.safetensors", width=width)
    assert (code, err) == (0, "")
    # C1 156, C3 2,416, C5 48,120, F6 10,164, output 2 * 84 + 2: 61,026 values of 4 bytes are 244,104 bytes.
    assert out.splitlines()[0] == "small.safetensors: striate bundle, 10 tensors, 61,026 values, 244.1 kB"
    assert "int8 network for OpenVINO, 628.0 kB: top-1 93.8%, fp32 96.9% (160 images)" in out.splitlines()
    assert "temperature 1.25 (softens all probabilities)" in out.splitlines()
    assert "graph/" not in out
    assert "made of" not in out
    assert max(map(len, out.splitlines())) <= width
    shown = json.loads(run("weights", "show", "small.safetensors", "--json")[1])
    assert shown["graphs"] == [{"precision": "int8", "bytes": 628_000}]
    assert (shown["temperature"], shown["ingredients"]) == (1.25, [])
    assert len(shown["tensors"]) == 10


@pytest.mark.parametrize("width", [80, 120])
def test_a_soup_names_its_ingredients(run, tmp_path, width):
    helpings = [
        {"file": "ft1", "coefficient": 0.5, "held_out_accuracy": 0.975, "test_accuracy": 0.9, "seed": 1},
        {"file": "a [bold]name[/]", "coefficient": 0.5, "held_out_accuracy": 0.95, "seed": 2},
        {"file": "ft3", "coefficient": 0.0, "held_out_accuracy": 0.8, "test_accuracy": 0.85, "seed": None},
    ]
    blend = lenet5_bundle(
        ingredients=tuple(helpings), temperature=0.8, metrics={"note": "greedy soup of 3 networks"}
    )
    save_bundle(blend, tmp_path / "soup.safetensors")
    code, out, err = run("weights", "show", "soup.safetensors", width=width)
    assert (code, err) == (0, "")
    lines = [line.rstrip() for line in out.splitlines()]
    assert "temperature 0.8 (sharpens all probabilities)" in lines
    assert "greedy soup of 3 networks" in lines
    begin = next(i for i, line in enumerate(lines) if line.startswith("made of 3 networks"))
    assert [line.rsplit(None, 4) for line in lines[begin + 1 : begin + 3]] == [
        ["ft1", "0.500", "97.5%", "90.0%", "1"],
        ["a [bold]name[/]", "0.500", "95.0%", "-", "2"],
    ]
    assert lines[begin + 3].split() == ["ft3", "left", "out", "80.0%", "85.0%", "-"]
    assert "int8" not in out
    assert max(map(len, lines)) <= width
    shown = json.loads(run("weights", "show", "soup.safetensors", "--json")[1])
    assert shown["ingredients"] == helpings
    assert (shown["temperature"], shown["graphs"]) == (0.8, [])


def test_damaged_metadata_is_refused_by_name(run, tmp_path):
    save_bundle(lenet5_bundle(), tmp_path / "whole.safetensors")
    _, out, _ = run("weights", "show", "whole.safetensors")
    assert "temperature 1 (changes no probabilities)" in out.splitlines()
    with safe_open(tmp_path / "whole.safetensors", framework="pt") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != "crc32"}
    for field, text, expected in (
        ("temperature", "[", "a number from 0.001 to 1000"),
        ("temperature", '"hot"', "a number"),
        ("temperature", "true", "a number"),
        ("temperature", "1e400", "a number"),
        ("temperature", "1e-308", "a number"),
        ("temperature", "NaN", "a number"),
        ("ingredients", "null", "a list of objects"),
        ("ingredients", '[1, {"file": 3}]', "a list of objects"),
        ("metrics", "[" * 5000, "an object"),
        ("classes", "[1, 2]", "a list of names"),
        ("multi_label", "0", "true or false"),
        ("seed", "true", "a whole number or null"),
        ("seed", "9" * 5000, "a whole number or null"),
        ("versions", '{"torch": 2}', "an object of texts"),
        ("net_arguments", '{"num_classes": 5}', "an object of arguments other than num_classes"),
    ):
        damaged = {**metadata, field: text}
        save_file(lenet5_state(num_classes=2), tmp_path / "bad.safetensors", damaged)
        for words in (("weights", "show", "bad.safetensors"), ("predict", "bad.safetensors", "x.png")):
            code, out, err = run(*words)
            assert (code, out) == (1, "")
            assert f"damaged metadata ({field}: expected {expected}" in err
            assert err.count("\n") == 1


HOSTILE = "\x1b[31mRED\x1b[2J\u202egnp"


def test_text_from_a_file_can_not_command_the_terminal(run, tmp_path):
    bundle = replace(
        lenet5_bundle(metrics={"note": HOSTILE}, data={"name": HOSTILE, "notes": [HOSTILE]}),
        classes=("ant", HOSTILE),
    )
    save_bundle(bundle, tmp_path / "b.safetensors")
    save_file({HOSTILE: torch.ones(2)}, tmp_path / "s.safetensors", {HOSTILE: HOSTILE})
    torch.save({HOSTILE: torch.ones(2), f"note{HOSTILE}": HOSTILE}, tmp_path / "p.pth")
    for name in ("b.safetensors", "s.safetensors", "p.pth"):
        for words in (("weights", "show", name), ("weights", "show", name, "--json"), ("predict", name, "x")):
            _, out, err = run(*words)
            assert "RED" in out + err or "predict" in words
            assert not [one for one in out + err if not one.isprintable() and one != "\n"]
    assert json.loads(run("weights", "show", "b.safetensors", "--json")[1])["classes"] == ["ant", HOSTILE]


def test_figures_that_can_not_be_are_marked(run, tmp_path):
    for rate, low, high, num in (
        (1.7, -1.0, 3.0, -5),
        (float("nan"), 0.1, 0.2, 10),
        (0.5, 0.4, 0.6, 10**400),
    ):
        scores = {"top1": rate, "top1_interval": [low, high], "num_images": num}
        save_bundle(
            lenet5_bundle(metrics={"split": "test", "scores": scores, "epoch": -3}),
            tmp_path / "b.safetensors",
        )
        code, out, _ = run("weights", "show", "b.safetensors")
        assert code == 0
        accuracy = next(line for line in out.splitlines() if line.startswith("test accuracy"))
        assert accuracy.endswith("(out of range: a damaged or altered bundle)")
        assert "weights of epoch -3 (out of range" in out
        (tmp_path / "b.safetensors").unlink()


def test_training_goes_on_from_a_quantized_bundle(run, photos, tmp_path):
    given = lenet5_bundle()
    save_bundle(with_graphs(given, {"int8.xml": b"<net/>", "int8.bin": b"1"}), tmp_path / "q.safetensors")
    words = ("--epochs", 1, "--set", "lr=1e-12", "--set", "average=none", "--device", "cpu")
    code, _, err = run(
        "train", "lenet5_modern", "--weights", "q.safetensors", "--data", photos, "--out", "run", *words
    )
    assert code == 0, err
    made = load_bundle(tmp_path / "run")
    torch.testing.assert_close(made.state["C1.weight"], given.state["C1.weight"], rtol=0, atol=1e-6)
    assert made.graphs == {}
