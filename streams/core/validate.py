"""Validation: the first rule. What fails it becomes a dead letter with its bytes and reason."""

from __future__ import annotations

import msgspec

from streams.core.local_time import resolve_send_at
from streams.core.model import Event
from streams.core.policy import Policy

YEAR_10000_MS = 253_402_300_800_000


class Fault(msgspec.Struct, frozen=True):
    """Why an event cannot be decided."""

    reason: str
    inputs: dict[str, str]


def fault_of(event: Event, policy: Policy, now_ms: int) -> Fault | None:
    """The first thing wrong with an event, or ``None``."""
    bounds = policy.bounds
    for name, value in (("event_id", event.event_id), ("recipient_id", event.recipient_id)):
        if not value:
            return Fault("empty_id", {"field": name})
        if len(value) > bounds.id_bytes_max or len(value.encode()) > bounds.id_bytes_max:
            return Fault("id_too_long", {"field": name, "limit": str(bounds.id_bytes_max)})
    if event.category not in policy.categories:
        return Fault("unknown_category", {"category": event.category[:64]})
    if len(event.data) > bounds.data_fields_max:
        return Fault("too_many_fields", {"limit": str(bounds.data_fields_max)})
    if _size(event) > bounds.event_bytes_max:
        return Fault("event_too_large", {"limit": str(bounds.event_bytes_max)})
    return _time_fault(event, policy, now_ms)


def _size(event: Event) -> int:
    names = (event.actor_id, event.collapse_key or "", event.campaign or "")
    fields = sum(len(name) + len(value) for name, value in event.data.items())
    return fields + sum(len(text) for text in names)


def _time_fault(event: Event, policy: Policy, now_ms: int) -> Fault | None:
    for name in ("created_at_ms", "expires_at_ms", "send_at_ms"):
        value = getattr(event, name)
        if value is not None and not 0 <= value < YEAR_10000_MS:
            return Fault("bad_time", {"field": name, "value": str(value)})
    limit_ms = policy.bounds.future_ms_max
    at_ms = event.send_at_ms
    if event.send_at_local is not None:
        try:
            at_ms = resolve_send_at(event.send_at_local, now_ms, "UTC")
        except (ValueError, OverflowError):
            return Fault("bad_time", {"field": "send_at_local", "value": event.send_at_local[:32]})
    if at_ms is not None and at_ms - now_ms > limit_ms:
        return Fault("too_far_ahead", {"limit": f"{limit_ms // 86_400_000} days"})
    return None
