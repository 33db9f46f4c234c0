"""Measuring bundles, files of predictions and networks by name on the same images."""

import numpy as np
import pytest
import torch
from PIL import Image

import striate.evaluation.labelled as labelled
from striate.core.compute import Compute
from striate.core.errors import BundleError, DataError, UsageError
from striate.data.preprocess import Preprocessing, to_pixels
from striate.evaluation.measure import evaluate, measure
from striate.evaluation.protocol import Protocol
from striate.metrics.interval import wilson
from striate.metrics.predictions_file import save_predictions
from striate.nets import build
from striate.weights.bundle import Bundle, save_bundle

FLIP, TEN = Protocol(kind="flip"), Protocol(kind="ten-crop")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for name in ("cat", "dog", "owl"):
        (root / name).mkdir()
        for k in range(4):
            Image.fromarray(rng.integers(0, 256, (36, 40, 3), np.uint8)).save(root / name / f"{k}.png")
    (root / "owl" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return root


def bundle(path, *, seed=0, classes=("cat", "dog", "owl"), resize_px=36, **changes):
    """Write an untrained lenet5_modern as if it were trained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build("lenet5_modern", num_classes=len(classes))
    pre = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=resize_px, mean=(0.5,), std=(0.3,))
    made = Bundle(
        net="lenet5_modern", classes=classes, preprocessing=pre, state=dict(net.state_dict()), **changes
    )
    save_bundle(made, path)
    return path


def test_what_is_measured_is_what_plain_torch_answers(photos, tmp_path):
    path = bundle(tmp_path / "a.safetensors", temperature=1.7)
    found = evaluate(path, photos, compute=Compute(precision="fp32"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = build("lenet5_modern", num_classes=3).eval()
    files = sorted(file for file in photos.glob("*/?.png"))
    pre = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=36, mean=(0.5,), std=(0.3,))
    pixels = [to_pixels(np.asarray(Image.open(file)), pre)[:, :, 0] for file in files]
    images = (torch.tensor(np.stack(pixels))[:, None] / 255 - 0.5) / 0.3
    with torch.no_grad():
        logits = net(images)
    assert found.predictions.logits == pytest.approx(logits.numpy(), abs=1e-5)
    assert found.predictions.files == tuple(f"{file.parent.name}/{file.name}" for file in files)
    assert found.predictions.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    truth = torch.tensor([0] * 4 + [1] * 4 + [2] * 4)
    nats = torch.nn.functional.cross_entropy(logits.double() / 1.7, truth)
    assert found.loss == pytest.approx(nats.item(), rel=1e-5)
    correct = int((logits.argmax(1) == truth).sum())
    assert found.top1 == correct / 12
    assert found.top1_interval == wilson(correct, 12)
    assert found.predictions.classes == ("cat", "dog", "owl")


def test_flip_is_the_mean_of_two_bundles_answers(photos, tmp_path):
    """The mirror images as a data set of their own, by the path that prediction takes."""
    path = bundle(tmp_path / "a.safetensors")
    for file in sorted(photos.glob("*/?.png")):
        target = tmp_path / "mirrored" / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
    plain = evaluate(path, photos, compute=Compute(precision="fp32")).predictions.probabilities()
    mirror = evaluate(
        path, tmp_path / "mirrored", compute=Compute(precision="fp32")
    ).predictions.probabilities()
    both = evaluate(
        path, photos, protocol=FLIP, compute=Compute(precision="fp32")
    ).predictions.probabilities()
    assert both == pytest.approx((plain + mirror) / 2, abs=1e-5)


def test_several_networks_and_protocols_read_the_data_once(photos, tmp_path, monkeypatch):
    calls = []
    real = labelled.open_dataset
    monkeypatch.setattr(labelled, "open_dataset", lambda *a, **k: calls.append(1) or real(*a, **k))
    paths = [bundle(tmp_path / "a.safetensors"), bundle(tmp_path / "b.safetensors", seed=1)]
    found = measure(paths, photos, protocols=[Protocol(), TEN], compute=Compute(precision="fp32"))
    assert len(calls) == 1
    assert [(one.source, one.protocol) for one in found] == [
        (str(path), protocol) for path in paths for protocol in (Protocol(), TEN)
    ]
    for one in found:
        alone = evaluate(
            one.source, photos, protocol=one.protocol, compute=Compute(precision="fp32")
        ).predictions
        assert alone.logits == pytest.approx(one.predictions.logits, abs=1e-5)
        assert [file for file, _ in one.broken] == ["owl/broken.png"]
        assert one.images_per_s > 0
    assert [one.views for one in found] == [1, 10, 1, 10]
    assert [one.predictions.name for one in found] == [
        "a.safetensors",
        "a.safetensors, ten-crop",
        "b.safetensors",
        "b.safetensors, ten-crop",
    ]
    calls.clear()
    measure([*paths, bundle(tmp_path / "c.safetensors", resize_px=32)], photos)
    assert len(calls) == 2  # the third network's images are cut otherwise


def test_classes_in_another_order_keep_their_numbers(photos, tmp_path):
    path = bundle(tmp_path / "a.safetensors", classes=("owl", "wolf", "cat", "dog"))
    found = evaluate(path, photos).predictions
    assert found.classes == ("owl", "wolf", "cat", "dog")
    assert found.labels.tolist() == [2] * 4 + [3] * 4 + [0] * 4


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_of_predictions_needs_no_data(photos, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    first = evaluate(bundle(tmp_path / "a.safetensors"), photos, protocol=TEN).predictions
    save_predictions(first, tmp_path / f"kept{suffix}")
    again = measure([tmp_path / f"kept{suffix}"])[0]
    assert again.protocol is None
    assert again.images_per_s is None
    assert np.array_equal(again.predictions.logits, first.logits)
    assert again.predictions.files == first.files
    with pytest.raises(UsageError, match="got a predictions file: name the bundle"):
        measure([tmp_path / f"kept{suffix}"], protocols=[TEN])


def test_a_network_by_name_has_random_weights_for_the_classes_of_the_data(photos):
    state = torch.random.get_rng_state()
    found = measure(["lenet5_modern"], photos, protocols=[Protocol(), Protocol(kind="dense")])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(one.trained for one in found)
    assert found[0].predictions.logits.shape == (12, 3)
    assert np.array_equal(found[0].predictions.logits, evaluate("lenet5_modern", photos).predictions.logits)


def test_what_can_not_be_used_is_said(photos, tmp_path):
    path = bundle(tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match="`data`"):
        evaluate(path)
    with pytest.raises(BundleError, match=r"lenet6: no such file.*did you mean lenet5"):
        evaluate("lenet6", photos)
    with pytest.raises(BundleError, match="no such file"):
        evaluate("runs/lenet5", photos)
    with pytest.raises(DataError, match=r"none.csv: no such file"):
        evaluate(tmp_path / "none.csv")
    with pytest.raises(UsageError, match="at least 32 px, the network's input, got 20"):
        evaluate(path, photos, protocol=Protocol(kind="dense", scales_px=(20,)))
    with pytest.raises(UsageError, match="expected a split"):
        evaluate(path, photos, split="half")
    with pytest.raises(UsageError, match="at least one network"):
        measure([], photos)
    with pytest.raises(DataError, match="can't be decoded"):
        evaluate(path, photos, strict=True)
