"""``striate look occlusion`` as a person types it."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle


@pytest.fixture
def run(run):
    """Run ``striate look occlusion WORDS...`` on a screen of 200 columns."""
    return partial(run, "look", "occlusion", width=200)


@pytest.fixture
def bundle(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build("lenet5_modern", num_classes=3)
    preprocessing = Preprocessing(
        channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.4,), std=(0.2,)
    )
    path = tmp_path / "net.safetensors"
    save_bundle(
        Bundle(
            net="lenet5_modern",
            classes=("ant", "bee", "7"),
            preprocessing=preprocessing,
            state=net.state_dict(),
            multi_label=True,
            temperature=2.5,
        ),
        path,
    )
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    return path


def test_picture_and_numbers_of_a_bundle(run, bundle, image, tmp_path, arrays):
    picture = tmp_path / "out.png"
    words = (bundle, image, "--size", 8, "--stride", 5, "--class", "bee", "--device", "cpu", "-o", picture)
    words += ("--precision", "fp32")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert out.split() == [f"{picture},", f"{tmp_path / 'out.npz'}"]
    with Image.open(picture) as opened:
        assert opened.width > 1200
    numbers = arrays(tmp_path / "out.npz")
    assert numbers["tops"].tolist() == numbers["lefts"].tolist() == [0, 5, 10, 15, 20, 24]
    assert numbers["rows"].tolist() == [3.5, 8.5, 13.5, 18.5, 23.5, 27.5]
    assert numbers["target"].tolist() == [1]
    assert numbers["classes"].tolist() == ["ant", "bee", "7"]
    assert str(numbers["layer"]) == "C3_relu"
    # One place again, by hand: mid grey through the preprocessing is (0.5 - 0.4) / 0.2.
    net = build("lenet5_modern", num_classes=3)
    from striate.weights.bundle import load_bundle

    net.load_state_dict(load_bundle(bundle).state)
    pixels = torch.from_numpy(np.asarray(Image.open(image)).copy()).float()[None, None] / 255
    normed = (pixels - 0.4) / 0.2
    normed[..., 24:32, 5:13] = 0.5
    with torch.no_grad():
        expected = (net.eval()(normed) / 2.5).sigmoid()[0, 1]
    assert numbers["probability"][0, 5, 1] == pytest.approx(float(expected), abs=1e-5)


def test_sizes_of_small_images_are_in_proportion_and_the_file_has_a_speaking_name(
    run, bundle, image, tmp_path, monkeypatch, arrays
):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(bundle, image, "--stride", 8, "--fill", "blur")
    assert code == 0
    assert out.split() == ["occlusion-lenet5_modern-noise.png,", "occlusion-lenet5_modern-noise.npz"]
    numbers = arrays(tmp_path / "occlusion-lenet5_modern-noise.npz")
    assert numbers["size_px"].tolist() == [7, 7]
    assert str(numbers["fill"]) == "blur"


def test_several_images_and_a_network_with_random_weights(run, image, tmp_path, arrays):
    picture = tmp_path / "out.svg"
    code, _, _ = run("lenet5", image, "digits:3", "--stride", 9, "--fill", "mean", "-o", picture)
    assert code == 0
    assert "random weights (seed 0)" in picture.read_text()
    assert arrays(tmp_path / "out.npz")["probability"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--size", 40), "occluder of 1 to 32 px"),
        (("--stride", 0), "at least 1 px"),
        (("--fill", "white"), "'grey', 'mean', 'blur'"),
        (("--fill", "blur", "--blur", -1), "more than 0 px"),
        (("--target", "beee"), "bee"),
        (("--layer", "C33"), "C3"),
        (("-o", "out.jpg"), ".png"),
    ],
)
def test_bad_words_are_one_line(run, bundle, image, tmp_path, monkeypatch, words, error):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(bundle, image, *words)
    assert (code, out) == (2, "")
    assert error in err
    assert err.count("\n") == 1


def test_a_missing_image_is_one_line(run, bundle):
    code, _, err = run(bundle, "nothing.jpg")
    assert code == 2
    assert "nothing.jpg" in err
    assert err.count("\n") == 1
