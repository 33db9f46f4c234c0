"""What a person sees who types a command, rightly or wrongly."""

import csv
import io
import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of light and dark pictures, one of them broken, and a network trained on it by the command."""
    root = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 20), ("light", 200)):
        (root / "photos" / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(level, level + 40, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{k}.png")
    (root / "photos" / "dark" / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    command = [
        "train",
        "lenet5_modern",
        "--data",
        "photos",
        "--epochs",
        "4",
        "--out",
        "run",
        "--json",
        "--device",
        "cpu",
    ]
    command += ["--set", "batch_images=8", "--set", "test_fraction=0.3", "--set", "normalise=dataset"]
    done = subprocess.run(
        [sys.executable, "-m", "striate.cli.main", *command],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return root, json.loads(done.stdout), done.stderr


def test_train_prints_json_and_progress_apart(trained):
    root, result, progress = trained
    assert result["scores"]["top1"] == 1.0
    assert result["scores"]["num_images"] == result["num_images"]["test"] == 12
    assert [b["file"] for b in result["broken"]] == ["dark/half.jpg"]
    assert progress.count("epoch ") == 4
    assert (root / "run" / "report.html").exists()


def test_evaluate(run, trained):
    root = trained[0]
    code, out, _ = run("evaluate", root / "run", "--data", root / "photos", "--split", "all")
    assert code == 0
    assert "40 images" in out
    assert "dark" in out
    code, out, _ = run("evaluate", root / "run" / "model.safetensors", "--data", root / "photos", "--json")
    record = json.loads(out)
    assert record["num_images"] == 12
    assert record["top1_interval"][0] < record["top1"] <= 1


def test_predict_in_three_formats(run, trained):
    root = trained[0]
    photo = root / "photos" / "light" / "3.png"
    code, out, _ = run("predict", root / "run", photo)
    assert code == 0
    assert "light" in out
    code, out, _ = run("predict", root / "run", root / "photos" / "light", "--format", "csv", "--top", 1)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["class_1"] for row in rows] == ["light"] * 20
    code, out, err = run("predict", root / "run", root / "photos" / "dark", "--format", "jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 21
    assert code == 1  # a broken file is among them
    assert "1 of 21" in err
    assert [r["file"].endswith("half.jpg") for r in records if r["error"]] == [True]


def test_data(run, trained):
    root = trained[0]
    code, out, _ = run("data", root / "photos")
    assert code == 1
    assert "half.jpg" in out
    code, out, _ = run("data", "digits")
    assert code == 0
    assert "1,797 images, 10 classes" in out
    code, out, _ = run("data", "digits", "--json")
    assert json.loads(out)["num_images"] == 1797


def test_nets(run):
    code, out, _ = run("nets", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["lenet5_rbf"]["parameters"] == 60_000
    assert rows["vgg16"]["parameters"] == 138_357_544
    code, out, _ = run("nets")
    assert "269,722" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train"], 2, "expected the name of a network"),
        (["train", "lenet5"], 2, "striate train lenet5 --data FOLDER"),
        (["train", "lenet6", "-d", "digits"], 2, "did you mean lenet5"),
        (["train", "lenet5", "-d", "digits", "--recipe", "fast"], 2, "expected the name of a recipe"),
        (["train", "lenet5", "-d", "digits", "--set", "lr"], 2, "expected key=value"),
        (["train", "lenet5", "-d", "digits", "--set", "rate=1"], 2, "no field 'rate'"),
        (["train", "lenet5", "-d", "digits", "--arg", "input_px=64"], 2, "lenet5 expects"),
        (["train", "lenet5", "-d", "digits", "--device", "tpu"], 2, "'tpu' is not one of 'auto', 'cpu'"),
        (["train", "lenet5", "-d", "digits", "--precision", "fp8"], 2, "'fp8' is not one of 'auto', 'fp32'"),
        (
            ["train", "lenet5", "-d", "digits", "--compile", "maybe"],
            2,
            "'maybe' is not one of 'auto', 'on'",
        ),
        (["train", "lenet5", "-d", "nowhere/at/all"], 2, "nowhere/at/all"),
        (["train", "--resume", "nowhere"], 1, "expected a run folder"),
        (["train", "lenet5", "--resume", "nowhere"], 2, "it takes no NET"),
        (
            ["train", "--resume", "nowhere", "--seed", "3", "--precision", "bf16"],
            2,
            "it takes no --seed, --precision",
        ),
        (
            ["evaluate", "nowhere", "-d", "digits", "--split", "half"],
            2,
            "'half' is not one of 'auto', 'train'",
        ),
        (["train", "lenet5", "-d", "digits", "--epochs", "0"], 2, "--epochs"),
        (["evaluate", "nowhere", "-d", "digits"], 1, "no such file"),
        (["predict", "nowhere", "x.jpg"], 1, "no such file"),
        (["data", "nowhere"], 2, "nowhere"),
        (["data", "."], 1, ""),
    ],
)
def test_wrong_input_gives_one_line(run, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found, out, err = run(*words)
    lines = [line for line in err.splitlines() if line.strip()]
    assert (found, out) == (code, "")
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list(tmp_path.iterdir())  # and nothing is left behind


def test_unknown_option_is_a_usage_error(run):
    code, _, err = run("train", "lenet5", "--speed", "9")
    assert code == 2
    assert "--speed" in err


def test_debug_shows_the_traceback(run):
    from striate.core.errors import UsageError

    with pytest.raises(UsageError):
        run("train", "lenet6", "-d", "digits", "--debug")


@pytest.mark.parametrize("command", ["nets", "train", "evaluate", "predict", "data"])
def test_every_command_has_help_with_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "Example" in out


def test_help_does_not_import_torch():
    program = "import sys; from striate.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
    program += "print('HEAVY' if {'torch', 'numpy', 'PIL'} & set(sys.modules) else 'LIGHT')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("LIGHT")


def test_names_with_markup_in_them_are_printed_as_they_are(run, trained, tmp_path):
    root = trained[0]
    lines = ["path,label"]
    for name in ("dark", "light"):
        lines += [f"{root / 'photos' / name / f'{k}.png'},[/]{name}" for k in range(20)]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    out = tmp_path / "o[dd] [/x]"
    code, printed, err = run("train", "lenet5_modern", "-d", tmp_path / "list.csv", "--epochs", 1, "-o", out)
    assert code == 0, err
    assert str(out) in printed.replace("\n", "")
    code, printed, err = run("evaluate", out, "-d", tmp_path / "list.csv", "--split", "all")
    assert code == 0, err
    assert "[/]dark" in printed


def test_an_interrupt_outside_training_says_so_and_exits_with_1(run, monkeypatch):
    import striate.data.inspect
    import striate.training.train

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(striate.data.inspect, "open_source", interrupted)
    code, out, err = run("data", "digits")
    assert (code, out, err) == (1, "", "error: interrupted\n")
    monkeypatch.setattr(striate.training.train, "open_source", interrupted)
    code, out, err = run("train", "lenet5_modern", "--data", "digits")
    assert (code, out) == (1, "")
    assert "striate train --resume RUN" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["nets"], ["anatomy", "lenet5", "--json"]])
def test_a_full_disk_is_no_bug(words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "striate.cli.main", *words], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "error: can't write (No space left on device): free some space\n"


def test_the_recorded_command_repeats_a_training(run, trained, monkeypatch, tmp_path):
    root = trained[0]
    monkeypatch.chdir(root)
    command = json.loads((root / "run" / "run.json").read_text())["command"]
    program, *words = shlex.split(command)
    assert program == "striate"
    code, _, _ = run(*words, "--out", tmp_path / "again")
    assert code == 0
    first, again = (
        load_file(root / "run" / "model.safetensors"),
        load_file(tmp_path / "again" / "model.safetensors"),
    )
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
