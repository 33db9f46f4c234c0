"""docs/python.md, line by line, in an empty folder with two small sets of images."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def picture(rng: np.random.Generator, side: int) -> Image.Image:
    """Light on the left (0) or on the right (1)."""
    pixels = rng.integers(0, 60, (48, 48, 3), np.uint8)
    pixels[:, 24 * side : 24 * side + 24] += 150
    return Image.fromarray(pixels)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    for side, name in enumerate(("left", "right")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(40):
            picture(rng, side).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "holiday").mkdir()
    for side in (0, 1):
        picture(rng, side).save(tmp_path / "holiday" / f"{side + 1}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_line_of_the_page_runs(place: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").replace("```python\n", "\n").replace("```\n", "\n")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 25
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = runner.run(test, out=report.append)
    assert found.failed == 0, "".join(report)
