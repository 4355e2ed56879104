"""What is hidden from whoever may not see it: addresses, the attributes beside them, bodies.

Pure. Invariant: a field of one of these names is masked at any depth, whatever it holds; raw bytes
are not shown at all, because anything may be in them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streams.api.destinations import masked_destination
from streams.web.recipient_view import RecipientDocument
from streams.web.table_view import TableRow

HIDDEN = "***"
MASKED_FIELDS = frozenset({"address", "attributes", "data", "key", "value", "headers", "detail"})
"""Addresses and bodies by the names that they have in contracts and state."""


def masked_recipient(document: RecipientDocument) -> RecipientDocument:
    """A recipient without addresses and bodies."""
    return msgspec.structs.replace(
        document,
        destinations=[masked_destination(one) for one in document.destinations],
        held=[msgspec.structs.replace(one, data=_hidden(one.data)) for one in document.held],
    )


def masked_row(row: TableRow) -> TableRow:
    """A pair without raw bytes, addresses and bodies."""
    return msgspec.structs.replace(row, value_hex="", decoded=masked(row.decoded))


def masked(value: Any) -> Any:
    """JSON-like values with the fields that are hidden."""
    if isinstance(value, dict):
        return {
            name: _hidden(item) if name in MASKED_FIELDS else masked(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def _hidden(value: Any) -> Any:
    """That something is there, and under which names, but not what."""
    if isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    return HIDDEN if value else value
