"""What a person sees who exports, rightly or wrongly."""

import json
from functools import partial

import pytest
import torch
from PIL import Image

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle

TEXT = "INPUT 8x8x3 > CONV 4 3x3 pad 1 > RELU > MAX POOL 2x2 stride 2 > SOFTMAX 3"


@pytest.fixture
def run(run):
    """Run ``striate WORDS...`` on a screen of 80 columns."""
    return partial(run, width=80)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(TEXT)
    pre = Preprocessing(channels=3, height_px=8, width_px=8, resize_px=8)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    save_bundle(Bundle(net=TEXT, classes=("a", "b", "c"), preprocessing=pre, state=net.state_dict()), path)
    return path


def test_export_says_what_it_made_and_how_it_was_checked(run, path, tmp_path):
    target = tmp_path / "x.pt2"
    code, out, err = run("export", path, "--to", "torch-export", "-o", target, "--batch", "2")
    assert (code, err) == (0, "")
    text = " ".join(out.split())
    assert "pixels: 2 x 8 x 8 x 3 uint8, RGB" in text
    assert "logits, probabilities: 2 x 3 float32 each" in text
    assert "resize the shorter side to 8 pixels" in text
    assert "on 16 images (parts of scikit-learn's two photos, and its digits)" in text
    assert f"torch {torch.__version__}" in text
    assert (tmp_path / "x.pt2.example.py").exists()
    before = target.read_bytes()
    code, out, err = run("export", path, "--to", "torch-export", "-o", target)
    assert (code, out) == (2, "")
    assert "--force" in err
    assert target.read_bytes() == before
    assert run("export", path, "--to", "torch-export", "-o", target, "--force")[0] == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.pt2", "x.pt2.example.py"]


def test_photos_without_classes_check_it_too(run, path, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.new("RGB", (20, 30), (k, 80, 200)).save(photos / f"{k}.png")
    (photos / "broken.png").write_bytes(b"")
    for words, number in (([photos], 3), ([photos / "0.png", "--check", photos / "1.png"], 2)):
        target = tmp_path / "x.pt2"
        code, out, err = run(
            "export", path, "--to", "torch-export", "-o", target, "--json", "--force", "--check", *words
        )
        assert (code, err) == (0, "")
        assert json.loads(out)["check"]["num_images"] == number
    for where, words in ((photos / "broken.png", "none of 1 images"), (tmp_path / "none", "no images in")):
        (tmp_path / "none").mkdir(exist_ok=True)
        code, _, err = run("export", path, "--to", "onnx", "-o", tmp_path / "y.onnx", "--check", where)
        assert code == 1
        assert words in err


def test_images_of_ones_own(run, path, tmp_path):
    target = tmp_path / "x.xml"
    code, out, _ = run("export", path, "--to", "openvino", "-o", target, "--check", "digits", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["check"]["images"] == "digits"
    assert record["check"]["num_images"] == 16
    assert record["check"]["agreement_with_fp32"] == 1.0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--to", "caffe"), "'caffe' is not one of 'onnx', 'openvino', 'torch-export'"),
        (
            ("--to", "onnx", "--batch", "many"),
            "expected --batch dynamic or a number of at least 1, got 'many'",
        ),
        (("--to", "onnx", "--batch", "0"), "got '0'"),
        (("--to", "onnx", "--precision", "bf16"), "'bf16' is not one of 'auto', 'fp32', 'int8'"),
        (("--to", "openvino", "--precision", "int8"), "got no int8 network: use --precision fp32"),
        (("--to", "openvino", "-o", "{here}/x.onnx"), "expected a file ending in .xml"),
        (("--to", "onnx", "-o", "{here}"), "got the folder"),
        (("--to", "onnx", "--check", "nowhere"), "nowhere"),
        ((), "Missing option '--to'"),
    ],
)
def test_refusals_are_one_line(run, path, tmp_path, words, expected):
    code, out, err = run("export", path, *(word.format(here=tmp_path) for word in words))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert expected in err
    assert not list(tmp_path.iterdir())
    assert [one.name for one in path.parent.iterdir()] == ["net.safetensors"]


def test_missing_package_and_missing_bundle(run, path, tmp_path, monkeypatch):
    code, _, err = run("export", tmp_path / "none.safetensors", "--to", "openvino")
    assert code == 1
    assert "no such file" in err
    monkeypatch.setattr("striate.serve.packages.find_spec", lambda name: 1 if name == "onnx" else None)
    code, _, err = run("export", path, "--to", "onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install onnxscript onnxruntime" in err
