"""Which data fields a template cannot do without, so that a missing one is found before any event.

Every field that a template uses must be in each event of its category: the catalogue says so in
``requires``, and an event without it is refused when it is validated, not when it is to be sent. A
template that can do without a field says that too: ``data.who | default("Somebody")``, or a test
``data.who is defined`` around it.

Invariant: a field counts as needed unless the template itself says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from jinja2 import meta, nodes

from streams.core.policy import Category

if TYPE_CHECKING:
    from streams.templates.catalogue import Templates

GIVEN = frozenset({"data", "count", "actors", "items", "category", "locale"})
"""What Flowstate gives to every template; see ``render.py``."""
FORGIVING_FILTERS = frozenset({"default", "d"})
FORGIVING_TESTS = frozenset({"defined", "undefined"})


def needed(tree: nodes.Template) -> frozenset[str]:
    """Names of the data fields without which a parsed template fails."""
    forgiven = {
        name
        for node in (*tree.find_all(nodes.Filter), *tree.find_all(nodes.Test))
        if node.name in (FORGIVING_FILTERS if isinstance(node, nodes.Filter) else FORGIVING_TESTS)
        for name in _fields(node.node)
    }
    bare = meta.find_undeclared_variables(tree) - GIVEN
    if tree.environment is not None:
        bare -= tree.environment.globals.keys()
    return frozenset(({*_fields(tree)} | bare) - forgiven)


def _fields(node: nodes.Node | None) -> Iterator[str]:
    """``data.NAME``, ``item.data.NAME`` and ``NAME`` of a filter or test, as names."""
    if node is None:
        return
    if isinstance(node, nodes.Name) and node.name not in GIVEN:
        yield node.name
    under = [node] if isinstance(node, nodes.Getattr | nodes.Getitem) else []
    for one in (*under, *node.find_all(nodes.Getattr), *node.find_all(nodes.Getitem)):
        if not _is_data(one.node):
            continue
        if isinstance(one, nodes.Getattr):
            yield one.attr
        elif isinstance(one.arg, nodes.Const):
            yield str(one.arg.value)


def _is_data(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "data"
    return isinstance(node, nodes.Name) and node.name == "data"


def problems_of(categories: Iterable[Category], templates: Templates) -> list[str]:
    """What templates use that events of their category may lack, in sentences."""
    found = []
    for category in categories:
        for field, place in sorted(templates.needs(category.template or category.name).items()):
            if field not in category.requires:
                found.append(
                    f"the template {place} uses data.{field}, which an event of {category.name} may"
                    f' lack: add "{field}" to requires of [categories.{category.name}], or write'
                    f' {{{{ data.{field} | default("...") }}}}'
                )
    return found
