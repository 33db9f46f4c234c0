"""Every page is found from docs/README.md, and every link there leads somewhere."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs are not shipped with the package")


def test_the_index_names_every_page_and_no_other():
    links = re.findall(r"\]\(([^)#]+)\)", (DOCS / "README.md").read_text("utf-8"))
    assert [link for link in links if not (DOCS / link).exists()] == []
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages - set(links) == set()
