import os
import subprocess
import sys
import threading
from itertools import count

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from striate.core.compute import Compute
from striate.core.errors import BundleError, UsageError
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.nets.modules import LocalResponseNorm
from striate.serve import engine as choice
from striate.serve.convert_openvino import convert
from striate.serve.engine import open_engine, pick_engine, pick_engine_precision, usual_batch
from striate.serve.graph import FromPixels
from striate.serve.import_openvino import import_openvino
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork

ENGINES = ("openvino", "torch")
CPU = torch.device("cpu")
IN_BF16 = choice.pick_precision("auto", CPU) == "bf16"
needs_bf16 = pytest.mark.skipif(not IN_BF16, reason="this processor does not compute in bf16")


def open_for(net, bundle, *, engine="auto", latency=False, **compute):
    """Open an engine for a network in memory."""
    network = OpenNetwork(net=net, bundle=bundle, name="test")
    return open_engine(network, engine=engine, latency=latency, compute=Compute(**compute))


def preprocessing(side=32, channels=3, **more):
    grey = {"mean": (0.3,), "std": (0.4,)}
    colour = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    values = (grey if channels == 1 else colour) | more
    return Preprocessing(channels=channels, height_px=side, width_px=side, resize_px=side, **values)


def bundle_for(pre, num_classes=10, **more):
    names = tuple(f"c{k}" for k in range(num_classes))
    return Bundle(net="test", classes=names, preprocessing=pre, state={}, **more)


def pixels_for(pre, num_images, seed=0):
    shape = (num_images, pre.height_px, pre.width_px, pre.channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def expected_logits(net, pre, pixels):
    """What the network says, in float32, with the normalisation in NumPy."""
    images = (pixels / 255.0 - np.array(pre.mean)) / np.array(pre.std)
    if pre.colour_order == "BGR":
        images = images[..., ::-1]
    with torch.no_grad():
        return net(torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2).copy())).numpy()


class Small(nn.Module):
    """Every operation that the conversion treats in its own way, in few parameters."""

    def __init__(self, channels=3, ceil=True):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 12, 5, padding=2),
            nn.ReLU(),
            LocalResponseNorm(size=5, alpha=0.02, beta=0.75, k=2.0, towers=2),
            nn.MaxPool2d(3, 2, ceil_mode=ceil),
            nn.Conv2d(12, 16, 3, padding=1, groups=2),
            nn.ReLU(),
            LocalResponseNorm(size=3, alpha=0.1, beta=0.5, k=1.0),
            nn.MaxPool2d(3, 2, padding=1, ceil_mode=ceil),
            nn.Flatten(),
            nn.LazyLinear(10),
        )

    def forward(self, images):
        return self.layers(images)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    net = Small().eval()
    pre = preprocessing(32)
    net(torch.zeros(1, 3, 32, 32))
    return net, bundle_for(pre)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("num_images", [0, 1, 4, 11])
def test_any_number_of_images(small, name, num_images):
    net, bundle = small
    engine = open_for(net, bundle, engine=name, precision="fp32", batch_images=4)
    assert (engine.name, engine.precision, engine.batch_images) == (name, "fp32", 4)
    pixels = pixels_for(bundle.preprocessing, num_images)
    found = engine.logits(pixels)
    assert found.shape == (num_images, 10)
    assert found.dtype == np.float32
    if num_images:
        np.testing.assert_allclose(
            found, expected_logits(net, bundle.preprocessing, pixels), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("net_name", "side", "channels"),
    [
        ("lenet5_modern", 32, 1),
        ("lenet5", 32, 1),
        ("resnet20", 32, 3),
        ("alexnet", 224, 3),  # response normalisation in two towers
        ("googlenet", 224, 3),  # inception, pooling rounded up, auxiliary classifiers left out
    ],
)
def test_networks_give_torchs_logits(name, net_name, side, channels):
    torch.manual_seed(1)
    net = build(net_name, num_classes=10).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training: no two maps alike
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    pre = preprocessing(side, channels)
    pixels = pixels_for(pre, 3)
    expected = expected_logits(net, pre, pixels)
    engine = open_for(net, bundle_for(pre), engine=name, precision="fp32", batch_images=2)
    found = engine.logits(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    if IN_BF16:
        rough = open_for(net, bundle_for(pre), engine=name, precision="bf16").logits(pixels)
        # Eight bits of mantissa are 0.4 % in every layer; their errors average out.
        assert np.abs(rough - expected).max() < 0.04 * np.ptp(expected)
        assert np.abs(rough - expected).max() > 0  # and it did compute in bf16


@pytest.mark.parametrize("name", ENGINES)
def test_channels_in_the_other_order(name):
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    pre = preprocessing(8, colour_order="BGR")
    pixels = pixels_for(pre, 2)
    found = open_for(net, bundle_for(pre), engine=name, precision="fp32").logits(pixels)
    np.testing.assert_allclose(found, expected_logits(net, pre, pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ENGINES)
def test_a_stream_keeps_its_order_with_batches_of_every_size(small, name):
    net, bundle = small
    sizes = [4, 1, 0, 4, 3, 9, 2]  # 9 is more than a batch
    batches = [pixels_for(bundle.preprocessing, n, seed) for seed, n in enumerate(sizes)]
    engine = open_for(net, bundle, engine=name, precision="fp32", batch_images=4)
    found = list(engine.stream(iter(batches)))
    assert [len(one) for one in found] == sizes
    for one, pixels in zip(found, batches, strict=True):
        if len(pixels):
            expected = expected_logits(net, bundle.preprocessing, pixels)
            np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)
    assert list(engine.stream(iter([]))) == []


@pytest.mark.parametrize("name", ENGINES)
def test_a_stream_asks_for_few_batches_ahead(small, name):
    net, bundle = small
    engine = open_for(net, bundle, engine=name, precision="fp32", batch_images=2, threads=1)
    asked = 0

    def endless():
        nonlocal asked
        for seed in count():
            asked += 1
            yield pixels_for(bundle.preprocessing, 2, seed)

    stream = engine.stream(endless())
    ahead = []
    for taken, _ in zip(range(1, 30), stream, strict=False):
        ahead.append(asked - taken)
    stream.close()
    assert max(ahead) <= 4
    assert asked < 40


@pytest.mark.parametrize("name", ENGINES)
def test_threads_may_ask_at_once(small, name):
    net, bundle = small
    engine = open_for(net, bundle, engine=name, precision="fp32", batch_images=4)
    wrong = []

    def ask(seed):
        for k in range(6):
            pixels = pixels_for(bundle.preprocessing, 1 + k, 100 * seed + k)
            expected = expected_logits(net, bundle.preprocessing, pixels)
            if not np.allclose(engine.logits(pixels), expected, rtol=1e-4, atol=1e-4):
                wrong.append((seed, k))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("name", ENGINES)
def test_threads_and_batches_change_nothing(small, name):
    net, bundle = small
    pixels = pixels_for(bundle.preprocessing, 13)
    before = torch.get_num_threads()
    try:
        found = [
            open_for(
                net,
                bundle,
                engine=name,
                precision="fp32",
                batch_images=size,
                threads=threads,
                latency=latency,
            ).logits(pixels)
            for size, threads, latency in ((1, 1, False), (5, 2, False), (13, 1, True), (16, 2, True))
        ]
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5 * np.abs(found[0]).max(), rtol=0)


@pytest.fixture(scope="module")
def reader():
    """A small network that has learnt to read scikit-learn's digits, and the digits it has not seen."""
    images, labels = load_digits(return_X_y=True)
    pixels = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    pre = preprocessing(8, 1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    inputs = torch.from_numpy(((pixels / 255 - 0.3) / 0.4).astype(np.float32)).permute(0, 3, 1, 2)
    targets = torch.from_numpy(labels)
    for step in range(150):
        some = torch.arange(step * 64, step * 64 + 64) % 1000
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs[some]), targets[some]).backward()
        optimizer.step()
    return net.eval(), bundle_for(pre), pixels[1000:], labels[1000:]


@needs_bf16
@pytest.mark.parametrize("name", ENGINES)
def test_bf16_says_what_fp32_says_of_real_images(reader, name):
    net, bundle, pixels, labels = reader
    expected = expected_logits(net, bundle.preprocessing, pixels).argmax(1)
    assert (expected == labels).mean() > 0.9  # a network that knows what it says
    found = open_for(net, bundle, engine=name, precision="bf16").logits(pixels).argmax(1)
    assert (found == expected).mean() >= 0.995


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(2, 0), (2, 1), (3, 0), (3, 1), (5, 2)])
@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_gives_torchs_maxima(kernel, padding, stride, ceil):
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    for side in (7, 8, 9):
        net = nn.Sequential(pool, nn.Flatten()).eval()
        pre = preprocessing(side, 1)
        graph = FromPixels(net, pre).eval()
        model = convert(graph, pre)
        pools = [op for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool"]
        assert [op.get_output_size() for op in pools] == [1]
        pixels = pixels_for(pre, 2)
        compiled = import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled({0: pixels})[0]
        np.testing.assert_allclose(found, expected_logits(net, pre, pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"),
    [(5, 1e-4, 0.75, 2.0), (3, 2.0, 0.75, 1.0), (5, 0.5, 0.6, 0.5), (1, 1.0, 1.0, 1.0)],
)
def test_response_normalisation_is_torchs(size, alpha, beta, k, towers):
    torch.manual_seed(0)
    widen = nn.Conv2d(3, 12, 1)
    norm = LocalResponseNorm(size=size, alpha=alpha, beta=beta, k=k, towers=towers)
    pre = preprocessing(6)
    pixels = pixels_for(pre, 2)
    net = nn.Sequential(widen, norm, nn.Flatten()).eval()
    model = convert(FromPixels(net, pre).eval(), pre)
    compiled = import_openvino().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    maps = torch.from_numpy(expected_logits(widen, pre, pixels)).chunk(towers, dim=1)
    halves = [nn.functional.local_response_norm(half, size, alpha * size, beta, k) for half in maps]
    expected = torch.cat(halves, dim=1).flatten(1).numpy()
    np.testing.assert_allclose(compiled({0: pixels})[0], expected, rtol=1e-5, atol=1e-6)


def test_converting_leaves_the_network_alone(small):
    net, bundle = small
    before = [type(module) for module in net.modules()]
    open_for(net, bundle, engine="openvino", precision="fp32")
    assert [type(module) for module in net.modules()] == before
    assert before.count(LocalResponseNorm) == 2


@pytest.mark.parametrize(
    ("name", "images"),
    [("alexnet", 32), ("vgg16", 32), ("resnet18", 16), ("googlenet", 16), ("nin_cifar10", 16)],
)
def test_the_usual_batch(name, images):
    with torch.device("meta"):
        net = build(name)
    assert usual_batch(net, CPU) == images
    assert usual_batch(net, torch.device("cuda")) == 64


def test_auto_takes_what_is_there(small, monkeypatch):
    bundle = small[1]
    assert pick_engine("auto", CPU) == "openvino"
    assert pick_engine("auto", torch.device("cuda")) == "torch"
    assert pick_engine_precision("auto", "openvino", bundle, CPU) == ("bf16" if IN_BF16 else "fp32")
    monkeypatch.setattr(choice, "has_openvino", lambda: False)
    assert pick_engine("auto", CPU) == "torch"
    with pytest.raises(UsageError, match="pip install openvino"):
        pick_engine("openvino", CPU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "auto, torch, openvino; got 'tensorrt'"),
        ({"precision": "fp16"}, "auto, fp32, bf16, int8; got 'fp16'"),
        ({"precision": "int8"}, "striate quantize"),
        ({"batch_images": 0}, "`batch_images` of at least 1, got 0"),
        ({"threads": 0}, "`threads` of at least 1, got 0"),
    ],
)
def test_what_is_not_there_is_refused(small, options, message):
    with pytest.raises(UsageError, match=message):
        open_for(*small, **options)


def test_bf16_is_refused_where_the_processor_lacks_it(small, monkeypatch):
    monkeypatch.setattr(choice, "pick_precision", lambda precision, device: "fp32")
    with pytest.raises(UsageError, match="use `precision=fp32`"):
        open_for(*small, engine="openvino", precision="bf16")


@pytest.mark.parametrize("name", ENGINES)
def test_wrong_pixels_and_closed_engines_are_refused(small, name):
    engine = open_for(*small, engine=name, precision="fp32")
    for pixels in (np.zeros((1, 32, 32, 1), np.uint8), np.zeros((1, 32, 32, 3), np.float32)):
        with pytest.raises(UsageError, match="expected uint8 pixels of N x 32 x 32 x 3"):
            engine.logits(pixels)
    engine.close()
    engine.close()
    with pytest.raises(UsageError, match="closed"):
        engine.logits(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_bundle_with_an_int8_graph(small, tmp_path):
    net, bundle = small
    ov = import_openvino()
    pre = bundle.preprocessing
    ov.save_model(convert(FromPixels(net, pre).eval(), pre), tmp_path / "g.xml", compress_to_fp16=False)
    graphs = {"int8.xml": (tmp_path / "g.xml").read_bytes(), "int8.bin": (tmp_path / "g.bin").read_bytes()}
    quantized = bundle_for(pre, graphs=graphs)
    assert pick_engine_precision("auto", "openvino", quantized, CPU) == "int8"
    assert pick_engine_precision("auto", "torch", quantized, CPU) != "int8"
    with pytest.raises(UsageError, match="OpenVINO only"):
        open_for(net, quantized, engine="torch", precision="int8")
    engine = open_for(nn.Identity(), quantized)  # the graph is all it needs
    assert (engine.name, engine.precision) == ("openvino", "int8")
    pixels = pixels_for(pre, 5)
    expected = expected_logits(net, pre, pixels)
    assert np.abs(engine.logits(pixels) - expected).max() < 0.05 * np.ptp(expected)
    damaged = bundle_for(pre, graphs={"int8.xml": b"<net", "int8.bin": b""})
    with pytest.raises(BundleError, match="quantize it again"):
        open_for(net, damaged)


def test_openvino_sends_nothing_and_writes_nothing(tmp_path):
    program = """
import sys
from torch import nn
from striate.data.preprocess import Preprocessing
from striate.serve.engine import open_engine
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork
pre = Preprocessing(channels=1, height_px=4, width_px=4, resize_px=4, mean=(0.0,), std=(1.0,))
net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
bundle = Bundle(net="x", classes=("a", "b"), preprocessing=pre, state={})
open_engine(OpenNetwork(net=net, bundle=bundle, name="x"), engine="openvino")
assert "openvino" in sys.modules
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""
    home = {**os.environ, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=home, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
