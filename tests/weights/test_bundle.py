import json
import math
import os
import pickle
from dataclasses import fields, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.weights.bundle import Bundle, Header, load_bundle, read_header, save_bundle, with_graphs
from striate.weights.layouts import guess
from striate.weights.open import open_bundle, open_network
from striate.weights.read import read_weights

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
    net, _ = open_bundle(path)
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
        open_bundle(path)
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
        open_bundle(path)
    newer = {"striate": "2", "net": "x", "preprocessing": json.dumps(PRE.to_json())}
    save_file({"x": torch.zeros(1)}, path, newer)
    with pytest.raises(BundleError, match="update striate"):
        load_bundle(path)
    save_file({"x": torch.zeros(1)}, path, {**newer, "striate": "1"})
    with pytest.raises(BundleError, match="damaged metadata"):
        load_bundle(path)


def test_one_flipped_bit_anywhere_is_noticed(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    save_bundle(bundle, path)
    whole = path.read_bytes()
    assert read_header(path) == Header(**{one.name: getattr(bundle, one.name) for one in fields(Header)})
    for place in [len(whole) - 1, len(whole) // 2, whole.index(b"0.1")]:  # the last is the mean
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for reader in (load_bundle, read_weights):
            with pytest.raises(BundleError, match="expected the content that was written"):
                reader(path)
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != "crc32"}
    save_file(bundle.state, path, {**metadata, "preprocessing": json.dumps(PRE.to_json())})
    assert load_bundle(path).preprocessing == PRE  # older bundles have no checksum


def test_weights_that_can_not_be_used_are_refused_with_their_layer(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    for value, words in (
        (math.nan, r"NaN or infinity in F6\.weight"),
        (math.inf, r"NaN or infinity in F6\.weight"),
        (3e38, "an overflow in F6:"),
    ):
        save_bundle(replace(bundle, state={**bundle.state, "F6.weight": torch.full((84, 120), value)}), path)
        with pytest.raises(BundleError, match=words) as caught:
            open_bundle(path)
        assert str(caught.value).startswith(f"{path}: ")
    large = {**bundle.state, "F6.weight": bundle.state["F6.weight"] * 1e4}  # odd, and usable
    save_bundle(replace(bundle, state=large), path)
    assert open_bundle(path)[1].state.keys() == large.keys()


def test_sizes_that_are_not_the_networks_take_no_memory(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    save_bundle(replace(bundle, preprocessing=replace(PRE, height_px=28)), path)
    with pytest.raises(
        BundleError, match=r"expected images of 1x32x32, which its network takes, got .* 1x28x32"
    ):
        open_bundle(path)
    for change, words in (
        ({"height_px": 60_000}, "preprocessing.height_px: expected a whole number of pixels up to 16384"),
        ({"height_px": True}, "preprocessing.height_px: expected a whole number of pixels"),
        ({"height_px": 16_384, "width_px": 16_384}, "expected up to 16,777,216 pixels"),
        ({"mean": "a"}, "preprocessing.mean: expected a list of finite numbers"),
        ({"mean": ["a"]}, "preprocessing.mean: expected a list of finite numbers"),
        ({"std": [math.nan]}, "preprocessing.std: expected a list of finite numbers"),
        ({"interpolation": ["x"]}, "preprocessing.interpolation: expected a resampling filter"),
    ):
        odd = {"preprocessing": json.dumps({**PRE.to_json(), **change})}
        fine = {"net": "lenet5_modern", "striate": "1", "net_arguments": "{}", "classes": '["a"]'}
        fine |= {"multi_label": "false", "recipe": "{}", "metrics": "{}", "data": "{}", "versions": "{}"}
        save_file({"x": torch.zeros(1)}, path, {**fine, **odd, "seed": "null"})
        with pytest.raises(BundleError, match=words):
            read_header(path)
    huge = replace(bundle, net="vgg16", net_arguments={"input_px": 2**20})
    save_bundle(huge, path)
    with pytest.raises(BundleError, match="don't fit the network"):
        open_bundle(path)


@pytest.mark.parametrize("net", ["<TinyNet>", "hostile:build", "os:getcwd"])
def test_a_bundle_never_imports_code_by_itself(bundle, tmp_path, monkeypatch, net):
    (tmp_path / "hostile.py").write_text("open('executed', 'w')\ndef build(): pass\n")
    monkeypatch.chdir(tmp_path)
    save_bundle(replace(bundle, net=net), tmp_path / "m.safetensors")
    for open_it in (open_bundle, open_network):
        with pytest.raises(BundleError, match=r"expected a network that striate can build.*, net="):
            open_it("m.safetensors")
    assert guess(read_weights(tmp_path / "m.safetensors")) == ()
    assert not (tmp_path / "executed").exists()
    opened = open_network("m.safetensors", net="lenet5_modern")  # what its user names
    assert torch.equal(opened.net.state_dict()["C1.weight"], bundle.state["C1.weight"])


def test_graphs_travel_beside_the_weights(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    files = {"int8.xml": b"<net/>", "int8.bin": bytes(range(256))}
    save_bundle(with_graphs(bundle, files), path)
    plain = load_file(path)
    assert bytes(plain["graph/int8.bin"].tolist()) == files["int8.bin"]
    found = load_bundle(path)
    assert found.state.keys() == bundle.state.keys()
    assert {name: found.graphs[name] for name in files} == files
    open_bundle(path)  # the graphs are in no network's way
    save_bundle(found, path)  # read and written again, they stay
    assert load_bundle(path).graphs == found.graphs


def test_graphs_of_other_weights_are_left_out(bundle, tmp_path):
    path = tmp_path / "m.safetensors"
    quantized = with_graphs(bundle, {"int8.xml": b"<net/>", "int8.bin": b"1"})
    other = {name: tensor.clone() for name, tensor in bundle.state.items()}
    next(iter(other.values())).view(-1)[0] += 1.0
    save_bundle(replace(quantized, state=other), path)
    assert load_bundle(path).graphs == {}
