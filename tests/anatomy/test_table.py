"""The table of a network: hand-made rows, merged blocks, and each format read back."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch import nn

from striate import nets
from striate.anatomy import tabulate, trace
from striate.anatomy.columns import COLUMNS, percent


@pytest.fixture(scope="module")
def lenet():
    with torch.device("meta"):
        return trace(nets.build("lenet5_rbf"))


@pytest.fixture(scope="module")
def googlenet():
    with torch.device("meta"):
        return trace(nets.build("googlenet"))


def test_a_row_in_full():
    net = nn.Sequential(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU())
    row = tabulate(trace(net, (3, 227, 227), name="lecture"), batch_images=2).rows[1]
    assert row == {
        "name": "0",
        "kind": "Conv2d",
        "window": "11x11 s4 p0",
        "role": "conv",
        "inputs": ["input"],
        "output": [96, 55, 55],
        "weights": 34_848,
        "biases": 96,
        "parameters": 34_944,
        "parameters_share": 1.0,
        "macs": 2 * 105_415_200,
        "flops": 4 * 105_415_200,
        "macs_share": 1.0,
        "memory_values": 2 * 290_400,
        "memory_bytes": 2 * 1_161_600,
        "memory_share": pytest.approx(290_400 / (290_400 + 154_587)),
        "field_rows_px": 11,
        "field_columns_px": 11,
        "jump_rows_px": 4,
        "jump_columns_px": 4,
        "start_rows_px": 0,
        "start_columns_px": 0,
        "whole_image": False,
        "x_col": [363, 3025],
        "w_row": [96, 363],
        "im2col_groups": 1,
        "note": "",
    }


def test_windows_say_what_is_unusual():
    net = nn.Sequential(
        nn.Conv2d(4, 4, (3, 5), stride=(1, 2), padding=(1, 2), dilation=2, groups=2),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    )
    rows = tabulate(trace(net, (4, 20, 20))).rows
    assert [row["window"] for row in rows] == ["", "3x5 s1x2 p1x2 d2 g2", "3x3 s2 p0 ceil"]


def test_sums_of_lenet5(lenet):
    table = tabulate(lenet)
    assert table.totals["parameters"] == 60_000
    assert table.totals["parameters"] == table.totals["weights"] + table.totals["biases"]
    assert sum(row["parameters_share"] for row in table.rows) == pytest.approx(1)
    assert sum(row["memory_share"] for row in table.rows) == pytest.approx(1)
    # C5 holds 48,120 of the 60,000 parameters: 80.2 %.
    assert table.where[0].startswith("60,000 parameters: ")
    assert "most in C5 (80%)" in table.where[0]


def test_vgg16_says_where_things_are():
    with torch.device("meta"):
        where = tabulate(trace(nets.build("vgg16"))).where
    # fc6: 102,764,544 of 138,357,544; convolutions: 15,346,630,656 of 15,470,264,320 MACs (fact sheet F).
    assert where[0].startswith("138,357,544 parameters: fully connected layers 89%")
    assert "most in fc6 (74%)" in where[0]
    assert "30,940,528,640 FLOPs): convolutions 99%" in where[1]
    assert where[2].startswith("15,237,608 values of 4 bytes = 60.95 MB of memory")


def test_blocks_of_googlenet(googlenet):
    rows = {row["name"]: row for row in tabulate(googlenet, depth=1).rows}
    modules = [name for name in rows if name.startswith("inception")]
    assert modules == [f"inception_{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
    # Fact sheet G.1: outputs, parameters and millions of MACs of the modules.
    assert rows["inception_3a"]["output"] == [256, 28, 28]
    assert rows["inception_3a"]["parameters"] == 163_696
    assert round(rows["inception_3a"]["macs"] / 1e5) == 1280
    assert rows["inception_5b"]["parameters"] == 1_444_080
    assert rows["inception_5b"]["field_rows_px"] == 715
    assert rows["inception_3b"]["inputs"] == ["inception_3a"]
    assert rows["conv1"]["kind"] == "Conv2d"
    assert rows["inception_3a"]["role"] == "block"
    assert rows["inception_3a"]["x_col"] is None


@pytest.mark.parametrize("memory", ["lecture", "separate", "training", "im2col"])
def test_merging_keeps_the_sums(googlenet, memory):
    flat, merged = tabulate(googlenet, memory=memory), tabulate(googlenet, memory=memory, depth=1)
    assert merged.totals == flat.totals
    for key in ("macs", "weights", "biases", "memory_bytes"):
        assert sum(row[key] for row in merged.rows) == sum(row[key] for row in flat.rows)


def test_a_block_used_again_is_a_row_of_its_own():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
            self.pool = nn.MaxPool2d(2)

        def forward(self, images):
            return self.block(self.pool(self.block(images)))

    table = tabulate(trace(Twice(), (1, 20, 20)), depth=1)
    assert [row["name"] for row in table.rows] == ["input", "block", "pool", "block#2"]
    assert table.totals["parameters"] == 10


def test_training_only_parameters_are_named(googlenet):
    table = tabulate(googlenet)
    assert table.totals["training_only_parameters"] == 13_378_280 - 6_998_552
    assert any("6,379,728 more parameters" in note for note in table.notes)


def test_python_api(lenet):
    rows = lenet.to_rows()
    assert [row["name"] for row in rows[:3]] == ["input", "C1", "C1_squash"]
    assert json.loads(json.dumps(rows)) == rows
    assert lenet._repr_html_().startswith('<div class="striate-anatomy">')


def test_csv_reads_back(lenet):
    table = tabulate(lenet)
    lines = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert len(lines) == len(table.rows)
    assert list(lines[0]) == list(table.rows[0])
    c3 = next(line for line in lines if line["name"] == "C3")
    assert c3["output"] == "16x10x10"
    assert c3["parameters"] == "1516"
    assert c3["field_rows_px"] == "14"
    assert c3["whole_image"] == "false"


def test_json_is_plain(lenet):
    value = json.loads(json.dumps(tabulate(lenet, memory="training", batch_images=4).to_json()))
    assert value["input"] == [1, 32, 32]
    assert value["batch_images"] == 4
    assert value["ledger"]["besides_bytes"]["momentum"] == 240_000
    assert value["layers"][1]["name"] == "C1"


def test_markdown_is_a_table(lenet):
    lines = [line for line in tabulate(lenet).to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 15 + 1
    cells = [line.replace("\\|", "").count("|") for line in lines]
    assert set(cells) == {len(COLUMNS) + 1}
    assert "C1\\_squash" in lines[4]


def test_latex_has_as_many_cells_in_each_line(lenet):
    text = tabulate(lenet).to_latex()
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 15 + 1
    assert {line.replace(r"\&", "").count("&") for line in lines} == {len(COLUMNS) - 1}
    assert r"C1\_squash" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1


def test_html_is_well_formed_and_escaped():
    table = tabulate(trace(nn.Sequential(nn.Conv2d(1, 2, 1)), (1, 4, 4), name="<b>&"))
    page = table.to_page()
    body = ElementTree.fromstring(page[page.index("<body>") : page.index("</body>") + len("</body>")])
    assert body.findtext(".//caption") == "<b>&, 1x4x4, 1 image"
    assert len(body.findall(".//tbody/tr")) == 2
    assert all(len(line) == len(COLUMNS) for line in body.findall(".//tr"))
    assert "http" not in page


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (0.001, "<1%"), (0.742, "74%"), (0.998, "99.8%"), (0.9999, ">99.9%"), (1.0, "100%")],
)
def test_percent_never_says_all_or_nothing_wrongly(share, text):
    assert percent(share) == text


def test_a_notebook_shows_totals_and_escapes_names():
    anatomy = trace(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 4, 4), name="<b>&")
    for shown in (anatomy._repr_html_(), tabulate(anatomy)._repr_html_()):
        page = ElementTree.fromstring(shown)
        assert page.findtext(".//caption") == "<b>&, 1x4x4, 1 image"
        totals = [cell.text or "" for cell in page.findall(".//tfoot//td")]
        # 2 filters of 3x3 at 2x2 places: 18 weights, 2 biases, 72 MACs, 144 FLOPs.
        assert totals[:1] + totals[3:7] == ["total", "18", "2", "72", "144"]


def test_printing_shows_the_table_in_plain_text(lenet):
    lines = str(lenet).splitlines()
    assert str(lenet) == str(tabulate(lenet))
    assert lines[0] == "lenet5_rbf, 1x32x32, 1 image"
    assert lines[1].split()[:4] == ["layer", "kind", "output", "weights"]
    total = next(line for line in lines if line.startswith("total")).split()
    assert total[1:3] == ["59,752", "248"]  # 60,000 together; biases 6 + 6 + 16 + 16 + 120 + 84
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in str(lenet)


def test_blocks_are_indented_and_columns_left_out_are_named(googlenet):
    text = tabulate(googlenet).to_text(width=80)
    lines = text.splitlines()
    assert "inception_3a" in lines
    assert next(line for line in lines if "conv5x5" in line).startswith("  ")
    assert "shares" in next(line for line in lines if line.startswith("Left out for lack of room"))
    wide = tabulate(googlenet).to_text(width=80, wide=True)
    assert "Left out" not in wide
    assert all(column.heading in wide.splitlines()[1] for column in COLUMNS)
