"""``striate report`` as a person sees it."""

import json

import numpy as np
import pytest

from striate.cli import show
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import save_predictions


@pytest.fixture
def kept(tmp_path):
    """Two predictions files about ten images: 8 and 6 of them right."""
    labels = np.array([0, 1] * 5)
    paths = []
    for name, wrong in (("first", 2), ("second", 4)):
        says = labels.copy()
        says[:wrong] = 1 - says[:wrong]
        answers = Predictions(
            name=name,
            classes=("ant", "bee"),
            files=tuple(f"{k}.png" for k in range(10)),
            labels=labels,
            logits=(2 * np.eye(2)[says]).astype(np.float32),
        )
        save_predictions(answers, tmp_path / f"{name}.csv")
        paths.append(tmp_path / f"{name}.csv")
    return paths


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(run, kept, tmp_path, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    page = tmp_path / "both.html"
    code, out, err = run("report", *kept, "-o", page)
    assert code == 0, err
    assert "80.0%" in out
    assert "60.0%" in out
    assert str(page) in out.replace("\n", "")
    table = out.splitlines()[:3]
    assert max(map(len, table)) <= width
    assert page.read_text().startswith("<!doctype html>")


def test_json_tells_what_the_page_compares(run, kept, tmp_path):
    code, out, _ = run("report", *kept, "-o", tmp_path / "p.html", "--json")
    record = json.loads(out)
    assert code == 0
    assert [one["scores"]["top1"] for one in record["runs"]] == [0.8, 0.6]
    assert record["page"] == str(tmp_path / "p.html")


def test_one_line_says_what_is_wrong(run, kept, tmp_path):
    for words, said in (
        (("report",), "Missing argument"),
        (("report", tmp_path / "nothing", "-o", tmp_path / "p.html"), "isn't there"),
        (("report", kept[0], "-o", tmp_path / "p.txt"), "ends in .html"),
        (("report", *([kept[0]] * 27), "-o", tmp_path / "p.html"), "1 to 26 runs, got 27"),
    ):
        code, out, err = run(*words)
        assert code == 2
        assert said in err
        assert len(err.strip().splitlines()) == 1
        assert out == ""


def test_help_has_an_example(run):
    code, out, _ = run("report", "--help")
    assert code == 0
    assert "striate report runs/a" in out
