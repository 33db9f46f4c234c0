"""Blends of real bundles on digits and on small pictures: files in, files out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import softmax

import striate
from striate.blend.average import state_digest
from striate.core.compute import Compute
from striate.core.errors import BundleError, DataError, UsageError
from striate.data.batches import in_order, loader_for
from striate.data.dataset import fit_preprocessing, for_network, open_dataset
from striate.data.sources import open_source
from striate.metrics.predictions_file import load_predictions
from striate.nets import build
from striate.recipes.recipe import Recipe
from striate.weights.bundle import Bundle, load_bundle, save_bundle

FP32 = Compute(precision="fp32")


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """A parent, three noisy children of it, and a network from another start; all on digits."""
    root = tmp_path_factory.mktemp("family")
    for name, seed in (("parent", 0), ("stranger", 1)):
        striate.train(
            "lenet5_modern",
            "digits",
            out=root / name,
            epochs=4,
            seed=seed,
            settings={"val_fraction": "0.15"},
            precision="fp32",
        )
    parent = load_bundle(root / "parent")
    for seed, noise in ((1, 0.05), (2, 0.1), (3, 0.4)):
        draw = torch.Generator().manual_seed(seed)
        state = {
            name: tensor + noise * tensor.std() * torch.randn(tensor.shape, generator=draw)
            for name, tensor in parent.state.items()
        }
        data = {**parent.data, "started_from": "parent"}
        save_bundle(
            replace(parent, state=state, seed=seed, data=data, temperature=1.0 + seed),
            root / f"child{seed}.safetensors",
        )
    return root


@pytest.fixture(scope="module")
def children(family):
    return [family / f"child{k}.safetensors" for k in (1, 2, 3)]


def accuracy(bundle, split):
    return striate.evaluate(bundle, "digits", split=split, compute=FP32).scores.top1


def metadata(path):
    with safe_open(path, framework="pt") as file:
        return {
            key: json.loads(value)
            for key, value in file.metadata().items()
            if value[:1] in "{[" or key == "seed"
        }


def test_uniform_soup_is_the_mean_of_the_files(children, tmp_path):
    out = tmp_path / "soup.safetensors"
    result = striate.soup(children, "digits", out, kind="uniform", compute=FP32)
    states = [load_file(path) for path in children]
    for name, tensor in load_file(out).items():
        expected = np.mean([s[name].double().numpy() for s in states], axis=0)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6, atol=1e-8)
    assert result.held_out == accuracy(out, "val")
    assert [h.held_out for h in result.ingredients] == [accuracy(path, "val") for path in children]
    assert [h.test for h in result.ingredients] == [accuracy(path, "test") for path in children]
    assert result.gain.accuracy_b == accuracy(out, "test")
    best = max(range(3), key=lambda i: result.ingredients[i].held_out)
    assert result.gain.accuracy_a == result.ingredients[best].test
    assert result.warning is None


def test_the_bundle_tells_what_it_is(children, tmp_path):
    out = tmp_path / "soup.safetensors"
    striate.soup(children, "digits", out, kind="greedy", compute=FP32)
    told = metadata(out)
    assert [one["file"] for one in told["ingredients"]] == ["child1", "child2", "child3"]
    for one, path in zip(told["ingredients"], children, strict=True):
        assert one["state_blake2b"] == state_digest(load_file(path))
        assert one["held_out_accuracy"] == accuracy(path, "val")
        assert one["recipe"] == "lenet5"
    assert [one["seed"] for one in told["ingredients"]] == [1, 2, 3]
    assert sum(one["coefficient"] for one in told["ingredients"]) == pytest.approx(1)
    blend = told["metrics"]["blend"]
    assert blend["kind"] == "greedy"
    assert blend["rule"] == "kept if not worse"
    assert len(blend["steps"]) == 3
    assert "validation images" in blend["held_out"]
    assert told["metrics"]["split"] == "test"
    assert told["seed"] is None
    parent = load_bundle(children[0])
    made = load_bundle(out)
    assert (made.net, made.classes, made.preprocessing) == (parent.net, parent.classes, parent.preprocessing)
    assert made.data["fingerprint"] == parent.data["fingerprint"]


def test_greedy_is_never_worse_than_its_best_on_its_held_out_images(family, children):
    paths = [*children, family / "stranger"]
    result = striate.soup(paths, "digits", None, compute=FP32)
    assert result.held_out >= max(h.held_out for h in result.ingredients)
    assert result.bundle is None
    again = striate.soup(paths[::-1], "digits", None, compute=FP32)
    assert again.held_out == result.held_out
    assert [h.coefficient for h in again.ingredients[::-1]] == [h.coefficient for h in result.ingredients]


def test_learned_soup_is_repeatable_and_stores_its_temperature(children, tmp_path):
    options = {"kind": "learned", "compute": Compute(precision="fp32", batch_images=64), "seed": 3}
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    first = striate.soup(children, "digits", one, **options)
    striate.soup(children, "digits", two, **options)
    assert one.read_bytes() == two.read_bytes()
    assert load_bundle(one).temperature == first.temperature != 1.0
    assert sum(h.coefficient for h in first.ingredients) == pytest.approx(1)
    layers = striate.soup(children, "digits", None, by_layer=True, **options)
    names = {name.rpartition(".")[0] for name in load_file(children[0])}
    assert set(layers.ingredients[0].layers) == names


def test_weighted_average_and_copies(children, family, tmp_path):
    out = tmp_path / "mean.safetensors"
    result = striate.average(children[:2], out, weights=[1, 3])
    assert [h.coefficient for h in result.ingredients] == [0.25, 0.75]
    a, b = load_file(children[0]), load_file(children[1])
    for name, tensor in load_file(out).items():
        expected = (a[name].double() + 3 * b[name].double()) / 4
        np.testing.assert_allclose(tensor.numpy(), expected.numpy(), rtol=1e-6, atol=1e-9)
    striate.average([family / "parent", family / "parent", family / "parent"], out, force=True)
    copy, original = load_file(out), load_file(family / "parent" / "model.safetensors")
    assert all(torch.equal(copy[name], original[name]) for name in original)


def test_strangers_are_mixed_but_the_result_is_explained(family):
    result = striate.soup(
        [family / "parent", family / "stranger"], "digits", None, kind="uniform", compute=FP32
    )
    assert result.held_out < min(h.held_out for h in result.ingredients)
    assert "trained from different starts" in result.warning
    assert "`weights=PARENT`" in result.warning


def test_ensemble_is_the_numpy_mean(family, children, tmp_path):
    saved = tmp_path / "answers.csv"
    members = [family / "parent", children[0], family / "stranger"]
    result = striate.ensemble(members, "digits", save=saved, compute=FP32)
    singly = [striate.evaluate(m, "digits", split="test", compute=FP32) for m in members]
    temperatures = [load_bundle(m).temperature for m in members]
    p = [
        softmax(one.predictions.logits.astype(np.float64) / t, axis=1)
        for one, t in zip(singly, temperatures, strict=True)
    ]
    mean = np.mean(p, axis=0)
    np.testing.assert_allclose(result.predictions.probabilities(), mean, rtol=1e-4, atol=1e-7)
    labels = singly[0].predictions.labels
    assert result.ensemble.accuracy == (mean.argmax(1) == labels).mean()
    accuracies = [(q.argmax(1) == labels).mean() for q in p]
    assert [m.accuracy for m in result.models] == accuracies
    assert result.over_mean.difference == pytest.approx(result.ensemble.accuracy - np.mean(accuracies))
    assert result.over_best.difference == pytest.approx(result.ensemble.accuracy - max(accuracies))
    assert striate.evaluate(saved).loss == pytest.approx(result.ensemble.loss, rel=1e-6)
    again = striate.ensemble([saved, members[0]], "digits", compute=FP32)
    assert [m.name for m in again.models] == ["answers.csv", "parent"]
    assert again.models[0].accuracy == result.ensemble.accuracy
    assert load_predictions(saved).split.startswith("test split")


def test_ensemble_of_other_architectures_and_preprocessing(family, tmp_path):
    torch.manual_seed(0)
    pre = fit_preprocessing(open_source("digits"), (3, 32, 32), canvas_px=None)
    net = build("convnetjs_cifar", num_classes=10)
    recipe = load_bundle(family / "parent").recipe
    other = Bundle(
        net="convnetjs_cifar",
        classes=tuple(reversed("0123456789")),
        preprocessing=pre,
        state=net.state_dict(),
        recipe=recipe,
    )
    save_bundle(other, tmp_path / "convnetjs.safetensors")
    paths = [family / "parent", tmp_path / "convnetjs.safetensors"]
    result = striate.ensemble(paths, "digits", of="logits", compute=FP32)
    logits = []
    for path in paths:
        found = striate.evaluate(path, "digits", split="test", compute=FP32).predictions
        bundle = load_bundle(path)
        columns = [bundle.classes.index(name) for name in "0123456789"]
        logits.append(found.logits[:, columns] / bundle.temperature)
    np.testing.assert_allclose(result.predictions.logits, np.mean(logits, axis=0), rtol=1e-3, atol=1e-3)
    assert result.ensemble.macs == sum(m.macs for m in result.models)
    table = striate.blend_table(paths, "digits", compute=FP32)
    assert len(table.rows) == 2
    assert any(note.startswith("no soups:") for note in table.notes)


def test_table_rows_are_what_the_commands_say(family, children):
    paths = [*children[:2], family / "stranger"]
    table = striate.blend_table(paths, "digits", by_layer=True, compute=FP32)
    methods = [row.method for row in table.rows]
    assert methods[1] == "ensemble of 3"
    assert methods[2] == "uniform soup of 3"
    assert methods[3].startswith("greedy soup of ")
    assert [row.passes for row in table.rows] == [1, 3, 1, 1, 1, 1]
    assert [row.cost for row in table.rows] == [1, 3, 1, 1, 1, 1]
    for row, kind in ((table.rows[2], "uniform"), (table.rows[3], "greedy"), (table.rows[4], "learned")):
        soup = striate.soup(paths, "digits", None, kind=kind, compute=FP32)
        assert row.held_out == soup.held_out
        assert row.gain == soup.gain
        assert row.test == soup.gain.accuracy_b
    ensemble = striate.ensemble(paths, "digits", compute=FP32)
    assert table.rows[1].test == ensemble.ensemble.accuracy
    best = max(table.ingredients, key=lambda one: one[1])
    assert table.rows[0].held_out == best[1]
    assert table.rows[0].gain is None
    assert any("different starts" in note for note in table.notes)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, side in (("left", 0), ("right", 1)):
        (root / name).mkdir()
        for k in range(30):
            pixels = rng.integers(0, 60, (32, 32, 3), np.uint8)
            pixels[:, 16 * side : 16 * side + 16] += 150
            Image.fromarray(pixels).save(root / name / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def resnets(squares, tmp_path_factory):
    """Two networks with batch norm, never trained, that say they held images of ``squares`` out."""
    root = tmp_path_factory.mktemp("resnets")
    pre = fit_preprocessing(open_source(squares), (3, 32, 32), canvas_px=None)
    recipe = Recipe(name="x", epochs=1, lr=0.1, val_fraction=0.2, test_fraction=0.2).to_json()
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = build("resnet20", num_classes=2)
        save_bundle(
            Bundle(
                net="resnet20",
                classes=("left", "right"),
                preprocessing=for_network(pre, (3, 32, 32)),
                state=net.state_dict(),
                recipe=recipe,
                seed=seed,
            ),
            root / f"r{seed}.safetensors",
        )
    return [root / "r0.safetensors", root / "r1.safetensors"]


def test_batch_norm_is_measured_again_on_training_images(resnets, squares, tmp_path):
    out = tmp_path / "mean.safetensors"
    result = striate.average(resnets, out, data=squares, compute=FP32)
    assert result.statistics_images == 36
    mean = load_file(out)
    a, b = (load_file(path) for path in resnets)
    first = next(name for name in mean if name.endswith("running_mean")).removesuffix(".running_mean")
    weight = (a["conv1.weight"] + b["conv1.weight"]) / 2
    assert torch.equal(mean["conv1.weight"], weight)
    bundle = load_bundle(out)
    dataset = open_dataset(squares, bundle.preprocessing, val_fraction=0.2, test_fraction=0.2)
    pictures = loader_for(dataset, dataset.splits.train, bundle.preprocessing, 99, torch.device("cpu"))
    (batch,) = in_order(pictures)
    values = torch.conv2d(batch.images, weight, padding=1).double().transpose(0, 1).reshape(16, -1)
    np.testing.assert_allclose(mean[f"{first}.running_mean"], values.mean(1), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mean[f"{first}.running_var"], values.var(1), rtol=1e-3)
    kept = striate.average(resnets, None, data=squares, batch_norm=False, compute=FP32)
    assert kept.statistics_images == 0
    few = striate.average(
        resnets, None, data=squares, statistics_images=20, compute=Compute(precision="fp32", batch_images=8)
    )
    assert few.statistics_images == 16


def test_without_data_batch_norm_is_averaged_and_said_so(resnets, tmp_path):
    result = striate.average(resnets, tmp_path / "mean.safetensors")
    assert any("batch norm's statistics were averaged" in note for note in result.notes)
    assert result.held_out is None


def test_snapshots_of_a_run_and_last_weights(children, family, tmp_path):
    run = tmp_path / "run"
    (run / "snapshots").mkdir(parents=True)
    for k, turn in enumerate((1, 2, 10)):
        (run / "snapshots" / f"snapshot_{turn}.safetensors").write_bytes(children[k].read_bytes())
    (run / "last.safetensors").write_bytes(children[2].read_bytes())
    (run / "model.safetensors").write_bytes(children[0].read_bytes())
    result = striate.average([run], None, snapshots=True)
    assert [h.name for h in result.ingredients] == [f"run/snapshot_{k}" for k in (1, 2, 10)]
    both = striate.average([run, run / "last.safetensors"], None)
    assert [h.name for h in both.ingredients] == ["run", "run/last"]
    ensemble = striate.ensemble([run], "digits", snapshots=True, compute=FP32)
    single = striate.ensemble(children, "digits", compute=FP32)
    assert np.array_equal(ensemble.predictions.logits, single.predictions.logits)
    table = striate.blend_table([run, family / "parent"], "digits", snapshots=True, compute=FP32)
    rows = {row.method: row for row in table.rows}
    assert rows["ensemble of 3 snapshots (run)"].test == single.ensemble.accuracy
    assert [name for name, *_ in table.ingredients][2:] == [f"run/snapshot_{k}" for k in (1, 2, 10)]
    with pytest.raises(UsageError, match="expected a run with snapshots"):
        striate.blend_table([family / "parent", family / "stranger"], "digits", snapshots=True)
    with pytest.raises(UsageError, match="holds none: train it with a cyclic schedule"):
        striate.average([family / "parent"], None, snapshots=True)


def test_held_out_images_are_never_the_test_images(children, family):
    for wrong in ("test", "all"):
        with pytest.raises(UsageError, match="no honest accuracy"):
            striate.soup(children, "digits", None, held_out=wrong)
    with pytest.raises(UsageError, match="auto, val or train"):
        striate.soup(children, "digits", None, held_out="some")


def test_without_validation_images_a_part_of_train_is_taken_and_said_so(children, family, tmp_path):
    paths = []
    for k, path in enumerate(children[:2]):
        bundle = load_bundle(path)
        shares = {"val_fraction": 0.0, "test_fraction": 0.25 if k else 0.2}
        save_bundle(replace(bundle, recipe={**bundle.recipe, **shares}), tmp_path / f"{k}.safetensors")
        paths.append(tmp_path / f"{k}.safetensors")
    result = striate.soup(paths, "digits", tmp_path / "soup.safetensors", kind="uniform", compute=FP32)
    assert "of the training images" in result.split
    assert any("trained on too" in note for note in result.notes)
    assert any("held out different shares" in note for note in result.notes)
    recipe = load_bundle(tmp_path / "soup.safetensors").recipe
    assert (recipe["val_fraction"], recipe["test_fraction"]) == (0.0, 0.2)
    assert result.gain.accuracy_b == accuracy(tmp_path / "soup.safetensors", "test")
    with pytest.raises(DataError, match="`held_out=train`"):
        striate.soup(paths, "digits", None, held_out="val")


def test_refusals(children, family, resnets, tmp_path):
    with pytest.raises(BundleError, match="same network"):
        striate.soup([children[0], resnets[0]], "digits", None)
    with pytest.raises(UsageError, match="at least two networks"):
        striate.soup([children[0]], "digits", None)
    with pytest.raises(UsageError, match="expected one weight for each of 2"):
        striate.average(children[:2], None, weights=[1.0])
    with pytest.raises(UsageError, match="got that one"):
        striate.average([family / "parent", children[0]], family / "parent" / "model.safetensors")
    there = tmp_path / "there.safetensors"
    there.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is there already"):
        striate.average(children, there)
    assert there.read_bytes() == b"mine"
    with pytest.raises(UsageError, match="safetensors"):
        striate.average(children, tmp_path / "mean.pt")
    with pytest.raises(UsageError, match="uniform, greedy, learned"):
        striate.soup(children, "digits", None, kind="minestrone")
    with pytest.raises(UsageError, match="at least two networks for"):
        striate.ensemble([children[0]], "digits")
    with pytest.raises(UsageError, match="`data`"):
        striate.ensemble(children)
    with pytest.raises(UsageError, match="probabilities or logits"):
        striate.ensemble(children, "digits", of="votes")
    with pytest.raises(BundleError, match="no such file"):
        striate.soup([children[0], Path("nowhere")], "digits", None)
    good = load_bundle(children[0])
    state = {name: tensor.clone() for name, tensor in good.state.items()}
    state["C3.bias"][2] = torch.inf
    broken = tmp_path / "broken.safetensors"
    save_bundle(replace(good, state=state), broken)
    for blend in (striate.average, striate.ensemble):
        with pytest.raises(BundleError, match=r"broken\.safetensors: .*NaN or infinity in C3\.bias"):
            blend([children[1], broken], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_mixture_that_is_one_ingredient_keeps_its_temperature(family, children, tmp_path):
    out = tmp_path / "out.safetensors"
    alone = striate.average(children[:2], out, weights=[1, 0])
    assert (alone.temperature, load_bundle(out).temperature) == (2.0, 2.0)
    measured = striate.average(children[:2], out, weights=[0, 1], data="digits", force=True)
    assert (measured.temperature, load_bundle(out).temperature) == (3.0, 3.0)
    assert measured.num_held_out == len(
        striate.evaluate(children[0], "digits", split="val").predictions.files
    )
    assert not any("not calibrated" in note for note in (*alone.notes, *measured.notes))
    mixed = striate.average(children[:2], out, force=True)
    assert (mixed.temperature, load_bundle(out).temperature) == (1.0, 1.0)
    assert any("not calibrated" in note and "striate calibrate" in note for note in mixed.notes)


def test_an_ensemble_is_tested_on_the_images_that_a_comparison_takes(family, children, tmp_path):
    digits = open_source("digits")
    for place in range(30):  # no splits, and not what anyone here was trained on
        label = str(int(digits.labels[place]))
        (tmp_path / "own" / label).mkdir(parents=True, exist_ok=True)
        pixels = np.full((16, 16), 8 * place, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / label / f"{place}.png")
    members = [family / "parent", children[0]]
    ours = striate.ensemble(members, tmp_path / "own", compute=FP32)
    theirs = striate.compare(members, data=tmp_path / "own", compute=FP32)
    assert len(ours.predictions.files) == theirs.num_images == 30
    assert ours.split == theirs.split
    assert [one.accuracy for one in ours.models] == [one.accuracy for one in theirs.models]
    assert [one.loss for one in ours.models] == pytest.approx([one.loss for one in theirs.models])


def test_answers_that_are_read_are_never_overwritten(children, tmp_path):
    saved = tmp_path / "answers.csv"
    striate.ensemble(children[:2], "digits", save=saved)
    before = saved.read_bytes()
    with pytest.raises(UsageError, match="got that one"):
        striate.ensemble([saved, children[2]], "digits", save=saved, force=True)
    assert saved.read_bytes() == before
