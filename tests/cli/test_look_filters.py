"""``striate look filters``."""

from functools import partial

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate look filters WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return partial(run, "look", "filters", width=400)


def test_a_picture_and_its_numbers(run, tmp_path, arrays):
    assert run("lenet5_modern") == (0, "filters-lenet5_modern-C1.png, filters-lenet5_modern-C1.npz\n", "")
    with Image.open(tmp_path / "filters-lenet5_modern-C1.png") as picture:
        assert picture.width > 400
    numbers = arrays(tmp_path / "filters-lenet5_modern-C1.npz")
    assert numbers["weights"].shape == (6, 1, 5, 5)
    assert numbers["norms"] == pytest.approx(np.sqrt((numbers["weights"] ** 2).sum((1, 2, 3))), rel=1e-5)


def test_the_seed_decides_the_random_weights(run, tmp_path, arrays):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("lenet5", "--layer", "C3", "--seed", seed, "-o", f"{name}.svg")[0] == 0
    a, b, c = (arrays(tmp_path / f"{name}.npz")["weights"] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert (tmp_path / "a.svg").is_file()


def test_a_network_of_the_users_own(run, tmp_path, arrays):
    (tmp_path / "own_filters.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Flatten(), nn.Linear(144, 2))\n"
    )
    code, out, err = run(
        "own_filters:build", "--input", "3x8x8", "--only", "2,0", "--shared", "-o", "own.png"
    )
    assert (code, out, err) == (0, "own.png, own.npz\n", "")
    assert arrays(tmp_path / "own.npz")["filters"].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lenet5_modern", "--layer", "S2"], "try C1, C3, C5"),
        (["lenet5_modern", "--layer", "C2"], "did you mean"),
        (["lenet5_modern", "--unit", "a"], "--unit as numbers and ranges, such as 0,5,10-19, got 'a'"),
        (["lenet5_modern", "--unit", "6"], "filters 0 to 5 of C1, got 6"),
        (["lenet5_modern", "--top", "0"], "--top"),
        (["lenet5_modern", "-o", "a.gif"], ".png, .svg or .pdf"),
        (["lenet6"], "did you mean"),
    ],
)
def test_what_does_not_go_is_one_line(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
