"""``striate serve`` as an operator sees it."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import httpx
import pytest
import torch
from typer.testing import CliRunner

from striate.cli.main import app
from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve import packages
from striate.weights.bundle import Bundle, save_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("serve") / "small.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build("lenet5_modern", num_classes=3)
    preprocessing = Preprocessing(
        channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.2,), std=(0.5,)
    )
    save_bundle(
        Bundle(
            net="lenet5_modern", classes=("x", "y", "z"), preprocessing=preprocessing, state=net.state_dict()
        ),
        path,
    )
    return path


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=["TERM", "INT"]
)
def test_from_start_to_signal(bundle, number, tmp_path):
    words = ["serve", str(bundle), "--port", "0", "--engine", "torch", "--top", "2", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "striate.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        try:
            first = json.loads(process.stdout.readline())
            assert first["url"].startswith("http://127.0.0.1:")
            assert (first["net"], first["engine"]) == ("lenet5_modern", "torch")
            pixels = b"P5 2 2 255\n\0\1\2\3"
            answer = httpx.post(f"{first['url']}/predict", files={"image": pixels})
            assert (answer.status_code, "PPM is not taken here" in answer.text) == (422, True)
        finally:
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == "stopped; every request that had come in was answered\n"
    assert list(tmp_path.iterdir()) == []  # nothing was written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--queue", "0"], "expected --queue above 0"),
        (["--timeout-s", "nan"], "expected --timeout-s above 0"),
        (["--max-images", "0"], "expected --max-images above 0"),
        (["--max-pixels", "0"], "expected --max-pixels above 0"),
        (["--upload-timeout-s", "0"], "expected --upload-timeout-s above 0"),
        (["--max-request-mb", "1000"], "expected --max-held-mb of at least --max-request-mb"),
        (["--engine", "caffe"], "'caffe' is not one of 'auto', 'torch', 'openvino'"),
        (["--host", "192.0.2.1", "--engine", "torch"], "try another --host"),
    ],
)
def test_bad_input_is_refused(bundle, words, message, run):
    code, out, err = run("serve", bundle, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_random_weights_are_named(run, monkeypatch):
    monkeypatch.setattr("striate.serve.http.server.serve", lambda *words, **more: True)
    assert run("serve", "lenet5")[2] == (
        "lenet5 has random weights: its answers mean nothing\n"
        "stopped; every request that had come in was answered\n"
    )


def test_a_bundle_that_is_not_there():
    with pytest.raises(BundleError, match="no such file"):
        CliRunner().invoke(app, ["serve", "missing.safetensors"], catch_exceptions=False)


def test_missing_packages_are_one_line(bundle, monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(UsageError, match=r"serving needs uvicorn: pip install 'striate\[serve\]'"):
        CliRunner().invoke(app, ["serve", str(bundle)], catch_exceptions=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost", "::"])
def test_an_open_address_is_warned_of(bundle, monkeypatch, host):
    from striate.serve.http import server

    running = SimpleNamespace(name="torch", precision="fp32")
    monkeypatch.setattr(
        server, "serve", lambda *words, ready, **more: ready(f"http://{host}:8000", running) or True
    )
    words = ["serve", str(bundle), "--host", host, "--engine", "torch"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    warned = "is open to other machines, without password or encryption" in done.stderr
    assert warned is (host in ("0.0.0.0", "::"))
    assert ("this machine only" in done.stdout) is not warned
    assert done.stdout.startswith(f"http://{host}:8000  lenet5_modern, 3 classes, torch ")
    assert len(done.stdout.splitlines()) == 1
