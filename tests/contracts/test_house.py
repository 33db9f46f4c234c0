"""No file of striate imports itself through others."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import striate

ROOT = Path(striate.__file__).parent
FILES = {
    ".".join(("striate", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports_of(source: str) -> set[str]:
    """Files that a file imports anywhere, also in functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts if parts <= FILES.keys() else {*parts, node.module}
    return found & FILES.keys()


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert imports_of("def f():\n    from striate.core import errors") == {"striate.core.errors"}


def test_files_import_each_other_without_circles():
    imports = {name: imports_of(path.read_text("utf-8")) - {name} for name, path in FILES.items()}
    assert circle_in(imports) == []
