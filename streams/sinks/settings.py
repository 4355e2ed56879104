"""Settings of the deliver role and of every provider, with defaults.

Frozen: a change is a restart. Secrets arrive here as values (``settings.py`` of the package reads
them from the environment or from files) and are never logged: no struct here has a ``repr`` that
shows them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streams.ranges import FarPort, Needed, OneOrMore, Rate, Share

SECRET_FIELDS = frozenset(
    {"private_key_pem", "auth_token", "api_secret", "password", "service_account_json", "secrets"}
)


class BreakerSettings(msgspec.Struct, frozen=True):
    """When a provider is left alone, and for how long."""

    failures_min: OneOrMore = 20
    """Failures within ``window_ms`` before the share is looked at."""
    failure_share: Share = 0.5
    window_ms: OneOrMore = 10_000
    open_ms: OneOrMore = 5_000
    """First pause; doubles with every failed probe."""
    open_ms_max: OneOrMore = 60_000
    probes: OneOrMore = 1
    """Requests let through when the pause is over."""


class PruneSettings(msgspec.Struct, frozen=True):
    """When a provider that calls many addresses gone is no longer believed."""

    share_max: Share = 0.2
    """More than this share of its answers within ``window_ms``: addresses are kept, an alarm is
    raised. 1 believes everything."""
    answers_min: OneOrMore = 100
    """Answers within the window before the share is looked at."""
    window_ms: OneOrMore = 10 * 60_000
    retry_ms: OneOrMore = 10 * 60_000
    """When a delivery whose address was kept is tried again."""


class HealthSettings(msgspec.Struct, frozen=True):
    """When a provider loses share to others of its kind, by ten points of a hundred."""

    slow_ms: OneOrMore = 5_000
    """An answer that took longer is a bad one."""
    bad_share: Share = 0.15
    """So many of the answers of a period are bad: ten points less; else ten more."""
    answers_min: OneOrMore = 20
    """Answers in a period before a share of them is looked at."""
    period_ms: OneOrMore = 10_000


class HttpSettings(msgspec.Struct, frozen=True):
    """How requests travel."""

    connect_ms_max: OneOrMore = 5_000
    request_ms_max: OneOrMore = 15_000
    """Deadline of one request, connecting included."""
    connections: OneOrMore = 1
    """HTTP/2 connections, used in turn; HTTP/1.1 opens what it needs, up to ``in_flight_max``."""
    idle_ms_max: OneOrMore = 90_000
    ping_interval_ms: OneOrMore = 30_000
    timeouts_to_replace: OneOrMore = 5
    """So many deadlines missed in a row replace the connection."""
    answer_bytes_max: OneOrMore = 65_536
    ca_pem: str = ""
    """Further trusted certificate authorities, PEM; empty trusts the system's alone."""


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every provider has."""

    name: str
    weight: int = 100
    """Share of the kind's traffic while healthy; 0 is a stand-by."""
    in_flight_max: OneOrMore = 500
    """Requests under way at once from one worker."""
    quota_per_second: Rate | None = None
    """What the account allows over all workers; ``false``: no limit."""
    ramp_ms: int = 0
    """From nothing to the whole quota in no less than this; 0 does not ramp."""
    http: HttpSettings = HttpSettings()
    breaker: BreakerSettings = BreakerSettings()
    health: HealthSettings = HealthSettings()
    prune: PruneSettings = PruneSettings()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class ApnsSettings(ProviderSettings, frozen=True, kw_only=True, tag="apns"):
    """Apple Push Notification service."""

    name: str = "apns"
    endpoint: str = "https://api.push.apple.com"
    sandbox_endpoint: str = "https://api.sandbox.push.apple.com"
    team_id: Needed = ""
    key_id: Needed = ""
    private_key_pem: Needed = ""
    """The ``.p8`` key's text."""
    apns_topic: str = ""
    """The app's bundle id; a destination's attribute ``bundle_id`` overrides it."""
    token_refresh_ms: Annotated[int, Meta(ge=20 * 60_000, le=60 * 60_000)] = 45 * 60_000
    """Apple refuses tokens older than 60 min and renewals under 20 min."""


class FcmSettings(ProviderSettings, frozen=True, kw_only=True, tag="fcm"):
    """Firebase Cloud Messaging, HTTP v1. One entry per project."""

    name: str = "fcm"
    endpoint: str = "https://fcm.googleapis.com"
    project_id: Needed = ""
    service_account_json: Needed = ""
    """The service account's key file, as text; its ``token_uri`` is where tokens come from."""
    quota_per_second: Rate | None = 10_000.0
    """600,000 a minute per project."""
    ramp_ms: int = 60_000
    """Google asks for at least a minute from 0 to the highest rate."""


class TwilioSettings(ProviderSettings, frozen=True, kw_only=True, tag="twilio"):
    """Twilio Programmable Messaging."""

    name: str = "twilio"
    endpoint: str = "https://api.twilio.com"
    account_sid: Needed = ""
    auth_token: Needed = ""
    sender: Needed = ""
    """A number or alphanumeric sender; ``MG...`` is a messaging service."""
    status_callback_url: str = ""
    segments_max: OneOrMore = 2
    segments_max_by_category: dict[str, OneOrMore] = {}


class VonageSettings(ProviderSettings, frozen=True, kw_only=True, tag="vonage"):
    """Vonage SMS API."""

    name: str = "vonage"
    endpoint: str = "https://rest.nexmo.com"
    api_key: Needed = ""
    api_secret: Needed = ""
    sender: Needed = ""
    status_callback_url: str = ""
    segments_max: OneOrMore = 2
    segments_max_by_category: dict[str, OneOrMore] = {}


class UnsubscribeSettings(msgspec.Struct, frozen=True):
    """RFC 8058 links in e-mail."""

    base_url: str = ""
    """``https://...`` of the API; empty leaves the headers out."""
    secrets: tuple[str, ...] = ()
    """Signing secrets, newest first; older ones still verify."""

    def __repr__(self) -> str:
        return f"UnsubscribeSettings(base_url={self.base_url!r})"


class TrackingSettings(msgspec.Struct, frozen=True):
    """Opens and clicks of HTML mail; nothing is tracked unless asked for."""

    base_url: str = ""
    """``https://...`` of the API (``api.public_url``)."""
    secrets: tuple[str, ...] = ()
    """The API's ``link_secrets``, newest first."""
    opens: bool = False
    clicks: bool = False
    exempt: tuple[str, ...] = ()
    """Categories whose mail is never tracked."""

    def __repr__(self) -> str:
        return f"TrackingSettings(base_url={self.base_url!r})"


class SmtpSettings(ProviderSettings, frozen=True, kw_only=True, tag="smtp"):
    """Any SMTP server that relays for us; SES included."""

    name: str = "smtp"
    host: Needed = "localhost"
    port: FarPort = 587
    security: Literal["none", "starttls", "tls"] = "starttls"
    username: str = ""
    password: str = ""
    sender: str = "Notifications <notifications@example.com>"
    message_id_domain: str = "example.com"
    in_flight_max: OneOrMore = 50
    """Also the most connections; each carries one message at a time."""
    messages_per_connection_max: OneOrMore = 500
    dkim_selector: str = ""
    """Signs when set; most relays sign themselves."""
    dkim_domain: str = ""
    private_key_pem: str = ""
    unsubscribe: UnsubscribeSettings = UnsubscribeSettings()
    unsubscribe_exempt: tuple[str, ...] = ()
    """Categories whose mail carries no unsubscribe link (mandatory ones)."""
    tracking: TrackingSettings = TrackingSettings()


class AddressRules(msgspec.Struct, frozen=True):
    """Where a URL that a customer gave may lead. The defaults are right for the internet."""

    schemes: tuple[str, ...] = ("https",)
    ports: tuple[FarPort, ...] = (443, 8443)
    allow_networks: tuple[str, ...] = ()
    """Exceptions, CIDR: only for tests and closed networks."""


class WebPushSettings(ProviderSettings, frozen=True, kw_only=True, tag="webpush"):
    """Web Push to any browser vendor's push service."""

    name: str = "webpush"
    private_key_pem: Needed = ""
    """VAPID key, P-256."""
    subject: str = "mailto:notifications@example.com"
    addresses: AddressRules = AddressRules()


class WebhookSettings(ProviderSettings, frozen=True, kw_only=True, tag="webhook"):
    """Standard Webhooks to customers' servers."""

    name: str = "webhook"
    secrets: tuple[str, ...] = ()
    """``whsec_...``, newest first; a destination's attribute ``secret`` takes their place."""
    addresses: AddressRules = AddressRules()


class SlackSettings(ProviderSettings, frozen=True, kw_only=True, tag="slack"):
    """Slack incoming webhooks: the destination's address is the webhook's URL."""

    name: str = "slack"
    hosts: tuple[str, ...] = ("hooks.slack.com",)
    """Hosts that a webhook's URL may name."""
    destination_interval_ms: int = 1_000
    """Slack takes one message a second for each webhook."""
    addresses: AddressRules = AddressRules()


AnyProvider = (
    ApnsSettings
    | FcmSettings
    | TwilioSettings
    | VonageSettings
    | SmtpSettings
    | WebPushSettings
    | WebhookSettings
    | SlackSettings
)

KIND_OF_PROVIDER: dict[type[ProviderSettings], str] = {
    ApnsSettings: "apns",
    FcmSettings: "fcm",
    TwilioSettings: "sms",
    VonageSettings: "sms",
    SmtpSettings: "email",
    WebPushSettings: "webpush",
    WebhookSettings: "webhook",
    SlackSettings: "chat",
}


class DeliverSettings(msgspec.Struct, frozen=True):
    """The deliver role."""

    clock: Literal["wall", "stream"] = "wall"
    """``stream``: records carry the decision's time and validity is not checked, so that runs over
    recorded data are deterministic."""
    providers: tuple[AnyProvider, ...] = ()
    templates_folder: str = ""
    """Folder of template files; the built-in ones are always there beneath them."""
    partitions: OneOrMore = 16
    """Partitions of every topic: a worker's share of a quota is what it owns of them."""
    in_flight_max: OneOrMore = 128
    """Of one topic and partition: how many records sending may run ahead of the last durable
    answer. After a kill so many can be ambiguous beyond it, and those before it that had none yet:
    requests under way, and what waited behind one of the same recipient (``waiting_max``)."""
    ahead_slack: int = 16
    """Of one topic and partition: records that may be sent before a position has named them. 0
    lets no unsent record be taken for a doubtful one after a crash, and costs a commit for each
    record that comes alone."""
    waiting_max: OneOrMore = 400
    """Of one topic and partition: records taken and not yet passed by the position. Bounds memory
    (14 topics for each owned partition, about 2 KB a record)."""
    take_records_max: OneOrMore = 500
    take_ms_max: OneOrMore = 100
    commit_interval_ms: OneOrMore = 200
    """Positions are committed at least so often while they move ..."""
    commit_interval_ms_min: int = 5
    """... and, when a send waits for it, at most so often."""
    lease_ms: OneOrMore = 4_000
    """A worker that has not confirmed its ownership for so long confirms it before it sends.
    Must be below the group's session timeout."""
    stop_ms_max: int = 15_000
    """How long a graceful stop waits for answers. Below ``engine.revoke_max``, which bounds all of
    it: what has no answer by then is written down as in doubt."""
    collapse_waiting: bool = True
    """A newer delivery with the same collapse key replaces one that waits (wall mode only)."""
