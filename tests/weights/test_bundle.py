import json
import os
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import striate
from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, load_bundle, save_bundle, with_graphs

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


def test_equal_bundles_are_equal_to_the_bit(bundle, tmp_path):
    """Safetensors alone writes the metadata in another order each time."""
    files = [tmp_path / f"{k}.safetensors" for k in range(4)]
    for file in files:
        save_bundle(bundle, file)
    assert len({file.read_bytes() for file in files}) == 1
    with safe_open(files[0], framework="pt") as file:
        keys = list(file.metadata())
    header = json.loads(files[0].read_bytes()[8:].partition(b'"C1.bias"')[0].rstrip(b",") + b"}")
    assert list(header["__metadata__"]) == sorted(keys)


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


def test_graphs_travel_beside_the_weights(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    files = {"int8.xml": b"<net/>", "int8.bin": bytes(range(256))}
    save_bundle(with_graphs(bundle, files), path)
    plain = load_file(path)
    assert bytes(plain["graph/int8.bin"].tolist()) == files["int8.bin"]
    found = load_bundle(path)
    assert found.state.keys() == bundle.state.keys()
    assert {name: found.graphs[name] for name in files} == files
    striate.open_bundle(path)  # the graphs are in no network's way
    save_bundle(found, path)  # read and written again, they stay
    assert load_bundle(path).graphs == found.graphs


def test_graphs_of_other_weights_are_left_out(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    quantized = with_graphs(bundle, {"int8.xml": b"<net/>", "int8.bin": b"1"})
    other = {name: tensor.clone() for name, tensor in bundle.state.items()}
    next(iter(other.values())).view(-1)[0] += 1.0
    save_bundle(replace(quantized, state=other), path)
    assert load_bundle(path).graphs == {}
