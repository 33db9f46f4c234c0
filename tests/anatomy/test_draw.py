# ruff: noqa: RUF001 (figures are written with real multiplication signs and dashes)
"""Figures: nothing overlaps or leaves the page, and they show what the papers say.

The widths of letters come from Adobe's own metrics of Helvetica, which matplotlib carries.
"""

import io
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from striate.anatomy import trace
from striate.anatomy.draw import encode, layout, svg
from striate.anatomy.draw.branches import Network
from striate.anatomy.draw.graph import blocks_of
from striate.anatomy.draw.steps import steps_of
from striate.core.errors import UsageError
from striate.nets import NETS, build

SVG = "{http://www.w3.org/2000/svg}"
LOSE_OVERLAP = 0.05  # points


@cache
def metrics(bold):
    """Read widths of letters, in thousandths of the font's size."""
    name = "phvb8a.afm" if bold else "phvr8a.afm"
    text = (Path(matplotlib.get_data_path()) / "fonts" / "afm" / name).read_text("latin-1")
    widths = {}
    named = {"multiply": "×", "endash": "–", "periodcentered": "·", "ellipsis": "…"}
    for code, width, glyph in re.findall(r"C (-?\d+) ; WX (\d+) ; N (\w+)", text):
        letter = named.get(glyph) or (chr(int(code)) if 32 <= int(code) < 127 else None)
        if letter and glyph not in ("quoteright", "quoteleft"):
            widths[letter] = int(width)
    return widths


def text_boxes(root):
    """Return what is written, with left, top, right and bottom by the font's metrics."""
    found = []
    for element in root.iter(f"{SVG}text"):
        size = float(element.get("font-size"))
        widths = metrics(element.get("font-weight") == "bold")
        width = sum(widths[letter] for letter in element.text) / 1000 * size
        before = {"start": 0.0, "middle": width / 2, "end": width}[element.get("text-anchor", "start")]
        up, down = 0.72 * size, 0.21 * size  # capitals and the tails of letters
        if turned := element.get("transform"):
            x, y = map(float, re.search(r"translate\((\S+) (\S+)\)", turned).groups())
            assert "rotate(-90)" in turned
            found.append((element.text, (x - up, y - width + before, x + down, y + before)))
        else:
            x, y = float(element.get("x")), float(element.get("y"))
            found.append((element.text, (x - before, y - up, x - before + width, y + down)))
    return found


def rectangles(root):
    found = []
    for element in root.iter(f"{SVG}rect"):
        if element.get("width") == "100%":
            continue
        x, y, w, h = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        found.append((element, (x, y, x + w, y + h)))
    return found


def overlap(a, b):
    return (
        min(a[2], b[2]) - max(a[0], b[0]) > LOSE_OVERLAP and min(a[3], b[3]) - max(a[1], b[1]) > LOSE_OVERLAP
    )


def hints(root):
    return [element.text for element in root.iter(f"{SVG}title") if element.get("id") is None]


def words(root):
    return Counter(element.text for element in root.iter(f"{SVG}text"))


@cache
def anatomy(name):
    with torch.device("meta"):
        return trace(build(name), name=name)


def drawn(record, theme="light", **options):
    return ElementTree.fromstring(svg(layout(record, **options), theme=theme))


def segments(root):
    """Return the straight lines of lines and of the outlines of volumes; curves by their corners."""
    found = []
    for element in root.iter():
        numbers = re.findall(r"(-?[\d.]+)[ ,](-?[\d.]+)", element.get("points") or element.get("d") or "")
        places = [(float(x), float(y)) for x, y in numbers]
        if element.get("points"):
            places.append(places[0])
        found += list(pairwise(places))
    return found


def crosses(segment, box):
    """Whether a segment passes through a box: its part between the box's sides is not empty."""
    (x1, y1), (x2, y2) = segment
    low, high = 0.0, 1.0
    for start, step, least, most in ((x1, x2 - x1, box[0], box[2]), (y1, y2 - y1, box[1], box[3])):
        if step == 0:
            if not least < start < most:
                return False
            continue
        a, b = sorted(((least - start) / step, (most - start) / step))
        low, high = max(low, a), min(high, b)
    return low < high


def check(root):
    """Nothing leaves the page, no text lies on another, no box on another, no text across an edge."""
    _, _, width, height = map(float, root.get("viewBox").split())
    texts = text_boxes(root)
    boxes = rectangles(root)
    for _, (left, top, right, bottom) in texts + boxes:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height
    for element in root.iter():
        for points in re.findall(
            r"(-?[\d.]+)[ ,](-?[\d.]+)", element.get("points") or element.get("d") or ""
        ):
            assert 0 <= float(points[0]) <= width
            assert 0 <= float(points[1]) <= height
    lines = segments(root)
    for text, (left, top, right, bottom) in texts:
        inner = (left + 0.3, top + 0.3, right - 0.3, bottom - 0.3)
        assert not any(crosses(line, inner) for line in lines), text
    texts.sort(key=lambda one: one[1][0])
    for i, (text, box) in enumerate(texts):
        for other, place in texts[i + 1 :]:
            if place[0] > box[2]:
                break
            assert not overlap(box, place), (text, other)
    layers = [box for element, box in boxes if element.find(f"{SVG}title") is not None]
    for i, box in enumerate(layers):
        for place in layers[i + 1 :]:
            assert not overlap(box, place)
        for text, place in texts:
            if overlap(box, place):
                assert box[0] <= place[0], text
                assert place[2] <= box[2], text
                assert box[1] <= place[1], text
                assert place[3] <= box[3], text


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_drawn_without_overlaps_in_both_themes(name):
    picture = layout(anatomy(name))
    texts = {theme: svg(picture, theme=theme) for theme in ("light", "dark")}
    assert texts["light"] != texts["dark"]
    root = ElementTree.fromstring(texts["light"])
    check(root)
    dark = ElementTree.fromstring(texts["dark"])
    assert [box for _, box in text_boxes(dark)] == [box for _, box in text_boxes(root)]
    assert [box for _, box in rectangles(dark)] == [box for _, box in rectangles(root)]
    assert float(root.get("viewBox").split()[2]) == pytest.approx(180 / 25.4 * 72, abs=0.01)
    assert root.find(f"{SVG}title").text == name
    assert len(root.find(f"{SVG}desc").text) > 20
    assert not list(root.iter(f"{SVG}script"))


PAPER = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet34", "resnet50_c", "mlp2")


@pytest.mark.parametrize("name", PAPER)
def test_texts_are_legible_at_the_width_of_a_page(name):
    assert layout(anatomy(name)).smallest_text >= 6.0
    assert layout(anatomy(name)).height_mm < 240


@pytest.mark.parametrize(
    "options",
    [{"full": True}, {"depth": 1}, {"width_mm": 85.0}, {"once": True}, {"title": "A title"}],
    ids=str,
)
@pytest.mark.parametrize("name", PAPER)
def test_options_leave_nothing_overlapping(name, options):
    check(drawn(anatomy(name), **options))


def test_the_same_figure_is_the_same_file():
    for kind in ("svg", "png", "pdf"):
        one, two = (encode(layout(trace(build("lenet5"))), kind) for _ in range(2))
        assert one == two, kind


# What the papers say (fact sheet, sections A, C, F, G, H).


def test_alexnet_shows_its_volumes_windows_and_groups():
    said = words(drawn(anatomy("alexnet")))
    for size in ("224×224×3", "55×55×96", "27×27×96", "27×27×256", "13×13×256", "6×6×256", "1000"):
        assert said[size] == (2 if size == "13×13×256" else 1), size
    assert said["13×13×384"] == 2
    assert said["4096"] == 2
    assert said["11×11 /4"] == 1
    assert said["2 groups"] == 3  # conv2, conv4, conv5
    assert said["3×3 /2"] == 3  # overlapping pooling
    assert said["max pool"] == 3


def test_alexnet_in_two_towers_shows_half_the_channels_twice():
    root = drawn(anatomy("alexnet"), towers=True)
    check(root)
    said = words(root)
    assert said["2 × 55×55×48"] == 1
    assert said["2 × 27×27×128"] == 1
    assert said["2 × 2048"] == 2
    faces = Counter(hint.split(";")[0] for hint in hints(root))
    assert faces["input"] == 3  # side, top, front
    assert faces["fc8"] == 3
    assert faces["conv1"] == faces["conv3"] == faces["fc7"] == 6


def test_vgg16_shows_all_its_layers_in_groups_of_one_size():
    root = drawn(anatomy("vgg16"))
    faces = Counter(hint.split(";")[0] for hint in hints(root))
    assert len(faces) == 1 + 13 + 5 + 3
    said = words(root)
    for block, size in enumerate(("224×224×64", "112×112×128", "56×56×256", "28×28×512", "14×14×512"), 1):
        assert said[size] == (2 if size == "14×14×512" else 1), size  # also what pool4 leaves
        assert said[f"conv{block}_1–{2 if block < 3 else 3}"] == 1
    assert said["7×7×512"] == 1


def test_lenet5_is_drawn_to_scale():
    root = drawn(anatomy("lenet5"), scale="linear")
    fronts = {}
    for element in root.iter(f"{SVG}polygon"):
        title = element.find(f"{SVG}title")
        if title is not None:  # the last face is the front
            points = [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]
            (left, top), _, (right, bottom), _ = points
            fronts[title.text.split(";")[0]] = (right - left, bottom - top)
    wide, tall = fronts["C1"]
    for name, channels, side in (("S2", 6, 14), ("C3", 16, 10), ("S4", 16, 5)):
        assert fronts[name][0] / wide == pytest.approx(channels / 6, rel=0.01), name
        assert fronts[name][1] / tall == pytest.approx(side / 28, rel=0.01), name
    assert fronts["F6"][1] / fronts["C5"][1] == pytest.approx(84 / 120, rel=0.01)


def test_the_window_on_a_volume_has_the_size_of_the_kernel():
    # C1 reads 5 of 32 rows, C3 reads 5 of 14.
    root = drawn(anatomy("lenet5"), scale="linear")
    heights, windows = {}, []
    for element in root.iter(f"{SVG}polygon"):
        points = [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]
        title = element.find(f"{SVG}title")
        if title is not None:
            heights[title.text.split(";")[0]] = points[3][1] - points[0][1]
        elif element.get("stroke") and len(points) == 4:
            windows.append(points[3][1] - points[0][1])
    assert len(windows) == 4  # C1, S2, C3, S4
    assert windows[0] / heights["input"] == pytest.approx(5 / 32, abs=0.002)
    assert windows[2] / heights["S2"] == pytest.approx(5 / 14, abs=0.002)


def test_log_scale_draws_the_logarithm():
    root = drawn(anatomy("vgg16"), scale="log")
    heights = {}
    for element in root.iter(f"{SVG}polygon"):
        title = element.find(f"{SVG}title")
        if title is not None:
            points = [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]
            heights[title.text.split(";")[0]] = points[2][1] - points[0][1]
    for name, side in (("conv2_1", 112), ("conv4_2", 28), ("pool5", 7)):
        assert heights[name] / heights["input"] == pytest.approx(math.log(1 + side) / math.log(225), rel=0.01)


def test_googlenet_shows_nine_modules_of_four_branches():
    root = drawn(anatomy("googlenet"))
    said = words(root)
    modules = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    assert all(said[f"inception_{module}"] == 1 for module in modules)
    kinds = Counter(hint.split("; ")[1] for hint in hints(root))
    assert kinds["conv"] == 57  # 3 and 9 modules of 6
    assert kinds["max pool"] == 4 + 9
    assert kinds["concat"] == 9
    outputs = {"3a": 256, "3b": 480, "4a": 512, "4d": 528, "4e": 832, "5b": 1024}
    assert all(said[f"concat, {channels}"] for channels in outputs.values())
    for label in (
        "1×1 conv, 16",
        "5×5 conv, 32",
        "3×3 conv, 384",
        "7×7 conv, 64, /2",
        "7×7 avg pool",
        "fc, 1000",
    ):
        assert said[label] >= 1, label


def test_resnet34_shows_its_shortcuts_dotted_where_the_size_changes():
    root = drawn(anatomy("resnet34"))
    kinds = Counter(hint.split("; ")[1] for hint in hints(root))
    assert kinds["conv"] == 33 + 3  # and three projections
    assert kinds["add"] == 16
    said = words(root)
    for stage, blocks in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, blocks + 1):
            assert said[f"conv{stage}_{block}"] == 1
    dotted = [path for path in root.iter(f"{SVG}path") if path.get("stroke-dasharray")]
    assert len(dotted) == 2 * 3  # into each projection and out of it
    assert said["3×3 conv, 128, /2"] == said["1×1, 128, /2"] == 1


def test_option_a_shortcuts_are_lines_without_boxes():
    root = drawn(anatomy("resnet20"))
    kinds = Counter(hint.split("; ")[1] for hint in hints(root))
    assert kinds == {"input": 1, "conv": 19, "add": 9, "avg pool": 1, "fc": 1}
    assert sum(bool(path.get("stroke-dasharray")) for path in root.iter(f"{SVG}path")) == 2


def test_blocks_alike_are_drawn_once_with_their_number():
    # 3 x 200 blocks, the first of the second and third stage halve the maps.
    said = words(drawn(anatomy("resnet1202")))
    assert said["conv2_1–200"] == 1
    assert said["200 alike"] == 1
    assert said["199 alike"] == 2
    each = words(drawn(anatomy("resnet152"), once=False))
    assert (
        sum(count for label, count in each.items() if label.startswith("conv")) == 1 + 3 + 8 + 36 + 3 + 1
    )  # the last in the legend


def test_depth_draws_modules_as_one_step_each():
    root = drawn(anatomy("googlenet"), depth=1)
    names = {hint.split(";")[0] for hint in hints(root)}
    assert "inception_4e" in names
    assert not any("." in name for name in names)
    hint = next(hint for hint in hints(root) if hint.startswith("inception_3a;"))
    assert "6 conv" in hint
    assert "output 28×28×256" in hint
    assert "163,696 parameters" in hint  # the paper's 159K counts no biases


def test_full_shows_normalisation_and_activations():
    said = words(drawn(anatomy("resnet20"), full=True))
    assert said["BN"] == 19
    assert said["ReLU"] == 19


# Networks of the user's own.


class Split(nn.Module):
    """One path divides again before it joins, as in later inceptions."""

    def __init__(self):
        super().__init__()
        self.a, self.d = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 1)
        self.b, self.c = nn.Conv2d(8, 8, (1, 3), padding=(0, 1)), nn.Conv2d(8, 8, (3, 1), padding=(1, 0))

    def forward(self, x):
        y = self.a(x)
        return torch.cat([self.b(y), self.c(y), self.d(x)], 1)


class PreActivation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.conv(self.bn(x).relu())


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.pool, self.squeeze = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1)
        self.excite = nn.Conv2d(4, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.excite(self.squeeze(self.pool(x)).relu()))


class Own(nn.Module):
    """Branches within branches, dense connections, a gate, pre-activation, a tangle, a second output."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.split, self.gate, self.pre = Split(), Gate(24), PreActivation(24)
        self.second = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))
        self.mix = nn.ModuleList([nn.Conv2d(24, 24, 1) for _ in range(5)])
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        x = self.split(self.stem(x))
        second = self.second(x)
        x = self.pre(self.gate(x))
        a, b = self.mix[0](x), self.mix[1](x)
        x = self.mix[4](self.mix[2](a + b) * self.mix[3](a)) + b
        return self.head(torch.cat([x, a], 1).mean((2, 3))), second


def test_a_network_of_ones_own_is_drawn_whole():
    record = trace(Own(), (3, 32, 32))
    root = drawn(record)
    check(root)
    kinds = Counter(hint.split("; ")[1] for hint in hints(root))
    assert kinds == {
        "input": 1,
        "conv": 1 + 4 + 2 + 1 + 5,
        "concat": 2,
        "mul": 2,
        "add": 3,
        "global avg pool": 3,
        "fc": 2,
    }
    assert words(root)["BN, ReLU, 3×3 conv, 24"] == 1


@st.composite
def modules(draw):
    """Make a network of steps that each read one, two or three of the steps before."""
    plan = []
    for i in range(draw(st.integers(1, 14))):
        near = st.integers(max(0, i - 4), i)
        plan.append((draw(st.lists(near, min_size=1, max_size=3, unique=True)), draw(st.booleans())))
    return plan


class Planned(nn.Module):
    def __init__(self, plan):
        super().__init__()
        self.plan = plan
        self.layers = nn.ModuleList([nn.Conv2d(4 * len(reads) if cat else 4, 4, 1) for reads, cat in plan])

    def forward(self, x):
        made = [x]
        for layer, (reads, cat) in zip(self.layers, self.plan, strict=True):
            sources = [made[i] for i in reads]
            joined = torch.cat(sources, 1) if cat else sum(sources[1:], sources[0])
            made.append(layer(joined))
        return made[-1]


@settings(max_examples=80, deadline=None)
@given(plan=modules())
def test_any_graph_is_drawn_with_all_its_lines(plan):
    record = trace(Planned(plan), (4, 8, 8))
    root = drawn(record, style="graph")
    check(root)
    steps = steps_of(record)
    network = Network(steps, blocks_of(steps))
    units = network.units()
    lines = {(run.source, run.target) for unit in units for run in unit.section.runs}
    assert lines == {(name, step.name) for step in steps for name in step.inputs}
    shown = {hint.split(";")[0] for hint in hints(root)}
    assert shown == {step.name for step in steps}


# Files and mistakes.


def test_png_has_the_pixels_asked_for_and_pdf_keeps_its_letters():
    picture = layout(anatomy("lenet5"))
    with Image.open(io.BytesIO(encode(picture, "png", pixels=1200))) as image:
        assert image.size[0] == 1200
        assert image.size[1] == pytest.approx(1200 * picture.height / picture.width, abs=1)
    with Image.open(io.BytesIO(encode(picture, "png"))) as image:
        assert image.size[0] == pytest.approx(180 / 25.4 * 300, abs=1)
    pdf = encode(picture, "pdf")
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Image" not in pdf.replace(b"/ImageB", b"").replace(b"/ImageC", b"").replace(b"/ImageI", b"")


def test_strange_names_stay_well_formed():
    record = trace(build("lenet5"), name='<&"\x00\u202e')
    root = ElementTree.fromstring(svg(layout(record, title='<b>$x_1$ & "LeNet"</b>')))
    assert root.find(f"{SVG}title").text == '<b>$x_1$ & "LeNet"</b>'
    assert encode(layout(record, title="$x_1$ \\frac <&"), "png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"style": "volumes"}, "resnet20 branches"),
        ("resnet20", {"towers": True}, "resnet20 branches"),
        ("vgg16", {"towers": True}, "no towers"),
        ("vgg16", {"style": "cubes"}, "auto, volumes, graph"),
        ("vgg16", {"scale": "sqrt"}, "auto, linear, log"),
        ("vgg16", {"width_mm": 20.0}, "40 to 2000"),
        ("vgg16", {"width_mm": float("nan")}, "40 to 2000"),
        ("vgg16", {"depth": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_said(name, options, message):
    with pytest.raises(UsageError, match=message):
        layout(anatomy(name), **options)


def test_another_kind_of_file_is_refused():
    with pytest.raises(UsageError, match=r"\.svg, \.png or \.pdf"):
        encode(layout(anatomy("mlp2")), "gif")
