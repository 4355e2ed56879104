"""Every bound and choice of the HTTP API, by name, with its default.

``streams/settings.py`` fills this from ``[api]`` in ``flowstate.toml``; tests make it directly.
Secrets arrive here as values and are never shown: ``repr`` leaves them out.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from streams.ranges import OneOrMore, Port

Check = Literal["owner", "local"]


class KeyLimits(msgspec.Struct, frozen=True):
    """What one API key may use of one process; what the keys file says of a key wins."""

    requests_per_second: float = 500.0
    """On average; beyond it 429. 0 is no limit."""
    events_per_second: float = 20_000.0
    """Also of those that come in batches. 0 is no limit."""
    burst_seconds: float = 2.0
    """How much of a second's allowance may be saved up."""
    concurrency_max: int = 64
    """Requests of one key that are under way at once in one process."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the ``api`` role.

    Times in milliseconds, sizes in bytes.
    """

    # -- where it listens, and under which name
    host: str = "0.0.0.0"  # noqa: S104 (without keys the server binds to loopback, whatever is here)
    """Loopback instead when there are no keys: see ``keys_file``."""
    port: Port = 8080
    """0 takes a free one."""
    public_url: str = ""
    """How the world reaches it, ``https://...``: links and the signatures of callbacks need it."""
    keys_file: str = ".flowstate/api-keys.json"
    """Written by ``flowstate keys``; holds hashes. No key in it: loopback only, everything open."""
    keys_reread_ms: int = 1_000
    """A revoked key stops working this soon."""
    link_secrets: tuple[str, ...] = ()
    """Sign the links of preference pages, opens and clicks; newest first, all verify."""

    # -- what a request may be
    body_bytes_max: OneOrMore = 8 << 20
    """Of a batch of events; every other body is bounded by ``small_body_bytes_max``."""
    small_body_bytes_max: OneOrMore = 262_144
    items_max: OneOrMore = 1_000
    """Events in one request."""
    bodies_bytes_max: OneOrMore = 256 << 20
    """Of all requests under way together; beyond it, 503."""
    concurrency_max: OneOrMore = 512
    """Requests under way at once in one process; beyond it, 503."""
    request_ms_max: OneOrMore = 10_000
    """A request that takes longer is answered with 503."""
    key_limits: KeyLimits = KeyLimits()
    """Of each key."""
    public_limits: KeyLimits = KeyLimits(200.0, 0.0, 2.0, 64)
    """Of everything that comes without a key (links, callbacks), by kind of route."""

    # -- Kafka
    ack_ms_max: OneOrMore = 3_000
    """Not acknowledged by then: 503, and what was not sent yet never is."""
    probe_ms: OneOrMore = 1_000
    """How often Kafka is asked whether it is there, when no acknowledgement says so."""
    retry_after_s: int = 1
    linger_ms: int = 2
    cancel_ms_max: int = 2_000
    """How long a cancellation waits for its decision before it answers 202."""

    # -- memory of what was accepted
    conflict_check: Check = "owner"
    """``owner``: a request with an Idempotency-Key also asks the partition's owner whether an id
    came before with another payload; ``local``: only this process' memory is asked."""
    remembered_events_max: int = 500_000
    remembered_keys_max: int = 20_000
    remembered_ms: int = 24 * 3_600_000
    seen_ms_max: int = 150
    """How long an owner may take to say so; silence never refuses an event."""

    # -- receipts
    twilio_auth_tokens: tuple[str, ...] = ()
    """Newest first; empty refuses Twilio's callbacks."""
    ses_topic_arns: tuple[str, ...] = ()
    """SNS topics whose messages are taken; anybody can sign with a topic of their own."""
    sns_message_age_ms_max: OneOrMore = 3_600_000
    webhook_secrets: tuple[str, ...] = ()
    """``whsec_...`` of Standard Webhooks, newest first; empty refuses them."""
    webhook_tolerance_ms: OneOrMore = 300_000
    ledger_url: str = ""
    """Any ledger worker; empty finds the owner through the group."""
    ledger_wait_ms_max: int = 1_500
    """A callback can overtake the ledger: how long an id that it does not know yet is waited for.
    """

    # -- the decide workers
    decide_urls: tuple[str, ...] = ()
    """Decide workers to ask for state; empty finds the owners through Kafka."""
    internal_secret: str = ""
    """Shown to the workers that are asked: the same for every role."""
    owner_ms_max: OneOrMore = 1_000
    page_link_ms_max: OneOrMore = 30 * 24 * 3_600_000
    """Age at which a link to a preference page stops working."""

    def __repr__(self) -> str:
        return f"ApiSettings(host={self.host!r}, port={self.port})"


class DecideWebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The pages that a decide worker has for the API."""

    internal_secret: str = ""
    """Required of whoever asks: the same for every role. Empty: only this machine may ask."""
    applied_ms_max: int = 400
    """How long a change of preferences waits to be applied; acknowledged it is already."""
    ack_ms_max: OneOrMore = 800
    pending_max: OneOrMore = 50_000
    """Changes that are acknowledged and not yet applied, remembered so that reads see them."""
    body_bytes_max: OneOrMore = 2 << 20
    announce_ms: OneOrMore = 3_600_000
    """How often the worker repeats which partitions it answers for (Kafka forgets after days)."""
    retry_after_s: int = 1

    def __repr__(self) -> str:
        return "DecideWebSettings()"
