"""An exported file, run by its own runtime and nothing of striate's."""

import contextlib
import io
import json
import runpy
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax

from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import Preprocessing, to_pixels
from striate.nets import build
from striate.serve import export_network as export_module
from striate.serve.export_example import example_of
from striate.serve.export_images import sample_pixels
from striate.serve.export_network import SUFFIXES, export_network
from striate.serve.import_openvino import import_openvino
from striate.weights.bundle import Bundle

openvino = import_openvino()  # without its telemetry

TEXT = "INPUT 8x8x3 > CONV 4 3x3 pad 1 > RELU > MAX POOL 2x2 stride 2 > SOFTMAX 3"
PRE = Preprocessing(
    channels=3,
    height_px=8,
    width_px=8,
    resize_px=10,
    mean=(0.2, 0.3, 0.4),
    std=(0.5, 0.25, 0.125),
    colour_order="BGR",
)


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build(TEXT).eval().to(memory_format=torch.channels_last)


@pytest.fixture
def bundle(net):
    return Bundle(
        net=TEXT, classes=("a", "ä", '<"b">'), preprocessing=PRE, state=net.state_dict(), temperature=2.0
    )


def noise(count, size=(8, 8, 3)):
    return np.random.default_rng(5).integers(0, 256, (count, *size), dtype=np.uint8)


def by_hand(net, pixels):
    """The network's logits, normalised here channel by channel in float64, blue first."""
    planes = [(pixels[..., c] / 255.0 - PRE.mean[c]) / PRE.std[c] for c in (2, 1, 0)]
    with torch.no_grad():
        return net(torch.from_numpy(np.stack(planes, 1)).float()).numpy()


def run_with_its_runtime(to, path, pixels):
    if to == "onnx":
        session = onnxruntime.InferenceSession(str(path))
        facts = session.get_modelmeta().custom_metadata_map
        return session.run(None, {"pixels": pixels}), facts
    if to == "openvino":
        model = openvino.Core().read_model(str(path))
        names = json.loads(model.get_rt_info(["striate", "classes"]).astype(str))
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        answers = compiled({"pixels": pixels})
        found = [np.array(answers["logits"]), np.array(answers["probabilities"])]
        return found, {"classes": json.dumps(names)}
    facts = {"classes": "", "before": "", "example": ""}
    program = torch.export.load(str(path), extra_files=facts)
    with torch.no_grad():
        return [one.numpy() for one in program.module()(torch.from_numpy(pixels))], facts


@pytest.mark.parametrize("to", SUFFIXES)
def test_file_gives_the_networks_answers_for_any_number_of_images(net, bundle, tmp_path, to):
    path = tmp_path / f"x{SUFFIXES[to]}"
    made = export_network(net, bundle, path, to=to, pixels=noise(6), images="noise")
    for count in (1, 2, 5):
        pixels = noise(count)
        expected = by_hand(net, pixels)
        (logits, probabilities), facts = run_with_its_runtime(to, path, pixels)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_allclose(probabilities, softmax(expected / 2.0, axis=1), atol=1e-5)
    assert json.loads(facts["classes"]) == ["a", "ä", '<"b">']
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(one.name for one in made.files)
    assert made.difference <= made.tolerance == pytest.approx(2e-5 * np.abs(by_hand(net, noise(6))).max())
    for file in made.files:  # no one else's business where striate is installed
        assert b"site-packages" not in file.read_bytes()
        assert b"/striate/" not in file.read_bytes()


def test_onnx_says_what_it_is(net, bundle, tmp_path):
    path = tmp_path / "x.onnx"
    made = export_network(net, bundle, path, to="onnx", pixels=noise(2), images="noise", batch_images=2)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", int(made.versions["opset"]))]
    kind = model.graph.input[0].type.tensor_type
    assert kind.elem_type == onnx.TensorProto.UINT8
    assert [size.dim_value for size in kind.shape.dim] == [2, 8, 8, 3]
    assert [one.name for one in model.graph.output] == ["logits", "probabilities"]
    facts = {one.key: one.value for one in model.metadata_props}
    assert Preprocessing.from_json(json.loads(facts["preprocessing"])) == PRE
    assert json.loads(facts["versions"])["onnx"] == onnx.__version__
    assert facts["example"] == (tmp_path / "x.onnx.example.py").read_text()
    assert "resize the shorter side to 10 pixels" in facts["before"]


@pytest.mark.parametrize("to", ["openvino", "torch-export"])
def test_fixed_number_and_several_labels(net, bundle, tmp_path, to):
    path = tmp_path / f"x{SUFFIXES[to]}"
    several = replace(bundle, multi_label=True)
    made = export_network(net, several, path, to=to, pixels=noise(5), images="noise", batch_images=3)
    assert made.pixels == (3, 8, 8, 3)
    (_, probabilities), _ = run_with_its_runtime(to, path, noise(3))
    np.testing.assert_allclose(probabilities, expit(by_hand(net, noise(3)) / 2.0), atol=1e-5)
    with pytest.raises((RuntimeError, AssertionError)):
        run_with_its_runtime(to, path, noise(4))


@pytest.mark.parametrize("wrong", [0.01, np.nan])
def test_wrong_file_is_not_kept(net, bundle, tmp_path, monkeypatch, wrong):
    path = tmp_path / "x.xml"
    path.write_text("what was there")
    honest = export_module.run_openvino

    def spoiled(where, pixels):
        return [(logits + np.float32(wrong), others) for logits, others in honest(where, pixels)]

    monkeypatch.setattr(export_module, "run_openvino", spoiled)
    with pytest.raises(BundleError, match=r"x\.xml was not written"):
        export_network(net, bundle, path, to="openvino", pixels=noise(2), images="noise")
    assert [one.name for one in tmp_path.iterdir()] == ["x.xml"]
    assert path.read_text() == "what was there"


def test_network_that_diverged_is_refused(bundle, tmp_path):
    broken = build(TEXT).eval()
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(BundleError, match="NaN or infinity"):
        export_network(broken, bundle, tmp_path / "x.pt2", to="torch-export", pixels=noise(1), images="noise")
    assert not list(tmp_path.iterdir())


def test_int8_needs_an_int8_graph_and_openvino(net, bundle, tmp_path):
    for to in SUFFIXES:
        with pytest.raises(UsageError, match="int8"):
            export_network(
                net,
                bundle,
                tmp_path / f"x{SUFFIXES[to]}",
                to=to,
                pixels=noise(1),
                images="noise",
                precision="int8",
            )


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize(
    ("pre", "size"),
    [
        (PRE, (31, 17)),
        (PRE, (9, 40)),
        (replace(PRE, resize_px=5, fill=7, interpolation="bicubic"), (23, 12)),
        (replace(PRE, resize_px=None, fill=200), (5, 6)),
        (replace(PRE, resize_px=None, width_px=11), (5, 26)),
        (
            Preprocessing(
                channels=1, height_px=7, width_px=6, resize_px=None, fill=9, mean=(0.0,), std=(1.0,)
            ),
            (4, 3),
        ),
    ],
)
def test_example_brings_images_to_the_same_pixels(to, pre, size, tmp_path):
    upright = noise(1, (*size, 3))[0]
    image = Image.fromarray(upright)
    sideways = Image.Exif()
    sideways[0x0112] = 6  # turned to the left, to be shown turned to the right
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "photo.png", exif=sideways)
    source = example_of(to, "x", pre, None)
    whole = source.splitlines()
    assert len([line for line in whole if not line.startswith("#")]) == 10
    assert ";" not in source
    assert max(map(len, whole)) <= 125
    steps = [line for line in whole if line.startswith(("import", "image", "scale", "left", "pixels"))]
    assert len(steps) == 6
    scope: dict[str, object] = {}
    argv, sys.argv = sys.argv, ["x", str(tmp_path / "photo.png")]
    try:
        exec("\n".join(steps), scope)
    finally:
        sys.argv = argv
    off = np.abs(np.asarray(scope["pixels"][0], int) - to_pixels(image, pre))
    assert off.max() <= 2  # of Pillow's resizing and torch's, see tests/data/test_preprocess.py
    assert off.mean() < 0.1


@pytest.mark.parametrize("to", SUFFIXES)
def test_example_runs(net, bundle, tmp_path, to, monkeypatch):
    made = export_network(
        net, bundle, tmp_path / f"it's{SUFFIXES[to]}", to=to, pixels=noise(2), images="noise"
    )
    pixels = noise(1, (10, 10, 3))[0]
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    expected = softmax(by_hand(net, pixels[None, 1:9, 1:9])[0] / 2.0)
    monkeypatch.setattr(sys, "argv", ["example", str(tmp_path / "photo.png")])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(made.files[-1]))
    best = int(expected.argmax())
    assert printed.getvalue().splitlines()[0] == f"{expected[best]:7.2%}  {bundle.classes[best]}"
    assert len(printed.getvalue().splitlines()) == 3


def test_sample_images_are_real_and_differ():
    pixels, _ = sample_pixels(replace(PRE, height_px=24, width_px=24, resize_px=24))
    assert pixels.shape == (16, 24, 24, 3)
    assert pixels.dtype == np.uint8
    assert len({one.tobytes() for one in pixels}) == 16
    assert (pixels.reshape(16, -1).std(axis=1) > 5).all()
