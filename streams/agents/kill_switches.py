"""Kill switches, obeyed twice: when deciding, and again at the moment of sending.

The topic is compacted and followed whole by every worker; a tombstone is a switch that is off.

Invariant: what cannot be read changes nothing and is logged: a garbled record must neither stop
all sending nor turn a switch off.
"""

from __future__ import annotations

import logging

from streams.codec import Codec, DecodeError
from streams.core.model import Delivery
from streams.engine.api import Record

SCOPES_MAX = 100_000
"""Bound of the switches that are on; the topic has few."""

log = logging.getLogger(__name__)


class KillSwitches:
    """The switches that are on."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._by_key: dict[bytes, str] = {}
        self._active: frozenset[str] = frozenset()

    @property
    def active(self) -> frozenset[str]:
        """Scopes of the switches that are on."""
        return self._active

    def on_record(self, record: Record) -> None:
        """Takes one record of the topic."""
        key = record.key or b""
        if record.value is None:
            self._by_key.pop(key, None)
        else:
            try:
                switch = self._codec.decode("kill_switch", record.value)
            except DecodeError:
                log.exception("a kill switch at offset %d cannot be read", record.offset)
                return
            if not switch["active"]:
                self._by_key.pop(key, None)
            elif len(self._by_key) < SCOPES_MAX:
                self._by_key[key] = str(switch["scope"])
        self._active = frozenset(self._by_key.values())

    def stops(self, delivery: Delivery) -> str | None:
        """The switch that stops ``delivery``, if any is on."""
        if not self._active:
            return None
        scopes = (
            "all",
            f"category:{delivery.category}",
            f"campaign:{delivery.campaign}",
            f"kind:{delivery.kind}",
        )
        return next((scope for scope in scopes if scope in self._active), None)

    def stops_provider(self, name: str) -> bool:
        """Whether ``provider:NAME`` is switched off; others of its kind take over."""
        return f"provider:{name}" in self._active
