"""How people lay out their photos: links, splits under other names, accents, system folders."""

import io
import os
import subprocess
import tarfile
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import DataError
from striate.data.find import find_images
from striate.data.inspect import inspect
from striate.data.scan import scan
from striate.data.source import SPLIT_NAMES, Source, likely_split
from striate.data.sources import open_source


def png(value: int) -> bytes:
    out = io.BytesIO()
    rng = np.random.default_rng(value)
    Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def tree(root: Path, *folders: str, images: int = 3, first: int = 0) -> Path:
    """Write a few different images into each folder."""
    for turn, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            (root / folder / f"{index}.png").write_bytes(png(first + 100 * turn + index))
    return root


def counts(source: Source) -> dict[tuple[str, str], int]:
    """Count images by split and class."""
    names = [*SPLIT_NAMES, "none"]
    pairs = zip(source.splits.tolist(), source.labels.tolist(), strict=True)
    return dict(Counter((names[split], source.classes[label]) for split, label in pairs))


# -- Links ---------------------------------------------------------------------------------------------------


def test_a_link_is_a_place_of_its_own(tmp_path: Path) -> None:
    tree(tmp_path, "daisy", "roses")
    (tmp_path / "daisy" / "more").symlink_to(tmp_path / "roses")
    (tmp_path / "margerite").symlink_to(tmp_path / "daisy")
    source = open_source(tmp_path)
    assert counts(source) == {("none", "daisy"): 6, ("none", "margerite"): 6, ("none", "roses"): 3}
    assert "3 links to folders followed" in source.notes
    found = inspect(source, scan(source))
    assert found.num_conflicting == 6  # the same photos under two names are said, not merged


def test_both_splits_from_one_pool(tmp_path: Path) -> None:
    tree(tmp_path / "all", "a", "b")
    for split in ("train", "val"):
        (tmp_path / "set" / split).mkdir(parents=True)
        for name in ("a", "b"):
            (tmp_path / "set" / split / name).symlink_to(tmp_path / "all" / name)
    source = open_source(tmp_path / "set")
    assert counts(source) == {(split, name): 3 for split in ("train", "val") for name in ("a", "b")}
    assert inspect(source, scan(source)).num_across_splits == 6


def test_a_split_that_is_a_link_to_another(tmp_path: Path) -> None:
    tree(tmp_path, "train/a", "train/b")
    tree(tmp_path, "val/a", "val/b", first=1000)
    (tmp_path / "test").symlink_to("val")
    assert counts(open_source(tmp_path)) == {
        (split, name): 3 for split in ("train", "val", "test") for name in ("a", "b")
    }


def test_loops_are_cut_and_said_and_depth_is_no_limit(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    (tmp_path / "a" / "round").symlink_to(tmp_path)
    (tmp_path / "b" / "itself").symlink_to(tmp_path / "b")
    source = open_source(tmp_path)
    assert counts(source) == {("none", "a"): 3, ("none", "b"): 3}
    assert "2 links to a folder above left out: a/round, b/itself" in source.notes
    assert len(list(find_images([tmp_path]))) == 6
    deep = tmp_path / "c"
    deep.mkdir()
    there = os.getcwd()
    try:
        os.chdir(deep)
        for _ in range(1100):  # deeper than Python's recursion limit
            os.mkdir("d")
            os.chdir("d")
        os.chdir(there)
        assert len(list(find_images([tmp_path]))) >= 6
    finally:
        os.chdir(there)
        subprocess.run(["rm", "-rf", deep], check=True)  # too deep for Python's own


def test_prediction_follows_links_as_training_does(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    assert sorted(Path(one.file).relative_to(tmp_path).as_posix() for one in find_images([tmp_path])) == (
        sorted(open_source(tmp_path).files)
    )


def test_a_pipe_and_a_device_are_no_images(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert len(open_source(tmp_path)) == 6
    with pytest.raises(DataError, match="not a plain file"):
        next(find_images([tmp_path / "a" / "pipe.png"])).read()
    with pytest.raises(DataError, match="not a plain file"):
        next(find_images(["/dev/zero"])).read()


def test_hard_and_symbolic_links_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as tar:
        for turn, name in enumerate(("a", "b")):
            for index in range(4):
                member = tarfile.TarInfo(f"_pool/{name}/{index}.png")
                content = png(10 * turn + index)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        for name in ("a", "b"):
            for index in range(4):
                link = tarfile.TarInfo(f"{'test' if index == 3 else 'train'}/{name}/{index}.png")
                link.type = tarfile.LNKTYPE if name == "a" else tarfile.SYMTYPE
                up = "" if name == "a" else "../../"
                link.linkname = f"{up}_pool/{name}/{index}.png"
                tar.addfile(link)
        dead = tarfile.TarInfo("train/a/dead.png")
        dead.type, dead.linkname = tarfile.SYMTYPE, "nowhere.png"
        tar.addfile(dead)
    source = open_source(tmp_path / "links.tar")
    assert counts(source) == {("train", "a"): 3, ("test", "a"): 1, ("train", "b"): 3, ("test", "b"): 1}
    assert source.fetch(source.files.index("train/b/2.png")) == png(12)
    assert "1 link in the archive left out" in source.notes
    assert "8 images outside the class folders left out (_pool)" in source.notes


def test_a_pool_on_disk_that_splits_are_links_into(tmp_path: Path) -> None:
    tree(tmp_path, "_pool/a", "_pool/b", images=4)
    for name in ("a", "b"):
        for index in range(4):
            split = "test" if index == 3 else "train"
            (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
            os.link(tmp_path / "_pool" / name / f"{index}.png", tmp_path / split / name / f"{index}.png")
    assert sum(counts(open_source(tmp_path)).values()) == 8
    tree(tmp_path, "_pool/c", first=5000)  # now the pool holds images of its own
    with pytest.raises(DataError, match="got both"):
        open_source(tmp_path)


# -- Splits under other names --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("train_images", "test_images"),
        ("Training Data", "Validation Data"),
        ("TrainSet", "DevSet"),
        ("train-set", "holdout"),
    ],
)
def test_splits_under_other_names(tmp_path: Path, train: str, test: str) -> None:
    tree(tmp_path, *(f"{split}/{name}" for split in (train, test) for name in ("daisy", "rose", "tulip")))
    source = open_source(tmp_path)
    assert source.classes == ("daisy", "rose", "tulip")
    number = likely_split(test)
    assert number in (1, 2)
    assert sorted(set(source.splits.tolist())) == [0, number]
    assert any("read as splits" in note and train in note for note in source.notes)


def test_doubled_folders_and_unlabelled_images_beside_splits(tmp_path: Path) -> None:
    tree(tmp_path, "seg_train/seg_train/sea", "seg_train/seg_train/ice")
    tree(tmp_path, "seg_test/seg_test/sea", "seg_test/seg_test/ice", "seg_pred/seg_pred", first=1000)
    source = open_source(tmp_path)
    assert source.classes == ("ice", "sea")
    assert counts(source) == {(split, name): 3 for split in ("train", "test") for name in ("ice", "sea")}
    assert "3 images outside the class folders left out (seg_pred)" in source.notes


def test_classes_that_sound_like_splits_stay_classes(tmp_path: Path) -> None:
    tree(tmp_path, "train/1", "train/2", "bus/3", "bus/4")  # vehicles
    with pytest.raises(DataError, match="got both"):
        open_source(tmp_path)
    other = tree(tmp_path / "other", "Train images/steam", "Test images/crash")
    assert open_source(other).classes == ("Test images", "Train images")


def test_classes_that_hold_the_same_folders_are_doubted(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{part}/{name}" for part in ("left", "right") for name in ("cat", "dog")))
    source = open_source(tmp_path)
    assert source.classes == ("left", "right")
    assert "the classes left, right hold the same folders (cat, dog)" in source.problems[0]
    assert source.problems[0] in inspect(source, scan(source)).problems


def test_empty_folders_are_named(tmp_path: Path) -> None:
    tree(tmp_path, "a", "b")
    (tmp_path / "c").mkdir()
    assert "1 empty folder: c" in open_source(tmp_path).notes
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr("a/1.png", png(1))
        packed.writestr("b/1.png", png(2))
        packed.mkdir("c")
    assert "1 empty folder: c" in open_source(tmp_path / "x.zip").notes


# -- Names ---------------------------------------------------------------------------------------------------


def _zip_without_flag(path: Path, names: list[str], encoding: str) -> None:
    """Write names as other programs do: no bit 11."""
    with zipfile.ZipFile(path, "w") as packed:
        for turn, name in enumerate(names):
            packed.writestr(_Flagless(name.encode(encoding).decode("cp437")), png(turn))


class _Flagless(zipfile.ZipInfo):
    """An entry whose name is written as code page 437, flag unset."""

    def _encodeFilenameFlags(self):  # type: ignore[no-untyped-def]
        return self.filename.encode("cp437"), self.flag_bits & ~0x800


@pytest.mark.parametrize(("encoding", "name"), [("utf-8", "Rosé"), ("utf-8", "雏菊"), ("cp437", "Rosé")])
def test_names_in_a_zip_without_the_flag(tmp_path: Path, encoding: str, name: str) -> None:
    _zip_without_flag(tmp_path / "x.zip", [f"{name}/1.png", "plain/1.png"], encoding)
    assert set(open_source(tmp_path / "x.zip").classes) == {name, "plain"}


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = "Gänseblümchen", unicodedata.normalize("NFD", "Gänseblümchen")
    assert composed != decomposed
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(f"{composed}/1.png", png(1))
        packed.writestr(f"{decomposed}/2.png", png(2))
        packed.writestr("rose/3.png", png(3))
    source = open_source(tmp_path / "x.zip")
    assert source.classes == (composed, "rose")
    assert source.fetch(list(source.files).index(f"{decomposed}/2.png")) == png(2)


def test_system_folders_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "daisy", "rose", "$RECYCLE.BIN", "@eaDir/x", "System Volume Information", "#recycle")
    (tmp_path / "daisy" / "@eaDir").mkdir()
    (tmp_path / "daisy" / "@eaDir" / "thumb.png").write_bytes(png(1))
    source = open_source(tmp_path)
    assert counts(source) == {("none", "daisy"): 3, ("none", "rose"): 3}
    assert len(list(find_images([tmp_path]))) == 6
    with zipfile.ZipFile(tmp_path / "nas.zip", "w") as packed:
        for name in ("photos/daisy/1", "photos/rose/1", "photos/$RECYCLE.BIN/$R1", "photos/@eaDir/a/T"):
            packed.writestr(f"{name}.png", png(1))
    assert open_source(tmp_path / "nas.zip").classes == ("daisy", "rose")
    assert len(list(find_images([tmp_path / "nas.zip"]))) == 2


def test_images_without_an_extension_are_found_by_every_command(tmp_path: Path) -> None:
    tree(tmp_path / "set", "a", "b")
    for file in (tmp_path / "set").rglob("*.png"):
        file.rename(file.with_suffix(""))
    (tmp_path / "set" / "a" / "notes").write_text("hello")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for file in sorted((tmp_path / "set").rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(tmp_path / "set"))
    for where in (tmp_path / "set", tmp_path / "x.zip"):
        assert len(open_source(where)) == 6
        assert len(list(find_images([where]))) == 6


# -- Manifests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("m.csv", "path;label\na.png;x\nb.png;y\n", "separated by semicolons"),
        ("m.csv", "\ufeffpath;label\r\na.png;x\r\nb.png;y\r\n", "separated by semicolons"),
        ("m.csv", "sep=;\npath;label\na.png;x\nb.png;y\n", "separated by semicolons"),
        ("m.csv", "path\tlabel\na.png\tx\nb.png\ty\n", "separated by tabs"),
        ("m.tsv", "path,label\na.png,x\nb.png,y\n", "separated by commas"),
        ("m.csv", "path|label\na.png|x\nb.png|y\n", "separated by bars"),
        ("m.csv", "image_id,breed\na,x\nb,y\n", "2 paths written without extension"),
        ("m.csv", "Filename,Class Name\na.png,x\nb.png,y\n", "columns read: Filename as path"),
        ("m.csv", "fname,labels\na.png,x\nb.png,y\n", "columns read: fname as path"),
        ("m.csv", "path,label\n.\\a.png,x\n.\\b.png,y\n", "2 paths written with backslashes"),
    ],
)
def test_manifests_as_people_have_them(tmp_path: Path, name: str, text: str, note: str) -> None:
    for turn, file in enumerate(("a.png", "b.png")):
        (tmp_path / file).write_bytes(png(turn))
    (tmp_path / name).write_text(text, newline="")
    source = open_source(tmp_path / name)
    assert source.classes == ("x", "y")
    assert source.fetch(1) == png(1)
    assert any(note in one for one in source.notes)


@pytest.mark.parametrize(
    ("text", "splits"),
    [
        ("path,label,is_valid\na.png,x,True\nb.png,y,False\n", [1, 0]),
        ("path,label,is_test\na.png,x,0\nb.png,y,1\n", [0, 2]),
        ("path,label,Usage\na.png,x,Training\nb.png,y,test_set\n", [0, 2]),
        ("path,label,ml_use\na.png,x,TRAIN\nb.png,y,VALIDATION\n", [0, 1]),
    ],
)
def test_splits_in_manifests(tmp_path: Path, text: str, splits: list[int]) -> None:
    for turn, file in enumerate(("a.png", "b.png")):
        (tmp_path / file).write_bytes(png(turn))
    (tmp_path / "m.csv").write_text(text)
    assert open_source(tmp_path / "m.csv").splits.tolist() == splits


def test_several_labels_between_commas(tmp_path: Path) -> None:
    for turn, file in enumerate(("a.png", "b.png")):
        (tmp_path / file).write_bytes(png(turn))
    (tmp_path / "m.csv").write_text('path,labels\na.png,"daisy,wild"\nb.png,wild\n')
    source = open_source(tmp_path / "m.csv")
    assert source.classes == ("daisy", "wild")
    assert source.labels.tolist() == [[1, 1], [0, 1]]
