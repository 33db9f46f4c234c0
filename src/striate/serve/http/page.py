"""The service's two pages for people; they load nothing and need no script."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2


def front_page(info: Mapping[str, Any], address: str) -> str:
    """Write the page that says what is there, with a form to try it.

    Args:
        info: of ``Service.info``.
        address: of the service, as the reader's browser calls it; ends with a slash.
    """
    return _rendered("front.html.j2", info=info, address=address)


def api_page(schema: Mapping[str, Any]) -> str:
    """Write an OpenAPI description as a page.

    Args:
        schema: of ``FastAPI.openapi``.
    """
    return _rendered("api.html.j2", schema=schema)


def _rendered(name: str, **content: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(content)


def _template(name: str) -> str:
    return resources.files("striate.serve.http").joinpath(name).read_text(encoding="utf-8")
