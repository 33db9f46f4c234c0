import csv
import io
import json
import os
import subprocess
import sys

import pytest

from striate.core.errors import DataError, UsageError
from striate.data.find import Item
from striate.serve.output import CsvRows, JsonRows, open_predictions, rows_for
from striate.serve.predict import Prediction

ABOUT = {"bundle": "blake2b 00", "paths": ["photos"], "topk": 2, "precision": "fp32"}


def prediction(file):
    if file.startswith("broken"):
        return Prediction(file, (), "empty file")
    return Prediction(file, (("cat, grey", 0.75), ('a "dog"', 0.25)))


def items(files):
    return [Item(file, lambda: b"") for file in files]


def run(path, files, stop_after=None, about=ABOUT):
    """Predict what is missing; return (files asked for, rows before, broken rows)."""
    asked = []
    with open_predictions(path, about, 2) as file:
        before = file.num_before
        for item in file.missing(items(files)):
            if len(asked) == stop_after:
                break
            asked.append(item.file)
            file.write(prediction(item.file))
        return asked, before, file.num_broken


def files_in(path):
    text = path.read_text()
    if path.suffix == ".csv":
        return [row["file"] for row in csv.DictReader(io.StringIO(text))]
    return [json.loads(line)["file"] for line in text.splitlines()]


FILES = [f"photos/{k}, é.jpg" for k in range(6)] + ["broken.jpg", "z.jpg"]


def test_a_csv_row_reads_as_a_spreadsheet_reads_it(tmp_path):
    path = tmp_path / "p.csv"
    run(path, ["a, b.jpg", "broken.jpg"])
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert rows[0] == {
        "file": "a, b.jpg",
        "class_1": "cat, grey",
        "probability_1": "0.750000",
        "class_2": 'a "dog"',
        "probability_2": "0.250000",
        "error": "",
    }
    assert rows[1] == dict.fromkeys(rows[0], "") | {"file": "broken.jpg", "error": "empty file"}


def test_a_class_with_a_line_end_in_its_name_stays_in_one_row():
    odd = Prediction("x.jpg", (("two\nlines", 1.0),))
    for rows in (CsvRows(1), JsonRows()):
        assert rows.line(odd).count("\n") == 1
        assert rows.read(rows.line(odd)) == ("x.jpg", True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_cut_anywhere_is_gone_on_with(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    run(path, FILES)
    whole = path.read_bytes()
    assert files_in(path) == FILES
    for end in range(0, len(whole) + 1, 13):
        path.write_bytes(whole[:end])
        asked, before, broken = run(path, FILES)
        assert path.read_bytes() == whole
        assert asked == FILES[before:]
        assert broken == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_complete_file_is_left_as_it_is(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    run(path, FILES)
    whole = path.read_bytes()
    assert run(path, FILES) == ([], len(FILES), 1)
    assert path.read_bytes() == whole


def test_images_that_came_since_are_added_and_those_that_went_stay(tmp_path):
    path = tmp_path / "p.csv"
    run(path, ["b", "c", "e", "e"], stop_after=3)
    asked, before, _ = run(path, ["a", "b", "d", "e", "e", "f"])
    assert before == 3
    assert asked == ["a", "d", "e", "f"]  # e is asked for twice and has one row
    assert sorted(files_in(path)) == ["a", "b", "c", "d", "e", "e", "f"]


@pytest.mark.parametrize("key", ["bundle", "paths", "topk", "precision"])
def test_another_question_is_refused_in_one_line(tmp_path, key):
    path = tmp_path / "p.csv"
    run(path, FILES, stop_after=3)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=f"p.csv was started with {key} ") as caught:
        run(path, FILES, about={**ABOUT, key: "other"})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_foreign_files_are_never_written_to(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("my,own,table\n")
    with pytest.raises(UsageError, match="not made by `striate predict`"):
        run(path, FILES)
    (tmp_path / "p.csv.json").write_text(json.dumps(ABOUT))
    with pytest.raises(DataError, match="line 1: expected the columns"):
        run(path, FILES)
    assert path.read_text() == "my,own,table\n"


def test_a_damaged_row_is_named(tmp_path):
    path = tmp_path / "p.csv"
    run(path, FILES)
    lines = path.read_text().splitlines(keepends=True)
    lines[4] = "3.jpg,cat\n"
    path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"p\.csv, line 5: damaged row"):
        run(path, FILES)


def test_two_runs_do_not_write_one_file(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "p.csv"
    with (
        open_predictions(path, ABOUT, 2),
        pytest.raises(DataError, match="another `striate predict`"),
        open_predictions(path, ABOUT, 2),
    ):
        pass
    assert run(path, FILES)[0] == FILES


def test_only_two_kinds_of_files(tmp_path):
    with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        rows_for(tmp_path / "p.txt", 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no limit of a file's size here")
def test_a_full_disk_says_how_to_go_on(tmp_path):
    """A file that may not grow is as good as a full disk."""
    path = tmp_path / "p.csv"
    run(path, FILES, stop_after=2)
    program = f"""
import json, resource, signal
from pathlib import Path
from striate.core.errors import WriteError
from striate.serve.output import open_predictions
from striate.serve.predict import Prediction
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({path.stat().st_size + 5}, resource.RLIM_INFINITY))
try:
    with open_predictions(Path({str(path)!r}), json.loads({json.dumps(json.dumps(ABOUT))}), 2) as file:
        file.write(Prediction("x", (("a", 0.75), ("b", 0.25))))
except WriteError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "the same command again" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert run(path, FILES) == (FILES[2:], 2, 1)
    assert files_in(path) == FILES


def test_a_file_without_rows_binds_nobody(tmp_path):
    path = tmp_path / "p.csv"
    assert run(path, []) == ([], 0, 0)
    assert not list(tmp_path.iterdir())
    with open_predictions(path, ABOUT, 2) as file:
        head = path.read_bytes()
        about = (tmp_path / "p.csv.json").read_bytes()
        file.write(prediction("x"))
    for left in (head, head[:5]):  # killed before its first row
        path.write_bytes(left)
        (tmp_path / "p.csv.json").write_bytes(about)
        assert run(path, FILES, about={**ABOUT, "paths": ["others"]})[0] == FILES


def test_a_file_of_that_name_of_another_program_stays(tmp_path):
    (tmp_path / "p.csv.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"p\.csv\.json exists"):
        run(tmp_path / "p.csv", FILES)
    assert [one.name for one in tmp_path.iterdir()] == ["p.csv.json"]
    assert (tmp_path / "p.csv.json").read_text() == '{"mine": 1}'


def test_a_folder_or_a_pipe_is_no_file_to_write(tmp_path):
    (tmp_path / "p.csv").mkdir()
    os.mkfifo(tmp_path / "q.csv")
    for name in ("p.csv", "q.csv"):
        with pytest.raises(UsageError, match="expected a file to write"):
            run(tmp_path / name, FILES)


def test_a_second_run_leaves_the_firsts_question_alone(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "p.csv"
    other = {**ABOUT, "paths": ["others"]}
    with open_predictions(path, ABOUT, 2) as file:
        with pytest.raises(DataError, match="another `striate predict`"), open_predictions(path, other, 2):
            pass
        file.write(prediction("x"))
    assert json.loads((tmp_path / "p.csv.json").read_text()) == ABOUT
