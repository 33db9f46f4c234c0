"""``striate look strongest``, ``receptive``, ``segment`` and ``gallery`` as a person types them."""

import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import UsageError
from striate.data.preprocess import Preprocessing
from striate.look.inputs import open_data, unit_numbers
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.open import untrained_preprocessing

NET = "12x12x3 > conv 6 3x3 p1 > relu > maxpool 2x2 s2 > conv 4 3x3 p1 > relu > fc 3"


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate look WORDS...`` in a folder with a network and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.net").write_text(NET)
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(7):
        pixels = generator.integers(0, 256, (20, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return partial(run, "look", width=400)


def test_strongest_images_with_patches_and_projections(run, tmp_path, arrays):
    code, out, err = run(
        "strongest", "tiny.net", "--data", "photos", "--layer", "relu2", "--unit", "0,2-3", "--top", 4
    )
    assert (code, err) == (0, "")
    assert out == "strongest-tiny-relu2.png, strongest-tiny-relu2.npz\n"
    with Image.open(tmp_path / "strongest-tiny-relu2.png") as picture:
        assert picture.width > 900
    numbers = arrays(tmp_path / "strongest-tiny-relu2.npz")
    assert numbers["units"].tolist() == [0, 2, 3]
    assert numbers["values"].shape == (4, 4)  # all units, drawn or not
    assert all((later <= first).all() for first, later in pairwise(numbers["values"].T))
    assert numbers["patches"].shape[:2] == (3, 4)
    assert numbers["projections"].shape == (3, 4, 3, 8, 8)
    assert str(numbers["names"][0, 0]).endswith(f"{numbers['numbers'][0, 0]}.png")
    assert not list(tmp_path.glob("*.state"))


def test_a_broken_image_is_told_and_does_not_stop_the_others(run, tmp_path, arrays):
    (tmp_path / "photos" / "3.png").write_bytes(b"not an image")
    code, _, err = run("strongest", "tiny.net", "-d", "photos", "--layer", "relu1", "-o", "x.png")
    assert code == 0
    assert "1 image could not be read" in err
    assert "3.png" in err
    assert 3 not in arrays(tmp_path / "x.npz")["numbers"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layer", "relu9"), "did you mean"),
        (("--layer", "relu1", "--unit", "6"), "expected units 0 to 5 of relu1, got 6"),
        (("--layer", "relu1", "--unit", "one"), "numbers and ranges"),
        (("--layer", "relu1", "--rule", "magic"), "'deconvnet', 'gradient', 'guided'"),
        (("--layer", "relu1", "--split", "later"), "'auto', 'train'"),
        (("--layer", "relu1", "--split", "test"), "to have a test part"),
        (("--layer", "relu1", "-o", "x.txt"), ".png"),
    ],
)
def test_bad_words_are_one_line_and_exit_with_2(run, words, message):
    code, out, err = run("strongest", "tiny.net", "--data", "photos", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_receptive_field_measured_beside_the_theoretical(run, tmp_path, arrays):
    code, out, err = run(
        "receptive", "tiny.net", "-d", "photos", "--layer", "conv2", "--unit", 1, "--top", 3, "-o", "r.png"
    )
    assert (code, err) == (0, "")
    assert "theory 8 x 8 px, measured" in out
    numbers = arrays(tmp_path / "r.npz")
    assert numbers["maps"].shape == (3, 12, 12)
    assert numbers["theoretical"].shape == (4,)
    assert 0 < numbers["size_px"] < 12
    assert (tmp_path / "r.png").stat().st_size > 10_000
    assert run("receptive", "tiny.net", "-d", "photos", "--layer", "fc1", "--unit", 1)[0] == 2
    assert run("receptive", "tiny.net", "-d", "photos", "--layer", "conv2", "--unit", 4)[0] == 2


def test_segments_by_share_and_by_quantile(run, tmp_path, arrays):
    code, out, err = run("segment", "tiny.net", "photos", "--layer", "relu2", "--unit", 2)
    assert (code, err) == (0, "")
    assert out == "segment-tiny-relu2-2-7_images.png, segment-tiny-relu2-2-7_images.npz\n"
    numbers = arrays(tmp_path / "segment-tiny-relu2-2-7_images.npz")
    assert numbers["masks"].shape == (7, 12, 12)
    np.testing.assert_allclose(numbers["thresholds"], numbers["activations"].max((1, 2)) / 2)
    code, _, err = run(
        *("segment", "tiny.net", "photos/1.png", "--layer", "relu2", "--unit", 2),
        *("--data", "photos", "--quantile", 0.1, "-o", "s.png"),
    )
    assert (code, err) == (0, "")
    assert len(arrays(tmp_path / "s.npz")["thresholds"]) == 1


def test_a_gallery_is_one_page(run, tmp_path):
    code, out, err = run("gallery", "tiny.net", "-d", "photos", "--units", 2, "-k", 4, "--examples", 1)
    assert (code, out, err) == (0, "gallery-tiny.html\n", "")
    page = (tmp_path / "gallery-tiny.html").read_text()
    assert page.count("<section") == 3
    code, _, err = run("gallery", "tiny.net", "-d", "photos", "-o", "page.pdf")
    assert code == 2
    assert ".html" in err


def test_data_of_every_kind(tmp_path):
    prepared = untrained_preprocessing((3, 12, 12))
    named = open_data(["digits"], prepared)
    assert named.images.total == 1797
    assert named.title == "digits (all 1,797 images)"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (20, 20), "red").save(folder / f"{split}.png")
    pets = tmp_path / "pets"
    assert open_data([str(pets)], prepared).title == "pets (2 test images)"
    assert open_data([str(pets)], prepared, split="all").images.total == 4
    both = open_data([str(pets), str(pets / "train" / "cat" / "train.png")], prepared)
    assert both.images.total is None
    assert sum(len(batch.images) for batch in both.images.batches()) == 3
    with pytest.raises(UsageError, match="no-such-data"):
        open_data(["no-such-data"], prepared)
    assert unit_numbers(["0,5", "2-4", "3"]) == [0, 5, 2, 3, 4]


def test_a_gallery_of_independent_labels_prints_their_probabilities(run, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = build(NET)
    pre = Preprocessing(
        channels=3, height_px=12, width_px=12, resize_px=None, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    classes = ("ant", "bee", "cow")
    made = Bundle(
        net=NET,
        classes=classes,
        preprocessing=pre,
        state=net.state_dict(),
        multi_label=True,
        temperature=0.1,
    )
    save_bundle(made, tmp_path / "labels.safetensors")
    for file in (tmp_path / "photos").iterdir():
        Image.open(file).crop((0, 0, 12, 12)).save(file)
    code, _, err = run("gallery", "labels.safetensors", "-d", "photos", "--units", 1, "-o", "page.html")
    assert (code, err) == (0, "")
    found = re.findall(r"<figcaption>(\d\.png): (\w+), ([\d.]+)%<", (tmp_path / "page.html").read_text())
    assert found
    for name, label, printed in found:
        pixels = np.asarray(Image.open(tmp_path / "photos" / name)).transpose(2, 0, 1)[None] / 255
        with torch.no_grad():
            scores = net.eval()(torch.from_numpy((pixels - 0.5) / 0.25).float())[0].double()
        place = classes.index(label)
        assert place == int(scores.argmax())
        expected = 100 / (1 + np.exp(-float(scores[place]) / 0.1))
        assert float(printed) == pytest.approx(expected, abs=0.06)
