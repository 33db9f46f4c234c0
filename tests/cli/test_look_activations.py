"""``striate look activations``."""

from functools import partial

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate look activations WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run, "look", "activations", width=400)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return "photo.png"


def test_the_main_layers_by_default(run, photo, tmp_path, arrays):
    code, out, err = run("lenet5_modern", photo)
    name = "activations-lenet5_modern-photo"
    assert (code, out, err) == (0, f"{name}.png, {name}.npz\n", "")
    numbers = arrays(tmp_path / f"{name}.npz")
    layers = ["C1_relu", "S2", "C3_relu", "S4"]
    assert sorted(numbers) == sorted(
        f"{what}.{layer}" for layer in layers for what in ("maps", "channels", "unit", "box")
    )
    assert numbers["maps.C1_relu"].shape == (6, 28, 28)
    assert numbers["maps.C3_relu"].shape == (8, 10, 10)


def test_one_layer_and_one_unit(run, photo, tmp_path, arrays):
    words = ("lenet5", photo, "--layer", "C3", "--by", "mean")
    assert run(*words, "--unit", 2, "--at", "4,9", "--top", "3", "-o", "one.png")[0] == 0
    assert run(*words, "--unit", "2:4,9", "--maps", "3", "--output", "old.png")[0] == 0  # the old names
    assert np.array_equal(arrays(tmp_path / "old.npz")["unit"], arrays(tmp_path / "one.npz")["unit"])
    numbers = arrays(tmp_path / "one.npz")
    # Conv 5, subsampling 2, conv 5: 14 px, 2 px apart.
    assert numbers["box"].tolist() == [8, 18, 21, 31]
    assert numbers["unit"].tolist() == [2, 4, 9]
    means = numbers["maps"].mean((1, 2))
    assert numbers["order"].tolist() == np.argsort(-means, kind="stable").tolist()
    assert run(*words, "-o", "two.png")[0] == 0
    channel, row, column = arrays(tmp_path / "two.npz")["unit"]
    best = numbers["maps"][channel]
    assert channel == means.argmax()
    assert best[row, column] == best.max()


def test_a_network_of_the_users_own_and_several_layers(run, photo, tmp_path, arrays):
    (tmp_path / "own_maps.py").write_text(
        "from torch import nn\n"
        "from torch.nn import functional\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)\n"
        "        self.relu = nn.ReLU(inplace=True)\n"
        "    def forward(self, images):\n"
        "        maps = self.relu(self.b(self.relu(self.a(images))))\n"
        "        return functional.adaptive_avg_pool2d(maps, 1).flatten(1)\n"
    )
    layers = ("--layer", "a", "--layer", "relu")
    assert run("own_maps:Net", photo, "--input", "3x20x20", *layers, "--own", "-o", "own.png")[0] == 0
    numbers = arrays(tmp_path / "own.npz")
    assert (numbers["maps.a"] < 0).any()
    assert (numbers["maps.relu"] >= 0).all()
    assert numbers["maps.relu"].shape == (4, 16, 16)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unit", "3"], "expected one --layer with --unit"),
        (["--layer", "C1", "--unit", "3:1"], "--at as ROW,COL, such as 3,5, got '1'"),
        (["--layer", "C1", "--unit", "x"], "the number of a map, such as 41, got 'x'"),
        (["--layer", "C1", "--unit", "6"], "a map of C1 from 0 to 5, got 6"),
        (["--layer", "C1", "--unit", "0:28,0"], "rows 0 to 27"),
        (["--layer", "F6"], "F6, which gives 84 values an image"),
        (["--layer", "C9"], "did you mean"),
        (["--by", "sum"], "'max', 'mean'"),
        (["-o", "a.gif"], ".png, .svg or .pdf"),
    ],
)
def test_what_does_not_go_is_one_line(run, photo, words, said):
    code, out, err = run("lenet5_modern", photo, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
