"""What decide workers answer the API with, and what they are asked: plain documents.

Structs with names (not array-like as the state's own parts are), because they are also what
people see: the API passes them on. Every time is Unix milliseconds, UTC.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from streams.core.model import Channel, Kind, Priority

CLAIMS_MAX = 1_000
"""Addresses in one question about claims."""
YEAR_10000_MS = 253_402_300_800_000
TimeMs = Annotated[int, Meta(ge=0, lt=YEAR_10000_MS)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Minute = Annotated[int, Meta(ge=0, le=1440)]


class QuietWindowDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Quiet from ``start_minute`` to ``end_minute`` of the local day; bit 0 is Monday."""

    start_minute: Minute
    end_minute: Minute
    weekdays: Annotated[int, Meta(ge=0, le=127)] = 127


class PreferencesDocument(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False
):
    """What a recipient chose. Fields that are left out are not chosen."""

    default: bool | None = None
    categories: Annotated[dict[Name, bool], Meta(max_length=500)] = {}
    channels: dict[Channel, bool] = {}
    cells: Annotated[dict[Name, bool], Meta(max_length=2_000)] = {}
    """``category/channel`` -> choice."""
    zone: Annotated[str, Meta(min_length=1, max_length=64, examples=["Europe/Lisbon"])] = "UTC"
    locale: Annotated[str, Meta(min_length=2, max_length=35, examples=["pt-PT"])] = "en"
    quiet_hours: Annotated[list[QuietWindowDocument], Meta(max_length=50)] = []
    snooze_until_ms: TimeMs = 0
    muted: Annotated[list[Name], Meta(max_length=500)] = []
    digests: Annotated[dict[Name, str], Meta(max_length=500)] = {}
    channel_order: Annotated[dict[Name, list[Channel]], Meta(max_length=500)] = {}
    updated_at_ms: TimeMs = 0
    """Set by the server."""


class SuppressionDocument(msgspec.Struct, frozen=True):
    """What is forbidden by law or history, above every preference."""

    scope: str
    reason: str
    at_ms: int
    until_ms: int | None = None


class RecipientPreferences(msgspec.Struct, frozen=True):
    """A recipient's choices as they now hold, with their version for ``If-Match``."""

    recipient_id: str
    preferences: PreferencesDocument
    etag: str
    suppressions: list[SuppressionDocument] = []
    applied: bool = True
    """False for a moment after a change that is accepted and will apply to every later event."""


class DestinationDocument(msgspec.Struct, frozen=True):
    """One address of a recipient."""

    destination_id: str
    kind: Kind
    address: str
    registered_at_ms: int
    attributes: dict[str, str] = {}


class RecipientDestinations(msgspec.Struct, frozen=True):
    """The addresses of a recipient."""

    recipient_id: str
    destinations: list[DestinationDocument]


class PreferencesChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change for the owner to make: a whole document, or a merge patch (RFC 7396)."""

    at_ms: int
    replace: dict[str, Any] | None = None
    merge: dict[str, Any] | None = None
    if_match: list[str] | None = None
    """ETags of which one must be the present one; ``None`` is any."""


class EventDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event as ``schemas/event.avsc`` describes it."""

    recipient_id: Name
    category: Name
    created_at_ms: TimeMs
    event_id: Name | UnsetType = UNSET
    """Required, unless an Idempotency-Key is sent from which it is made."""
    actor_id: Annotated[str, Meta(max_length=1_024)] = ""
    data: dict[str, str] = {}
    priority: Priority | None = None
    collapse_key: Annotated[str, Meta(max_length=1_024)] | None = None
    expires_at_ms: TimeMs | None = None
    send_at_ms: TimeMs | None = None
    send_at_local: Annotated[str, Meta(max_length=64)] | None = None
    supersedes: Name | None = None
    campaign: Name | None = None


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dry run: what would become of ``event`` now, or at ``at_ms``."""

    event: EventDocument
    preferences: PreferencesDocument | None = None
    """Instead of the recipient's own: "what if"."""
    at_ms: TimeMs | None = None


class PreviewEntry(msgspec.Struct, frozen=True):
    """One verdict, with the sentence that explains it."""

    verdict: str
    reason: str
    rule: str
    sentence: str
    until_ms: int | None
    digest_id: str | None
    inputs: dict[str, str]


class PreviewDelivery(msgspec.Struct, frozen=True):
    """One message that would go out."""

    delivery_id: str
    channel: str
    kind: str
    destination_id: str
    address: str
    template: str
    locale: str
    valid_until_ms: int
    expires_at_ms: int


class Preview(msgspec.Struct, frozen=True):
    """What would happen, and why. Nothing was changed."""

    notification_id: str
    recipient_id: str
    policy_version: str
    at_ms: int
    entries: list[PreviewEntry]
    deliveries: list[PreviewDelivery]
    due_before: int
    """Other notifications of the recipient that would be released first, because they are due."""
    next_due_ms: int | None
    """When something of the recipient would be looked at again."""


class SeenQuestion(msgspec.Struct, frozen=True):
    """Did this id come before, and with which content?"""

    recipient_id: str
    event_id: str
    content: str
    """Hexadecimal ``dedupe.content_hash`` of the event."""


class SeenQuestions(msgspec.Struct, frozen=True):
    """Questions about recipients of one worker."""

    items: Annotated[list[SeenQuestion], Meta(max_length=1_000)]


class SeenAnswers(msgspec.Struct, frozen=True):
    """In the order of the questions; ``unknown`` for partitions that are not (yet) here."""

    answers: list[Literal["new", "duplicate", "conflict", "unknown"]]


class KeptOfRecipient(msgspec.Struct, frozen=True):
    """What a worker still holds of a recipient; ``flowstate forget`` asks for it."""

    parts: list[str]
    """Of the state: ``profile``, ``moving``, ``activity``. Of the ledger: ``rows``."""
    is_marked: bool
    """Whether what comes for them is refused, or not kept, because they were forgotten."""


class ClaimsQuestion(msgspec.Struct, frozen=True):
    """Which of these addresses does a partition say belong to the recipient?"""

    partition: int
    recipient_id: str
    address_hashes: Annotated[list[str], Meta(max_length=CLAIMS_MAX)]


class ClaimsHeld(msgspec.Struct, frozen=True):
    """Those that do."""

    address_hashes: list[str]


class OwnedPartitions(msgspec.Struct, frozen=True):
    """Partitions that a worker answers for now."""

    ready: list[int]
    catching_up: list[int]


PREFERENCE_FIELDS = PreferencesDocument.__struct_fields__
