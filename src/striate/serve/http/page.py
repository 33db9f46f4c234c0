"""The service's two pages for people; they load nothing and need no script."""

from collections.abc import Mapping
from typing import Any

from striate.report.pages import render_page


def front_page(info: Mapping[str, Any], address: str) -> str:
    """Write the page that says what is here, with a form to try it.

    Args:
        info: of ``Service.info``.
        address: of the service, as the reader's browser calls it; ends with a slash.
    """
    return render_page("serve/http/front.html.j2", info=info, address=address)


def api_page(schema: Mapping[str, Any]) -> str:
    """Write an OpenAPI description as a page.

    Args:
        schema: of ``FastAPI.openapi``.
    """
    return render_page("serve/http/api.html.j2", schema=schema)
