"""Predictions files: what is written comes back exactly; what is damaged is named with its row."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import is_predictions_file, load_predictions, save_predictions

KINDS = ["csv", "parquet"]
NASTY = (
    "plain.png",
    'a, "quoted" name.png',
    "two\nlines\r.png",
    "\r\n",
    " spaces ",
    "=1+1",
    "snow ☃ \U0001f600.png",
    "byte \udc80\udcff.png",
    "half \ud83d.png",
    r"back\slash\udc80 \u005c \u0041.png",
    "\\\udc80",
    "nul \0 bell \a",
    "#comment",
    "nan",
)


def single(num_images: int = 5, classes=("cat", "dog", "emu"), seed: int = 0) -> Predictions:
    draw = np.random.default_rng(seed)
    return Predictions(
        name="net, ten crops",
        classes=tuple(classes),
        files=tuple(f"{i}.png" for i in range(num_images)),
        labels=draw.integers(0, len(classes), num_images),
        logits=draw.normal(scale=5, size=(num_images, len(classes))).astype(np.float32),
        split="test split",
    )


def several(num_images: int = 4) -> Predictions:
    one = single(num_images)
    marks = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], np.float32)
    return replace(one, labels=np.resize(marks, (num_images, 3)))


def same(one: Predictions, other: Predictions) -> None:
    assert (one.name, one.split, one.classes, one.files) == (
        other.name,
        other.split,
        other.classes,
        other.files,
    )
    assert one.multi_label == other.multi_label
    assert one.labels.dtype == other.labels.dtype
    assert np.array_equal(one.labels, other.labels)
    assert other.logits.dtype == np.float32
    assert one.logits.tobytes() == np.ascontiguousarray(other.logits).tobytes()


def rewrite(path: Path, change) -> None:
    """Change the rows of a CSV file (a list of lists, header first)."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    change(rows)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [single, several])
def test_answers_come_back(tmp_path, kind: str, make):
    path = tmp_path / f"out.{kind}"
    save_predictions(make(), path)
    same(make(), load_predictions(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing temporary is left


@pytest.mark.parametrize("kind", KINDS)
def test_nasty_names_come_back(tmp_path, kind: str):
    answers = replace(single(len(NASTY), classes=NASTY), name=NASTY[3], split=NASTY[9], files=NASTY)
    save_predictions(answers, tmp_path / f"out.{kind}")
    same(answers, load_predictions(tmp_path / f"out.{kind}"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec=None) | st.sampled_from("\\ud80c5\udc80"), min_size=1),
        unique=True,
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
)
def test_any_text_and_any_float32_come_back(tmp_path_factory, names: list[str], seed: int, kind: str):
    bits = np.random.default_rng(seed).integers(0, 2**32, (len(names), 2), np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(1e-45))
    answers = replace(single(len(names), classes=("a", "b")), files=tuple(names), logits=values)
    path = tmp_path_factory.mktemp("any") / f"x.{kind}"
    save_predictions(answers, path)
    same(answers, load_predictions(path))


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_numbers_come_back(tmp_path, kind: str):
    info = np.finfo(np.float32)
    values = [info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, 0.1, 1 / 3, 16777217.0, 1e-38]
    logits = np.array([values, values[::-1]], np.float32)
    answers = replace(single(2, classes=[f"{k}" for k in range(len(values))]), logits=logits)
    save_predictions(answers, tmp_path / f"x.{kind}")
    same(answers, load_predictions(tmp_path / f"x.{kind}"))


def test_the_csv_file_by_hand(tmp_path):
    answers = Predictions(
        name="lenet",
        classes=("cat", "dog"),
        files=("a.png", "b.png"),
        labels=np.array([0, 0]),
        logits=np.array([[0, 0], [-1.5, 40]], np.float32),
        split="test",
    )
    save_predictions(answers, tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines() == [
        "file,true,predicted,p_predicted,network,split,temperature,logit:cat,logit:dog",
        "a.png,cat,cat,0.500000,lenet,test,1.0,0,0",
        "b.png,cat,dog,1.000000,lenet,test,1.0,-1.5,40",
    ]


def test_the_csv_file_of_several_labels_by_hand(tmp_path):
    answers = Predictions(
        name="lenet",
        classes=("cat", "dog"),
        files=("a.png", "b.png"),
        labels=np.array([[1, 1], [0, 0]], np.float32),
        logits=np.array([[3, 2], [-40, 0]], np.float32),
    )
    save_predictions(answers, tmp_path / "x.csv")
    # sigmoid(3) = 0.952574; a probability of exactly one half is no label.
    assert (tmp_path / "x.csv").read_text().splitlines()[1:] == [
        "a.png,cat; dog,cat; dog,0.952574,lenet,,1.0,1,1,3,2",
        "b.png,,,0.500000,lenet,,1.0,0,0,-40,0",
    ]


def test_parquet_reads_as_a_plain_table(tmp_path):
    save_predictions(several(), tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    assert list(table)[:6] == ["file", "true", "predicted", "p_predicted", "network", "split"]
    assert table["true"] == ["cat; emu", "", "dog", "cat; dog; emu"]
    assert table["is:dog"] == [0, 0, 1, 1]
    assert table["logit:emu"] == several().logits[:, 2].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_another_program_wrote_is_read(tmp_path, kind: str):
    path = tmp_path / f"theirs.{kind}"
    columns = {
        "logit:b": [1.5, -2.0],
        "note": ["x", "y"],
        "true": ["a", "b"],
        "logit:a": [0.5, 1.0],
        "file": ["1", "2"],
    }
    if kind == "csv":
        lines = [",".join(columns)] + [",".join(str(v[i]) for v in columns.values()) for i in range(2)]
        path.write_text(
            "\ufeff" + "\n".join(lines) + "\n\n", encoding="utf-8"
        )  # a spreadsheet's mark, an empty end
    else:
        parquet.write_table(pyarrow.table(columns), path)  # float64
    read = load_predictions(path)
    assert (read.name, read.split, read.classes, read.files) == ("theirs", "", ("b", "a"), ("1", "2"))
    assert read.labels.tolist() == [1, 0]
    assert read.logits.tolist() == [[1.5, 0.5], [-2.0, 1.0]]


def test_the_extension_decides():
    for name, yes in (
        ("a.csv", True),
        ("A.CSV", True),
        ("b.parquet", True),
        ("b.json", False),
        ("csv", False),
    ):
        assert is_predictions_file(name) is yes
        assert is_predictions_file(Path("folder.csv") / name) is yes


@pytest.mark.parametrize("name", ["x.json", "x", "x.csv.gz"])
def test_another_extension_is_refused(tmp_path, name: str):
    with pytest.raises(UsageError, match=r"ends in \.csv or \.parquet, got"):
        save_predictions(single(), tmp_path / name)
    with pytest.raises(UsageError, match=r"ends in \.csv or \.parquet, got"):
        load_predictions(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_pyarrow_parquet_is_refused_and_csv_works(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install pyarrow, or name a \.csv file"):
        save_predictions(single(), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="pip install pyarrow"):
        load_predictions(tmp_path / "x.parquet")
    save_predictions(single(), tmp_path / "x.csv")
    same(single(), load_predictions(tmp_path / "x.csv"))


def spoilt(**changes) -> Predictions:
    return replace(single(3), **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answers", "error", "message"),
    [
        (spoilt(files=("a", "b", "a")), DataError, "file names .* got 'a' as number 3"),
        (spoilt(files=("a", "", "c")), DataError, "file names .* got '' as number 2"),
        (spoilt(files=("a", "b")), DataError, "one file name for each of 3 images, got 2"),
        (spoilt(classes=("x", "y", "x")), DataError, "class names .* got 'x' as number 3"),
        (spoilt(classes=("x", "y")), DataError, r"logits of shape N x 2 \(one per class\), got \(3, 3\)"),
        (spoilt(labels=np.array([0, 1, 3])), DataError, r"in 0\.\.2, got 0\.\.3"),
        (spoilt(labels=np.full((3, 3), 0.5)), DataError, "holding 0 and 1"),
        (spoilt(logits=np.full((3, 3), np.nan, np.float32)), NonFiniteLossError, "for 3 of 3 images"),
        (spoilt(logits=np.full((3, 3), np.inf, np.float32)), NonFiniteLossError, "for 3 of 3 images"),
        (
            replace(single(3), files=(), labels=np.zeros(0, int), logits=np.zeros((0, 3), np.float32)),
            DataError,
            "at least one image",
        ),
    ],
)
def test_answers_that_could_not_be_read_again_are_not_written(tmp_path, kind, answers, error, message):
    path = tmp_path / f"x.{kind}"
    path.write_text("old")
    with pytest.raises(error, match=message):
        save_predictions(answers, path)
    assert path.read_text() == "old"


# Columns of single(): file, true, predicted, p_predicted, network, split,
# temperature, logit:cat, logit:dog, logit:emu.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[2].__setitem__(8, "x1"), "row 3: expected a number under logit:dog, got 'x1'"),
        (lambda rows: rows[2].__setitem__(8, ""), "row 3: expected a number under logit:dog, got ''"),
        (
            lambda rows: rows[4].__setitem__(7, "nan"),
            "row 5: expected a finite number under logit:cat, got nan",
        ),
        (
            lambda rows: rows[4].__setitem__(9, "1e39"),
            "row 5: expected a finite number under logit:emu, got inf",
        ),
        (
            lambda rows: rows[1].__setitem__(1, "cow"),
            "row 2: expected the name of a class under true, got 'cow'",
        ),
        (
            lambda rows: rows[3].__setitem__(0, "0.png"),
            "row 4: .*once, got '0.png' a second time: remove the row",
        ),
        (
            lambda rows: rows[3].__setitem__(0, ""),
            "row 4: expected each file name once, got an empty one",
        ),
        (lambda rows: rows[3].pop(), "row 4: expected 10 cells as in the header, got 9"),
        (lambda rows: rows[3].append("1"), "row 4: expected 10 cells as in the header, got 11"),
        (lambda rows: rows.insert(3, []), "row 5: expected 10 cells as in the header, got none before it"),
        (
            lambda rows: rows[5].__setitem__(5, "val"),
            "row 6: expected the split of the first row, 'test split', got 'val'",
        ),
        (lambda rows: rows[5].__setitem__(4, "b"), "row 6: expected the network of the first row"),
        (
            lambda rows: [row.pop(0) for row in rows],
            "expected a column file and columns logit:CLASS, got 'true'",
        ),
        (
            lambda rows: [row.pop(1) for row in rows],
            "expected a column true with each image's class, got none",
        ),
        (
            lambda rows: [row.__delitem__(slice(7, 10)) for row in rows],
            "columns logit:CLASS, got 'file', 'true'",
        ),
        (lambda rows: rows[0].__setitem__(9, "logit:cat"), "each column once, got 'logit:cat' twice"),
        (lambda rows: rows[0].__setitem__(9, "file"), "each column once, got 'file' twice"),
        (lambda rows: rows[0].__setitem__(9, "logit:"), "a class name behind each logit:, got none"),
        (lambda rows: rows[0].__setitem__(2, "is:cat"), "only one for 'dog'"),
        (lambda rows: rows.__delitem__(slice(1, None)), "expected one row for each image, got none"),
        (lambda rows: rows.clear(), "columns logit:CLASS, got nothing"),
        (
            lambda rows: rows[0].extend(f"logit:{k}" for k in range(100_001)),
            "at most 100,000 classes, got 100,004",
        ),
        (
            lambda rows: rows[1].__setitem__(0, "x" * 200_000),
            "after row 1: expected CSV, got a damaged one .*field larger",
        ),
    ],
)
def test_a_damaged_csv_file_is_one_line_with_the_row(tmp_path, change, message: str):
    path = tmp_path / "x.csv"
    save_predictions(single(), path)
    rewrite(path, change)
    with pytest.raises(DataError, match=message) as caught:
        load_predictions(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}")
    assert len(str(caught.value)) < 400


def test_marks_other_than_0_and_1_are_named(tmp_path):
    save_predictions(several(), tmp_path / "x.csv")
    rewrite(tmp_path / "x.csv", lambda rows: rows[3].__setitem__(8, "2"))
    with pytest.raises(DataError, match="row 4: expected 0 or 1 under is:dog, got 2: correct the label"):
        load_predictions(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "columns logit:CLASS, got nothing"),
        (b"\x89PNG\r\n\x1a\n\0\0", "expected UTF-8 text, got other bytes: save it as CSV UTF-8"),
        ("file,true,logit:ä\nä,ä,1\n".encode("latin-1"), "expected UTF-8 text"),
        (
            b'file,true,logit:a\n"never closed,a,1\n' + b"x" * 10,
            "after row 1: expected CSV, got a damaged one",
        ),
        (b"file;true;logit:a\n1;a;1\n", "expected a column file"),
        (b"file,true,logit:a\n1,a,1\n2,a,", "row 3: expected a number under logit:a, got ''"),
        (b"a" * (1 << 24), "a line of over 16,777,216 characters"),
    ],
)
def test_what_is_no_predictions_file_is_said_to_be_none(tmp_path, content: bytes, message: str):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_predictions(tmp_path / "x.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_and_a_folder(tmp_path, kind: str):
    with pytest.raises(
        DataError, match=f"none.{kind}: no such file; expected one of `striate evaluate --save`"
    ):
        load_predictions(tmp_path / f"none.{kind}")
    (tmp_path / f"folder.{kind}").mkdir()
    with pytest.raises(DataError, match="can't be read"):
        load_predictions(tmp_path / f"folder.{kind}")


def arrow_table(**changes) -> pyarrow.Table:
    columns = {"file": ["1", "2"], "true": ["a", "b"], "logit:a": [1.0, 2.0], "logit:b": [3.0, 4.0]}
    return pyarrow.table(columns | {name.replace("__", ":"): values for name, values in changes.items()})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (arrow_table(logit__a=[1.0, None]), "row 2: expected a finite number under logit:a, got nan"),
        (arrow_table(logit__a=[1.0, 1e300]), "row 2: expected a finite number under logit:a, got inf"),
        (arrow_table(logit__a=["1", "x"]), "damaged or foreign one .*x"),
        (arrow_table(logit__a=[[1.0], [2.0]]), "damaged or foreign one"),
        (arrow_table(file=["1", None]), "row 2: expected a text under file, got none"),
        (arrow_table(file=[["1"], ["2"]]), "damaged or foreign one"),
        (arrow_table(file=["1", "1"]), "row 2: expected each file name once, got '1' a second time"),
        (arrow_table(true=["a", "c"]), "row 2: expected the name of a class under true, got 'c'"),
        (arrow_table(is__a=[1, 0]), "only one for 'b'"),
        (arrow_table(is__a=[1, 0], is__b=[1, 7]), "row 2: expected 0 or 1 under is:b, got 7"),
        (arrow_table().drop(["file"]), "expected a column file"),
        (arrow_table().append_column("file", [["1", "2"]]), "each column once, got 'file' twice"),
        (arrow_table().slice(0, 0), "one row for each image, got none"),
    ],
)
def test_a_wrong_parquet_file_is_one_line(tmp_path, table, message: str):
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=message) as caught:
        load_predictions(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


def test_bool_marks_and_numbered_classes_are_read_from_parquet(tmp_path):
    table = arrow_table(is__a=[True, False], is__b=[True, True]).drop(["true"])
    parquet.write_table(table, tmp_path / "x.parquet")
    assert load_predictions(tmp_path / "x.parquet").labels.tolist() == [[1, 1], [0, 1]]
    columns = {"file": [7, 8], "true": [1, 0], "logit:0": [1, 2], "logit:1": [3, 4]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "y.parquet")
    read = load_predictions(tmp_path / "y.parquet")
    assert (read.files, read.labels.tolist()) == (("7", "8"), [1, 0])


def test_parquet_cut_anywhere_or_foreign_is_one_line(tmp_path):
    save_predictions(single(), tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "x.parquet"
    cuts = [whole[:n] for n in range(0, len(whole), 97)]
    for content in [*cuts, b"PAR1" * 3, b"file,true\n", whole[:200] + b"\xff" * 50 + whole[250:]]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.parquet: expected a Parquet file") as caught:
            load_predictions(path)
        assert "\n" not in str(caught.value)


def test_a_byte_changed_anywhere_in_a_parquet_file_is_found_or_harmless(tmp_path):
    answers = single()
    save_predictions(answers, tmp_path / "whole.parquet")
    whole = (tmp_path / "whole.parquet").read_bytes()
    draw = np.random.default_rng(0)
    messages = []
    for _ in range(200):
        content = bytearray(whole)
        content[int(draw.integers(4, len(whole) - 8))] ^= int(draw.integers(1, 256))
        (tmp_path / "x.parquet").write_bytes(content)
        try:
            read = load_predictions(tmp_path / "x.parquet")
        except DataError as error:
            messages.append(str(error))
        else:  # a byte of the footer that carries no data; names of classes stand there too
            assert (read.files, read.logits.tobytes()) == (answers.files, answers.logits.tobytes())
    assert len(messages) > 20
    assert not any("\n" in message for message in messages)


def test_progress_is_told(tmp_path):
    told = []
    answers = single(1200)
    for kind in KINDS:
        save_predictions(answers, tmp_path / f"x.{kind}", progress=lambda *call: told.append(call))
        load_predictions(tmp_path / f"x.{kind}", progress=lambda *call: told.append(call))
    assert told == [
        *(("write predictions", done, 1200) for done in (500, 1000, 1200)),
        *(("read predictions", done, None) for done in (500, 1000)),
        ("write predictions", 1200, 1200),
        ("read predictions", 1200, 1200),
    ]


@pytest.mark.parametrize("make", [single, several])
def test_scores_are_computed_again_without_the_network(tmp_path, make):
    answers = make()
    save_predictions(answers, tmp_path / "x.csv")
    assert load_predictions(tmp_path / "x.csv").scores().to_json() == answers.scores().to_json()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_temperature_comes_back_and_makes_the_printed_probability(tmp_path, suffix):
    answers = Predictions(
        name="warm",
        classes=("a", "b"),
        files=("x.png",),
        labels=np.array([1]),
        logits=np.array([[0.0, 4.0]], np.float32),
        temperature=2.0,
    )
    path = tmp_path / f"p{suffix}"
    save_predictions(answers, path)

    assert load_predictions(path).temperature == 2.0
    assert load_predictions(path).logits.tolist() == [[0.0, 4.0]]
    if suffix == ".csv":
        with open(path, newline="") as file:
            [row] = csv.DictReader(file)
        assert float(row["p_predicted"]) == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-6)
        path.write_text(path.read_text().replace(",2.0,", ",-1,"))
        with pytest.raises(DataError, match="row 2: expected a number above 0 under temperature, got '-1'"):
            load_predictions(path)
