"""``striate look deconv``, ``saliency``, ``gradcam`` and ``sanity``, and how their words are read."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import DataError, UsageError
from striate.data.preprocess import Preprocessing
from striate.look import inputs
from striate.look.picture import file_name, numbers_path
from striate.look.saliency import gradient
from striate.look.signals import project
from striate.nets import build
from striate.weights.bundle import Bundle, load_bundle, save_bundle
from striate.weights.open import open_network

OWN = """
import torch
from torch import nn
from torch.nn import functional


class Net(nn.Module):
    input_shape = (3, 24, 24)

    def __init__(self, gate=False):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.gate = gate

    def forward(self, x):
        x = functional.gelu(self.conv1(x)) if self.gate else functional.relu_(self.conv1(x))
        return self.fc(functional.relu(self.conv2(x)).mean((2, 3)))
"""


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate look WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run, "look", width=400)


@pytest.fixture
def bundle(tmp_path):
    """Return a LeNet-5 in a run folder, whose classes have names, and its network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = build("lenet5_modern", num_classes=3).eval()
    chosen = Preprocessing(
        channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.1,), std=(0.5,), colour_order="RGB"
    )
    (tmp_path / "run").mkdir()
    save_bundle(
        Bundle(
            net="lenet5_modern", classes=("ant", "7", "bee"), preprocessing=chosen, state=net.state_dict()
        ),
        tmp_path / "run" / "model.safetensors",
    )
    return net, chosen


def read_size(path):
    with Image.open(path) as picture:
        return picture.size


def test_deconv_writes_a_picture_and_its_numbers(run, bundle, tmp_path, arrays):
    net, chosen = bundle
    code, out, err = run("deconv", "run", "digits:12", "--layer", "C3_relu", "--unit", 4, "--unit", 9)
    assert (code, out, err) == (0, "deconv-run-C3_relu-digits_12.png\n", "")
    assert min(read_size(tmp_path / out.strip())) > 500
    numbers = arrays(tmp_path / "deconv-run-C3_relu-digits_12.npz")
    images = inputs.read_image("digits:12", chosen).normed
    for row, channel in enumerate((4, 9)):
        for rule in ("deconvnet", "guided", "gradient"):
            expected = project(net, images, "C3_relu", channel=channel, rule=rule)
            assert numbers[rule][row] == pytest.approx(expected.maps[0].numpy(), abs=1e-5)
            assert numbers["values"][row] == pytest.approx(float(expected.values[0]), rel=1e-4)
            assert tuple(numbers["places"][row]) == expected.places[0]


def test_deconv_of_a_network_of_the_users_own(run, tmp_path, monkeypatch, arrays):
    (tmp_path / "own_net_of_deconv.py").write_text(OWN)
    words = ("deconv", "own_net_of_deconv:Net", "sample:flower.jpg", "--layer", "conv2", "-o", "out.png")
    assert run(*words, "--count", 2, "--at", "3,4") == (0, "out.png\n", "")
    assert arrays(tmp_path / "out.npz")["places"].tolist() == [[3, 4], [3, 4]]
    code, out, err = run(*words, "--arg", "gate=true")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "Gelu" in err


def test_saliency(run, bundle, tmp_path, arrays):
    net, chosen = bundle
    code, out, err = run("saliency", "run", "digits:3", "--class", "bee", "--samples", 4, "-o", "s.png")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "s.png"
    assert "they add up to" in out
    numbers = arrays(tmp_path / "s.npz")
    assert set(numbers) == {"gradient", "guided", "smoothgrad", "integrated"}
    expected = gradient(net, inputs.read_image("digits:3", chosen).normed, 2)[0].numpy()
    assert numbers["gradient"] == pytest.approx(expected, abs=1e-6)
    assert run("saliency", "run", "digits:3", "--method", "guided", "-o", "g.svg") == (0, "g.svg\n", "")


def test_gradcam_has_a_row_for_each_class(run, bundle, tmp_path, arrays):
    code, out, _ = run("gradcam", "run", "digits:3", "--class", "7", "--class", "ant")
    assert (code, out) == (0, "gradcam-run-digits_3.png\n")
    numbers = arrays(tmp_path / "gradcam-run-digits_3.npz")
    assert numbers["classes"].tolist() == [1, 0]  # the class that is called 7, not a class number 7
    assert numbers["maps"].shape == (2, 10, 10)
    assert numbers["enlarged"].shape == (2, 32, 32)
    assert numbers["maps"].min() >= 0


@pytest.mark.parametrize(("multi_label", "word"), [(False, "softmax"), (True, "sigmoid")])
def test_captions_name_what_makes_probabilities_of_scores(run, bundle, tmp_path, multi_label, word):
    path = tmp_path / "run" / "model.safetensors"
    save_bundle(replace(load_bundle(path), multi_label=multi_label, temperature=1.5), path)
    opened = open_network(str(path))
    assert (opened.bundle.multi_label, opened.bundle.temperature) == (multi_label, 1.5)
    assert run("saliency", "run", "digits:3", "--method", "gradient", "-o", "s.svg")[0] == 0
    assert run("gradcam", "run", "digits:3", "-o", "g.svg")[0] == 0
    for name in ("s.svg", "g.svg"):
        text = (tmp_path / name).read_text()
        assert word in text
        assert {"softmax": "sigmoid", "sigmoid": "softmax"}[word] not in text


def test_sanity(run, bundle, tmp_path, arrays):
    code, out, _ = run("sanity", "run", "digits:3", "--method", "deconvnet", "-o", "y.png")
    assert code == 0
    assert out.splitlines()[0] == "y.png"
    assert out.splitlines()[1].startswith("output and above random: rank correlation")
    numbers = arrays(tmp_path / "y.npz")
    assert numbers["layers"].tolist() == ["", "output", "F6", "C5", "C3", "C1"]
    assert numbers["rank_correlation"][0] == pytest.approx(1)
    assert numbers["maps"].shape == (6, 1, 32, 32)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("deconv", "lenet6", "digits:1"), "name of a network"),
        (("deconv", "lenet5_modern", "digits:9999"), "digits:0 to digits:1796"),
        (("deconv", "lenet5_modern", "sample:cat.jpg"), "sample:china.jpg"),
        (("deconv", "lenet5_modern", "nowhere.png"), "no such file"),
        (("deconv", "lenet5_modern", "digits:1", "--layer", "C9"), "did you mean"),
        (("deconv", "lenet5_modern", "digits:1", "--unit", "99"), "0 to 15"),
        (("deconv", "lenet5_modern", "digits:1", "--at", "3"), "ROW,COL"),
        (("deconv", "lenet5_modern", "digits:1", "--at", "30,1"), "rows 0 to 9"),
        (("deconv", "lenet5_modern", "digits:1", "-o", "x.gif"), ".png, .svg or .pdf"),
        (("saliency", "lenet5_modern", "digits:1", "--method", "magic"), "integrated"),
        (("saliency", "lenet5_modern", "digits:1", "--class", "cat"), "did you mean"),
        (("saliency", "lenet5_modern", "digits:1", "--baseline", "red"), "'black', 'white', 'mean'"),
        (("gradcam", "lenet5_modern", "digits:1", "--layer", "F6"), "gives maps"),
        (("sanity", "lenet5_modern", "digits:1", "--method", "magic"), "gradcam"),
        (("sanity", "lenet5_modern", "digits:1", "--layer", "C9"), "name of a layer"),
    ],
)
def test_wrong_wishes_are_one_line(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_bundle_has_its_own_size(run, bundle):
    code, _, err = run("deconv", "run", "digits:1", "--input", "1x28x28")
    assert code == 2
    assert "--input and --arg out" in err


def test_random_weights_come_from_the_seed():
    state = torch.get_rng_state()
    nets = [open_network("lenet5_modern", seed=seed) for seed in (1, 1, 2)]
    weights = [opened.net.state_dict()["C1.weight"] for opened in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), state)
    assert inputs.title_of(nets[2]) == "lenet5_modern, random weights (seed 2)"
    assert nets[2].classes[9] == "class 9"
    assert nets[2].input_shape == (1, 32, 32)
    assert not nets[2].net.training


def test_images_are_shown_as_the_network_takes_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "b.png")
    chosen = Preprocessing(
        channels=3,
        height_px=8,
        width_px=8,
        resize_px=None,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        colour_order="BGR",
    )
    found = inputs.read_images([tmp_path], chosen)
    assert found.names == ("a.png", "b.png")
    assert found.shown[0] == pytest.approx(pixels / 255)
    expected = (pixels[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.25
    assert found.normed[0].numpy() == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UsageError, match="expected one image, got 2"):
        inputs.read_image(tmp_path, chosen)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        inputs.read_images([tmp_path / "empty"], chosen)
    grey = inputs.read_images(
        [tmp_path / "b.png"],
        Preprocessing(channels=1, height_px=8, width_px=8, resize_px=None, mean=(0,), std=(1,)),
    )
    assert grey.shown.shape == (1, 8, 8, 3)
    assert grey.normed.shape == (1, 1, 8, 8)


def test_names_of_classes_and_pictures():
    assert inputs.find_class("7", ("3", "7")) == 1
    assert inputs.find_class("0", ("3", "7")) == 0
    assert inputs.class_name(1, ("3", "7")) == "7"
    assert inputs.class_name(5, ()) == "class 5"
    with pytest.raises(UsageError, match="did you mean goose"):
        inputs.find_class("gose", ("quail", "goose"))
    assert file_name("deconv", "a/b c", "", "x:1") == "deconv-a_b_c-x_1"
    assert str(numbers_path(Path("deconv-a_b_c-x_1.png"))) == "deconv-a_b_c-x_1.npz"
