"""The report: one HTML file that needs nothing else, for a screen, a phone or paper."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from striate.report import words as say
from striate.report.record import EpochRow, MistakePicture, RunReport
from striate.report.run_page import run_page
from striate.report.side_by_side import side_by_side_page
from striate.report.svg import format_number

__all__ = ["EpochRow", "MistakePicture", "RunReport", "render_report", "render_side_by_side"]


def render_report(run: RunReport) -> str:
    """Write the report of one run as one HTML document.

    The document loads nothing: styles are inline, curves are inline SVG, pictures are PNG or JPEG in
    ``data:`` addresses, and a content security policy forbids everything else. Every name is escaped.

    Args:
        run: what to tell.

    Returns:
        HTML text that can be encoded as UTF-8.

    Raises:
        DataError: filters are not ``out x in x k x k``, a picture is not uint8 pixels, or a row of the
            history has no epoch.
    """
    return _rendered(
        title=run.title,
        page=run_page(run),
        several=None,
        origin=run.origin,
        created=say.readable_time(run.created),
    )


def render_side_by_side(runs: Sequence[RunReport], *, title: str, created: str = "") -> str:
    """Write several runs as one HTML document: a comparison, then each run folded.

    Args:
        runs: 2 to 26; the others are compared with the first.
        title: heading of the page.
        created: when the page was made, in ISO 8601, or empty.

    Returns:
        HTML text as of ``render_report``.

    Raises:
        UsageError: another number of runs.
        DataError: as of ``render_report``.
    """
    several = side_by_side_page(runs, title)
    origin = f"{len(runs)} runs"
    return _rendered(
        title=title, page=None, several=several, origin=origin, created=say.readable_time(created)
    )


def _rendered(**content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=say.percent, number=lambda value: format_number(value, digits=4))
    page = environment.get_template("base.html.j2").render(content)
    # File names may hold bytes that are not text (lone surrogates) or control characters.
    legal = (c if c >= " " or c in "\n\t" else "\ufffd" for c in page)
    return "".join(legal).encode("utf-8", "replace").decode("utf-8")


def _template(name: str) -> str:
    return resources.files("striate.report").joinpath(name).read_text(encoding="utf-8")
