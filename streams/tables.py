"""Every stateful table, once: name, changelog topic, what its keys mean.

The decide role's table is declared to Faust (so that it assigns actives and standbys and routes
requests) and kept by our own store; see ``engine/store.py``. Keys start with one byte of kind.
"""

from __future__ import annotations

import msgspec

from streams import topics

PROFILE = b"p"
MOVING = b"w"
ACTIVITY = b"a"
"""Only of recipients who had no event since a release that kept it apart from ``Waiting``."""
CLAIM = b"c"
FORGOTTEN = b"f"
FENCE = b"\x00fence"
"""Changelogged with every batch: input positions, clock, policy version."""


class TableSpec(msgspec.Struct, frozen=True):
    """One table as Faust knows it and ``topology.md`` shows it."""

    name: str
    changelog: str
    role: str
    keys: tuple[tuple[str, str], ...]
    """(key form, what its value is)."""


STATE = TableSpec(
    name="state",
    changelog=topics.STATE_CHANGELOG,
    role="decide",
    keys=(
        ("p + recipient", "Profile: preferences, destinations, suppressions"),
        (
            "w + recipient",
            "due time (8 bytes, big endian), Activity (ids seen, sends), Waiting (held, digests)",
        ),
        ("a + recipient", "Activity, of who had no event since a release that kept it apart"),
        ("c + address hash", "Claim: who an address belongs to"),
        ("f + recipient hash", "Mark of an erasure: since when (8 bytes, big endian)"),
        ("0 fence", "input positions, clock and policy version of the last batch"),
    ),
)
TABLES = (STATE,)
