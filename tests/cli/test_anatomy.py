"""``striate anatomy`` as a person types it."""

import csv
import io
import json
import sys
from functools import partial

import pytest


@pytest.fixture
def run(run):
    """Run ``striate anatomy WORDS...`` on a screen of 100 columns, or another ``width``."""
    return partial(run, "anatomy", width=100)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a module of the user's own, the current one."""
    (tmp_path / "own_net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, width, 3)\n"
        "        assert self.conv.weight.device.type == 'meta'\n"
        "    def forward(self, images):\n"
        "        return torch.relu(self.conv(images)).mean((2, 3))\n"
        "def build(width=4):\n"
        "    return Net(width)\n"
        "def number():\n"
        "    return 3\n"
        "def broken():\n"
        "    raise ValueError('not today')\n"
        "value = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_net", raising=False)
    yield tmp_path
    sys.modules.pop("own_net", None)


def test_vgg16(run):
    code, text, _ = run("vgg16")
    assert code == 0
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert lines["conv1_1"].split()[1:4] == ["conv", "3x3", "s1"]
    assert "102,760,448" in lines["fc6"]
    assert "212/32" in lines["pool5"]
    assert "60.95" in lines["total"]
    assert "1 MAC = 2 FLOP" in text
    assert "fc6 (74%)" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("words", [("googlenet",), ("resnet152", "--depth", "1"), ("lenet5",)])
def test_fits_the_screen_and_cuts_nothing(run, words, width):
    code, text, _ = run(*words, width=width)
    assert code == 0
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\u2026" not in text
    if (words, width) == (("googlenet",), 80):
        assert "left out" in text.lower()


def test_wide_has_every_column_exactly(run):
    _, text, _ = run("vgg16", "--wide", width=80)
    line = next(line for line in text.splitlines() if line.startswith("conv1_2"))
    for figure in ("1,849,688,064", "3,699,376,128", "3,211,264", "576x50176", "64x576"):
        assert figure in line


def test_batch_and_ledger(run):
    _, text, _ = run("vgg16", "--batch", "2", "--ledger", "training", "--json")
    value = json.loads(text)
    assert value["totals"]["macs"] == 2 * 15_470_264_320
    assert value["totals"]["flops"] == 4 * 15_470_264_320
    assert value["totals"]["parameters"] == 138_357_544
    assert value["ledger"]["besides_bytes"]["gradients"] == 4 * 138_357_544
    _, text, _ = run("vgg16", "--ledger", "im2col")
    # conv1_2: 576 x 50,176 values.
    assert f"The largest buffer is that of conv1_2: {576 * 50_176 * 4 / 1e6:.2f} MB" in text


def test_formats(run):
    _, text, _ = run("alexnet", "--csv")
    lines = {line["name"]: line for line in csv.DictReader(io.StringIO(text))}
    assert lines["conv1"]["x_col"] == "363x3025"
    assert lines["conv2"]["im2col_groups"] == "2"
    assert run("alexnet", "--markdown")[1].startswith("**alexnet, 3x224x224, 1 image**")
    assert run("alexnet", "--latex")[1].rstrip().endswith(r"\end{tabular}")
    assert run("alexnet", "--html")[1].startswith("<!doctype html>")


def test_unit(run):
    _, text, _ = run("vgg16", "--unit", "pool5:3,3", width=200)
    assert text.startswith("pool5 at row 3, column 3 (one of 7x7 units) sees 212x212 px: rows 6 to 217")
    _, text, _ = run("vgg16", "--unit", "pool5:3,3", "--json")
    assert json.loads(text)["rows"] == [6, 217]


def test_check(run):
    code, text, _ = run("lenet5", "--check")
    assert code == 0
    assert "15 rows as predicted, 0 differ, 0 not checked" in text
    code, text, _ = run("lenet5", "--check", "--json")
    assert all(result["ok"] for result in json.loads(text))


def test_conventions(run):
    code, text, _ = run("resnet50", "--conventions", width=120)
    assert code == 0
    for figure in ("3,857,973,248 MACs", "7,715,946,496 FLOPs", "3.8 x 10^9 FLOPs"):
        assert figure in text
    _, text, _ = run("resnet50", "--conventions", "--json")
    assert [one["tool"] for one in json.loads(text)][-1] == "the paper"


def test_other_sizes_of_published_networks(run):
    _, text, _ = run("vgg16", "--input", "64x64", "--json")
    value = json.loads(text)
    assert value["input"] == [3, 64, 64]
    assert value["layers"][31]["output"] == [512, 2, 2]
    code, _, error = run("lenet5", "--input", "64x64")
    assert code == 1
    assert error == "error: lenet5 expects images of 1x32x32, got 1x64x64: resize or pad them to 32x32 px\n"


def test_arguments_of_the_builder(run):
    _, text, _ = run("lenet5", "--arg", "num_classes=3", "--json")
    assert json.loads(text)["layers"][-1]["output"] == [3]


def test_a_module_of_ones_own(run, own):
    code, text, _ = run("own_net:build", "--input", "3x8x8", "--arg", "width=5", "--json")
    assert code == 0
    value = json.loads(text)
    assert value["name"] == "own_net:build"
    assert value["totals"]["parameters"] == (27 + 1) * 5
    assert [layer["name"] for layer in value["layers"]] == ["input", "conv", "relu", "mean"]
    assert str(own) not in sys.path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("own_net:build",), "own_net:build has no input_shape; give --input"),
        (("own_net:build", "--input", "8x8"), "expected --input as CxHxW for own_net:build"),
        (("own_net:number", "--input", "3x8x8"), "to return a torch.nn.Module, got int"),
        (("own_net:broken", "--input", "3x8x8"), "can't build its network: ValueError: not today"),
        (("own_net:value", "--input", "3x8x8"), "it is a int"),
        (("own_net:absent", "--input", "3x8x8"), "there is none"),
        (("own_net.py:build", "--input", "3x8x8"), "expected module:factory"),
        (("absent_module:build",), "absent_module can't be imported"),
        (("vgg61",), "did you mean"),
        (("vgg16", "--input", "big"), "expected --input as CxHxW"),
        (("vgg16", "--ledger", "none"), "expected a ledger of lecture, separate, training, im2col"),
        (("vgg16", "--csv", "--html"), "expected one format, got --csv, --html"),
        (("vgg16", "--check", "--unit", "pool5"), "expected one of --unit and --check"),
        (("vgg16", "--unit", "pool5", "--latex"), "--unit prints text or --json, not --latex"),
        (("vgg16", "--unit", "pool5:9,9"), "rows 0 to 6 and columns 0 to 6, got 9,9"),
    ],
)
def test_mistakes_give_one_line(run, own, words, message):
    code, text, error = run(*words)
    assert code == 2
    assert text == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error


def test_training_memory_in_words_and_json(run):
    _, text, _ = run("mlp1", "--memory", "--batch", "100", "--json")
    value = json.loads(text)
    # 7,850 parameters of 4 bytes, their gradients and velocities; each piece is rounded up to 64 bytes.
    for part in ("parameters", "gradients", "optimizer_state"):
        assert 4 * 7_850 <= value[part] <= 4 * 7_850 + 128
    assert value["batch"] >= 100 * (784 * 4 + 8)
    code, text, _ = run("mlp1", "--memory", "--batch", "100")
    assert code == 0
    assert "a training step of 100 images of 1x28x28, fp32, sgd" in text


def test_the_largest_batch_fits_and_one_more_does_not(run):
    _, text, _ = run("lenet5_modern", "--fit", "20MB", "--json")
    value = json.loads(text)
    assert value["peak"] <= 20e6
    _, text, _ = run("lenet5_modern", "--memory", "--batch", value["batch_images"] + 1, "--json")
    assert json.loads(text)["peak"] > 20e6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vgg16", "--fit", "1MB"), "can't train in 1MB"),
        (("vgg16", "--fit", "much"), "such as 8GB"),
        (("lenet5", "--memory", "--precision", "fp8"), "fp8"),
        (("lenet5", "--memory", "--check"), "expected one of"),
    ],
)
def test_wrong_memory_words(run, words, message):
    code, text, error = run(*words)
    assert (code, text) == (2, "")
    assert message in error
    assert error.count("\n") == 1
