"""Looking into a partition's state table: pairs by kind of key and prefix, page by page.

``GET /v1/state/tables/state?partition=&kind=&prefix=&after=&limit=`` of a decide worker. A row has
its key, its value as bytes (hexadecimal, cut at a bound) and decoded. Unmasked: a worker asks.

Pure but for the reads of the view. Invariant: one look reads at most ``ROWS_MAX`` pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from streams import tables
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import struct_to_dict
from streams.engine import fence
from streams.engine.api import StateView

ROWS_MAX = 200
VALUE_BYTES_MAX = 65_536


class TableRow(msgspec.Struct, frozen=True):
    """One pair."""

    key: str
    """Without the byte of its kind; hexadecimal where it is not text."""
    key_hex: str
    value_bytes: int
    value_hex: str
    """At most the first ``VALUE_BYTES_MAX``."""
    decoded: Any = None
    error: str = ""
    """Why it cannot be decoded."""


class TablePage(msgspec.Struct, frozen=True):
    """Some pairs of one partition, in the order of their keys."""

    partition: int
    rows: list[TableRow]
    after: str | None
    """Pass it back as ``after`` to go on; ``None`` when this was all."""


def table_page(
    view: StateView,
    codec: Codec,
    partition: int,
    kind: str,
    prefix: str,
    after: str | None,
    limit: int,
) -> TablePage:
    """A page. Raises ``ValueError`` for a kind or cursor that is none."""
    found = KINDS.get(kind)
    if found is None:
        raise ValueError(f"there is no kind {kind!r}; choose one of {', '.join(KINDS)}")
    start = found.prefix + prefix.encode()
    cursor = bytes.fromhex(after) if after else None
    limit = max(1, min(limit, ROWS_MAX))
    pairs = list(view.scan(start, cursor, limit + 1))
    rows = [_row(codec, found, key, value) for key, value in pairs[:limit]]
    return TablePage(partition, rows, pairs[limit - 1][0].hex() if len(pairs) > limit else None)


def _row(codec: Codec, kind: Kind, key: bytes, value: bytes) -> TableRow:
    decoded, error = None, ""
    try:
        decoded = _readable(kind.decode(codec, value))
    except Exception as failure:
        # Whatever is wrong with one value, the others of the page are shown.
        error = f"{type(failure).__name__}: {failure}"
    return TableRow(
        _name(kind, key),
        key.hex(),
        len(value),
        value[:VALUE_BYTES_MAX].hex(),
        decoded,
        error,
    )


def _name(kind: Kind, key: bytes) -> str:
    rest = key[len(kind.prefix) :] or key.lstrip(b"\0")
    try:
        return rest.decode()
    except UnicodeDecodeError:
        return rest.hex()


def _moving(value: bytes) -> Any:
    activity, waiting = state_codec.decode_moving(value)
    return {"activity": struct_to_dict(activity), "waiting": struct_to_dict(waiting)}


def _readable(value: Any) -> Any:
    """Bytes as hexadecimal, at any depth."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _readable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    return value


class Kind(msgspec.Struct, frozen=True):
    """One kind of key."""

    prefix: bytes
    """How its keys begin."""
    by_recipient: bool
    """The rest of the key is a recipient, so that a whole key has one partition."""
    decode: Callable[[Codec, bytes], Any]


KINDS = {
    "profile": Kind(
        tables.PROFILE, True, lambda _, value: struct_to_dict(state_codec.decode_profile(value))
    ),
    "moving": Kind(tables.MOVING, True, lambda _, value: _moving(value)),
    "activity": Kind(
        tables.ACTIVITY, True, lambda _, value: struct_to_dict(state_codec.decode_activity(value))
    ),
    "claim": Kind(
        tables.CLAIM, False, lambda codec, value: struct_to_dict(codec.decode_claim(value))
    ),
    "forgotten": Kind(
        tables.FORGOTTEN, False, lambda _, value: {"since_ms": int.from_bytes(value)}
    ),
    "fence": Kind(tables.FENCE, False, lambda _, value: struct_to_dict(fence.decode(value))),
}
"""Every kind of key in the table, by the name that people ask for it with."""
