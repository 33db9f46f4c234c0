"""int8 networks: measured honestly, refused when worse, and kept apart from the weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from striate.core.errors import AccuracyError, BundleError, DataError, UsageError
from striate.data.preprocess import Preprocessing
from striate.metrics.paired import paired
from striate.nets import build
from striate.nets.modules import LocalResponseNorm
from striate.serve.convert_openvino import convert, response_norms
from striate.serve.export import export
from striate.serve.graph import FromPixels
from striate.serve.import_openvino import import_openvino
from striate.serve.quantize import _check_drop, quantize
from striate.serve.quantize_network import quantize_network
from striate.weights.bundle import Bundle, load_bundle, save_bundle
from striate.weights.open import open_bundle

openvino = import_openvino()  # without its telemetry

PRE = Preprocessing(channels=1, height_px=8, width_px=8, resize_px=None, mean=(0.3,), std=(0.4,))
TEXT = "INPUT 8x8x1 > CONV 8 3x3 pad 1 > RELU > MAX POOL 2x2 stride 2 > SOFTMAX 10"
DIGITS = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
LABELS = load_digits().target


@pytest.fixture(scope="module")
def net():
    """A network that knows the digits: a few hundred steps in a second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build(TEXT)
        images = (torch.from_numpy(DIGITS[:1400]).permute(0, 3, 1, 2) / 255 - 0.3) / 0.4
        labels = torch.from_numpy(LABELS[:1400])
        steps = torch.optim.Adam(made.parameters(), lr=0.01)
        for step in range(150):
            part = slice(step % 14 * 100, step % 14 * 100 + 100)
            steps.zero_grad()
            torch.nn.functional.cross_entropy(made(images[part]), labels[part]).backward()
            steps.step()
    return made.eval()


@pytest.fixture(scope="module")
def bundle(net):
    return Bundle(net=TEXT, classes=tuple("0123456789"), preprocessing=PRE, state=net.state_dict())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """120 digits for training and 150 others to test with, as PNG files in class folders."""
    root = tmp_path_factory.mktemp("digits")
    for split, places in (("train", range(120)), ("test", range(1500, 1650))):
        for place in places:
            path = root / split / str(LABELS[place]) / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(DIGITS[place, ..., 0]).save(path)
    return root


@pytest.fixture
def path(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "full.safetensors")
    return tmp_path / "full.safetensors"


def by_hand(net, places):
    with torch.no_grad():
        images = (torch.from_numpy(DIGITS[places]).permute(0, 3, 1, 2) / 255 - 0.3) / 0.4
        return net(images).numpy()


def run_int8(graphs, pixels):
    model = openvino.Core().read_model(model=graphs["int8.xml"], weights=graphs["int8.bin"])
    return np.array(openvino.compile_model(model, "CPU")(pixels)[0])


def test_int8_bundle_is_the_old_one_with_a_graph(net, bundle, path, folder, tmp_path):
    out = tmp_path / "small.safetensors"
    made = quantize(path, folder, out, calibration_images=50, max_drop_points=100)
    found = load_bundle(out)
    assert found.state.keys() == bundle.state.keys()
    assert all(torch.equal(found.state[key], bundle.state[key]) for key in bundle.state)
    again, _ = open_bundle(out)
    torch.testing.assert_close(again(torch.ones(1, 1, 8, 8)), net(torch.ones(1, 1, 8, 8)))
    assert b'element_type="i8"' in found.graphs["int8.xml"]

    # The figures, counted without striate.
    places = np.arange(1500, 1650)
    full_right = by_hand(net, places).argmax(1) == LABELS[places]
    small_right = run_int8(found.graphs, DIGITS[places]).argmax(1) == LABELS[places]
    assert full_right.mean() > 0.8
    assert made.paired.num_images == 150
    assert made.paired.accuracy_a == full_right.mean()
    assert made.paired.accuracy_b == small_right.mean()
    assert (made.paired.only_a, made.paired.only_b) == (
        (full_right & ~small_right).sum(),
        (small_right & ~full_right).sum(),
    )
    record = found.metrics["int8"]
    assert record["drop"] == pytest.approx(full_right.mean() - small_right.mean())
    assert record["drop_interval"][0] <= record["drop"] <= record["drop_interval"][1]
    assert (record["calibration_images"], record["split"]) == (50, "test split")


def test_int8_is_near_the_network_and_the_same_again(net, bundle):
    one = quantize_network(net, bundle, DIGITS[:40])
    two = quantize_network(net, bundle, DIGITS[:40])
    assert one == two
    expected = by_hand(net, np.arange(1400, 1700))
    got = run_int8(one, DIGITS[1400:1700])
    assert 0 < np.abs(got - expected).max() < 0.2 * np.abs(expected).max()
    assert (got.argmax(1) == expected.argmax(1)).mean() > 0.95


def test_squares_of_response_normalisation_keep_their_digits():
    torch.manual_seed(0)
    wide = torch.nn.Conv2d(1, 8, 3)
    norm = LocalResponseNorm(alpha=1.0, k=1.0)
    net = torch.nn.Sequential(wide, norm, torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10)).eval()
    taken = Bundle(net="x", classes=tuple("0123456789"), preprocessing=PRE, state=net.state_dict())
    graphs = quantize_network(net, taken, DIGITS[:40])
    model = openvino.Core().read_model(model=graphs["int8.xml"], weights=graphs["int8.bin"])
    convolutions = [one for one in model.get_ordered_ops() if one.get_type_name() == "Convolution"]
    sources = [one.input_value(0).get_node().get_type_name() for one in convolutions]
    assert sorted(sources) == ["FakeQuantize", "Power"]


def test_somebodys_convolution_of_squares_is_like_any_other():
    class Squares(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(1, 4, 3)
            self.head = torch.nn.Linear(4 * 36, 10)

        def forward(self, images):
            energy = self.one(images.square())
            return self.head((energy.relu() + energy.tanh() * self.two(images)).flatten(1))

    torch.manual_seed(0)
    net = Squares().eval()
    assert response_norms(convert(FromPixels(net, PRE).eval(), PRE)) == []
    taken = Bundle(net="x", classes=tuple("0123456789"), preprocessing=PRE, state=net.state_dict())
    assert quantize_network(net, taken, DIGITS[:20]).keys() == {"int8.xml", "int8.bin"}


def test_network_that_int8_ruins_is_refused(net, bundle, path, folder, tmp_path):
    # One feature map that is 100,000 times the others and that nothing looks at takes the whole range of the
    # next layer's 8-bit input: what the others say is rounded away.
    state = {key: tensor.clone() for key, tensor in bundle.state.items()}
    names = sorted(key for key in state if key.endswith("weight"))
    first, last = sorted(names, key=lambda key: -state[key].dim())
    state[first][0] = state[first][0].abs() * 1e5
    state[last].view(10, 8, 16)[:, 0] = 0.0
    save_bundle(replace(bundle, state=state), path)
    out = tmp_path / "small.safetensors"
    with pytest.raises(AccuracyError, match=r"^int8 loses \d+\.\d\d points of top-1 on 150 images") as caught:
        quantize(path, folder, out, calibration_images=20)
    assert caught.value.exit_code == 1
    assert "`max_drop_points`" in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("num_images", "num_lost", "remedy"),
    [(123, 1, "measure on more images (`data`)"), (1000, 100, "`calibration_images`")],
)
def test_a_refusal_names_what_would_help(num_images, num_lost, remedy):
    """One image of 123 is no proof of a loss above half a point; a hundred of a thousand are."""
    right = np.ones(num_images, bool)
    with pytest.raises(AccuracyError) as caught:
        _check_drop(paired(right, np.arange(num_images) >= num_lost), "top-1", 0.5, 20)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_measured_on_are_never_calibrated_on(path, folder, tmp_path):
    made = quantize(
        path, folder, tmp_path / "a.safetensors", calibration_images=400, split="all", max_drop_points=100
    )
    facts = made.bundle.metrics["int8"]
    assert facts["calibration_images"] == 135  # half of 270: the rest is measured on
    assert made.paired.num_images == 135
    assert facts["split"] == "all images, less the 135 calibrated on"
    made = quantize(
        path, folder / "train", tmp_path / "b.safetensors", calibration_images=30, max_drop_points=100
    )
    assert made.bundle.metrics["int8"]["calibration_images"] == 30
    assert made.paired.num_images == 90


def test_one_image_is_too_few(path, tmp_path):
    for name in "34":
        (tmp_path / "one" / name).mkdir(parents=True)
    (tmp_path / "one" / "4" / "broken.png").write_bytes(b"no picture")
    Image.fromarray(DIGITS[3, ..., 0]).save(tmp_path / "one" / "3" / "x.png")
    with pytest.raises(DataError, match="to calibrate on and others to measure on, got 1"):
        quantize(path, tmp_path / "one", tmp_path / "small.safetensors")


def test_numbers_out_of_range_and_files_in_the_way(path, folder):
    for wrong in ({"calibration_images": 0}, {"max_drop_points": -1.0}, {"max_drop_points": float("nan")}):
        with pytest.raises(UsageError, match="expected `calibration_images` of at least 1 and"):
            quantize(path, folder, path.with_name("x.safetensors"), **wrong)
    with pytest.raises(UsageError, match="`force`"):
        quantize(path, folder, path)
    with pytest.raises(UsageError, match="expected a split out of auto, train, val, test, all; got 'foo'"):
        quantize(path, folder, path.with_name("x.safetensors"), split="foo")


def test_export_of_a_quantized_bundle(net, bundle, path, folder, tmp_path):
    out = tmp_path / "small.safetensors"
    quantize(path, folder, out, calibration_images=50, max_drop_points=100)
    made = export(out, "openvino", tmp_path / "x.xml")
    assert made.precision == "int8"
    model = openvino.Core().read_model(tmp_path / "x.xml")
    got = np.array(openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(DIGITS[:9])[0])
    expected = by_hand(net, np.arange(9))
    assert 0 < np.abs(got - expected).max() < 0.2 * np.abs(expected).max()
    with pytest.raises(UsageError, match="`precision=fp32`"):
        export(out, "torch-export", tmp_path / "x.pt2")
    full = export(out, "openvino", tmp_path / "y.xml", precision="fp32")
    assert (full.precision, full.agreement) == ("fp32", 1.0)
    with pytest.raises(UsageError, match="no int8 network"):
        export(path, "openvino", tmp_path / "z.xml", precision="int8")


def test_network_that_diverged_is_refused(bundle, path, folder, tmp_path):
    state = {key: torch.full_like(tensor, torch.nan) for key, tensor in bundle.state.items()}
    save_bundle(replace(bundle, state=state), path)
    with pytest.raises(BundleError, match="NaN or infinity"):
        quantize(path, folder, tmp_path / "small.safetensors")
    one = {key: tensor.clone() for key, tensor in bundle.state.items()}
    next(iter(one.values())).view(-1)[0] = torch.nan  # ReLU in OpenVINO hides it: logits stay finite
    save_bundle(replace(bundle, state=one), path)
    with pytest.raises(BundleError, match="NaN or infinity"):
        quantize(path, folder, tmp_path / "small.safetensors", max_drop_points=100)


def test_missing_package_is_named(path, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("striate.serve.packages.find_spec", lambda name: None if name == "nncf" else 1)
    with pytest.raises(UsageError, match=r"pip install nncf$"):
        quantize(path, folder, tmp_path / "small.safetensors")
