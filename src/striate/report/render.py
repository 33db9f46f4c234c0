"""The report: one HTML file that needs nothing else, for a screen, a phone or paper."""

from collections.abc import Sequence

from striate.report.numbers import readable_time
from striate.report.pages import render_page
from striate.report.run_page import run_page
from striate.report.run_report import RunReport
from striate.report.side_by_side import side_by_side_page


def render_report(run: RunReport) -> str:
    """Write the report of one run as one HTML document.

    The document loads nothing: styles are inline, charts are inline SVG, images are PNG or JPEG in ``data:``
    addresses, and a content security policy forbids everything else. Every name is escaped.

    Args:
        run: what to show.

    Returns:
        HTML text that can be encoded as UTF-8.

    Raises:
        DataError: filters are not ``out x in x k x k``, an image is not uint8 pixels, or a row of the
            history has no epoch.
    """
    return render_page(
        "report/report.html.j2",
        title=run.title,
        page=run_page(run),
        several=None,
        origin=run.origin,
        created=readable_time(run.created),
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
    return render_page(
        "report/report.html.j2",
        title=title,
        page=None,
        several=side_by_side_page(runs, title),
        origin=f"{len(runs)} runs",
        created=readable_time(created),
    )
