"""The policy: what the operator decided, frozen. ``settings.py`` reads it from ``flowstate.toml``.

A policy never changes; a reload makes a new one with a new ``version``, and every decision names
the version that made it. Validation with errors for people is the job of ``settings.py``; what is
here is already valid.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from streams.core.model import Channel, Priority

HOUR_MS: Final = 3_600_000  # Final: compiled rules have the number in place of its name.
DAY_MS: Final = 24 * HOUR_MS

QuietAction = Literal["hold", "drop", "downgrade", "digest"]
OverLimit = Literal["drop", "defer", "digest"]
LimitScope = Literal["recipient", "category", "channel", "destination"]
DigestMode = Literal["window", "lookback", "debounce", "calendar"]
RouteMode = Literal["first", "all", "escalate"]


class DigestRule(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """How a category's events are gathered. See ``core/digest.py`` for the modes."""

    mode: DigestMode
    window_ms: int = HOUR_MS
    """``window`` and ``lookback``: length. ``debounce``: the gap that closes it."""
    age_ms_max: int = DAY_MS
    """``debounce``: closes at this age whatever comes."""
    times: tuple[str, ...] = ()
    """``calendar``: local ``HH:MM`` times of the recipient."""
    key: tuple[str, ...] = ()
    """Event fields whose values make the key: ``actor_id``, ``collapse_key``, ``data.NAME``."""
    keep: Literal["last", "first", "top"] = "last"
    """Which events it still shows; ``top`` those with the largest number in ``top_by``."""
    items_kept_max: int = 5
    """How many events the digest still shows."""
    items_max: int = 100
    """Closes early when it has absorbed so many."""
    bytes_max: int = 16_384
    """Closes early when its kept items weigh so much."""
    top_by: str = ""
    """``data.NAME`` whose number ranks the events of ``keep = "top"``; no number ranks last."""


class LimitRule(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """No window of ``window_ms``, however aligned, has more than ``count_max`` sends."""

    scope: LimitScope
    count_max: int
    window_ms: int
    over: OverLimit = "defer"
    name: str = ""
    """Category or channel that it is about; empty is each. A channel's name wins over a
    category's, except in the scope ``category``."""


class RetryRule(msgspec.Struct, frozen=True, gc=False):
    """Exponential with full jitter: ``random(0, min(delay_max, delay * 2**(attempt-1)))``."""

    attempts_max: int = 8
    delay_ms: int = 5_000
    delay_ms_max: int = HOUR_MS


class Category(msgspec.Struct, frozen=True, gc=False):
    """What the catalogue says of one category of events."""

    name: str
    priority: Priority = "normal"
    mandatory: bool = False
    """Cannot be opted out of (but suppressions still hold)."""
    default_on: bool = True
    channels: tuple[Channel, ...] = ("push", "email")
    """Channels in order of preference; others are never used."""
    default_off_channels: tuple[Channel, ...] = ()
    """Channels that need an opt-in."""
    route: RouteMode = "first"
    """``first`` usable channel, ``all`` usable channels, or ``escalate`` through them."""
    escalate_after_ms: int = 5 * 60_000
    escalate_until: tuple[str, ...] = ("seen", "clicked")
    """Receipts (or names of business events) that end an escalation."""
    digest: DigestRule | None = None
    """How its events are gathered; none: each is told alone."""
    limits: tuple[LimitRule, ...] = ()
    """Beside those on everything; all must have room."""
    quiet_action: QuietAction = "hold"
    downgrade_to: tuple[Channel, ...] = ("email",)
    """Channels that are quiet enough for quiet hours."""
    expires_after_ms: int = 7 * DAY_MS
    template: str = ""
    """Name of the template; empty is the category's name."""
    on_ambiguous: Literal["resend", "give_up"] = "resend"
    retry: RetryRule = RetryRule()
    sms_segments_max: int = 2
    """Most SMS that one message may cost; a provider's own ceiling for the category wins."""
    requires: tuple[str, ...] = ()
    """Data fields that every event must have, because its templates use them."""


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """Every bound of the state of one recipient, by name. Metrics carry the same names."""

    event_bytes_max: int = 65_536
    """An event with more data is a dead letter."""
    id_bytes_max: int = 256
    """Of ids and keys in an event; with a longer one it is a dead letter."""
    data_fields_max: int = 64
    """An event with more is a dead letter."""
    seen_per_hour_max: int = 1_000
    """Event ids remembered per recipient and hour; beyond it ``dedupe_overflow`` is reported."""
    held_max: int = 200
    """Notifications that wait for their time; one more is dropped (``held_overflow``)."""
    digests_max: int = 50
    """Open digests; at the bound the one that closes first closes at once."""
    retries_max: int = 200
    """Deliveries that wait for another attempt; one more is given up (``retries_overflow``)."""
    escalations_max: int = 50
    """Escalations that wait; beyond it a notification does not escalate."""
    destinations_max: int = 20
    """Addresses; the one that was registered first is forgotten."""
    attempted_max: int = 500
    """Deliveries whose attempts are remembered; the oldest are forgotten."""
    cancelled_max: int = 100
    """Cancellations that are remembered; the oldest are forgotten."""
    lookbacks_max: int = 100
    """Digest keys whose last send is remembered; the oldest is forgotten."""
    suppressions_max: int = 50
    """Suppressions that are remembered."""
    actors_max: int = 1_000
    """Distinct actors that a digest counts."""
    future_ms_max: int = 30 * DAY_MS
    """How far ahead ``send_at`` may be."""
    waiting_bytes_max: int = 524_288
    """All that waits for one recipient, together: it is one record of the changelog."""
    preferences_bytes_max: int = 32_768
    """Larger preferences are a dead letter."""
    destination_bytes_max: int = 4_096
    """An address with more, attributes included, is a dead letter."""
    collapse_keys_max: int = 100
    """Collapse keys whose newest event is remembered."""
    limit_scopes_max: int = 500
    """Scopes of rate limits whose sends are remembered; the longest unused goes first."""
    stale_max: int = 20
    """How often a delivery may come too late at its sink before it is given up."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """The whole catalogue with the rules that are about everything."""

    version: str
    categories: dict[str, Category]
    limits: tuple[LimitRule, ...] = ()
    """Limits on everything: scopes recipient, channel, destination."""
    dedupe_horizon_ms: int = DAY_MS
    delivery_valid_ms: int = 15 * 60_000
    """How old a decision may be when it is sent; so also how stale an opt-out can be."""
    release_jitter_ms: int = 10 * 60_000
    """Releases after quiet hours and calendar digests are spread over this much."""
    release_lead_ms: int = 2 * 60_000
    """The spread begins so long after a full quarter hour: push services have their peaks there."""
    soft_bounce_ms: int = DAY_MS
    """How long a soft bounce suppresses a destination."""
    bounds: Bounds = Bounds()
    kills: frozenset[str] = frozenset()
    """Active kill switches: ``all``, ``category:C``, ``campaign:C``, ``kind:K``."""
    cancel_horizon_ms: int = 2 * DAY_MS
    """How long a cancellation is remembered, for what is still on its way."""
