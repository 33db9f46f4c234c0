"""``striate calc`` and ``striate compare`` as a person types them."""

import csv
import io
import json
from functools import partial

import pytest


@pytest.fixture
def run(run):
    """Run ``striate WORDS...`` on a screen of 80 columns."""
    return partial(run, width=80)


def test_calc_writes_the_slides_out(run):
    code, out, _ = run("calc", "227x227x3 > conv 96 11x11 s4 p0 > maxpool 3x3 s2")
    assert code == 0
    assert "(227 + 2*0 - 11)/4 + 1 = 55 -> 55x55x96" in out
    assert "(11*11*3 + 1) * 96 = 34,944" in out
    assert "34,848 weights + 96 biases" in out
    assert "W_row 96 x 363, X_col 363 x 3025" in out
    assert "(55 - 3)/2 + 1 = 27 -> 27x27x96" in out
    assert "19 px, the next unit 4*2 = 8 px further" in out
    assert max(map(len, out.splitlines())) <= 80


def test_calc_says_what_does_not_fit_and_goes_on(run):
    code, out, err = run("calc", "7x7x3 > conv 10 3x3 s3 > relu > fc 2")
    assert (code, err) == (0, "")
    assert "(7 + 2*0 - 3)/3 + 1 = 2.33 doesn't fit" in out
    assert "stride 2 (gives 3)" in out
    assert "pad 1 (gives 3)" in out
    assert "input side 6 (gives 2) or 9 (gives 3)" in out
    assert "output       2x2x10" in out
    assert "relu: keeps 2x2x10, no parameters" in out
    assert "(2*2*10 + 1) * 2 = 82" in out
    assert max(map(len, out.splitlines())) <= 80


def test_calc_stops_where_nothing_is_left(run):
    code, out, err = run("calc", "7x7x3 > conv 10 3x3 s3 > maxpool 5x5 s2")
    assert code == 2
    assert "conv1" in out
    assert err.startswith("error: pool1: expected a window of at most 2 px")
    assert len(err.splitlines()) == 1


def test_calc_json(run):
    code, out, _ = run("calc", "32x32x3 > conv 10 5x5 p2", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["input"] == [3, 32, 32]
    assert found["steps"][0]["output"] == [10, 32, 32]
    assert found["steps"][0]["parameters_sum"] == "(5*5*3 + 1) * 10 = 760"
    assert found["totals"]["parameters"] == 760
    assert found["totals"]["flops"] == 2 * 75 * 10 * 32 * 32


def test_calc_knows_networks_that_the_notation_can_say(run):
    code, out, _ = run("calc", "alexnet_caffe")
    assert code == 0
    assert "60,965,224 (60,954,656 weights + 10,568 biases)" in out
    assert "724,406,816" in out


def test_calc_reads_a_file(run, tmp_path):
    file = tmp_path / "tiny.net"
    file.write_text("INPUT 8x8x1\nCONV 2 3x3\nFC 3\n", encoding="utf-8")
    code, out, _ = run("calc", str(file))
    assert code == 0
    assert "(3*3*1 + 1) * 2 = 20" in out


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ("5x5", "pad (5 - 1)/2 = 2 keeps the size"),
        ("7", "pad (7 - 1)/2 = 3 keeps the size"),
        ("4x4", "(4 - 1)/2 = 1.5 is no whole number"),
    ],
)
def test_calc_same(run, window, said):
    code, out, _ = run("calc", "--same", window)
    assert code == 0
    assert said in " ".join(out.split())


def test_calc_same_json(run):
    _, out, _ = run("calc", "--same", "3x5", "--json")
    assert json.loads(out) == [
        {"kernel_px": 3, "before": 1, "after": 1},
        {"kernel_px": 5, "before": 2, "after": 2},
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("calc",), "got neither"),
        (("calc", "8x8x3 > relu", "--same", "3x3"), "got both"),
        (("calc", "--same", "big"), "expected the size of a window, got 'big'"),
        (("calc", "8x8x3 > convv 3 3x3"), "did you mean CONV?"),
        (("calc", "vgg61"), "expected the name of a network"),
        (("calc", "googlenet"), "networks that branch"),
        (("compare", "alexnet"), "at least two networks"),
        (("compare", "alexnet", "alexnett"), "did you mean alexnet"),
        (("compare", "alexnet", "alexnet"), "alexnet twice"),
        (("compare", "conv 3x3", "conv 7x7", "--json", "--csv"), "at most one of"),
    ],
)
def test_one_line_about_what_is_wrong(run, words, said):
    code, _, err = run(*words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_compare_prints_ratios_and_claims(run):
    code, out, _ = run("compare", "alexnet", "googlenet")
    assert code == 0
    words = " ".join(out.split())
    assert "60,965,224 6,998,552 1/8.7" in words
    assert "724,406,816 1,582,671,872 2.2x" in words
    assert "= 8.71" in words
    assert "10.07 % top-5" in words
    assert max(map(len, out.splitlines())) <= 80


def test_compare_repeats_the_first_network_where_the_screen_is_narrow(run):
    code, out, _ = run("compare", "vgg16", "alexnet", "resnet18", "zfnet", "nin_imagenet")
    assert code == 0
    assert out.count("138,357,544 ") > 1
    assert max(map(len, out.splitlines())) <= 80


def test_compare_stacks(run):
    code, out, _ = run("compare", "conv 3x3 x3", "conv 7x7")
    assert code == 0
    words = " ".join(out.split())
    assert "The receptive fields are equal" in words
    assert "27 C^2 = 110,592" in words


def test_compare_texts_and_files(run, tmp_path):
    file = tmp_path / "tiny.net"
    file.write_text("INPUT 8x8x1\nCONV 2 3x3\nFC 3\n", encoding="utf-8")
    code, out, _ = run("compare", str(file), "8x8x1 > conv 4 3x3 > conv 2 3x3 > fc 3", "--csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == ["tiny", "text 1"]
    assert int(rows[0]["parameters"]) == (9 + 1) * 2 + (6 * 6 * 2 + 1) * 3
    assert int(rows[1]["parameters"]) == (9 + 1) * 4 + (9 * 4 + 1) * 2 + (4 * 4 * 2 + 1) * 3


def test_compare_json_and_markdown(run):
    _, out, _ = run("compare", "vgg16", "resnet152", "--json")
    found = json.loads(out)
    assert found["ratios_to"] == "vgg16"
    assert [one["depth"] for one in found["networks"]] == [16, 152]
    _, out, _ = run("compare", "vgg16", "resnet152", "--markdown")
    assert out.startswith("| | vgg16 | resnet152 |\n|---|---|---|\n")
