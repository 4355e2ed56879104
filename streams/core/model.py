"""The nouns of Flowstate: what goes into a decision, what it remembers, what comes out.

Every type is frozen: a decision never changes what it was given, it returns new parts. That is
also how the engine learns what to write: a part of the state that is the same object did not
change. State parts are ``array_like`` (compact, and readable by an older or newer release as long
as fields are only ever added at the end, with a default). Units come last in names; every time is
Unix milliseconds, UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

STATE_VERSION = 1
"""Version of the encoded state parts. Raise it when a part changes its meaning, not its length."""

Priority = Literal["critical", "normal", "bulk"]
PRIORITY_RANK: dict[str, int] = {"critical": 0, "normal": 1, "bulk": 2}
"""Lower goes first."""
Channel = Literal["push", "email", "sms", "webhook", "chat"]
Kind = Literal["apns", "fcm", "webpush", "sms", "email", "webhook", "chat"]

CHANNEL_OF_KIND: dict[str, Channel] = {
    "apns": "push",
    "fcm": "push",
    "webpush": "push",
    "sms": "sms",
    "email": "email",
    "webhook": "webhook",
    "chat": "chat",
}
"""Kind of destination -> the channel a person knows it by. A kind has its own deliveries topic."""


# --------------------------------------------------------------------------------------- inputs


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an input came from; ties each accepted record to the entry that decided it."""

    topic: str
    partition: int
    offset: int
    appended_at_ms: int


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Something happened that a recipient may want to know (``schemas/event.avsc``)."""

    event_id: str
    recipient_id: str
    category: str
    created_at_ms: int
    actor_id: str = ""
    """Who did it, for "Ann and 3 others"; distinct actors are counted by it."""
    data: dict[str, str] = {}
    """Template variables."""
    priority: Priority | None = None
    """May lower the category's priority, never raise it."""
    collapse_key: str | None = None
    """A newer event with the same key replaces one that is still waiting."""
    expires_at_ms: int | None = None
    send_at_ms: int | None = None
    send_at_local: str | None = None
    """``2026-03-01T09:00`` or ``09:00`` (the next one) in the recipient's zone."""
    supersedes: str | None = None
    """Event id that this one replaces if it is still waiting."""
    campaign: str | None = None
    """Unit that a kill switch can stop."""


class QuietWindow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Local minutes of day, [start, end); ``start > end`` crosses midnight, equal is empty.

    ``weekdays`` has bit 0 for Monday; it names the day on which the window starts. A whole day is
    0 to 1440.
    """

    start_minute: int
    end_minute: int
    weekdays: int = 0b1111111


class Preferences(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the recipient chose (``schemas/preference.avsc``); a record replaces the one before."""

    default: bool | None = None
    categories: dict[str, bool] = {}
    channels: dict[str, bool] = {}
    cells: dict[str, bool] = {}
    """``category/channel`` -> choice."""
    zone: str = "UTC"
    locale: str = "en"
    quiet_hours: tuple[QuietWindow, ...] = ()
    snooze_until_ms: int = 0
    muted: tuple[str, ...] = ()
    """Digest keys or actor ids that are muted, as ``key:...`` and ``actor:...``."""
    digests: dict[str, str] = {}
    """Category -> ``immediate``, ``hourly`` or ``daily@HH:MM`` (local)."""
    channel_order: dict[str, tuple[str, ...]] = {}
    """Category -> channels in the order that the recipient likes them."""
    updated_at_ms: int = 0


class PreferenceInput(msgspec.Struct, frozen=True, gc=False):
    """A recipient's preferences as they now are; ``None`` resets them."""

    recipient_id: str
    preferences: Preferences | None
    source: Source
    replaces: str | None = None
    """``version_of`` the preferences that it was made from; refused when they are others."""


class Destination(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One address of a recipient (``schemas/destination.avsc``)."""

    destination_id: str
    kind: Kind
    address: str
    registered_at_ms: int
    attributes: dict[str, str] = {}
    """Provider-specific: ``p256dh`` and ``auth`` for Web Push, ``environment`` for APNs, ..."""


class DestinationInput(msgspec.Struct, frozen=True, gc=False):
    """Registers a destination, or with ``removed`` takes it away (registered before ``at_ms``)."""

    recipient_id: str
    destination: Destination
    removed: bool
    at_ms: int
    source: Source
    reason: str = ""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """Evidence from outside that something happened to a notification (``receipt.avsc``)."""

    recipient_id: str
    kind: Literal[
        "delivered",
        "undelivered",
        "seen",
        "clicked",
        "bounced",
        "soft_bounced",
        "complained",
        "unsubscribed",
        "business",
    ]
    notification_id: str | None
    delivery_id: str | None
    event_id: str | None
    destination_id: str | None
    name: str | None
    """Business event's name; what was unsubscribed from: ``cell:CATEGORY/CHANNEL`` (a choice that
    shows in the preferences), ``channel:C``, ``category:C`` or ``all`` (suppressions)."""
    occurred_at_ms: int
    source: Source


class Cancellation(msgspec.Struct, frozen=True, gc=False):
    """Withdraws what has not been sent: by event id, or everything with a collapse key."""

    recipient_id: str
    event_id: str | None
    collapse_key: str | None
    requested_at_ms: int
    source: Source


class EventInput(msgspec.Struct, frozen=True, gc=False):
    """An event with where it came from."""

    event: Event
    source: Source


class Erasure(msgspec.Struct, frozen=True, gc=False):
    """The recipient is to be forgotten: everything that waits for them ends now."""

    recipient_id: str
    at_ms: int
    source: Source
    lifted: bool = False
    """They came back: from now on what comes for them is decided again."""


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Nothing happened but time: release what is due."""

    recipient_id: str


# ------------------------------------------------------------------------------------ deliveries


class DigestItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the events that a digest still shows."""

    event_id: str
    created_at_ms: int
    actor_id: str
    data: dict[str, str]


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message for one destination, complete: a sink needs nothing else to send it.

    ``delivery_id`` is 32 hex digits, the first three the partition; stable over retries and
    replays. ``(delivery_id, epoch, attempt)`` is one try.
    """

    delivery_id: str
    notification_id: str
    """Notification or digest that this delivers."""
    recipient_id: str
    category: str
    priority: Priority
    channel: Channel
    kind: Kind
    destination_id: str
    address: str
    attributes: dict[str, str]
    registered_at_ms: int
    template: str
    locale: str
    data: dict[str, str]
    event_id: str | None
    """``None`` for a digest."""
    digest_key: str | None
    count: int
    """Events in it: 1, or the digest's exact count."""
    actors: int
    """Distinct actors in it."""
    items: tuple[DigestItem, ...]
    """The events that a digest still shows, oldest first; empty for a single event."""
    collapse_key: str | None
    step: int
    """Place in the escalation sequence, 0 first."""
    attempt: int
    """1 first."""
    epoch: int
    """Raised by a redrive; ids stay."""
    created_at_ms: int
    appended_at_ms: int
    """Append time of the (first) event: latency is measured from here."""
    decided_at_ms: int
    valid_until_ms: int
    """A sink that gets to it later must not send: it answers ``stale``."""
    expires_at_ms: int
    on_ambiguous: Literal["resend", "give_up"]
    campaign: str | None
    policy_version: str
    actor_id: str = ""
    """Who did it, so that a retry knows when the actor has been muted meanwhile."""


Status = Literal[
    "accepted", "retry", "rejected", "unregistered", "ambiguous", "stale", "killed", "redrive"
]
"""A sink's answer; ``redrive`` is an operator's: the epoch is already raised, attempt is 0."""


class Feedback(msgspec.Struct, frozen=True, gc=False):
    """A sink's answer that needs deciding again, with its delivery inside (``feedback.avsc``)."""

    delivery: Delivery
    status: Status
    reason: str
    retry_after_ms: int | None
    at_ms: int
    source: Source


Input = (
    EventInput
    | PreferenceInput
    | DestinationInput
    | Receipt
    | Cancellation
    | Feedback
    | Erasure
    | Wake
)


# ----------------------------------------------------------------------------------------- state


class Suppression(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What law or history forbids: above every preference and priority."""

    scope: str
    """``all``, ``channel:C``, ``category:C`` or ``destination:ID``."""
    reason: Literal[
        "unsubscribed", "complained", "bounced", "unregistered", "soft_bounced", "forgotten"
    ]
    at_ms: int
    until_ms: int | None = None


class Profile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What changes when the recipient does something: preferences, destinations, suppressions."""

    version: int = STATE_VERSION
    preferences: Preferences = Preferences()
    destinations: tuple[Destination, ...] = ()
    suppressions: tuple[Suppression, ...] = ()


class Activity(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What changes with every event: ids seen, and the times of what was sent."""

    version: int = STATE_VERSION
    seen: tuple[tuple[int, bytes], ...] = ()
    """(hour, 12-byte entries: 8 of the event id's hash, 4 of the payload's), oldest first."""
    sent: dict[str, tuple[int, ...]] = {}
    """Scope of a limit -> times of the latest sends, oldest first, at most the largest N."""


class Notification(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One thing to tell a recipient: an event, or a closed digest. The rules run on these."""

    notification_id: str
    category: str
    priority: Priority
    created_at_ms: int
    appended_at_ms: int
    expires_at_ms: int
    data: dict[str, str]
    event_id: str | None = None
    digest_key: str | None = None
    count: int = 1
    actors: int = 1
    items: tuple[DigestItem, ...] = ()
    collapse_key: str | None = None
    campaign: str | None = None
    actor_id: str = ""
    members: bytes = b""
    """Of a digest: as ``OpenDigest.members``, so that an event can leave it while it is held."""
    member_facts: bytes = b""
    """Of a digest: as ``OpenDigest.member_facts``."""
    collapse: dict[str, str] = {}
    """Of a digest: as ``OpenDigest.collapse``, so that a newer event still replaces one of it."""


class Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A notification that waits, as the bytes that it is stored as.

    Nearly every event finds it waiting and leaves it so: then its bytes are all that is read and
    written of it (docs/performance.md).
    """

    told: msgspec.Raw
    """``packed(notification)``."""

    @property
    def notification(self) -> Notification:
        """What waits. Decoded anew each time; raises ``msgspec.DecodeError`` on damage."""
        return _notification.decode(self.told)

    def may_mention(self, text: bytes) -> bool:
        """False when no id, key or hash in it is this: asked before it is decoded for that."""
        return bytes(self.told).find(text) >= 0  # ``in`` makes an error first, in vain.

    def is_about(self, notification_id: str) -> bool:
        """Whether this notification is what waits."""
        maybe = self.may_mention(notification_id.encode())
        return maybe and self.notification.notification_id == notification_id


class Held(Packed, frozen=True, array_like=True, gc=False):
    """A notification that waits for a time: quiet hours, a rate limit, ``send_at``, a snooze.

    On release every rule is checked again.
    """

    due_ms: int
    reason: str
    since_ms: int
    step: int = 0
    """Above 0: a step of an escalation that has been held."""
    delivery_ids: tuple[str, ...] = ()
    """What was handed over before, on other channels: a receipt for it ends the escalation."""
    size_bytes: int = 0
    send_at_local: str = ""
    """``2026-03-01T09:00``: the local time that was asked for; a changed zone moves it."""
    lifetime_ms: int = 0
    """With ``send_at_local``: how long it is worth telling from then on; 0: expiry is fixed."""


class OpenDigest(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Events that are gathered to become one notification."""

    digest_id: str
    key: str
    category: str
    opened_at_ms: int
    closes_at_ms: int
    last_at_ms: int
    priority: Priority
    appended_at_ms: int
    expires_at_ms: int
    count: int
    members: bytes
    """8-byte hashes of the member event ids: a cancelled event can leave."""
    actors: bytes
    """8-byte hashes of the distinct actors."""
    items: tuple[msgspec.Raw, ...]
    """The events that it will show, oldest first, each as ``packed(item)``."""
    size_bytes: int = 0
    """Of the kept items."""
    campaign: str | None = None
    member_facts: bytes = b""
    """16 bytes for each member: 8 of the actor's hash (zeros: nobody), 8 of its expiry (ms)."""
    collapse: dict[str, str] = {}
    """Collapse key -> event id of the member that has it: a newer event replaces it."""
    opened_by: str = ""
    """``quiet_hours`` or ``rate_limited`` when that made it wait; empty: the digest rule."""
    closing: str = "digest_due"
    """Reason code to give when it closes."""

    @property
    def shown(self) -> tuple[DigestItem, ...]:
        """The items. Decoded anew each time; raises ``msgspec.DecodeError`` on damage."""
        return tuple(map(unpacked_item, self.items))


class Retry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery that will be tried again."""

    delivery: Delivery
    due_ms: int
    reason: str
    size_bytes: int = 0
    waits_for: str = ""
    """``quiet_hours`` or ``snoozed`` when the recipient's preferences made it wait."""


class Attempted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The newest attempt known of a delivery that had trouble: older answers are ignored."""

    delivery_id: str
    epoch: int
    attempt: int
    forget_at_ms: int
    stale_count: int = 0
    """How often a sink came to it too late in this epoch's line."""


class Escalation(Packed, frozen=True, array_like=True, gc=False):
    """A notification that moves to its next channel unless a receipt comes first."""

    next_step: int
    due_ms: int
    delivery_ids: tuple[str, ...] = ()
    """What was handed over so far: a receipt for one of them ends it."""
    size_bytes: int = 0


_encoder = msgspec.msgpack.Encoder()
_notification = msgspec.msgpack.Decoder(Notification)
_item = msgspec.msgpack.Decoder(DigestItem)


def packed(thing: Notification | DigestItem) -> msgspec.Raw:
    """Its bytes, to wait as: encoded once, and carried from state to state."""
    return msgspec.Raw(_encoder.encode(thing))


def unpacked_item(item: msgspec.Raw) -> DigestItem:
    """One item of a digest. Raises ``msgspec.DecodeError`` on damage."""
    return _item.decode(item)


class Waiting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything of a recipient that waits for a time or an answer."""

    version: int = STATE_VERSION
    held: tuple[Held, ...] = ()
    digests: tuple[OpenDigest, ...] = ()
    retries: tuple[Retry, ...] = ()
    attempted: tuple[Attempted, ...] = ()
    escalations: tuple[Escalation, ...] = ()
    lookbacks: dict[str, int] = {}
    """Digest (category and key) -> time of its last send, for ``lookback`` digests."""
    cancelled: tuple[tuple[bytes, int], ...] = ()
    """(8-byte hash of an event id, forget at): cancelled, whether they arrived or not."""
    newest: dict[str, int] = {}
    """``category|collapse key`` -> append time of the newest event with it; ``*|collapse key`` ->
    append time of a cancellation by it. What is older than that is not sent any more."""


class RecipientState(msgspec.Struct, frozen=True, gc=False):
    """All that is remembered of one recipient. The parts are stored under keys of their own."""

    recipient_id: str
    partition: int
    profile: Profile = Profile()
    activity: Activity = Activity()
    waiting: Waiting = Waiting()


# --------------------------------------------------------------------------------------- effects

Verdict = Literal[
    "delivering",
    "held",
    "digested",
    "digest_closed",
    "suppressed",
    "dropped",
    "duplicate",
    "conflict",
    "expired",
    "cancelled",
    "dead_lettered",
    "retrying",
    "escalating",
    "noted",
]
"""``noted`` records a change that ends nothing: a destination removed, a cancel come too late."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """What an entry says of a delivery that it produced."""

    delivery_id: str
    channel: Channel
    kind: Kind
    destination_id: str
    attempt: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One verdict, with its reason: the unit of explanation (inside ``decision.avsc``)."""

    subject_id: str
    """Notification id or digest id."""
    verdict: Verdict
    reason: str
    """Code from ``reasons.py``."""
    rule: str
    category: str
    event_id: str | None = None
    digest_id: str | None = None
    until_ms: int | None = None
    """When it will be looked at again; open verdicts have one."""
    count: int = 1
    deliveries: tuple[Sent, ...] = ()
    inputs: dict[str, str] = {}
    """What mattered: the preference cell, the window, the limit and its use, the answer."""
    source: Source | None = None
    """Record that caused it; ``None`` for what time alone caused."""


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that cannot be decided; the shell adds the original bytes from ``source``."""

    reason: str
    detail: str
    source: Source | None
    delivery: Delivery | None = None
    """Set when a delivery ran out of attempts: a redrive can send it again."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Says who an address belongs to now, so that its previous owner loses it."""

    address_hash: str
    recipient_id: str
    destination_id: str
    kind: Kind
    claimed_at_ms: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The next state and everything to do; ``notify_at_ms`` is when to call again, if ever."""

    state: RecipientState
    deliveries: tuple[Delivery, ...]
    entries: tuple[Entry, ...]
    dead_letters: tuple[DeadLetter, ...] = ()
    claims: tuple[Claim, ...] = ()
    notify_at_ms: int | None = None


def struct_to_dict(value: Any) -> Any:
    """Struct -> builtins with field names (for JSON and Avro), whatever its array-likeness.

    What is packed in it is said as what it is.
    """
    if isinstance(value, msgspec.Struct):
        named = {name: getattr(value, name) for name in value.__struct_fields__}
        if isinstance(value, Packed):
            del named["told"]
            named = {"notification": value.notification, **named}
        elif isinstance(value, OpenDigest):
            named["items"] = value.shown
        return {name: struct_to_dict(one) for name, one in named.items()}
    if isinstance(value, dict):
        return {key: struct_to_dict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [struct_to_dict(item) for item in value]
    return value
