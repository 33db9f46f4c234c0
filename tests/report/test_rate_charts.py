"""Charts of rates put dots, bars and lines where arithmetic says."""

import xml.etree.ElementTree as ElementTree

import pytest

from striate.metrics.calibration import ReliabilityBin
from striate.metrics.interval import Interval
from striate.report.rate_charts import DotRow, bars, difference_dots, rate_dots, reliability_diagram

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert("x")</script> & گربه' + "x" * 200


def found(svg: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}{kind}"))


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in found(svg, "text")]


def test_differences_lie_about_the_line_at_zero():
    rows = [DotRow("b", 2.0, 1.0, 3.0, "+2.0"), DotRow("c", -2.0, -4.0, 0.0, "-2.0")]
    svg = difference_dots(rows, axis_name="points", spoken="differences")
    (zero,) = [float(e.attrib["x1"]) for e in found(svg, "line") if e.attrib["stroke"] == "var(--ink)"]
    right, left = (float(e.attrib["cx"]) for e in found(svg, "circle"))
    assert right - zero == pytest.approx(zero - left, abs=0.15)
    assert right > zero
    first, second = found(svg, "rect")
    ends = [(float(e.attrib["x"]), float(e.attrib["x"]) + float(e.attrib["width"])) for e in (first, second)]
    assert ends[0][0] - zero == pytest.approx((right - zero) / 2, abs=0.15)  # 1 is half of 2
    assert ends[1][1] == pytest.approx(zero, abs=0.15)  # 0 is on the line


@pytest.mark.parametrize("low", [0.0, 40.0, 99.2])
def test_rates_stay_inside_the_chart(low: float):
    rows = [DotRow("a", 99.5, low, 99.9, "99.5%"), DotRow("b", 99.6, 99.3, 100.0, "99.6%")]
    svg = rate_dots(rows, axis_name="accuracy, %", spoken="accuracies")
    places = [float(e.attrib["x"]) for e in found(svg, "rect")]
    places += [float(e.attrib["cx"]) for e in found(svg, "circle")]
    assert min(places) >= 0
    assert max(places) <= 400
    assert "100" in texts(svg)


def test_small_rates_are_not_squeezed():
    svg = rate_dots([DotRow("a", 1.0, 0.5, 2.0, "1.0%")], axis_name="accuracy, %", spoken="accuracy")
    (bar,) = found(svg, "rect")
    assert float(bar.attrib["width"]) > 100  # of about 280: the axis ends at 2%, not at 100%


def test_one_difference_of_nothing_is_drawn():
    svg = difference_dots([DotRow("b", 0.0, 0.0, 0.0, "+0.0")], axis_name="points", spoken="none")
    (dot,), (zero,) = (
        found(svg, "circle"),
        [e for e in found(svg, "line") if e.attrib["stroke"] == "var(--ink)"],
    )
    assert dot.attrib["cx"] == zero.attrib["x1"]


def test_bars_are_as_long_as_their_values():
    svg = bars([("a", 1.0, "1.000"), ("b", 0.25, "0.250"), ("c", None, "-")], axis_name="AP", spoken="APs")
    widths = [float(e.attrib["width"]) for e in found(svg, "rect")]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(widths[0] / 4, abs=0.1)
    assert "-" in texts(svg)


def test_a_calibrated_bin_lies_on_the_diagonal_and_counts_are_heights():
    bins = (
        ReliabilityBin(0.0, 0.25, 0, None, None, Interval(0.0, 1.0)),
        ReliabilityBin(0.25, 0.5, 10, 0.5, 0.5, Interval(0.2, 0.8)),
        ReliabilityBin(0.5, 1.0, 40, 0.9, 0.7, Interval(0.6, 0.8)),
    )
    svg = reliability_diagram(bins)
    (diagonal,) = [e for e in found(svg, "line") if "stroke-dasharray" in e.attrib]
    x1, y1, x2, y2 = (float(diagonal.attrib[key]) for key in ("x1", "y1", "x2", "y2"))
    first, second = ((float(e.attrib["cx"]), float(e.attrib["cy"])) for e in found(svg, "circle"))

    def line_at(x: float) -> float:
        return y1 + (y2 - y1) * (x - x1) / (x2 - x1)

    assert first[1] == pytest.approx(line_at(first[0]), abs=0.2)
    assert second[1] > line_at(second[0]) + 10  # 70% right at 90% claimed: below the line
    heights = [float(e.attrib["height"]) for e in found(svg, "rect") if e.attrib["fill"] == "var(--soft)"]
    assert heights[0] == pytest.approx(heights[1] / 4, abs=0.1)
    assert "images (highest bar: 40)" in texts(svg)


def test_no_images_at_all_are_drawn_too():
    assert found(reliability_diagram(()), "circle") == []


def test_names_are_text_and_cut():
    for svg in (
        rate_dots([DotRow(HOSTILE, 50.0, 40.0, 60.0, "50%", HOSTILE)], axis_name="a", spoken=HOSTILE),
        difference_dots([DotRow(HOSTILE, 1.0, 0.0, 2.0, "+1")], axis_name="a", spoken=HOSTILE),
        bars([(HOSTILE, 0.5, "0.5")], axis_name="a", spoken=HOSTILE),
    ):
        assert "<script" not in svg
        assert found(svg, "script") == []
        assert all(len(text) < 60 for text in texts(svg))
