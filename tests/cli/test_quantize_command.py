"""What a person sees who quantizes and exports, rightly or wrongly."""

import json
from functools import partial

import pytest
import torch

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle

TEXT = "INPUT 8x8x1 > CONV 4 3x3 pad 1 > RELU > MAX POOL 2x2 stride 2 > SOFTMAX 10"


@pytest.fixture
def run(run):
    """Run ``striate WORDS...`` on a screen of 80 columns."""
    return partial(run, width=80)


@pytest.fixture
def path(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(TEXT)
    pre = Preprocessing(channels=1, height_px=8, width_px=8, resize_px=None, mean=(0.3,), std=(0.4,))
    bundle = Bundle(net=TEXT, classes=tuple("0123456789"), preprocessing=pre, state=net.state_dict())
    save_bundle(bundle, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_quantize_then_export(run, path):
    small = path.with_name("small.safetensors")
    words = (
        "quantize",
        path,
        "--data",
        "digits",
        "-o",
        small,
        "--max-drop",
        "100",
        "--calibration-images",
        20,
    )
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= max(80, len(str(small)) + 60)
    lines = {line.split()[0]: line for line in out.splitlines() if "% to " in line}
    assert lines["fp32"].count("%") == lines["int8"].count("%") == 3
    assert "int8 minus fp32" in out
    assert "20 images of digits" in " ".join(out.split())

    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--force" in err

    code, out, _ = run("export", small, "--to", "openvino", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["precision"] == "int8"
    assert record["pixels"] == ["N", 8, 8, 1]
    assert [name.rpartition(".")[2] for name in record["files"]] == ["xml", "bin", "py"]
    assert record["check"]["difference"] <= record["check"]["tolerance"]


def test_json_of_quantize(run, path):
    code, out, _ = run(
        *("quantize", path, "--data", "digits", "-o", path.with_name("b.safetensors"), "--json"),
        *("--max-drop", "100", "--calibration-images", "10"),
    )
    record = json.loads(out)
    assert code == 0
    assert record["num_images"] + record["calibration_images"] == 1797
    assert record["paired"]["difference"] == pytest.approx(record["accuracy_int8"] - record["accuracy_fp32"])
