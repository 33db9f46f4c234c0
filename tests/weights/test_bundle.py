import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import striate
from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, load_bundle, save_bundle

PRE = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=None, mean=(0.1,), std=(0.4,))


@pytest.fixture
def bundle():
    return Bundle(
        net="lenet5_modern",
        classes=("a", "ä", "<b>"),
        preprocessing=PRE,
        state=build("lenet5_modern", num_classes=3).state_dict(),
        recipe={"lr": 0.1},
        metrics={"scores": {"top1": 0.5}},
        seed=3,
    )


def test_round_trip_and_plain_safetensors(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    save_bundle(bundle, path)
    found = load_bundle(path)
    for field in (
        "net",
        "classes",
        "preprocessing",
        "recipe",
        "metrics",
        "seed",
        "net_arguments",
        "multi_label",
    ):
        assert getattr(found, field) == getattr(bundle, field)
    plain = load_file(path)  # any other program reads it too
    assert all(torch.equal(plain[name], tensor) for name, tensor in bundle.state.items())
    net, _ = striate.open_bundle(path)
    images = torch.randn(2, 1, 32, 32)
    twin = build("lenet5_modern", num_classes=3).eval()
    twin.load_state_dict(bundle.state)
    assert torch.allclose(net(images), twin(images), atol=1e-6)


class Hostile:
    def __reduce__(self):
        return (os.system, ("touch executed",))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged or foreign"),
        (b"\x89PNG\r\n", "damaged or foreign"),
        (pickle.dumps(Hostile()), "damaged or foreign"),
        ((2**62).to_bytes(8, "little") + b"{}", "damaged or foreign"),
    ],
)
def test_foreign_files_give_one_line_and_run_nothing(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=words) as caught:
        striate.open_bundle(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_cut_off_anywhere(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    save_bundle(bundle, path)
    whole = path.read_bytes()
    for share in (0.001, 0.01, 0.3, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BundleError):
            load_bundle(path)


def test_what_does_not_fit_is_said(bundle, tmp_path):
    with pytest.raises(BundleError, match="no such file"):
        load_bundle(tmp_path / "none.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file({"x": torch.zeros(1)}, bare)
    with pytest.raises(BundleError, match="no striate metadata"):
        load_bundle(bare)
    path = tmp_path / "m.safetensors"
    state = {**bundle.state, "output.weight": torch.zeros(7, 84)}
    save_bundle(Bundle(net="lenet5_modern", classes=("a", "b", "c"), preprocessing=PRE, state=state), path)
    with pytest.raises(BundleError, match=r"don't fit the network.*output\.weight"):
        striate.open_bundle(path)
    newer = {"striate": "2", "net": "x", "preprocessing": json.dumps(PRE.to_json())}
    save_file({"x": torch.zeros(1)}, path, newer)
    with pytest.raises(BundleError, match="update striate"):
        load_bundle(path)
    save_file({"x": torch.zeros(1)}, path, {**newer, "striate": "1"})
    with pytest.raises(BundleError, match="damaged metadata"):
        load_bundle(path)
