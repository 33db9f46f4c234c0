"""Charts are well-formed and put things where arithmetic says."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from striate.metrics.by_class import ClassScore
from striate.report.confusion_charts import confusion_map, confusion_table
from striate.report.line_chart import Series, line_chart
from striate.report.numbers import format_number
from striate.report.rate_charts import recall_dots
from striate.report.svg import escape, fit, text_width

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="x',
    "a & b",
    "گربهٔ ایرانی",
    "北京烤鸭",
    "\x00\ud800\x1b[31m",
    "",
    "x" * 300,
]


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def words(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter(f"{SVG}text")]


def path_points(svg: str) -> list[list[tuple[str, float, float]]]:
    paths = [element.attrib["d"] for element in parsed(svg).iter(f"{SVG}path")]
    return [[(m, float(x), float(y)) for m, x, y in re.findall(r"([ML])([\d.]+) ([\d.]+)", d)] for d in paths]


def chart(*y: float | None, name: str = "training", x: tuple[float, ...] | None = None, **options) -> str:
    series = Series(name, x or tuple(float(i + 1) for i in range(len(y))), y, "var(--ink)")
    return line_chart([series], x_label="epoch", y_label="loss, nats", **options)


def test_a_straight_line_is_drawn_straight():
    ((first, middle, last),) = path_points(chart(1.0, 2.0, 3.0))
    assert middle[1] - first[1] == pytest.approx(last[1] - middle[1], abs=0.15)
    assert first[2] - middle[2] == pytest.approx(middle[2] - last[2], abs=0.15)
    assert first[2] > last[2]  # larger values are higher up


def test_powers_of_ten_are_evenly_spaced_on_a_log_axis():
    svg = chart(1.0, 0.1, 0.01)
    assert "loss, nats · log scale" in words(svg)
    ((_, y0), (_, y1), (_, y2)) = [(x, y) for _, x, y in path_points(svg)[0]]
    assert y1 - y0 == pytest.approx(y2 - y1, abs=0.15)
    assert "log scale" not in " ".join(words(chart(1.0, 0.1, 0.01, log_if_wide=False)))
    assert "log scale" not in " ".join(words(chart(1.0, 0.0)))


def test_gaps_break_the_curve():
    (points,) = path_points(chart(1.0, 2.0, None, 1.5, float("nan"), 1.0, float("inf"), 0.5))
    assert "".join(move for move, _, _ in points) == "MLMMM"


def test_labels_tell_names_last_values_and_the_mark():
    svg = chart(3.0, 2.0, 1.25, marked_x=2, mark_label="kept: epoch 2")
    assert {"training", "1.25", "kept: epoch 2", "epoch"} <= set(words(svg))
    assert 'stroke-dasharray="3 3"' in svg
    ring = [c for c in parsed(svg).iter(f"{SVG}circle") if c.attrib["r"] == "5"]
    assert [float(c.attrib["cx"]) for c in ring] == [path_points(svg)[0][1][1]]


def test_labels_of_equal_curves_do_not_overlap():
    both = [Series(name, (1.0, 2.0), (1.0, 0.5), "red") for name in ("training", "validation")]
    svg = line_chart(both, x_label="epoch", y_label="loss")
    places = [float(e.attrib["y"]) for e in parsed(svg).iter(f"{SVG}text") if e.attrib["class"] == "name"]
    assert abs(places[0] - places[1]) >= 24


@pytest.mark.parametrize(
    "y", [(0.5,), (0.0,), (0.0, 0.0), (-1.0, 2.0), (1e-12, 1e12), (5e-324, 1.0), (1e300, 1.0)]
)
def test_odd_ranges_are_drawn_inside_the_chart(y: tuple[float, ...]):
    for _, place_x, place_y in path_points(chart(*y))[0]:
        assert 0 <= place_x <= 400
        assert 0 <= place_y <= 250


def test_nothing_finite_is_said():
    assert words(chart(None, float("nan"))) == ["no finite value to draw"]


def test_epoch_ticks_are_whole_numbers():
    for num_epochs in (1, 2, 3, 7, 15, 90, 164, 1000):
        svg = chart(*[1.0] * num_epochs, x=tuple(float(e) for e in range(1, num_epochs + 1)))
        bottom = [e.text for e in parsed(svg).iter(f"{SVG}text") if e.attrib["y"] == "227.0"]
        assert bottom[0] == "1"
        assert len(bottom) <= 8
        assert all(re.fullmatch(r"\d+", text) for text in bottom)


def test_recall_dots_sit_on_their_interval():
    svg = recall_dots([ClassScore("cat", 10, 9, 5), ClassScore("dog", 10, 12, 10)])
    bars, dots = list(parsed(svg).iter(f"{SVG}rect")), list(parsed(svg).iter(f"{SVG}circle"))
    assert {"cat", "dog", "50.0%", "100.0%"} <= set(words(svg))
    # Wilson for 5 of 10 is symmetric about 1/2: the dot is in the middle of its bar. 10 of 10 ends at it.
    start, width = float(bars[0].attrib["x"]), float(bars[0].attrib["width"])
    assert float(dots[0].attrib["cx"]) == pytest.approx(start + width / 2, abs=0.2)
    assert float(dots[1].attrib["cx"]) == pytest.approx(
        float(bars[1].attrib["x"]) + float(bars[1].attrib["width"]), abs=0.2
    )
    assert "0" in words(recall_dots([ClassScore("cat", 1000, 990, 990)], floor=0.0))
    assert "0" not in words(recall_dots([ClassScore("cat", 1000, 990, 990)]))


@pytest.mark.parametrize("num", [1, 2, 7, 20])
def test_confusion_table_shows_every_count(num: int):
    counts = np.random.default_rng(num).integers(1, 99_999, (num, num))
    svg = confusion_table(counts, [f"n{k}" for k in range(num)])
    assert [text for text in words(svg) if text.isdigit()] == [str(c) for c in counts.ravel()]


def test_confusion_table_takes_any_names():
    svg = confusion_table(np.eye(len(HOSTILE), dtype=np.int64), HOSTILE)
    assert parsed(svg).find(f".//{SVG}script") is None
    assert "<script" not in svg
    assert "گربهٔ ایرانی" in svg


def test_confusion_of_a_class_without_images():
    parsed(confusion_table(np.zeros((3, 3), np.int64), list("abc")))
    parsed(confusion_map(np.zeros((30, 30), np.int64))[0])


def pixels(svg: str) -> np.ndarray:
    (image,) = parsed(svg).iter(f"{SVG}image")
    prefix, data = image.attrib["href"].split(",")
    assert prefix == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_confusion_map_marks_right_and_wrong():
    counts = np.zeros((50, 50), np.int64)
    counts[3, 3], counts[7, 40] = 5, 2
    svg, block = confusion_map(counts)
    shown = pixels(svg)
    assert block == 1
    assert shown.shape == (50, 50, 4)
    assert sorted(zip(*map(list, np.nonzero(shown[..., 3])), strict=True)) == [(3, 3), (7, 40)]
    assert shown[3, 3, 2] > shown[3, 3, 0]  # blue
    assert shown[7, 40, 0] > shown[7, 40, 2]  # orange


def test_confusion_map_of_a_thousand_classes_loses_no_mistake():
    counts = np.diag(np.full(1000, 50))
    counts[2, 998] = 1
    svg, block = confusion_map(counts)
    assert block == 5
    assert pixels(svg).shape == (200, 200, 4)
    assert pixels(svg)[0, 199, 3] > 0


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"), (0.25, 3, "0.25"), (1234.5, 3, "1,230"), (9876.0, 6, "9876"), (20000.0, 6, "20,000"),
        (0.00048, 3, "4.8·10⁻⁴"), (1e-5, 6, "10⁻⁵"), (2.5e9, 3, "2.5·10⁹"),
        (float("nan"), 3, "nan"), (-0.5, 3, "-0.5"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: float, digits: int, text: str):
    assert format_number(value, digits) == text


@pytest.mark.parametrize("name", [*HOSTILE, "ordinary", "中华人民共和国国家图书馆" * 4])
@pytest.mark.parametrize("width", [30, 120])
def test_names_are_cut_to_size(name: str, width: float):
    short = fit(name, width, 12)
    assert text_width(short, 12) <= width
    assert short == name or "…" in short


def test_escape_leaves_only_what_xml_can_hold():
    assert escape("<a href='b'>&\x00\udcff") == "&lt;a href=&#x27;b&#x27;&gt;&amp;\ufffd\ufffd"
