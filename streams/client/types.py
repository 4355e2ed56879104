"""Values that go in and come out of both clients."""

from __future__ import annotations

import msgspec

from streams.core.model import Priority
from streams.web.state_documents import PreferencesDocument


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something happened that a recipient may want to know; fields as in ``event.avsc``.

    Keep ``event_id`` the same when you send it again: that is what makes a resend harmless.
    """

    event_id: str
    recipient_id: str
    category: str
    created_at_ms: int
    actor_id: str = ""
    data: dict[str, str] = {}
    priority: Priority | None = None
    collapse_key: str | None = None
    expires_at_ms: int | None = None
    send_at_ms: int | None = None
    send_at_local: str | None = None
    supersedes: str | None = None
    campaign: str | None = None


class Accepted(msgspec.Struct, frozen=True):
    """Durable: on all in-sync replicas."""

    event_id: str
    repeated: bool = False
    """It had been accepted before."""


class NotAccepted(msgspec.Struct, frozen=True):
    """Not accepted. ``retry`` says whether the same may be sent again."""

    event_id: str | None
    reason: str
    """Kind of problem: ``invalid``, ``conflict``, ``too_large``, ``unavailable``."""
    detail: str
    retry: bool = False


Answer = Accepted | NotAccepted


class Versioned(msgspec.Struct, frozen=True):
    """A recipient's preferences with the version to hand back when changing them."""

    preferences: PreferencesDocument
    version: str
