"""What a person sees who types ``striate blend``."""

import csv
import io
import json
from functools import partial

import pytest
import torch

from striate.blend.table import BlendTable, TableRow
from striate.cli import show
from striate.cli.blend_tables import print_table
from striate.data.dataset import fit_preprocessing
from striate.data.sources import open_source
from striate.nets import build
from striate.recipes.recipe import Recipe
from striate.weights.bundle import Bundle, load_bundle, save_bundle

_MADE = ["-d", "digits", "-o", "x.safetensors"]


@pytest.fixture
def run(run):
    """Run ``striate blend WORDS...``."""
    return partial(run, "blend")


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Three small networks around one start, and one from elsewhere; none was trained."""
    root = tmp_path_factory.mktemp("blend")
    recipe = Recipe(name="x", epochs=1, lr=0.1, val_fraction=0.15, test_fraction=0.2).to_json()
    pre = fit_preprocessing(open_source("digits"), (1, 32, 32), canvas_px=None)
    torch.manual_seed(0)
    start = build("lenet5_modern", num_classes=10).state_dict()
    torch.manual_seed(1)
    elsewhere = build("lenet5_modern", num_classes=10).state_dict()
    for name, seed in (("a", 1), ("b", 2), ("c", 3), ("z", None)):
        draw = torch.Generator().manual_seed(seed or 0)
        state = {k: t + 0.05 * torch.randn(t.shape, generator=draw) for k, t in start.items()}
        save_bundle(
            Bundle(
                net="lenet5_modern",
                classes=tuple("0123456789"),
                preprocessing=pre,
                state=elsewhere if seed is None else state,
                recipe=recipe,
                seed=seed,
                data={"started_from": None if seed is None else "start"},
            ),
            root / f"{name}.safetensors",
        )
    return root


@pytest.mark.parametrize("width", [80, 120])
def test_ensemble(run, nets, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    code, out, err = run(
        "ensemble", *(nets / f"{n}.safetensors" for n in "abz"), "-d", "digits", "--split", "test"
    )
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= width
    assert "359 images: test split" in out  # a fifth of 1,797
    assert "ensemble of 3" in out
    assert "gain over the mean member" in out
    assert "gain over the best member" in out
    assert "3 forward passes" in out


def test_ensemble_json_and_saved_answers(run, nets, tmp_path):
    saved = tmp_path / "answers.csv"
    names = [nets / f"{n}.safetensors" for n in "ab"]
    code, out, _ = run("ensemble", *names, "-d", "digits", "--of", "logits", "--save", saved, "--json")
    record = json.loads(out)
    assert code == 0
    assert [member["name"] for member in record["members"]] == ["a", "b"]
    assert record["of"] == "logits"
    assert record["ensemble"]["macs"] == 2 * record["members"][0]["macs"]
    code, out, _ = run("ensemble", saved, saved, "--json")
    assert code == 0
    assert json.loads(out)["ensemble"]["accuracy"] == record["ensemble"]["accuracy"]
    code, _, err = run("ensemble", *names, "-d", "digits", "--save", saved)
    assert code == 2
    assert "--force" in err


@pytest.mark.parametrize("kind", ["uniform", "greedy", "learned"])
@pytest.mark.parametrize("width", [80, 120])
def test_soup(run, nets, tmp_path, monkeypatch, kind, width):
    monkeypatch.setattr(show.out, "_width", width)
    out_file = tmp_path / "soup.safetensors"
    words = ["soup", *(nets / f"{n}.safetensors" for n in "abc"), f"--{kind}", "-d", "digits", "-o", out_file]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert f"{kind} soup" in out
    assert "validation images, tested on 359 others" in out
    assert ("temperature" in out) == (kind == "learned")
    lines = [line for line in out.splitlines() if not line.startswith("bundle")]
    assert max(map(len, lines)) <= width
    assert len(load_bundle(out_file).ingredients) == 3
    code, _, err = run(*words)
    assert code == 2
    assert "is there already" in err
    code, out, _ = run(*words, "--force", "--json")
    assert code == 0
    record = json.loads(out)
    assert record["kind"] == kind
    assert len(record["ingredients"]) == 3
    assert sum(one["coefficient"] for one in record["ingredients"]) == pytest.approx(1)


def test_average(run, nets, tmp_path):
    out_file = tmp_path / "mean.safetensors"
    words = ["average", *(nets / f"{n}.safetensors" for n in "ab"), "-o", out_file]
    code, out, _ = run(*words, "--weights", "1,3")
    assert code == 0
    assert "0.250" in out
    assert "0.750" in out
    a, b, mean = (load_bundle(path).state for path in (*words[1:3], out_file))
    expected = 0.25 * a["C1.weight"].double() + 0.75 * b["C1.weight"].double()
    assert torch.allclose(mean["C1.weight"], expected.float(), atol=1e-7)


@pytest.mark.parametrize("width", [80, 120])
def test_table(run, nets, monkeypatch, width):
    monkeypatch.setattr(show.out, "_width", width)
    words = ["table", *(nets / f"{n}.safetensors" for n in "abc"), "-d", "digits"]
    code, out, _ = run(*words)
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    for part in ("best", "ensemble of", "uniform soup", "greedy soup", "learned soup", "O(1)", "O(k) 3x"):
        assert part in out
    assert "3 networks, one by one: held out" in out


def test_table_as_csv_and_json_agree(run, nets):
    words = ["table", *(nets / f"{n}.safetensors" for n in "ab"), "-d", "digits"]
    _, text, _ = run(*words, "--csv")
    _, record, _ = run(*words, "--json")
    rows = list(csv.DictReader(io.StringIO(text)))
    told = json.loads(record)
    assert [row["method"] for row in rows] == [row["method"] for row in told["rows"]]
    assert [float(row["test"]) for row in rows] == [row["test"] for row in told["rows"]]
    assert rows[0]["gain"] == ""
    assert told["num_test"] == 359
    code, _, err = run(*words, "--csv", "--json")
    assert code == 2
    assert "choose one" in err


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (
            ["soup", "{a}", "{b}", *_MADE, "--held-out", "test"],
            2,
            "test images",
        ),
        (
            ["soup", "{a}", "{b}", *_MADE, "--uniform", "--greedy"],
            2,
            "one kind",
        ),
        (
            ["soup", "{a}", "{b}", *_MADE, "--uniform", "--strict"],
            2,
            "--greedy",
        ),
        (["soup", "{a}", "{b}", *_MADE, "--by-layer"], 2, "--learned"),
        (["soup", "{a}", *_MADE], 2, "at least two"),
        (["soup", "{a}", "{b}", "-d", "digits", "-o", "x.pt"], 2, ".safetensors"),
        (["soup", "{a}", "{b}", "-d", "digits", "-o", "{a}"], 2, "got that one"),
        (["soup", "{a}", "gone.safetensors", *_MADE], 1, "no such file"),
        (["average", "{a}", "{b}", "-o", "x.safetensors", "--weights", "1,b"], 2, "numbers separated"),
        (
            ["average", "{a}", "{b}", "-o", "x.safetensors", "--weights", "1,2,3"],
            2,
            "one weight for each of 2",
        ),
        (["average", "{a}", "{b}", "-o", "x.safetensors", "--snapshots"], 2, "cycles=5"),
        (["ensemble", "{a}", "{b}"], 2, "--data"),
        (["ensemble", "{a}", "{b}", "-d", "digits", "--of", "votes"], 2, "'--of'"),
        (["table", "{a}", "-d", "digits"], 2, "at least two"),
    ],
)
def test_wrong_words_get_one_line(run, nets, tmp_path, monkeypatch, words, code, part):
    monkeypatch.chdir(tmp_path)
    filled = [w.format(a=nets / "a.safetensors", b=nets / "b.safetensors") for w in words]
    got, out, err = run(*filled)
    assert got == code
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err
    assert list(tmp_path.iterdir()) == []


def test_help_names_an_example(run):
    for command in ("ensemble", "average", "soup", "table"):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"striate blend {command}" in out


def test_few_held_out_images_get_few_digits(monkeypatch, capsys):
    monkeypatch.setattr(show.out, "_width", 80)
    row = TableRow(
        method="best", held_out=0.5, test=None, interval=None, gain=None, passes=1, macs=416_000, cost=1.0
    )
    table = BlendTable(
        rows=(row,),
        ingredients=(("a", 0.5, None), ("b", 0.275, None)),
        held_out_words="40 validation images",
        num_held_out=40,
        num_test=0,
        notes=(),
        multi_label=False,
    )
    print_table(table)
    text = capsys.readouterr().out
    assert "held out 27.5% to 50.0%" in text
    assert "50.00%" not in text
