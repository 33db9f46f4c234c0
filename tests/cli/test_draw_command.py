# ruff: noqa: RUF001 (figures are written with real multiplication signs)
"""``striate draw`` as a person types it."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image


@pytest.fixture
def run(run, monkeypatch, tmp_path):
    """Run ``striate WORDS...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run


def test_writes_the_figure_in_all_kinds_at_once(run, tmp_path):
    code, out, _ = run("draw", "lenet5", "-o", "a.svg", "-o", "b.png", "-o", "c.pdf")
    assert code == 0
    assert "a.svg: 180 x " in out
    assert ElementTree.fromstring((tmp_path / "a.svg").read_text()).get("width") == "180.00mm"
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "b.png") as image:
        assert image.size[0] == 2126  # 180 mm at 300 dots an inch


def test_width_in_pixels_is_exact(run, tmp_path):
    assert run("draw", "mlp2", "-o", "a.png", "--width", "900px")[0] == 0
    with Image.open(tmp_path / "a.png") as image:
        assert image.size[0] == 900
    assert run("draw", "mlp2", "-o", "a.svg", "--width", "900px")[0] == 0
    assert ElementTree.fromstring((tmp_path / "a.svg").read_text()).get("width") == "900"


def test_draws_a_network_of_ones_own(run, tmp_path):
    (tmp_path / "drawn_net.py").write_text(
        "from torch import nn\n"
        "def small(width=4):\n"
        "    first = nn.Conv2d(3, width, 3)\n"
        "    return nn.Sequential(first, nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 5))\n"
    )
    words = (
        "draw",
        "drawn_net:small",
        "--input",
        "3x8x8",
        "--arg",
        "width=6",
        "--title",
        "Mine",
        "-o",
        "m.svg",
    )
    code, _, err = run(*words)
    assert (code, err) == (0, "")
    text = (tmp_path / "m.svg").read_text()
    assert ">6×6×6<" in text
    assert ">Mine<" in text


def test_small_letters_are_pointed_out(run):
    code, out, _ = run("draw", "resnet152", "--each", "-o", "a.svg")
    assert code == 0
    assert "smallest letters" in out
    assert "--once" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lenet5", "-o", "a.gif"), "expected a file that ends in .svg, .png or .pdf, got a.gif"),
        (("lenet5",), "Missing option '--out'"),
        (("lenet5", "-o", "a.svg", "--theme", "blue"), "expected a theme of light, dark, print, got 'blue'"),
        (("lenet5", "-o", "a.svg", "--width", "10cm"), "expected a --width such as 180mm or 1600px"),
        (("lenet5", "-o", "a.svg", "--width", "9px"), "100 to 20000 px"),
        (("resnet20", "-o", "a.svg", "--style", "volumes"), "use --style graph"),
        (("lenet5x", "-o", "a.svg"), "expected the name of a network"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_mistakes_give_one_line_and_leave_no_file(run, tmp_path, words, message):
    code, out, err = run("draw", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_needs_no_torch():
    code = (
        "import sys; sys.argv = ['striate', 'draw', '--help']\n"
        "from striate.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
