"""What rendering gives to a sink: words, and nothing about providers.

Invariant: a rendered message has been through the templates of its own locale chain only; a sink
may shorten it (``fit.py``) but never writes words of its own.
"""

from __future__ import annotations

import msgspec


class Rendered(msgspec.Struct, frozen=True, gc=False):
    """Words of one delivery. Every channel uses the parts that it can show."""

    title: str
    body: str
    subject: str
    """Subject line of an e-mail; one line, the title when the template has none."""
    html: str | None = None


class RenderFailed(msgspec.Struct, frozen=True, gc=False):
    """The template cannot say this delivery: an expected failure, so a value."""

    reason: str
    """``template_variable`` (one is missing), ``template_error`` (anything else it raised)."""
    detail: str
