"""Pages of runs, bundles and predictions: what they hold, and what they say when something is gone."""

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss

import striate
from striate.core.errors import CheckpointError, DataError, UsageError
from striate.evaluation.measure import evaluate
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import save_predictions
from striate.recipes.recipe import parse_changes
from striate.report.render import render_report
from striate.report.run_report import RunReport, ShownImage
from striate.report.write import write_report
from striate.weights.bundle import load_bundle, save_bundle
from striate.weights.open import open_bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty pictures of two classes that are not quite separable."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for name, level in (("dark", 100), ("light", 130)):
        (folder / name).mkdir()
        for k in range(20):
            pixels = draw.normal(level, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def runs(photos, tmp_path_factory):
    """The same tiny training with two seeds."""
    root = tmp_path_factory.mktemp("runs")
    settings = {"val_fraction": "0.2", "test_fraction": "0.5", "batch_images": "8"}
    return [
        striate.train(
            "lenet5_modern", photos, epochs=2, **parse_changes(settings), seed=seed, out=root / f"seed{seed}"
        ).run
        for seed in (0, 1)
    ]


def page_of(*told, out, **options):
    return write_report(told, out, **options).page.read_text()


def test_a_run_is_told_as_it_was_trained(runs, tmp_path):
    result = write_report(runs[:1], tmp_path / "one.html")
    (run,) = result.runs
    trained = json.loads((runs[0] / "run.json").read_text())
    assert run.command == trained["command"]
    assert run.seed == 0
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.wall_s == pytest.approx(sum(row["seconds"] for row in run.history))
    assert sum(run.num_images.values()) == 40
    # The training tested the same images: its own page names the same accuracy.
    own = (runs[0] / "report.html").read_text()
    sentence = re.search(r"<b>([\d.]+%)</b> of (\d+) test images", own)
    page = result.page.read_text()
    assert re.search(r"<b>([\d.]+%)</b> of (\d+) test images", page)[0] == sentence[0]
    assert "never trained on, never used to choose anything" in page
    assert len(run.predictions.files) == int(sentence[2])
    assert run.num_parameters == sum(
        p.numel() for p in open_bundle(runs[0] / "model.safetensors")[0].parameters()
    )


def test_the_training_writes_the_same_sections(runs):
    page = (runs[0] / "report.html").read_text()
    for heading in ("How far its probabilities can be trusted", "What it takes for what", "macro average"):
        assert heading in page


def test_two_runs_are_compared_and_summarised(runs, tmp_path):
    page = page_of(*runs, out=tmp_path / "two.html")
    for heading in ("Image by image", "What another seed changes", "Each run by itself", "How they learned"):
        assert heading in page
    assert "Nothing: every setting is the same." in page


def test_pictures_are_the_images_of_the_files_named(runs, photos, tmp_path):
    (run,) = write_report(runs[:1], tmp_path / "one.html").runs
    shown = [*run.mistakes, *run.suspects, *run.losses]
    assert shown  # not separable: some answers are wrong
    for picture in shown:
        grey = np.asarray(Image.open(photos / picture.file).convert("L"))
        assert np.array_equal(picture.image[:, :, 0], grey)
        assert picture.true == picture.file.split("/")[0]


def test_gone_data_leave_the_stored_figures(runs, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(runs[0], moved)
    settings = json.loads((moved / "run.json").read_text())
    settings["data"] = ["/nowhere/at-all"]
    (moved / "run.json").write_text(json.dumps(settings))
    notes = []
    result = write_report(
        [moved], tmp_path / "gone.html", progress=lambda stage, done, total, note="": notes.append(note)
    )
    page = result.page.read_text()
    assert any("/nowhere/at-all" in note for note in notes)
    assert "could not be read. The results are those stored with its weights" in page
    stored = re.search(r"<b>([\d.]+%)</b> of (\d+) test images", (runs[0] / "report.html").read_text())
    assert stored[0] in page
    assert "How it learned" in page
    assert result.runs[0].predictions is None
    # With `data` it is tested again; data that can't be opened are then an error.
    with pytest.raises(UsageError, match="nothing-here"):
        write_report([moved], tmp_path / "no.html", data=tmp_path / "nothing-here")
    assert not (tmp_path / "no.html").exists()


def test_a_bundle_alone_has_no_curves(runs, photos, tmp_path):
    bundle = tmp_path / "weights.safetensors"
    shutil.copy(runs[0] / "model.safetensors", bundle)
    page = page_of(bundle, out=tmp_path / "alone.html")
    assert "How it learned" not in page
    assert "no labelled images were given to test it on" in page
    tested = write_report([bundle], tmp_path / "tested.html", data=photos).runs[0]
    assert tested.predictions is not None
    # Beside a run folder it is tested on that run's images.
    beside = write_report([runs[1], bundle], tmp_path / "beside.html").runs[1]
    assert beside.predictions.files == tested.predictions.files


def test_predictions_make_a_page(runs, photos, tmp_path):
    found = evaluate(runs[0], photos)
    save_predictions(found.predictions, tmp_path / "kept.csv")
    result = write_report([tmp_path / "kept.csv"], tmp_path / "kept.html")
    page = result.page.read_text()
    assert result.runs[0].test.top1 == found.scores.top1
    assert "Made from predictions alone" in page
    assert "How it learned" not in page
    both = page_of(runs[0], tmp_path / "kept.csv", out=tmp_path / "both.html")
    assert "correct on exactly the same images" in both


def test_several_labels_get_thresholds_of_the_validation_images(tmp_path):
    draw = np.random.default_rng(1)
    lines = ["path,labels"]
    for k in range(60):
        red, green = k % 2, (k // 2) % 2
        pixels = draw.normal(60, 30, (32, 32, 3)) + 90 * np.array([red, green, 0])
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{k}.png")
        names = [name for name, there in (("red", red), ("green", green)) if there] or ["blue"]
        lines.append(f"{k}.png,{';'.join(names)}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    settings = {"val_fraction": "0.2", "test_fraction": "0.3", "batch_images": "8"}
    run = striate.train(
        "lenet5_modern", tmp_path / "list.csv", epochs=2, **parse_changes(settings), out=tmp_path / "r"
    ).run
    result = write_report([run], tmp_path / "several.html")
    page = result.page.read_text()
    assert "mean average precision" in page
    assert "chosen on validation images for the highest F1" in page
    cuts = result.runs[0].test.thresholds
    assert len(cuts) == 3
    assert any(cut != 0.5 for cut in cuts)
    assert "are not paired" in page_of(run, run, out=tmp_path / "pair.html")


def test_pages_are_small(photos, tmp_path):
    """48 photographs of 224 px stay below 2 MB."""

    draw = np.random.default_rng(0)
    rough = draw.integers(0, 256, (24, 28, 28, 3), np.uint8)
    shown = tuple(
        ShownImage(np.asarray(Image.fromarray(one).resize((224, 224))), "f", "a", "b", 0.9, 0.1)
        for one in rough
    )
    labels, logits = np.array([0, 1]), np.eye(2, dtype=np.float32)
    told = Predictions(name="x", classes=("a", "b"), files=("1", "2"), labels=labels, logits=logits)
    run = RunReport(title="t", classes=("a", "b"), test=told.scores(), mistakes=shown, suspects=shown)
    assert len(render_report(run)) < 2_000_000


def test_wrong_requests_are_refused_and_leave_nothing(runs, tmp_path):
    out = tmp_path / "page.html"
    with pytest.raises(UsageError, match=r"ends in \.html"):
        write_report(runs, tmp_path / "page.pdf")
    with pytest.raises(UsageError, match="not-there"):
        write_report([tmp_path / "not-there"], out)
    with pytest.raises(UsageError, match="1 to 26"):
        write_report([], out)
    with pytest.raises(CheckpointError, match=r"run\.json"):
        write_report([tmp_path], out)
    broken = tmp_path / "broken"
    shutil.copytree(runs[0], broken)
    (broken / "metrics.csv").write_text("epoch,lr\none,two\n")
    with pytest.raises(DataError, match=r"metrics\.csv"):
        write_report([broken], out)
    assert not out.exists()
    assert [name for name in os.listdir(tmp_path) if name.endswith(".tmp")] == []


def test_an_unknown_split_is_refused_before_anything_is_read(runs, tmp_path):
    with pytest.raises(UsageError, match="got 'foo'"):
        write_report(runs[:1], tmp_path / "x.html", split="foo")


def test_the_loss_is_at_the_temperature_that_the_page_speaks_of(runs, tmp_path):
    hot = tmp_path / "hot.safetensors"
    save_bundle(replace(load_bundle(runs[0]), temperature=3.0), hot)
    (run,) = write_report(
        [hot], tmp_path / "hot.html", data=json.loads((runs[0] / "run.json").read_text())["data"]
    ).runs
    logits, labels = run.predictions.logits.astype(np.float64) / 3.0, run.predictions.labels
    nats = log_loss(labels, softmax(logits, axis=1), labels=[0, 1])
    assert run.loss == pytest.approx(nats, rel=1e-6)
    assert run.test.loss != pytest.approx(nats, rel=1e-3)
    text = re.sub(r"<[^>]+>|\s+", " ", (tmp_path / "hot.html").read_text())
    assert re.search(rf"cross-entropy\s+{nats:.4g} nats", re.sub(r"\s+", " ", text))
    (alone,) = write_report([hot], tmp_path / "alone.html").runs
    assert alone.loss == alone.test.loss
    assert "cross-entropy at a temperature of 1" in (tmp_path / "alone.html").read_text()
