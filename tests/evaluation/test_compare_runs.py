"""Comparing runs: the figures recounted from the answers, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

import striate
from striate.core.errors import BundleError, DataError, UsageError
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import save_predictions
from striate.weights.bundle import load_bundle, save_bundle, with_graphs
from striate.weights.open import open_bundle

CLASSES = ("ant", "bee", "cat")


def answers(name: str, seed: int, *, num: int = 60, lean: float = 1.0) -> Predictions:
    draw = np.random.default_rng(9)
    labels = draw.integers(0, 3, num)
    logits = np.random.default_rng(seed).normal(size=(num, 3)).astype(np.float32)
    logits[np.arange(num), labels] += np.float32(lean)
    files = tuple(f"{k:03}.png" for k in range(num))
    return Predictions(
        name=name, classes=CLASSES, files=files, labels=labels, logits=logits, split="sixty images"
    )


@pytest.fixture
def saved(tmp_path):
    """Write three predictions files of the same images."""
    paths = []
    for k, lean in enumerate((0.5, 2.5, 0.5)):
        paths.append(tmp_path / f"{'abc'[k]}.csv")
        save_predictions(answers(f"net {k}", seed=k, lean=lean), paths[-1])
    return paths


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one recipe and two of another, trained for a moment on the digits."""
    root = tmp_path_factory.mktemp("runs")
    found = []
    for lr, name in (("0.02", "fast"), ("0.0001", "slow")):
        for seed in (0, 1):
            settings = {"batch_images": "64", "lr": lr, "val_fraction": "0.1", "test_fraction": "0.2"}
            striate.train(
                "mlp1", "digits", out=root / f"{name}{seed}", epochs=2, settings=settings, seed=seed
            )
            found.append(root / f"{name}{seed}")
    return found


def test_the_figures_can_be_recounted_from_the_answers(saved):
    found = striate.compare(saved[:2])
    a, b = answers("", 0, lean=0.5), answers("", 1, lean=2.5)
    right_a = [int(row.argmax()) == label for row, label in zip(a.logits, a.labels, strict=True)]
    right_b = [int(row.argmax()) == label for row, label in zip(b.logits, b.labels, strict=True)]
    only_a = sum(x and not y for x, y in zip(right_a, right_b, strict=True))
    only_b = sum(y and not x for x, y in zip(right_a, right_b, strict=True))
    pair = found.pairs[0]
    assert [one.num_correct for one in found.models] == [sum(right_a), sum(right_b)]
    assert (pair.paired.only_a, pair.paired.only_b) == (only_a, only_b)
    assert pair.paired.p_exact == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    assert pair.p_holm == pair.paired.p_exact
    nats = [
        torch.nn.functional.cross_entropy(torch.tensor(one.logits), torch.tensor(one.labels)).item()
        for one in (a, b)
    ]
    assert [one.loss for one in found.models] == pytest.approx(nats, rel=1e-5)
    assert pair.loss.difference == pytest.approx(nats[1] - nats[0], rel=1e-4)
    assert [one.file for one in pair.disagreements] == [
        a.files[k] for k in range(60) if right_a[k] != right_b[k]
    ]
    first = pair.disagreements[0]
    k = a.files.index(first.file)
    assert first.true == CLASSES[a.labels[k]]
    assert first.answer_a == CLASSES[a.logits[k].argmax()]
    assert first.answer_b == CLASSES[b.logits[k].argmax()]
    assert sum(entry.paired.num_images for entry in pair.by_class) == 60


def test_several_pairs_are_corrected_for_their_number(saved):
    found = striate.compare(saved)
    p = [pair.paired.p_exact for pair in found.pairs]
    assert [(pair.a, pair.b) for pair in found.pairs] == [(0, 1), (0, 2)]
    small, large = sorted(p)
    expected = {small: min(1.0, 2 * small), large: max(min(1.0, 2 * small), large)}
    assert [pair.p_holm for pair in found.pairs] == pytest.approx([expected[one] for one in p])
    assert json.loads(json.dumps(found.to_json()))["pairs"][1]["b"] == str(saved[2])


def test_the_order_of_images_and_classes_in_a_file_changes_nothing(saved, tmp_path):
    b = answers("net 1", seed=1, lean=2.5)
    order = np.random.default_rng(4).permutation(60)
    columns = [2, 0, 1]
    turned = replace(
        b,
        files=tuple(b.files[i] for i in order),
        classes=tuple(CLASSES[k] for k in columns),
        labels=np.argsort(columns)[b.labels[order]],
        logits=b.logits[order][:, columns],
    )
    save_predictions(turned, tmp_path / "turned.csv")
    one = striate.compare([saved[0], saved[1]]).pairs[0]
    other = striate.compare([saved[0], tmp_path / "turned.csv"]).pairs[0]
    assert other.paired == one.paired
    assert other.by_class == one.by_class
    assert other.disagreements == one.disagreements


def test_a_network_against_itself(saved):
    pair = striate.compare([saved[0], saved[0]]).pairs[0]
    assert (pair.paired.difference, pair.paired.p_exact, pair.disagreements) == (0.0, 1.0, ())


def test_several_labels_count_as_right_when_all_are(tmp_path):
    truth = np.array([[1, 0], [1, 1], [0, 0]], np.float32)
    a = np.array([[2, -1], [1, 1], [-1, -2]], np.float32)  # all right
    b = np.array([[2, 1], [1, -1], [-1, -2]], np.float32)  # one label wrong in each of the first two
    for name, logits in (("a", a), ("b", b)):
        one = Predictions(
            name=name, classes=("x", "y"), files=("p", "q", "r"), labels=truth, logits=logits, split=""
        )
        save_predictions(one, tmp_path / f"{name}.csv")
    found = striate.compare([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [one.num_correct for one in found.models] == [3, 1]
    assert {entry.name: entry.paired.only_a for entry in found.pairs[0].by_class} == {"x": 0, "y": 2}
    assert [(one.true, one.answer_b) for one in found.pairs[0].disagreements] == [
        ("x", "x, y"),
        ("x, y", "x"),
    ]


def test_runs_are_compared_on_the_images_that_their_training_held_out(runs):
    found = striate.compare([runs[0], runs[2]])
    alone = striate.evaluate(runs[2], "digits")
    assert found.num_images == alone.scores.num_images
    assert found.models[1].accuracy == pytest.approx(alone.scores.top1)
    assert [one.seed for one in found.models] == [0, 0]
    bundle = load_bundle(runs[2])
    scaled = torch.tensor(alone.predictions.logits) / bundle.temperature
    nats = torch.nn.functional.cross_entropy(scaled, torch.tensor(alone.predictions.labels)).item()
    assert found.models[1].loss == pytest.approx(nats, rel=1e-5)
    assert found.pairs[0].paired.difference < 0  # at a rate of 0.0001 nothing is learnt in two epochs


def test_seeds_of_one_recipe_are_taken_together(runs):
    found = striate.compare(runs, seeds=True)
    assert [group.indices for group in found.groups] == [(0, 1), (2, 3)]
    assert found.pairs == ()
    rates = [one.accuracy for one in found.models]
    assert found.groups[0].accuracy.mean == pytest.approx((rates[0] + rates[1]) / 2)
    assert found.groups[0].accuracy.spread == pytest.approx(abs(rates[0] - rates[1]) / 2**0.5)
    difference = found.group_differences[0]
    assert difference.seeds.difference == pytest.approx((rates[2] + rates[3] - rates[0] - rates[1]) / 2)
    assert difference.images.difference == pytest.approx(difference.seeds.difference)
    assert found.groups[0].name != found.groups[1].name


def test_one_seed_of_a_recipe_says_nothing_of_it(runs):
    found = striate.compare([runs[0], runs[2], runs[3]], seeds=True)
    assert [group.indices for group in found.groups] == [(0,), (1, 2)]
    assert found.groups[0].accuracy.interval is None
    assert found.group_differences[0].seeds is None


def test_seeds_are_pointed_out_where_they_were_not_asked_for(runs):
    assert any("`seeds=True`" in note for note in striate.compare(runs[:2]).notes)
    assert striate.compare(runs[1:3]).notes == ()


def test_where_recipes_held_out_different_shares_the_common_images_are_taken(runs, tmp_path):
    settings = {"batch_images": "64", "lr": "0.02", "val_fraction": "0.1", "test_fraction": "0.1"}
    striate.train("mlp1", "digits", out=tmp_path / "less", epochs=1, settings=settings)
    small = striate.evaluate(tmp_path / "less", "digits")
    found = striate.compare([runs[0], tmp_path / "less"])
    assert (
        found.num_images
        == len(small.predictions.files)
        < len(striate.evaluate(runs[0], "digits").predictions.files)
    )
    assert "not all networks were tested on the same images" in found.notes[0]


def test_other_images_and_other_classes_are_refused(saved, tmp_path):
    save_predictions(answers("short", seed=1, num=59), tmp_path / "short.csv")
    with pytest.raises(DataError, match="same images"):
        striate.compare([saved[0], tmp_path / "short.csv"])
    other = replace(answers("other", seed=1), classes=("ant", "bee", "dog"))
    save_predictions(other, tmp_path / "other.csv")
    with pytest.raises(DataError, match="same classes"):
        striate.compare([saved[0], tmp_path / "other.csv"])


def test_what_cannot_be_compared_is_refused(saved, tmp_path, runs):
    with pytest.raises(UsageError, match="at least two"):
        striate.compare(saved[:1])
    with pytest.raises(UsageError, match="expected `data`"):
        striate.compare([runs[0] / "model.safetensors", runs[1]])
    with pytest.raises(UsageError, match="twice"):
        striate.compare([runs[0], runs[0]], seeds=True)
    _, bundle = open_bundle(runs[0])
    elsewhere = tmp_path / "elsewhere"
    save_bundle(bundle, elsewhere / "model.safetensors")
    settings = json.loads((runs[0] / "run.json").read_text()) | {"data": ["mnist"]}
    (elsewhere / "run.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="the same data"):
        striate.compare([runs[0], elsewhere])


def test_a_network_that_diverged_is_named(runs, tmp_path):
    good = load_bundle(runs[0])
    state = {name: torch.full_like(tensor, torch.nan) for name, tensor in good.state.items()}
    save_bundle(replace(good, state=state), tmp_path / "lost.safetensors")
    with pytest.raises(BundleError, match=r"lost\.safetensors: expected finite weights"):
        striate.compare([runs[1], tmp_path / "lost.safetensors"], data="digits")
    with pytest.raises(BundleError, match=r"nowhere\.safetensors: no such file"):
        striate.compare([tmp_path / "nowhere.safetensors", runs[1]])


def test_a_file_of_a_calibrated_network_has_its_temperature(runs, tmp_path):
    hot = tmp_path / "hot.safetensors"
    save_bundle(replace(load_bundle(runs[0]), temperature=2.0), hot)
    save_predictions(striate.evaluate(hot, "digits").predictions, tmp_path / "saved.csv")
    found = striate.compare([hot, tmp_path / "saved.csv", runs[0]], data="digits")
    losses = [one.loss for one in found.models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-3)
    assert not found.notes


def test_int8_is_not_what_is_compared_and_that_is_said(runs, tmp_path):
    good = load_bundle(runs[0])
    small = tmp_path / "small.safetensors"
    save_bundle(with_graphs(good, {"int8.xml": b"<net/>", "int8.bin": b"0"}), small)
    notes = striate.compare([runs[0], small], data="digits").notes
    assert [note for note in notes if "fp32 weights" in note and note.startswith(str(small))]
