"""The report: complete, self-contained, and safe with hostile names."""

import base64
import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import DataError
from striate.metrics.scores import score
from striate.report.filter_tiles import filter_scale, first_layer_tiles
from striate.report.images import InlineImage
from striate.report.render import render_report
from striate.report.run_report import RunReport, ShownImage

HOSTILE = "<script>alert('x')</script>"


def epochs(num: int, **changes) -> list[dict[str, float | None]]:
    rows = []
    for epoch in range(1, num + 1):
        row = {
            "epoch": epoch, "lr": 0.1, "train_loss": 2 / epoch, "train_error": 0.5 / epoch,
            "val_loss": 2.1 / epoch,
            "val_error": 0.6 / epoch, "images_per_s": 700.0, "seconds": 12.0,
        }  # fmt: skip
        rows.append(row | changes)
    return rows


def a_run(num_classes: int = 3, classes: tuple[str, ...] | None = None, **changes) -> RunReport:
    classes = classes or tuple(f"kind {k}" for k in range(num_classes))
    draw = np.random.default_rng(0)
    labels = np.arange(max(40, num_classes)) % num_classes
    logits = draw.normal(size=(len(labels), num_classes))
    logits[np.arange(len(labels)), labels] += 2.0
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    picture = ShownImage(
        np.zeros((8, 9, 3), np.uint8), "folder/seven.png", classes[0], classes[1], 0.875, 0.0625
    )
    run = RunReport(
        title="A run",
        net="LeNet-5",
        num_parameters=61_706,
        input_shape=(1, 32, 32),
        data="digits",
        num_images={"train": 1200, "validation": 200, "test": len(labels)},
        classes=classes,
        history=epochs(4),
        command="striate train digits --seed 3",
        seed=3,
        wall_s=48.0,
        created="2026-01-02T03:04:05+00:00",
        macs=416_520,
        paper="LeCun et al. 1998",
        selected_epoch=4,
        selection_rule="lowest validation error",
        test=score(p, labels, classes),
        test_note="Scored once.",
        mistakes=(picture,),
        filters=draw.normal(size=(6, 1, 5, 5)),
        recipe={"lr": 0.1, "steps": [2, 3]},
        environment={"torch": "2.13.0"},
    )
    return dataclasses.replace(run, **changes)


class Page(HTMLParser):
    """Collects every element, checks that elements close, and keeps the visible text."""

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.visible: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.visible))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.visible.append(data)

    def images(self) -> list[np.ndarray]:
        uris = [attrs["src"] for tag, attrs in self.elements if tag == "img"]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))) for uri in uris]


def assert_self_contained(page: str) -> None:
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "video",
        "audio",
        "source",
    }
    for _, attrs in parsed.elements:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data", "background"):
            if attrs.get(name):
                assert attrs[name].startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
        assert "url(" not in (attrs.get("style") or "")
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) <= {"http://www.w3.org/2000/svg"}
    policy = [attrs["content"] for _, attrs in parsed.elements if "http-equiv" in attrs]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    page.encode("utf-8")


VARIANTS = {
    "three classes": a_run(),
    "two classes": a_run(2),
    "twenty classes": a_run(20),
    "hundred classes": a_run(100),
    "thousand classes": a_run(1000),
    "one epoch": a_run(history=epochs(1), selected_epoch=1),
    "no epoch": a_run(history=(), selected_epoch=None, test=None, mistakes=()),
    "no validation": a_run(history=epochs(5, val_loss=None, val_error=None)),
    "missing keys": a_run(history=[{"epoch": 1}, {"epoch": 2, "train_loss": 1.0}]),
    "not finite": a_run(history=epochs(3, train_loss=float("nan"), val_loss=float("inf"), lr=float("nan"))),
    "no test": a_run(test=None, mistakes=()),
    "nothing optional": a_run(
        test=None, mistakes=(), filters=None, macs=None, paper=None, recipe={}, environment={}, test_note=""
    ),
    "colour filters": a_run(filters=np.ones((96, 3, 11, 11))),
    "zero filters": a_run(filters=np.zeros((8, 3, 3, 3))),
    "many files left out": a_run(quarantined=tuple((f"{i}.jpg", "truncated") for i in range(50))),
    "names": a_run(4, classes=(HOSTILE, "گربه", "北京烤鸭", "very long name " * 20)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_one_self_contained_page(variant: str):
    assert_self_contained(render_report(VARIANTS[variant]))


def test_the_numbers_are_told():
    classes = ("ant", "bee")
    labels = np.array([0] * 50 + [1] * 50)
    said = labels.copy()
    said[:3] = 1  # 97 of 100 right, 3 ants called bees
    p = np.where(np.eye(2)[said] == 1, 0.9, 0.1)
    text = Page(render_report(a_run(2, classes=classes, test=score(p, labels, classes)))).text
    # Wilson for 97 of 100: 0.9155 to 0.9897 (closed form, worked with a calculator).
    expected = (
        "LeNet-5 learned 2 classes from 1,200 images of digits and names 97.0% of 100 test images correctly"
    )
    assert f"{expected} (95% interval 91.5% to 99.0%)." in text
    assert "top-1 error 3.0% 1.0% to 8.5%" in text
    assert "ant bee 3 6.0%" in text  # the commonest mistake and its share of the ants
    assert "predicting the commonest class 50.0% accuracy" in text
    assert "top-5" not in text
    for fact in (
        "61,706", "416,520", "1 \u00d7 32 \u00d7 32", "48 s", "Scored once.",
        "2 January 2026, 03:04 UTC",
        "striate train digits --seed 3", "Seed 3.", "LeCun et al. 1998", "torch 2.13.0", "steps [2, 3]",
        "The weights of epoch 4 were kept (lowest validation error): training error 12.5%,",
        "validation error 15.0%.",
        "bee 87.5%", "is ant 6.2%", "folder/seven.png", "train 1,200",
    ):  # fmt: skip
        pattern = r"\s*".join(re.escape(word) for word in re.findall(r"\S+", fact))
        assert re.search(pattern, text), fact


def test_a_class_that_was_never_answered_has_no_precision():
    classes = ("a", "b", "c")
    p = np.array([[0.8, 0.1, 0.1]] * 3)
    text = Page(render_report(a_run(classes=classes, test=score(p, np.array([0, 0, 1]), classes)))).text
    assert "a 2 100.0% 66.7% 80.0%" in re.sub(r"\s+", " ", text)
    assert "b 1 0.0% - 0.0%" in text
    assert "c 0 - - -" in text
    assert "Without test images, so without a recall: c" in text


def test_printed_accuracy_and_error_add_up():
    # 15,301 of 20,000 is 76.505%: rounded alone, accuracy and error may both go down.
    labels = np.zeros(20_000, int)
    p = np.zeros((20_000, 2))
    p[:15_301, 0], p[15_301:, 1] = 1.0, 1.0
    text = Page(render_report(a_run(2, test=score(p, labels, ("kind 0", "kind 1"))))).text
    accuracy = float(re.search(r"top-1 accuracy ([\d.]+)%", text)[1])
    error = float(re.search(r"measure.*top-1 error ([\d.]+)%", text)[1])
    assert accuracy + error == pytest.approx(100, abs=1e-9)


def test_hostile_names_are_text():
    classes = (HOSTILE, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "ok\udcff\x00")
    run = a_run(
        4,
        classes=classes,
        title=HOSTILE,
        net=HOSTILE,
        data=HOSTILE,
        quarantined=((HOSTILE, "]]>"),),
        split_notes=(HOSTILE,),
        command=f"striate train '{HOSTILE}'",
        recipe={HOSTILE: HOSTILE, "n": {"k": HOSTILE}},
        environment={HOSTILE: "</style>"},
        mistakes=(ShownImage(np.zeros((4, 4), np.uint8), '"><script>', HOSTILE, HOSTILE, 0.9, 0.1),),
        selection_rule=HOSTILE,
        created="</p><script>",
        test_split=HOSTILE,
    )
    page = render_report(run)
    assert_self_contained(page)
    assert "<script" not in page
    text = Page(page).text
    assert HOSTILE in text
    assert "{{ 7 * 7 }}" in text
    assert "49" not in [attrs.get("alt") for _, attrs in Page(page).elements]


def test_names_in_other_scripts_are_kept():
    text = Page(render_report(VARIANTS["names"])).text
    assert "گربه" in text
    assert "北京烤鸭" in text


def test_without_a_test_the_headline_says_so():
    text = Page(render_report(a_run(test=None, mistakes=(), test_note=""))).text
    assert "It has not been tested. Its validation error at epoch 4 was 15.0%." in text
    assert "optimistic" in text
    assert "How well it does" not in text


def test_gaps_in_the_history_are_named():
    rows = epochs(6)
    rows[1]["train_loss"], rows[4]["val_loss"] = float("nan"), float("inf")
    assert (
        "not finite numbers are left out of the curves (epoch 2, 5)"
        in Page(render_report(a_run(history=rows))).text
    )
    text = Page(render_report(VARIANTS["no validation"])).text
    assert "No validation images were set aside" in text


def test_a_history_without_epoch_numbers_is_refused():
    with pytest.raises(DataError, match="epoch number"):
        render_report(a_run(history=[{"train_loss": 1.0}]))


def test_pictures_are_the_given_pixels_and_large_ones_shrink():
    image = np.random.default_rng(1).integers(0, 256, (28, 20, 3)).astype(np.uint8)
    large = np.zeros((375, 500, 3), np.uint8)
    grey = image[:, :, :1]
    shown = [ShownImage(i, "f", "kind 0", "kind 1", 0.9, 0.1) for i in (image, large, grey)]
    first, second, third, _ = Page(render_report(a_run(mistakes=tuple(shown)))).images()
    assert np.array_equal(first, image)
    assert second.shape == (144, 192, 3)
    assert np.array_equal(third, image[:, :, 0])


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_pictures_of_another_state_are_refused(image):
    with pytest.raises(DataError, match="H x W x 3 uint8"):
        render_report(a_run(mistakes=(ShownImage(image, "f", "kind 0", "kind 1", 0.9, 0.1),)))


def decoded(image: InlineImage) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image.uri.split(",")[1]))))


def test_tiles_share_one_symmetric_scale():
    # Two 1-input 3x3 filters; the largest weight is white, its negative black, zero mid-grey.
    filters = np.zeros((2, 1, 3, 3))
    filters[0], filters[1, 0, 0, 0] = 2.0, -2.0
    sheet = decoded(first_layer_tiles(filters))
    factor = 15  # 44 px / 3, rounded
    assert sheet.shape == (45, 2 * 45 + 4, 4)
    assert (sheet[:, :45, :3] == 255).all()
    assert (sheet[:, 45:49, 3] == 0).all()
    assert (sheet[:factor, 49 : 49 + factor, :3] == 0).all()
    assert (sheet[factor:, 49:, :3] == 128).all()


def test_the_scale_is_a_percentile_of_the_sizes():
    # Sizes 0..1000 evenly: 99.5% of the way is 995. NaN does not count.
    weights = np.arange(1001.0) * (-1) ** np.arange(1001)
    assert filter_scale(np.append(weights, np.nan)) == pytest.approx(995)


def test_colour_tiles_keep_the_order_of_channels():
    filters = np.zeros((1, 3, 5, 5))
    filters[0, 0], filters[0, 2] = 1.0, -1.0
    sheet = decoded(first_layer_tiles(filters))
    assert sheet.shape == (45, 45, 4)
    assert (sheet == [255, 128, 0, 255]).all()


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((6, 1, 5, 5), 1, 6),
        ((64, 3, 7, 7), 8, 8),
        ((96, 3, 11, 11), 8, 12),
        ((5, 4, 3, 3), 3, 8),
        ((300, 1, 1, 1), 22, 12),
    ],
)
def test_sheet_layout(shape, rows: int, columns: int):
    sheet = decoded(first_layer_tiles(np.ones(shape)))
    tile = shape[-1] * max(1, round(44 / shape[-1]))
    assert sheet.shape == (rows * (tile + 4) - 4, columns * (tile + 4) - 4, 4)


def test_tiles_of_zeros_and_nan_are_grey():
    for value in (0.0, float("nan")):
        assert (decoded(first_layer_tiles(np.full((1, 1, 3, 3), value)))[..., :3] == 128).all()


def test_tiles_refuse_a_matrix():
    with pytest.raises(DataError, match="out x in x k x k"):
        first_layer_tiles(np.zeros((10, 5)))


def test_recipe_values_are_readable_json():
    text = Page(render_report(a_run(recipe={"schedule": {"kind": "cosine", "نام": 1}, "none": None}))).text
    found = re.search(r"\{.*?\}", text)[0]
    assert json.loads(html.unescape(found)) == {"kind": "cosine", "نام": 1}
    assert "none null" in text
