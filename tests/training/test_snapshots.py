"""Snapshots at the ends of cycles, and both kinds of weights of a run with an average."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.core.compute import Compute
from striate.core.errors import CheckpointError, UsageError
from striate.recipes.recipe import parse_changes
from striate.training.loop import Trainer
from striate.weights.bundle import load_bundle
from striate.weights.run_folder import RunFolder, abandon_run, create_run, snapshot_files


class Killed(BaseException):
    """Stands for a kill: nothing is caught or saved on its way."""


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """40 small pictures in two classes that are hard to tell apart, so that weights keep moving."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, side in (("left", 0), ("right", 1)):
        (root / name).mkdir()
        for k in range(20):
            pixels = rng.integers(0, 200, (32, 32), np.uint8)
            pixels[:, 16 * side : 16 * side + 16] += 30
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


def train(squares, out, epochs=6, **options):
    settings = {"batch_images": "8", "lr": "0.02", "val_fraction": "0.2", "flip": "true"}
    settings |= {"schedule": "cyclic", "cycles": "3", "select": "best", **options.pop("settings", {})}
    return striate.train(
        "lenet5_modern",
        squares,
        out=out,
        **parse_changes(settings),
        epochs=epochs,
        compute=Compute(precision="fp32"),
        **options,
    )


def contents(run):
    """Every file of weights of a run, by name."""
    return {
        path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("*.safetensors"))
    }


@pytest.fixture(scope="module")
def whole(squares, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(squares, out, settings={"average": "ema"})


def test_a_bundle_for_each_cycle_with_its_own_weights(whole, squares):
    assert [path.name for path in whole.snapshots] == [f"snapshot_{k}.safetensors" for k in (1, 2, 3)]
    bundles = [load_bundle(path) for path in whole.snapshots]
    assert [bundle.metrics["epoch"] for bundle in bundles] == [2, 4, 6]
    assert [bundle.metrics["snapshot"] for bundle in bundles] == [1, 2, 3]
    assert {bundle.metrics["weights"] for bundle in bundles} == {"raw"}
    assert not torch.equal(bundles[0].state["C1.weight"], bundles[1].state["C1.weight"])
    assert load_bundle(whole.bundle).metrics["weights"] == "ema"
    rates = [row["lr"] for row in whole.history]
    assert rates[0] == rates[2] == rates[4] == 0.02  # each cycle starts at the peak
    assert rates[1] == rates[3] == rates[5] == pytest.approx(0.01)  # and is half way down in the middle


def test_the_validation_error_of_a_snapshot_is_that_of_its_own_weights(whole, squares):
    for path in (*whole.snapshots, whole.last):
        measured = striate.evaluate(path, squares, split="val", compute=Compute(precision="fp32"))
        assert load_bundle(path).metrics["val_error"] == measured.scores.top1_error


def test_the_last_weights_are_those_of_the_checkpoint_and_of_the_last_snapshot(whole):
    last = load_bundle(whole.last)
    final = torch.load(whole.run / "checkpoint.pt", weights_only=True)["net"]
    third = load_bundle(whole.snapshots[-1])
    assert last.metrics["weights"] == "raw"
    assert last.metrics["epoch"] == 6
    assert last.state.keys() == final.keys()
    for name, tensor in last.state.items():
        assert torch.equal(tensor, final[name])
        assert torch.equal(tensor, third.state[name])
    average = load_bundle(whole.bundle)
    assert average.recipe == last.recipe
    assert average.classes == last.classes
    assert not torch.equal(average.state["C1.weight"], last.state["C1.weight"])


def test_without_an_average_and_cycles_there_is_one_bundle_only(squares, tmp_path):
    settings = {"schedule": "constant", "cycles": "1", "average": "none"}
    result = train(squares, tmp_path / "run", epochs=1, settings=settings)
    assert result.last is None
    assert result.snapshots == ()
    assert list(contents(tmp_path / "run")) == ["model.safetensors"]
    assert load_bundle(result.bundle).metrics["weights"] == "raw"


def test_polyak_averages_from_its_epoch_on_and_keeps_the_last(squares, tmp_path):
    settings = {"schedule": "constant", "cycles": "1", "average": "polyak", "select": "last"}
    steps = []
    own = Trainer.train_step

    def note(trainer, batch):
        lr = own(trainer, batch)
        steps.append(trainer.training.net.state_dict()["C1.weight"].double().clone())
        return lr

    settings["polyak_start_epoch"] = "1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", note)
        result = train(squares, tmp_path / "run", epochs=2, settings=settings)
    iterates = steps[len(steps) // 2 :]  # those of the second epoch
    assert len(iterates) > 1
    mean = torch.stack(iterates).mean(0)
    average, last = load_bundle(result.bundle), load_bundle(result.last)
    assert average.metrics["weights"] == "polyak"
    torch.testing.assert_close(average.state["C1.weight"].double(), mean, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(last.state["C1.weight"].double(), iterates[-1], rtol=0, atol=0)


@pytest.mark.parametrize(("moment", "between"), [(1, 1), (8, 1), (13, 5), (20, 7), (22, 1000)])
def test_a_killed_run_ends_with_the_same_files_to_the_bit(
    whole, squares, tmp_path, monkeypatch, moment, between
):
    """Killed after so many steps (24 in all, 8 a cycle), with so many from one checkpoint to the next."""
    own, steps = Trainer.train_step, []

    def kill(trainer, batch):
        if len(steps) == moment:
            raise Killed
        lr = own(trainer, batch)
        steps.append(lr)
        if len(steps) % between == 0:
            trainer.save()
        return lr

    monkeypatch.setattr(Trainer, "train_step", kill)
    with pytest.raises(Killed):
        train(squares, tmp_path / "cut", settings={"average": "ema"}, checkpoint_s=1e9)
    monkeypatch.undo()
    assert (tmp_path / "cut" / "checkpoint.pt").exists() == (between <= moment)
    resumed = striate.resume(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(whole.run)
    assert [path.name for path in resumed.snapshots] == [path.name for path in whole.snapshots]
    assert resumed.last is not None


def test_the_last_weights_that_an_older_run_did_not_write_come_with_a_resume(whole, squares, tmp_path):
    train(squares, tmp_path / "run", settings={"average": "ema"})
    (tmp_path / "run" / "last.safetensors").unlink()
    striate.resume(tmp_path / "run")
    assert contents(tmp_path / "run") == contents(whole.run)


def test_the_recorded_call_repeats_it(whole, tmp_path):
    call = json.loads((whole.run / "run.json").read_text())["command"]
    assert "schedule='cyclic', cycles=3" in call
    again = eval(call.removesuffix(")") + ", out=out)", {"striate": striate, "out": tmp_path / "again"})
    assert contents(again.run) == contents(whole.run)


def test_a_run_begun_before_there_were_cycles_goes_on(squares, tmp_path):
    """Its run.json names no cycles, and the key of its checkpoint was made without them."""
    settings = {"schedule": "cosine", "cycles": "1"}
    first = train(squares, tmp_path / "run", epochs=2, settings=settings)
    before = contents(tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "run.json").read_text())
    del plan["recipe"]["cycles"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(plan))
    again = striate.resume(tmp_path / "run")
    assert contents(tmp_path / "run") == before
    assert again.history == first.history


def test_cycles_count_in_the_key_of_a_cyclic_run(squares, tmp_path):
    train(squares, tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "run.json").read_text())
    plan["recipe"]["cycles"] = 2
    (tmp_path / "run" / "run.json").write_text(json.dumps(plan))
    with pytest.raises(CheckpointError, match="changed since this run began"):
        striate.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("epochs", "settings", "words"),
    [
        (5, {}, r"whole epochs in each of the 3 cycles, got 5 epochs: `epochs=6`"),
        (2, {}, r"whole epochs in each of the 3 cycles, got 2 epochs: `epochs=3`"),
        (6, {"warmup_epochs": "1"}, r"restarts at its peak, got 1: set `warmup_epochs=0`"),
        (6, {"cycles": "0"}, r"cycles: expected at least 1, got 0"),
    ],
)
def test_refusals(squares, tmp_path, epochs, settings, words):
    with pytest.raises(UsageError, match=words):
        train(squares, tmp_path / "run", epochs=epochs, settings=settings)
    assert not (tmp_path / "run").exists()


def test_snapshots_are_in_the_order_of_their_cycles(tmp_path):
    run = RunFolder(tmp_path)
    assert snapshot_files(run) == ()
    run.snapshots.mkdir()
    for number in (10, 2, 1):
        run.snapshot(number).touch()
    (run.snapshots / ".snapshot_3.safetensors.x.tmp").touch()
    (run.snapshots / "snapshot_best.safetensors").touch()
    assert [path.stem for path in snapshot_files(run)] == ["snapshot_1", "snapshot_2", "snapshot_10"]


def test_a_folder_with_snapshots_is_a_run_and_an_empty_one_is_not(tmp_path):
    run = create_run(tmp_path / "run", {})
    run.snapshots.mkdir()
    abandon_run(run)
    assert not run.path.exists()
    run = create_run(tmp_path / "run", {})
    run.snapshots.mkdir()
    run.snapshot(1).write_bytes(b"weights")
    abandon_run(run)
    assert run.snapshot(1).read_bytes() == b"weights"
    with pytest.raises(UsageError, match="already holds a run"):
        create_run(tmp_path / "run", {})
    assert run.snapshot(1).read_bytes() == b"weights"
