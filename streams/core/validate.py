"""Validation: the first rule. What fails it becomes a dead letter with its bytes and reason."""

from __future__ import annotations

from typing import Final

from streams.core.local_time import resolve_send_at
from streams.core.model import Event
from streams.core.policy import DAY_MS, Policy
from streams.core.sizes import map_bytes, text_bytes
from streams.core.terms import Fault

YEAR_10000_MS: Final = 253_402_300_800_000
ID_FIELDS = ("event_id", "recipient_id", "actor_id", "collapse_key", "supersedes", "campaign")
"""Texts that are stored or compared as names: all have the one bound."""
UNKNOWN_BYTES: Final = 1 << 60


def fault_of(
    event: Event, policy: Policy, now_ms: int, encoded_bytes: int = UNKNOWN_BYTES
) -> Fault | None:
    """The first thing wrong with an event, or ``None``.

    ``encoded_bytes``: of its canonical encoding, when that is known. No text in it is longer, nor
    all its data together, so that what is short as a whole is not looked at in its parts.
    """
    bounds = policy.bounds
    if not event.event_id or not event.recipient_id:
        return Fault("empty_id", {"field": "recipient_id" if event.event_id else "event_id"})
    id_bytes_max: int = bounds.id_bytes_max
    if encoded_bytes > id_bytes_max and (name := _long_id(event, id_bytes_max)) is not None:
        return Fault("id_too_long", {"field": name, "limit": str(id_bytes_max)})
    category = policy.categories.get(event.category)
    if category is None:
        return Fault("unknown_category", {"category": event.category[:64]})
    data = event.data
    for name in category.requires:
        if name not in data:
            return Fault("missing_field", {"field": f"data.{name}"})
    if len(data) > bounds.data_fields_max:
        return Fault("too_many_fields", {"limit": str(bounds.data_fields_max)})
    event_bytes_max: int = bounds.event_bytes_max
    if encoded_bytes > event_bytes_max and map_bytes(data) > event_bytes_max:
        return Fault("event_too_large", {"limit": str(event_bytes_max)})
    return _time_fault(event, policy, now_ms)


def _long_id(event: Event, bytes_max: int) -> str | None:
    """Name of the first id that is too long. Ordinary ones together are short: no look at each."""
    together = len(event.event_id) + len(event.recipient_id) + len(event.actor_id)
    for other in (event.collapse_key, event.supersedes, event.campaign):
        if other is not None:
            together += len(other)
    if 4 * together <= bytes_max:
        return None
    return next(
        (name for name in ID_FIELDS if text_bytes(getattr(event, name) or "") > bytes_max), None
    )


def _time_fault(event: Event, policy: Policy, now_ms: int) -> Fault | None:
    created_at_ms: int = event.created_at_ms
    if not 0 <= created_at_ms < YEAR_10000_MS:
        return Fault("bad_time", {"field": "created_at_ms", "value": str(created_at_ms)})
    expires_at_ms, at_ms = event.expires_at_ms, event.send_at_ms
    if expires_at_ms is not None and not 0 <= expires_at_ms < YEAR_10000_MS:
        return Fault("bad_time", {"field": "expires_at_ms", "value": str(expires_at_ms)})
    if at_ms is not None and not 0 <= at_ms < YEAR_10000_MS:
        return Fault("bad_time", {"field": "send_at_ms", "value": str(at_ms)})
    send_at_local = event.send_at_local
    if send_at_local is not None:
        try:
            at_ms = resolve_send_at(send_at_local, now_ms, "UTC")
        except (ValueError, OverflowError):
            return Fault("bad_time", {"field": "send_at_local", "value": send_at_local[:32]})
    if at_ms is not None and at_ms - now_ms > policy.bounds.future_ms_max:
        return Fault("too_far_ahead", {"limit": f"{policy.bounds.future_ms_max // DAY_MS} days"})
    return None
