"""Folders, manifests and several sources: trees made here, whose right answer is known by construction."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import BrokenImageError, DataError, UsageError
from striate.data.source import printable
from striate.data.sources import open_source


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 3), value).save(out, "PNG")
    return out.getvalue()


def tree(root: Path, *files: str) -> Path:
    """Write one image for each path, each with its own grey."""
    for value, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(value))
    return root


def listing(source) -> list[tuple[str, str, int]]:
    return [
        (file, source.classes[label], int(split))
        for file, label, split in zip(source.files, source.labels, source.splits, strict=True)
    ]


def test_class_folders_without_splits(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "dog/a.png", "cat/b.png", "cat/deep/er/c.JPG"))
    assert source.classes == ("cat", "dog")
    assert listing(source) == [
        ("cat/b.png", "cat", -1),
        ("cat/deep/er/c.JPG", "cat", -1),
        ("dog/a.png", "dog", -1),
    ]
    assert [source.fetch(k) for k in range(3)] == [png(1), png(2), png(0)]
    assert source.labels.dtype == np.int64
    assert source.splits.dtype == np.int8


def test_splits_by_any_of_their_names(tmp_path: Path) -> None:
    source = open_source(
        tree(
            tmp_path, "Train/b/1.png", "train/a/1.png", "VALID/a/1.png", "validation/a/2.png", "test/b/1.png"
        )
    )
    assert listing(source) == [
        ("Train/b/1.png", "b", 0),
        ("VALID/a/1.png", "a", 1),
        ("test/b/1.png", "b", 2),
        ("train/a/1.png", "a", 0),
        ("validation/a/2.png", "a", 1),
    ]


def test_a_top_folder_that_holds_the_splits_is_passed_over(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "set/train/a/1.png", "set/val/b/1.png"))
    assert listing(source) == [("set/train/a/1.png", "a", 0), ("set/val/b/1.png", "b", 1)]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    source = open_source(tree(tmp_path, "bus/1.png", "train/1.png"))
    assert listing(source) == [("bus/1.png", "bus", -1), ("train/1.png", "train", -1)]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "b/1.png", "loose.png", "a/.hidden.png", ".git/x/y.png", "__MACOSX/a/1.png")
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "a" / "Thumbs.db").write_bytes(png(0))
    (tmp_path / "b" / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "b" / "no_extension").write_bytes(png(9))
    (tmp_path / "b" / "README").write_text("hello")
    source = open_source(tmp_path)
    assert list(source.files) == ["a/1.png", "b/1.png", "b/broken.jpg", "b/no_extension"]
    assert "2 files left out that are no images (.txt 1, no extension 1)" in source.notes
    assert "4 hidden or system files left out" in source.notes
    assert "1 image outside the class folders left out" in source.notes


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "got no images"),
        (["1.png", "2.png"], "got 2 images and no folders"),
        (["a/1.png", "a/2.png"], "got one \\(a\\)"),
        (["train/1.png", "test/1.png"], "expected class folders inside test, train"),
        (["train/a/1.png", "train/b/1.png", "extra/a/1.png"], "got both"),
    ],
)
def test_unclear_folders_are_refused_with_a_remedy(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(tree(tmp_path, *files))
    assert len(str(caught.value).splitlines()) == 1
    assert ": " in str(caught.value)


def test_strange_file_names_do_no_harm(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/a")
    for name in (b"new\nline.png", b"bell\x07.png", b"latin-\xe9.png", "snö ☃.png".encode()):
        try:
            with open(os.fsencode(tmp_path) + b"/a/" + name, "wb") as file:
                file.write(png(7))
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
    tree(tmp_path, "b/1.png")
    source = open_source(tmp_path)
    assert sorted(source.files) == [
        "a/bell\\x07.png",
        "a/latin-\\xe9.png",
        "a/new\\nline.png",
        "a/snö ☃.png",
        "b/1.png",
    ]
    assert [source.fetch(k) for k in range(4)] == [png(7)] * 4
    assert all(file.encode() and file.isprintable() for file in source.files)


def test_names_that_read_the_same_are_numbered(tmp_path: Path) -> None:
    tree(tmp_path, "a/x\\n.png", "a/x\n.png", "b/1.png")
    assert set(open_source(tmp_path).files) == {"a/x\\n.png", "a/x\\n.png (2)", "b/1.png"}
    assert printable("é☃") == "é☃"


def test_links_are_followed_once_and_dead_ones_are_found_when_read(tmp_path: Path) -> None:
    tree(tmp_path / "store", "1.png")
    tree(tmp_path / "set", "a/1.png")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "a" / "round").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(tmp_path / "set")
    assert list(source.files) == ["a/1.png", "a/dead.png", "b/1.png"]
    with pytest.raises(BrokenImageError, match=r"a/dead\.png: can't be read: No such file"):
        source.fetch(1)


def test_nothing_there_suggests_a_name() -> None:
    with pytest.raises(UsageError, match="did you mean mnist"):
        open_source("mnits")
    with pytest.raises(UsageError, match="at least one"):
        open_source([])


# -- Manifests -----------------------------------------------------------------------------------------------


def test_csv_manifest(tmp_path: Path) -> None:
    tree(tmp_path, "one, two.png", "sub/b.png", "c.png")
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        '\ufeffPath,Label,split\r\n"one, two.png",zebra,train\r\nsub/b.png,ape,Valid\r\nc.png,ape,test\r\n'
    )
    source = open_source(manifest)
    assert listing(source) == [("one, two.png", "zebra", 0), ("sub/b.png", "ape", 1), ("c.png", "ape", 2)]
    assert source.classes == ("ape", "zebra")
    assert source.fetch(1) == png(1)


def test_multi_label_manifests(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "x.csv").write_text("path,labels\na.png,sea|sky\nb.png,\nc.png,sky; sun\n")
    rows = [("a.png", ["sea", "sky"]), ("b.png", []), ("c.png", ["sky", "sun"])]
    (tmp_path / "x.jsonl").write_text(
        "\n".join(json.dumps({"path": p, "labels": labels}) for p, labels in rows)
    )
    for file in ("x.csv", "x.jsonl"):
        source = open_source(tmp_path / file)
        assert source.classes == ("sea", "sky", "sun")
        assert source.labels.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
        assert source.labels.dtype == np.float32
        assert source.multi_label


def test_manifest_paths_may_be_absolute_or_above(tmp_path: Path) -> None:
    tree(tmp_path, "up.png", "here/a.png")
    absolute = str(tmp_path / "here" / "a.png")
    (tmp_path / "here" / "m.jsonl").write_text(
        json.dumps({"path": "../up.png", "label": 1}) + "\n" + json.dumps({"path": absolute, "label": 0})
    )
    source = open_source(tmp_path / "here" / "m.jsonl")
    assert [source.fetch(k) for k in (0, 1)] == [png(0), png(1)]
    assert source.classes == ("0", "1")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "", "expected a header"),
        ("m.csv", "bild,label\na.png,x\n", "expected a header with path, label"),
        ("m.csv", "path,label\n", "at least one row"),
        ("m.csv", "path,label\na.png,x,y\n", "line 2: expected 2 values, got 3"),
        ("m.csv", "path,label\na.png,x\nb.png,\n", "line 3: expected the name of a class"),
        (
            "m.csv",
            "path,label\na.png,x\na.png,y\n",
            r"line 3: expected each path once, got a\.png again \(line 2\)",
        ),
        ("m.csv", "path,label\na.png,x\nb.png,x\n", "at least two classes"),
        ("m.csv", "path,label,split\na.png,x,train\nb.png,y,\n", "a split in all rows or none, got 1 of 2"),
        ("m.csv", "path,label,split\na.png,x,fold7\n", "train, val or test"),
        (
            "m.csv",
            "path,label\na.png,x\nno.png,y\nnor.png,y\n",
            r"2 files missing: no\.png \(line 3\), nor\.png",
        ),
        ("m.csv", 'path,label\n"a.png,x\n', "expected CSV"),
        ("m.jsonl", "{}\n", "line 1: expected the path"),
        ("m.jsonl", "[1]\n", "one JSON object"),
        ("m.jsonl", '{"path": "a.png", "label": true}\n', "the name of a class, got True"),
        ("m.jsonl", '{"path": "a.png", "label": "x"\n', "line 1: expected one JSON object"),
        ("m.jsonl", '{"path": "a.png", "labels": "x"}\n', "expected a list"),
        ("m.jsonl", '{"path": "a.png", "labels": []}\n{"path": "b.png", "label": "x"}', "a mix of both"),
    ],
)
def test_wrong_manifests_are_refused_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    tree(tmp_path, "a.png", "b.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_manifest_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"path,label\n\xff\xfe\n")
    with pytest.raises(DataError, match="save it as UTF-8"):
        open_source(tmp_path / "m.csv")


# -- Several sources -----------------------------------------------------------------------------------------


def test_united_sources_share_classes_and_keep_their_splits(tmp_path: Path) -> None:
    tree(tmp_path / "one", "train/a/1.png", "train/b/1.png", "train/c/1.png")
    tree(tmp_path / "two", "c/1.png", "a/1.png")
    (tmp_path / "two" / "a" / "1.png").write_bytes(png(77))
    source = open_source([tmp_path / "one", tmp_path / "two"])
    assert listing(source) == [
        ("train/a/1.png", "a", 0),
        ("train/b/1.png", "b", 0),
        ("train/c/1.png", "c", 0),
        ("a/1.png", "a", -1),
        ("c/1.png", "c", -1),
    ]
    assert [source.fetch(k) for k in (0, 2, 3)] == [png(0), png(2), png(77)]


def test_colliding_names_get_their_source_in_front(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        tree(tmp_path / folder, "a/1.png", "b/1.png")
    source = open_source([tmp_path / "one", tmp_path / "two"])
    assert list(source.files) == ["one/a/1.png", "one/b/1.png", "two/a/1.png", "two/b/1.png"]


def test_classes_that_differ_are_refused(tmp_path: Path) -> None:
    tree(tmp_path / "one", "a/1.png", "b/1.png")
    tree(tmp_path / "two", "a/1.png", "bee/1.png")
    with pytest.raises(DataError, match="got bee as well"):
        open_source([tmp_path / "one", tmp_path / "two"])
