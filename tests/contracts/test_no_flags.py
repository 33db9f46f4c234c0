"""The library speaks of arguments; only the command line speaks of options."""

import re
from pathlib import Path

import striate

ROOT = Path(striate.__file__).parent
OPTION = re.compile(r"(?<![\w!-])--[a-z][a-z0-9-]*")
OTHERS = {".py": re.compile(r"var\(--\w+"), ".j2": re.compile(r"var\(--\w+|--\w+\s*:|curl [^<\n]*")}
"""What looks like an option of striate and is none: variables of CSS, options of curl."""

COMMAND = re.compile(r"Command: ``striate train [^`]*``")
"""Line in a recipe's docstring: what to type to get the result that it names."""


def options_in(file):
    """Return line numbers and options of a file."""
    text = OTHERS[file.suffix].sub("", file.read_text("utf-8"))
    if file.parent.name == "recipes":
        text = COMMAND.sub("", text)
    return [(n, found) for n, line in enumerate(text.splitlines(), 1) for found in OPTION.findall(line)]


def test_an_option_is_found_and_a_css_variable_is_none(tmp_path):
    file = tmp_path / "a.py"
    file.write_text(
        "# as with --force\nx = 'use `--data-dir`'\ny = 'a--b, ---, <!--x and var(--ink) are none'\n"
    )
    assert options_in(file) == [(1, "--force"), (2, "--data-dir")]
    page = tmp_path / "a.j2"
    page.write_text(
        "<!-- x --><p style='--ink: #fff; color: var(--ink)'>striate serve --port 1\ncurl --data x</p>"
    )
    assert options_in(page) == [(1, "--port")]


def test_no_room_below_the_command_line_names_its_options():
    files = [file for kind in OTHERS for file in ROOT.rglob(f"*{kind}")]
    assert len(files) > 200
    offenders = {
        str(file.relative_to(ROOT)): found
        for file in sorted(files)
        if file.relative_to(ROOT).parts[0] != "cli" and (found := options_in(file))
    }
    lines = [f"{name}: {', '.join(f'{o} ({n})' for n, o in found)}" for name, found in offenders.items()]
    assert not offenders, "\n" + "\n".join(lines)
