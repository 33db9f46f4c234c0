"""``striate train --snapshots``: what it prints, writes and refuses."""

import json

import pytest

from striate.cli import show

TINY = ["train", "lenet5_modern", "--data", "digits", "--recipe", "digits", "--set", "batch_images=128"]


@pytest.mark.parametrize("width", [80, 120])
def test_it_says_what_is_there(run, tmp_path, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    out = tmp_path / "run"
    code, printed, _ = run(*TINY, "--epochs", 2, "--snapshots", 2, "--out", out)
    assert code == 0
    assert f"last    {out}/last.safetensors  (the last weights; the bundle holds an average)" in printed
    assert f"snapshots  2 in {out}/snapshots" in printed
    assert sorted(path.name for path in (out / "snapshots").iterdir()) == [
        "snapshot_1.safetensors",
        "snapshot_2.safetensors",
    ]
    command = json.loads((out / "run.json").read_text())["command"]
    assert "--set schedule=cyclic --set cycles=2" in command


def test_json_names_the_files(run, tmp_path):
    out = tmp_path / "run"
    code, printed, _ = run(*TINY, "--epochs", 1, "--snapshots", 1, "--out", out, "--json")
    assert code == 0
    result = json.loads(printed)
    assert result["last"] == str(out / "last.safetensors")
    assert result["snapshots"] == [str(out / "snapshots" / "snapshot_1.safetensors")]
    plain = tmp_path / "plain"
    code, printed, _ = run(*TINY, "--epochs", 1, "--set", "average=none", "--out", plain, "--json")
    assert code == 0
    result = json.loads(printed)
    assert result["last"] is None
    assert result["snapshots"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", 7, "--snapshots", 2], "got 7 epochs: --epochs 8"),
        (["--snapshots", 2, "--set", "cycles=3"], "--snapshots sets cycles itself: leave out --set cycles=3"),
        (["--snapshots", 2, "--set", "schedule=cosine"], "leave out --set schedule=cosine"),
        (["--snapshots", 2, "--set", "warmup_epochs=1"], "--set warmup_epochs=0"),
        (["--snapshots", 0], "snapshots"),
    ],
)
def test_refusals_are_short_and_leave_nothing(run, tmp_path, words, said):
    code, printed, errors = run(*TINY, *words, "--out", tmp_path / "run")
    assert code == 2
    assert printed == ""
    assert said in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_a_resume_takes_no_snapshots(run, tmp_path):
    code, _, errors = run("train", "--resume", tmp_path, "--snapshots", 2)
    assert code == 2
    assert "it takes no --snapshots" in errors
