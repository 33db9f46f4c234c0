"""The figures that commands print are those that Python's functions return, and those of all commands agree.

Three bundles: one whose temperature is far from 1, one with an int8 network, one of several labels an image.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, softmax
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

import striate
from striate.cli.main import main
from striate.core.compute import Compute
from striate.data.preprocess import Preprocessing
from striate.evaluation.protocol import Protocol
from striate.metrics.predictions_file import load_predictions
from striate.nets import build
from striate.recipes.recipe import Recipe
from striate.report.write import write_report
from striate.weights.bundle import Bundle, load_bundle, save_bundle

FP32 = Compute(device="cpu", precision="fp32")
OPTIONS = ("--device", "cpu", "--precision", "fp32")
LABELS = ("curved", "even", "small")


@dataclass(frozen=True)
class Case:
    """A bundle, one of the same architecture and start, and images of both."""

    bundle: Path
    other: Path
    data: Path
    test: Path

    @property
    def both(self):
        return [self.bundle, self.other]


def picture(values, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((values * 15.9).astype(np.uint8)).save(file)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Digits in folders of splits and classes."""
    root = tmp_path_factory.mktemp("parity") / "digits"
    found = load_digits()
    for split, part in (("train", slice(0, 240)), ("val", slice(240, 400)), ("test", slice(400, 560))):
        for k, (values, label) in enumerate(zip(found.images[part], found.target[part], strict=True)):
            picture(values, root / split / str(label) / f"{k:03}.png")
    return root


@pytest.fixture(scope="module")
def calibrated(digits):
    """Two bundles of one training, one disturbed, with temperatures far from 1."""
    run = digits.parent / "run"
    striate.train("mlp1", digits, out=run, epochs=4)
    trained = load_bundle(run)
    draw = torch.Generator().manual_seed(1)
    state = {
        name: tensor + 0.3 * tensor.std() * torch.randn(tensor.shape, generator=draw)
        for name, tensor in trained.state.items()
    }
    paths = [digits.parent / name for name in ("a.safetensors", "b.safetensors")]
    save_bundle(replace(trained, temperature=3.5), paths[0])
    save_bundle(replace(trained, temperature=0.4, state=state, seed=1), paths[1])
    return Case(*paths, digits, digits / "test")


@pytest.fixture(scope="module")
def quantized(calibrated):
    pytest.importorskip("nncf", reason="int8 networks are made by nncf")
    path = calibrated.data.parent / "int8.safetensors"
    striate.quantize(calibrated.bundle, calibrated.data, path, max_drop_points=100)
    return replace(calibrated, bundle=path)


@pytest.fixture(scope="module")
def several_labels(tmp_path_factory):
    """Two untrained networks that give several labels an image."""
    root = tmp_path_factory.mktemp("several")
    found, rows = load_digits(), ["path,labels,split"]
    for k, (values, label) in enumerate(zip(found.images[:150], found.target[:150].tolist(), strict=True)):
        split = ("train", "val", "test")[k % 3]
        picture(values, root / split / f"{k:03}.png")
        true = [
            name
            for name, on in zip(LABELS, (label in (0, 3, 8), label % 2 == 0, label < 5), strict=True)
            if on
        ]
        rows.append(f"{split}/{k:03}.png,{'|'.join(true)},{split}")
    (root / "list.csv").write_text("\n".join(rows) + "\n")
    pre = Preprocessing(channels=1, height_px=8, width_px=8, resize_px=None, mean=(0.3,), std=(0.3,))
    recipe = Recipe(name="none", epochs=1, lr=0.1, val_fraction=0.1, test_fraction=0.1).to_json()
    paths = []
    for seed, temperature in ((0, 2.5), (1, 0.5)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = build("8x8x1 > fc 3", num_classes=3).state_dict()
        made = Bundle(
            net="8x8x1 > fc 3",
            classes=LABELS,
            preprocessing=pre,
            state=state,
            multi_label=True,
            temperature=temperature,
            recipe=recipe,
            seed=seed,
        )
        paths.append(root / f"{seed}.safetensors")
        save_bundle(made, paths[-1])
    return Case(*paths, root / "list.csv", root / "test")


@pytest.fixture(params=["calibrated", "quantized", "several_labels"])
def case(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def printed_by(capsys, monkeypatch):
    """Run a command with ``--json`` in this process; return the lines that it prints."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["striate", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert not stopped.value.code, captured.err
        return captured.out

    return call


@pytest.fixture
def figures_of(printed_by):
    """Run a command; return the figures that it prints."""

    def call(*words, options=OPTIONS):
        return json.loads(printed_by(*words, *options))

    return call


def plain(values):
    return json.loads(json.dumps(values))


def without_notes(printed):
    return {name: value for name, value in printed.items() if name not in ("notes", "warning", "saved")}


def test_evaluate(figures_of, case, tmp_path):
    saved = tmp_path / "saved.csv"
    printed = figures_of("evaluate", case.bundle, "-d", case.data, "--save", saved)
    found = striate.evaluate(case.bundle, case.data, compute=FP32)
    for name, value in plain(found.scores.to_json()).items():
        assert printed[name] == value
    assert printed["figures"] == plain([one.to_json() for one in found.figures()])
    assert printed["calibration"] == {"ece": found.calibration.ece, "temperature": found.temperature}
    assert found.loss == pytest.approx(found.calibration.nll, rel=1e-9)
    # An oracle: SciPy and scikit-learn on the logits, at the bundle's temperature.
    bundle, kept = load_bundle(case.bundle), load_predictions(saved)
    scaled = kept.logits.astype(np.float64) / bundle.temperature
    if bundle.multi_label:
        loss = np.mean([log_loss(kept.labels[:, k], expit(scaled[:, k])) for k in range(3)])
    else:
        loss = log_loss(kept.labels, softmax(scaled, axis=1), labels=range(10))
    assert found.loss == pytest.approx(loss, rel=1e-9)
    again = figures_of("evaluate", saved, options=())
    assert again["figures"] == printed["figures"]
    assert again["calibration"] == printed["calibration"]


def test_evaluate_by_another_protocol(figures_of, case):
    printed = figures_of("evaluate", case.bundle, "-d", case.data, "-p", "flip")
    single, flip = striate.measure(
        [case.bundle], case.data, protocols=[Protocol(), Protocol(kind="flip")], compute=FP32
    )
    assert printed["figures"] == plain([one.to_json() for one in flip.figures(against=single)])


def test_compare_runs(figures_of, case):
    printed = figures_of("compare-runs", *case.both, "-d", case.data)
    found = striate.compare(*case.both, data=case.data, compute=FP32)
    assert without_notes(printed) == without_notes(plain(found.to_json()))
    for one, path in zip(printed["networks"], case.both, strict=True):
        alone = striate.evaluate(path, case.data, compute=FP32)
        assert one["accuracy"] == alone.top1
        assert one["interval"] == [alone.top1_interval.low, alone.top1_interval.high]
        assert one["loss"] == pytest.approx(alone.loss, rel=1e-9)


def test_calibrate(figures_of, case, tmp_path):
    paths = tmp_path / "printed.safetensors", tmp_path / "found.safetensors"
    printed = figures_of("calibrate", case.bundle, "-d", case.data, "-o", paths[0])
    found = striate.calibrate(case.bundle, case.data, out=paths[1], compute=FP32)
    assert printed == plain(found.to_json()) | {"bundle": str(paths[0])}
    assert load_bundle(paths[0]).temperature == printed["temperature"] == found.fit.temperature
    tested = striate.evaluate(paths[0], case.data, compute=FP32)
    assert found.test_after == tested.calibration


def test_blend_ensemble(figures_of, case, tmp_path):
    saved = tmp_path / "ensemble.csv"
    printed = figures_of("blend", "ensemble", *case.both, "-d", case.data, "--save", saved)
    found = striate.ensemble(case.both, case.data, compute=FP32)
    assert without_notes(printed) == plain(found.to_json())
    for one, path in zip(printed["members"], case.both, strict=True):
        alone = striate.evaluate(path, case.data, compute=FP32)
        assert (one["accuracy"], one["loss"]) == (alone.top1, alone.loss)
    again = striate.evaluate(saved)
    assert (printed["ensemble"]["accuracy"], again.temperature) == (again.top1, 1.0)
    assert printed["ensemble"]["loss"] == pytest.approx(again.loss, rel=1e-9)


@pytest.mark.parametrize("kind", ["average", "uniform", "greedy", "learned"])
def test_blends_of_weights(figures_of, case, tmp_path, kind):
    paths = tmp_path / "printed.safetensors", tmp_path / "found.safetensors"
    if kind == "average":
        printed = figures_of("blend", "average", *case.both, "-d", case.data, "-o", paths[0])
        found = striate.average(case.both, paths[1], data=case.data, compute=FP32)
    else:
        printed = figures_of("blend", "soup", f"--{kind}", *case.both, "-d", case.data, "-o", paths[0])
        found = striate.soup(case.both, case.data, paths[1], kind=kind, compute=FP32)
    assert without_notes(printed) == plain(found.to_json()) | {"bundle": str(paths[0])}
    assert paths[0].read_bytes() == paths[1].read_bytes()
    tested = striate.evaluate(paths[0], case.data, split="test", compute=FP32)
    assert printed["test"] == plain(tested.scores.to_json())
    held_out = striate.evaluate(paths[0], case.data, split="val", compute=FP32)
    assert printed["held_out_accuracy"] == held_out.top1


def test_blend_table(figures_of, case):
    printed = figures_of("blend", "table", *case.both, "-d", case.data)
    found = striate.blend_table(case.both, case.data, compute=FP32)
    assert without_notes(printed) == plain(found.to_json())
    together = striate.ensemble(case.both, case.data, compute=FP32)
    assert printed["rows"][1]["test"] == together.ensemble.accuracy
    for one, path in zip(printed["ingredients"], case.both, strict=True):
        assert one["test"] == striate.evaluate(path, case.data, compute=FP32).top1


def test_report(figures_of, case, tmp_path):
    words = ("report", case.bundle, "-d", case.data, "-o", tmp_path / "a.html")
    (printed,) = figures_of(*words, options=())["runs"]
    (found,) = write_report([case.bundle], tmp_path / "b.html", data=case.data).runs
    assert printed["scores"] == plain(found.test.to_json())


def test_quantize(figures_of, calibrated, quantized, tmp_path):
    path = tmp_path / "int8.safetensors"
    words = ("quantize", calibrated.bundle, "-d", calibrated.data, "-o", path, "--max-drop", 100)
    printed = figures_of(*words, options=())
    kept = load_bundle(quantized.bundle).metrics["int8"]
    assert {name: printed[name] for name in kept} == plain(kept)
    tested = striate.evaluate(quantized.bundle, calibrated.data, compute=FP32)
    assert printed["accuracy_fp32"] == pytest.approx(tested.top1, abs=0.01)  # by OpenVINO, not torch


def test_predict(printed_by, case):
    words = ("predict", case.bundle, case.test, "--engine", "torch", *OPTIONS)
    lines = [json.loads(line) for line in printed_by(*words).splitlines()]
    found = striate.evaluate(case.bundle, case.data, split="test", compute=FP32).predictions
    names = [Path(file).relative_to(Path(file).parts[0]).as_posix() for file in found.files]
    expected = dict(zip(names, found.probabilities(found.temperature), strict=True))
    assert len(lines) == len(expected)
    for line in lines:
        p = expected[Path(line["file"]).relative_to(case.test).as_posix()]
        for one in line["predictions"]:
            k = found.classes.index(one["class"])
            assert one["probability"] == pytest.approx(p[k], abs=2e-6)
        assert line["predictions"][0]["probability"] == pytest.approx(p.max(), abs=2e-6)
