"""``striate predict`` as a user runs it, and killed while it works."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle

PRE = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.2,), std=(0.5,))
NUM_IMAGES = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("predict")
    for name, seed in (("net", 0), ("other", 1)):
        torch.manual_seed(seed)
        state = build("lenet5_modern", num_classes=3).state_dict()
        made = Bundle(net="lenet5_modern", classes=("x", "y", "z"), preprocessing=PRE, state=state)
        save_bundle(made, root / f"{name}.safetensors")
    (root / "photos").mkdir()
    for k in range(NUM_IMAGES):
        pixels = np.random.default_rng(k).integers(0, 256, (40, 40), np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{k:03}.png", compress_level=1)
    (root / "photos" / "100.png").write_bytes(b"")
    return root


def rows_of(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_killed_run_is_resumed_without_losing_or_doubling_a_row(place, tmp_path, run):
    """Two of the images are pipes: the command waits there for bytes and is killed, with rows written."""
    photos = sorted((place / "photos").iterdir())
    gates = {50: tmp_path / "gate 1.png", 250: tmp_path / "gate 2.png"}
    names = [str(gates.get(k, photo.relative_to(place))) for k, photo in enumerate(photos)]
    path = tmp_path / "killed.csv"
    words = ["predict", "net.safetensors", *names, "--out", str(path), "--batch", "2"]
    command = [sys.executable, "-m", "striate.cli.main", *words]
    for gate in gates.values():
        os.mkfifo(gate)
    rows = 0
    for k, gate in gates.items():
        process = subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(gate, "wb"):  # as soon as the command reads
            process.kill()
            process.wait()
        assert rows < path.read_bytes().count(b"\n") - 1 <= k
        rows = path.read_bytes().count(b"\n") - 1
        with open(path, "ab") as file:
            file.write(b"photos/torn")  # what a kill in the middle of a write leaves
        gate.unlink()
        gate.write_bytes(photos[k].read_bytes())
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1  # one image is broken
    assert f"{NUM_IMAGES} images, {rows} of them from before" in done.stdout
    found = rows_of(path)
    assert [row["file"] for row in found] == names

    whole = tmp_path / "whole.csv"
    code, out, err = run("predict", place / "net.safetensors", place / "photos", "--out", whole)
    assert (code, f"{NUM_IMAGES} images" in out, "100.png  empty file" in err) == (1, True, True)
    for one, other in zip(found, rows_of(whole), strict=True):
        assert one["class_1"] == other["class_1"]
        assert one["error"] == other["error"]


def test_a_complete_file_says_so_and_another_bundle_is_refused(place, tmp_path, run):
    path = tmp_path / "p.jsonl"
    photo = place / "photos" / "007.png"
    assert run("predict", place / "net.safetensors", photo, "--out", path)[0] == 0
    first = path.read_bytes()
    code, out, err = run("predict", place / "net.safetensors", photo, "--out", path)
    assert (code, err) == (0, "")
    assert "p.jsonl is complete: 1 image, nothing to do\n" in out
    for words, message in (
        ([place / "other.safetensors", photo], "started with bundle"),
        ([place / "net.safetensors", place / "photos"], "started with paths"),
        ([place / "net.safetensors", photo, "--top", "1"], "started with topk"),
        ([place / "net.safetensors", photo, "--engine", "torch"], "started with engine"),
    ):
        code, out, err = run("predict", *words, "--out", path)
        assert (code, out) == (2, "")
        assert message in err
        assert len(err.strip().splitlines()) == 1
    assert path.read_bytes() == first


def test_engines_and_threads_agree(place, run):
    answers = []
    for words in (
        ["--engine", "torch"],
        ["--engine", "openvino"],
        ["--threads", "1", "--batch", "1"],
        ["--threads", "3", "--batch", "64"],
    ):
        code, out, err = run(
            "predict", place / "net.safetensors", place / "photos", "--json", "--precision", "fp32", *words
        )
        assert code == 1
        assert re.search(r"400 images in [\d.]+ s: [\d,.]+ images/s \((torch|openvino), fp32\)", err)
        answers.append([json.loads(line) for line in out.splitlines()])
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            assert one["file"] == two["file"]
            named = {p["class"]: p["probability"] for p in one["predictions"]}
            assert {p["class"]: p["probability"] for p in two["predictions"]} == pytest.approx(
                named, abs=2e-5
            )


def test_out_prints_a_record_for_programs(place, tmp_path, run):
    path = tmp_path / "p.csv"
    code, out, _ = run(
        "predict", place / "net.safetensors", place / "photos" / "001.png", "-o", path, "--json"
    )
    record = json.loads(out)
    assert code == 0
    assert (record["num_images"], record["num_new"], record["num_broken"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "tensorrt"], "'tensorrt' is not one of"),
        (["--precision", "int4"], "'int4' is not one of"),
        (["--precision", "int8"], "striate quantize"),
        (["--format", "xml"], "--format"),
        (["--out", "p.xml"], ".csv or .jsonl"),
        (["--out", "p.csv", "--format", "jsonl"], "a name that ends in .jsonl"),
        (["--out", "p.csv", "--format", "xml"], "--format"),
    ],
)
def test_wrong_words_get_one_line(place, run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("predict", place / "net.safetensors", place / "photos" / "001.png", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("kind", ["table", "csv", "jsonl"])
def test_a_full_disk_behind_the_standard_output_is_one_line(place, kind):
    words = ["predict", "net.safetensors", "photos/000.png", "--engine", "torch", "--format", kind]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "striate.cli.main", *words],
            cwd=place,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: can't write the predictions (No space left on device)")
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_without_images_leaves_no_file(place, tmp_path, run):
    (tmp_path / "empty").mkdir()
    path = tmp_path / "p.csv"
    code, out, err = run("predict", place / "net.safetensors", tmp_path / "empty", "--out", path)
    assert (code, out) == (1, "")
    assert "no images in" in err
    assert [one.name for one in tmp_path.iterdir()] == ["empty"]


def test_ctrl_c_says_how_to_resume(place, tmp_path, run, monkeypatch):
    from striate.serve import predict_file

    def interrupted(*words, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_file, "predict_to_file", interrupted)
    path = tmp_path / "p.csv"
    code, out, err = run("predict", place / "net.safetensors", place / "photos", "--out", path)
    assert (code, out) == (1, "")
    assert err == f"error: interrupted; the same command resumes {path}\n"


def test_the_old_name_of_top_still_works(place, run):
    photo = place / "photos" / "007.png"
    code, out, _ = run("predict", place / "net.safetensors", photo, "--topk", "2", "--json")
    assert (code, len(json.loads(out)["predictions"])) == (0, 2)


def test_a_name_is_refused(place, run):
    code, out, err = run("predict", "lenet5", place / "photos" / "007.png")
    assert (code, out) == (2, "")
    assert "lenet5: expected a trained network, got random weights" in err
