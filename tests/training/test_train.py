"""The training job on small data: what it writes, how it stops, and that stopping changes nothing."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import striate
from striate.core.compute import Compute
from striate.core.errors import (
    CheckpointError,
    DataError,
    InterruptedRunError,
    NonFiniteLossError,
    UsageError,
)
from striate.recipes.recipe import parse_changes
from striate.training.loop import Trainer
from striate.weights.open import open_bundle

QUICK = {"batch_images": "64", "test_fraction": "0.2", "val_fraction": "0.1", "crop_pad_px": "2"}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """A folder of 60 small pictures in two easy classes: light on the left or on the right."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, side in (("left", 0), ("right", 1)):
        (root / name).mkdir()
        for k in range(30):
            pixels = rng.integers(0, 60, (32, 32), np.uint8)
            pixels[:, 16 * side : 16 * side + 16] += 150
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


def train_on(squares, out, **options):
    settings = {"lr": "0.02", "batch_images": "8", **options.pop("settings", {})}
    return striate.train(
        "lenet5_modern",
        squares,
        out=out,
        **parse_changes(settings),
        compute=Compute(precision="fp32"),
        **options,
    )


def test_a_run_folder_holds_what_it_promises(squares, tmp_path):
    result = train_on(squares, tmp_path / "run", epochs=6, settings={"val_fraction": "0.2", "select": "best"})
    assert result.scores.top1 == 1.0
    assert result.num_images == {"train": 42, "val": 12, "test": 6}
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "metrics.csv", "checkpoint.pt", "model.safetensors", "report.html"}
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["recipe"]["lr"] == 0.02
    assert settings["command"].startswith("striate.train('lenet5_modern', ")
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    with safe_open(result.bundle, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == ["left", "right"]
    assert json.loads(metadata["metrics"])["scores"]["top1"] == 1.0
    report = (tmp_path / "run" / "report.html").read_text()
    assert "lenet5_modern" in report
    assert "100" in report


def test_the_same_command_gives_the_same_weights_and_another_seed_others(squares, tmp_path):
    options = {"epochs": 2, "settings": {"crop_pad_px": "2", "flip": "true"}}
    first = load_file(train_on(squares, tmp_path / "a", **options).bundle)
    again = load_file(train_on(squares, tmp_path / "b", **options).bundle)
    other = load_file(train_on(squares, tmp_path / "c", seed=1, **options).bundle)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["C1.weight"], other["C1.weight"])


def test_training_disturbs_no_global_random_state_or_thread_count(squares, tmp_path):
    torch.manual_seed(123)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    result = train_on(squares, tmp_path / "run", epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    net, _ = open_bundle(result.bundle)
    assert not net.training
    assert torch.equal(before, torch.get_rng_state())


def test_evaluate_finds_the_images_that_training_held_out(squares, tmp_path):
    result = train_on(squares, tmp_path / "run", epochs=1)
    tested = striate.evaluate(result.bundle, squares, compute=Compute(precision="fp32"))
    assert "held out" in tested.split
    assert tested.scores.num_images == result.num_images["test"]
    assert tested.scores.top1 == result.scores.top1
    everything = striate.evaluate(result.bundle, squares, split="all")
    assert everything.scores.num_images == 60
    with pytest.raises(DataError, match="val split is empty"):
        striate.evaluate(result.bundle, squares, split="val")


def test_classes_are_matched_by_name(squares, tmp_path):
    result = train_on(squares, tmp_path / "run", epochs=6)
    only = tmp_path / "few"
    for name in ("right", "left"):
        (only / name).mkdir(parents=True)
        for k in range(3):
            (only / name / f"{k}.png").write_bytes((squares / name / f"{k}.png").read_bytes())
    assert striate.evaluate(result.bundle, only).scores.top1 == 1.0
    (only / "right").rename(only / "upper")
    with pytest.raises(DataError, match="not upper"):
        striate.evaluate(result.bundle, only)


def test_a_run_is_never_overwritten(squares, tmp_path):
    train_on(squares, tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="already holds a run"):
        train_on(squares, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(squares, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"try `lr=1e\+11`.*in a new `out`"):
        train_on(squares, tmp_path / "run", epochs=3, settings={"lr": "1e12"})
    good = tmp_path / "good"
    train_on(squares, good, epochs=1, checkpoint_s=0.0)
    kept = (good / "checkpoint.pt").read_bytes()
    state = torch.load(good / "checkpoint.pt", weights_only=True)
    state["net"]["C1.weight"].fill_(float("nan"))
    state["position"]["epoch"] = 0
    state["position"]["history"] = []
    torch.save(state, good / "checkpoint.pt")
    poisoned = (good / "checkpoint.pt").read_bytes()
    with pytest.raises(NonFiniteLossError, match="last good checkpoint is kept"):
        striate.resume(good, checkpoint_s=0.0)
    assert (good / "checkpoint.pt").read_bytes() == poisoned != kept


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_request_saves_and_resuming_ends_with_the_same_bits(
    squares, tmp_path, monkeypatch, signal_number
):
    options = {"epochs": 3, "settings": {"flip": "true", "average": "ema", "momentum": "0.8"}}
    whole = load_file(train_on(squares, tmp_path / "whole", **options).bundle)
    own, steps = Trainer.train_step, []

    def interrupt(trainer, batch):
        steps.append(1)
        if len(steps) == 4:
            os.kill(os.getpid(), signal_number)
        return own(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", interrupt)
    handler = signal.getsignal(signal_number)
    with pytest.raises(InterruptedRunError, match=r"continue with `resume\("):
        train_on(squares, tmp_path / "cut", **options)
    assert signal.getsignal(signal_number) is handler
    monkeypatch.undo()
    resumed = load_file(striate.resume(tmp_path / "cut").bundle)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_resume_refuses_other_data_and_damaged_files(squares, tmp_path):
    train_on(squares, tmp_path / "run", epochs=1)
    extra = squares / "left" / "new.png"
    Image.new("L", (32, 32), 77).save(extra)
    try:
        with pytest.raises(CheckpointError, match="the data, the recipe or the network changed"):
            striate.resume(tmp_path / "run")
    finally:
        extra.unlink()
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged checkpoint"):
        striate.resume(tmp_path / "run")
    weights = next(iter(torch.load(io.BytesIO(content), weights_only=True)["net"].values()))
    at = content.index(weights.contiguous().numpy().tobytes())
    checkpoint.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(CheckpointError, match=r"damaged checkpoint .a checksum differs"):
        striate.resume(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"run\.json"):
        striate.resume(tmp_path / "run")
    with pytest.raises(CheckpointError, match="expected a run folder"):
        striate.resume(tmp_path)


class Hostile:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def test_a_hostile_checkpoint_is_not_executed(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_on(squares, tmp_path / "run", epochs=1)
    torch.save({"version": 1, "net": Hostile()}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="nothing was executed"):
        striate.resume(tmp_path / "run")
    assert not (tmp_path / "executed").exists()


def test_several_labels_an_image(squares, tmp_path):
    lines = ["path,labels"]
    for name in ("left", "right"):
        for k in range(30):
            label = f"{name}|even" if k % 2 == 0 else name
            lines.append(f"{squares / name / f'{k}.png'},{label}")
    manifest = tmp_path / "list.csv"
    manifest.write_text("\n".join(lines))
    result = train_on(manifest, tmp_path / "run", epochs=8, settings={"lr": "0.05"})
    classes = result.scores.classes
    assert classes == ("even", "left", "right")
    assert result.scores.average_precision[classes.index("left")] == 1.0
    assert "left" in (tmp_path / "run" / "report.html").read_text()


COMMAND = [sys.executable, "-m", "striate.cli.main", "train"]


def state_of(file: Path) -> tuple[int, int] | None:
    """Tell one version of a file that is replaced from the next."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def kill_and_resume(
    out: Path, arguments: list[str], kills_after: list[int], environment: dict[str, str]
) -> int:
    """Start a training, kill it when it has written so many checkpoints, resume, let the last one finish."""
    kills = 0
    for wanted in [*kills_after, None]:
        again = ["--resume", str(out)] if (out / "run.json").exists() else [*arguments, "--out", str(out)]
        seen = state_of(out / "checkpoint.pt")
        process = subprocess.Popen(
            [*COMMAND, *again, "--checkpoint-seconds", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        written = 0
        while wanted is not None and process.poll() is None and written < wanted:
            now = state_of(out / "checkpoint.pt")
            written += now != seen
            seen = now
            time.sleep(0.001)  # leave the processor to the training
        if wanted is not None and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        errors = process.communicate()[1]
        assert process.returncode in ((-signal.SIGKILL, 0) if wanted is not None else (0,)), errors
    return kills


def same_after_kills(tmp_path, precision, seed, kills_after, epochs):
    arguments = [
        "lenet5_modern",
        "--data",
        "digits",
        "--recipe",
        "digits",
        "--epochs",
        str(epochs),
        "--seed",
        str(seed),
    ]
    arguments += ["--precision", precision]
    for key, value in {**QUICK, "average": "ema", "select": "best"}.items():
        arguments += ["--set", f"{key}={value}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [*COMMAND, *arguments, "--out", tmp_path / "whole"], env=environment, check=True, capture_output=True
    )
    kills = kill_and_resume(tmp_path / "cut", arguments, kills_after, environment)
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    cut = load_file(tmp_path / "cut" / "model.safetensors")
    assert whole.keys() == cut.keys()
    for name in whole:
        assert torch.equal(whole[name], cut[name]), name
    final = [
        torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["net"] for run in ("whole", "cut")
    ]
    assert all(torch.equal(final[0][name], final[1][name]) for name in final[0])
    return kills


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sigkill_at_random_moments_changes_no_bit(tmp_path, precision):
    rng = random.Random(precision)
    assert same_after_kills(tmp_path, precision, 1, [rng.randint(1, 2) for _ in range(2)], epochs=2) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sigkill_at_twenty_random_moments_changes_no_bit(tmp_path, precision):
    rng = random.Random(f"{precision} again")
    assert same_after_kills(tmp_path, precision, 2, [rng.randint(1, 5) for _ in range(20)], epochs=3) >= 5
