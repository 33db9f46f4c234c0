"""The public face: a list that changes only on purpose, light to import, and known to tools."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import striate

NAMES = [
    *("Compute", "Model", "Prediction", "Preprocessing", "Protocol", "Recipe", "__version__", "average"),
    *("bench", "blend_table", "calibrate", "compare", "convert_weights", "ensemble", "errors", "evaluate"),
    *("export", "inspect_data", "load", "measure", "nets", "predict", "predict_to_file", "quantize"),
    *("recipes", "resume", "soup", "train", "wrap", "write_report"),
]


def test_the_public_names_are_these() -> None:
    assert sorted(striate.__all__) == sorted(NAMES)
    assert dir(striate) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_documented_and_called_by_its_public_name(name: str) -> None:
    value = getattr(striate, name)
    if callable(value):
        assert value.__module__ == "striate"
        assert inspect.getdoc(value)
        assert value is getattr(striate, name)


def test_no_public_name_is_hidden_by_a_room() -> None:
    """``import striate.blend.soup`` sets ``striate.blend``: a function of a room's name would be lost."""
    rooms = {path.name for path in Path(striate.__file__).parent.iterdir() if path.is_dir()}
    rooms |= {path.stem for path in Path(striate.__file__).parent.glob("*.py")}
    assert set(NAMES) & rooms == {"nets", "recipes"}  # these are the rooms themselves


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = striate.trian  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "unloaded"),
    [
        ("import striate", ("torch", "numpy", "PIL")),
        (
            "import striate; striate.load",
            ("striate.training", "striate.report", "striate.serve", "matplotlib"),
        ),
        ("import striate; striate.predict", ("striate.training", "striate.report", "striate.blend")),
    ],
)
def test_nothing_is_imported_before_it_is_needed(line: str, unloaded: tuple[str, ...]) -> None:
    code = f"import sys; {line}; print([name for name in sys.modules if name.startswith({unloaded!r})])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_type_checkers_see_the_names(tmp_path: Path) -> None:
    file = tmp_path / "user.py"
    file.write_text(
        "import striate\n"
        "from PIL import Image\n"
        "model = striate.load('x')\n"
        "reveal_type(model)\n"
        "reveal_type(model.predict(Image.new('L', (1, 1))))\n"
        "striate.train('x', 'y', lr='fast')\n"
        "striate.nowhere\n"
    )
    found = subprocess.run(
        [sys.executable, "-m", "mypy", str(file)],  # in the root, so that the cache of `make check` serves
        capture_output=True,
        text=True,
        cwd=Path(striate.__file__).parents[2],
    ).stdout
    assert 'Revealed type is "striate.model.Model"' in found
    assert "striate.serve.predict.Prediction" in found
    assert '"lr"' in found
    assert 'has no attribute "nowhere"' in found
