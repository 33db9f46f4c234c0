"""How every page of striate is written: one Jinja environment for the templates of all rooms."""

from functools import cache
from importlib import resources
from typing import Any

import jinja2

from striate.core.version import __version__
from striate.report.numbers import format_number, percent
from striate.report.palette import DARK, LIGHT


def render_page(template: str, **content: Any) -> str:
    """Write a page. What it is given is escaped, except ``Markup``.

    Args:
        template: its path inside the package, such as ``report/report.html.j2``.
        content: what the template uses; a name that it lacks is an error.

    Returns:
        HTML text that can be encoded as UTF-8: control characters and lone surrogates, which file names may
        hold, are replaced.
    """
    page = _environment().get_template(template).render(content)
    legal = (c if c >= " " or c in "\n\t" else "\ufffd" for c in page)
    return "".join(legal).encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda path: (resources.files("striate") / path).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(light=LIGHT, dark=DARK, version=__version__)
    environment.filters.update(
        percent=percent,
        number=lambda value: format_number(value, digits=4),
        thousands=lambda count: f"{count:,}",
    )
    return environment
