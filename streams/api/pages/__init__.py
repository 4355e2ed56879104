"""Pages for recipients: rendered here, usable without JavaScript, nothing from elsewhere.

Invariants: every value is escaped (autoescape); no script runs, no other site may frame or feed a
page (Content-Security-Policy), and a link's token never leaves in a Referer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

FOLDER = Path(__file__).resolve().parent
POLICY = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, status: int = 200, **values: Any) -> web.Response:
    """A page as a response."""
    html = _environment.get_template(template).render(values)
    return web.Response(text=html, status=status, content_type="text/html", headers=HEADERS)


def stylesheet() -> str:
    """The one stylesheet of all pages."""
    return (FOLDER / "page.css").read_text(encoding="utf-8")
