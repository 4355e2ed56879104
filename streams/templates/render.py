"""Runs the templates of one delivery.

The delivery's own variables are ``data`` (also by their bare names), ``count`` and ``actors`` of a
digest, its ``items`` (newest last, each with its ``data``), ``category`` and ``locale``. Bare
names never hide the ones that Flowstate gives.

Invariant: nothing that a template does can raise out of ``render``; a subject or a title is one
line.
"""

from __future__ import annotations

import re
from typing import Any

from jinja2 import Template, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.runtime import Context

from streams.core.model import Delivery
from streams.templates.catalogue import Templates
from streams.templates.rendered import Rendered, RenderFailed

DETAIL_CHARACTERS_MAX = 200
LINE_ENDS = re.compile(r"[ \t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")


def render(delivery: Delivery, templates: Templates) -> Rendered | RenderFailed:
    """Words for ``delivery``, or why there are none."""
    digest = delivery.event_id is None
    name = delivery.template or delivery.category
    chosen = templates.choose(name, delivery.channel, delivery.locale, digest)
    variables = templates.given | _variables(delivery)
    try:
        context = chosen.title.new_context(variables, shared=True)
        title = one_line(_text(chosen.title, context))
        if chosen.is_alone or context.vars or context.exported_vars:
            context = chosen.body.new_context(variables, shared=True)
        body = _text(chosen.body, context).strip()
        subject = one_line(_fresh(chosen.subject, variables)) if chosen.subject else title
        html = _fresh(chosen.html, variables) if chosen.html else None
    except UndefinedError as error:
        return RenderFailed("template_variable", f"{name}: {error}"[:DETAIL_CHARACTERS_MAX])
    except (JinjaError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return RenderFailed("template_error", f"{name}: {error}"[:DETAIL_CHARACTERS_MAX])
    return Rendered(title, body, subject, html)


def _fresh(template: Template, variables: dict[str, Any]) -> str:
    return _text(template, template.new_context(variables, shared=True))


def _text(template: Template, context: Context) -> str:
    """What ``template.render`` gives, without copying its globals each time.

    A shared context takes ``variables`` as they are, globals included; the copy that is saved
    takes four times as long as running a short template. And one context does for title and body,
    which are of one environment, unless the title has set a variable or the two have blocks.
    """
    return "".join(template.root_render_func(context))


def one_line(text: str) -> str:
    """``text`` with every run of line ends, tabs and plain spaces made one space."""
    return LINE_ENDS.sub(" ", text).strip()


def _variables(delivery: Delivery) -> dict[str, Any]:
    variables: dict[str, Any] = dict(delivery.data)
    variables["data"] = delivery.data
    variables["count"] = delivery.count
    variables["actors"] = delivery.actors
    variables["items"] = delivery.items
    variables["category"] = delivery.category
    variables["locale"] = delivery.locale
    return variables
