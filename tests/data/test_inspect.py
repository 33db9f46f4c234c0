"""Inspecting: a small set whose every trouble was put there on purpose."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.data.inspect import Inspection, inspect
from striate.data.scan import scan
from striate.data.sources import open_source

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def save(root: Path, file: str, value: int, size: tuple[int, int] = (4, 3), mode: str = "RGB") -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    image = Image.new(mode, size, value)
    image.putpixel((0, 0), 255 if mode == "L" else (255, 255, 255))
    image.save(out, "PNG")
    path.write_bytes(out.getvalue())


def look(root: Path) -> Inspection:
    source = open_source(root)
    return inspect(source, scan(source))


def test_a_clean_set_has_no_problems(tmp_path: Path) -> None:
    for split, base in (("train", 0), ("test", 100)):
        for index in range(10):
            save(tmp_path, f"{split}/a/{index}.png", base + index)
            save(tmp_path, f"{split}/b/{index}.png", base + 50 + index, mode="L", size=(7, 9))
    report = look(tmp_path)
    assert report.problems == ()
    assert [(one.name, one.train, one.val, one.test, one.none) for one in report.classes] == [
        ("a", 10, 0, 10, 0),
        ("b", 10, 0, 10, 0),
    ]
    assert report.imbalance == 1.0
    assert (report.height_px.smallest, report.height_px.median, report.height_px.largest) == (3, 6, 9)
    assert (report.width_px.smallest, report.width_px.largest) == (4, 7)
    assert report.common_sizes == ((3, 4, 20), (9, 7, 20))
    assert (report.num_grey, report.num_colour) == (20, 20)
    assert report.extensions == ((".png", 40),)


def test_every_trouble_is_found(tmp_path: Path) -> None:
    for index in range(30):
        save(tmp_path, f"train/a/{index:02}.png", index)
    save(tmp_path, "train/b/only.png", 40)
    save(tmp_path, "train/b/same as a.png", 3)  # the content of train/a/03.png
    save(tmp_path, "test/a/leak.png", 5)  # the content of train/a/05.png
    save(tmp_path, "train/a/again.png", 7)
    save(tmp_path, "train/a/and again.png", 7)
    save(tmp_path, "test/c/untrained.png", 60)
    (tmp_path / "train" / "d").mkdir()
    (tmp_path / "train" / "d" / "broken.jpg").write_bytes(b"no picture")
    report = look(tmp_path)
    assert report.num_images == 37
    assert [(one.file, one.reason) for one in report.broken] == [
        ("train/d/broken.jpg", "not an image that striate reads: convert to PNG or JPEG")
    ]
    assert report.num_repeated == 4
    assert [same.files for same in report.conflicting] == [("train/a/03.png", "train/b/same as a.png")]
    assert report.conflicting[0].classes == ("a", "b")
    assert [(same.files, same.splits) for same in report.across_splits] == [
        (("test/a/leak.png", "train/a/05.png"), ("train", "test"))
    ]
    assert report.imbalance == 33.0
    assert report.single_image_classes == ("c",)
    problems = "\n".join(report.problems)
    assert "1 image can't be decoded, e.g. train/d/broken.jpg" in problems
    assert "1 content in several splits, e.g. test/a/leak.png = train/a/05.png" in problems
    assert "1 content with different labels, e.g. train/a/03.png = train/b/same as a.png (a, b)" in problems
    assert "no usable image in d" in problems
    assert "no training image in c" in problems
    assert "the largest class has 33 times the images of the smallest: weigh them" in problems
    assert "fewer than 10 images in b, c: too few" in problems
    assert len(report.problems) == 7
    assert "1 .jpg file among .png ones, e.g. train/d/broken.jpg: look at it" in report.notes


def test_lists_are_capped_and_counts_are_not(tmp_path: Path) -> None:
    for index in range(150):
        for name in ("a", "b"):
            save(tmp_path, f"{name}/{index}.png", index)
    report = look(tmp_path)
    assert (len(report.conflicting), report.num_conflicting, report.num_repeated) == (100, 150, 150)


def test_json_says_the_same(tmp_path: Path) -> None:
    for index in range(3):
        save(tmp_path, f"snö/{index}.png", index)
        save(tmp_path, f"b/{index}.png", 10 + index)
    report = look(tmp_path)
    text = report.to_json()
    assert text.isascii()
    read = json.loads(text)
    assert read["classes"][1] == {"name": "snö", "train": 0, "val": 0, "test": 0, "none": 3}
    assert read["num_images"] == 6


def test_multi_label_counts(tmp_path: Path) -> None:
    for index, name in enumerate(("a", "b", "c", "d")):
        save(tmp_path, f"{name}.png", index)
    (tmp_path / "d.png").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "list.csv").write_text("path,labels\na.png,sea|sky\nb.png,sky\nc.png,\nd.png,sky\n")
    source = open_source(tmp_path / "list.csv")
    report = inspect(source, scan(source))
    assert [(one.name, one.total) for one in report.classes] == [("sea", 1), ("sky", 3)]
    assert report.conflicting[0].classes == ("sea|sky", "sky")


@pytest.mark.skipif(
    not (SHARED / "hymenoptera.tar").exists(), reason="../shared/data/hymenoptera.tar is not there"
)
def test_the_placeholder_among_the_ants_is_noticed() -> None:
    source = open_source(SHARED / "hymenoptera.tar")
    report = inspect(source, scan(source, min_side_px=32))
    assert "1 .gif file among .jpg ones, e.g. train/ants/imageNotFound.gif: look at it" in report.notes
    assert report.problems == ()
    assert np.isclose(report.imbalance, 204 / 194)


def test_images_that_show_nothing_and_copies_are_problems(tmp_path: Path) -> None:
    for name, offset in (("a", 0), ("b", 100)):
        for index in range(12):
            save(tmp_path, f"{name}/{index}.png", offset + index, size=(20, 20), mode="L")
    assert look(tmp_path).problems == ()
    Image.new("RGB", (30, 30), (3, 3, 3)).save(tmp_path / "a" / "black.png")
    Image.new("L", (1, 1), 9).save(tmp_path / "a" / "dot.png")
    problems = "\n".join(look(tmp_path).problems)
    assert "1 image of one level" in problems
    assert "1 image of 2 pixels or less on a side" in problems
    for index in range(30):
        (tmp_path / "b" / f"copy{index}.png").write_bytes((tmp_path / "b" / "0.png").read_bytes())
    assert "30 of 56 images repeat another one: only 26 are different" in "\n".join(look(tmp_path).problems)
