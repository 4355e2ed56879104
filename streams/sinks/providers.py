"""From settings to sinks that can be sent through: one ``Provider`` per entry of the settings.

The only place that knows every provider. A configuration that cannot work (a key that is none, a
secret that is too short) stops the start with the provider's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streams.sinks import settings as s
from streams.sinks.apns import Apns, ApnsTokens
from streams.sinks.base import Credentials, NoCredentials, Sink, Transport
from streams.sinks.breaker import Breaker
from streams.sinks.budgets import Bucket
from streams.sinks.fcm import Fcm
from streams.sinks.guarded_client import GuardedTransport
from streams.sinks.health import Health
from streams.sinks.http2_client import Http2Transport
from streams.sinks.http_client import HttpTransport
from streams.sinks.oauth import GoogleTokens
from streams.sinks.pace import Pace
from streams.sinks.prune import PruneGuard
from streams.sinks.slack import Slack
from streams.sinks.smtp import Smtp
from streams.sinks.smtp_client import SmtpTransport
from streams.sinks.twilio import Twilio
from streams.sinks.vonage import Vonage
from streams.sinks.webhook import Webhook
from streams.sinks.webpush import VapidTokens, WebPush

Parts = tuple[Sink, Credentials, Transport]


class ProviderMisconfigured(Exception):  # noqa: N818 (a finding, not a fault)
    """A provider's settings cannot work; stops the start."""


class Provider:
    """A sink with everything that sending through it needs."""

    def __init__(
        self, kind: str, sink: Sink, credentials: Credentials, transport: Transport, now_ms: int
    ) -> None:
        self.kind = kind
        self.name = sink.settings.name
        self.settings = sink.settings
        self.sink = sink
        self.credentials = credentials
        self.transport = transport
        self.breaker = Breaker(sink.settings.breaker)
        self.health = Health(sink.settings.health)
        self.prune_guard = PruneGuard(sink.settings.prune)
        quota = sink.settings.quota_per_second
        self.bucket = Bucket(now_ms, sink.settings.ramp_ms) if quota is not None else None
        self.pace = Pace(getattr(sink.settings, "destination_interval_ms", 0))
        self.in_flight = 0


def build_providers(settings: s.DeliverSettings, now_ms: int) -> dict[str, list[Provider]]:
    """Kind -> its providers in the order of the settings."""
    by_kind: dict[str, list[Provider]] = {}
    names: set[str] = set()
    for entry in settings.providers:
        if entry.name in names:
            raise ProviderMisconfigured(f"two providers are named {entry.name!r}")
        names.add(entry.name)
        try:
            sink, credentials, transport = _BUILDERS[type(entry)](entry)
        except (ValueError, TypeError, KeyError) as error:
            raise ProviderMisconfigured(f"provider {entry.name!r}: {error}") from error
        kind = s.KIND_OF_PROVIDER[type(entry)]
        provider = Provider(kind, sink, credentials, transport, now_ms)
        by_kind.setdefault(kind, []).append(provider)
    return by_kind


def _http(settings: s.ProviderSettings, http2: bool = False) -> Transport:
    if http2:
        return Http2Transport(settings.http)
    return HttpTransport(settings.name, settings.http, settings.in_flight_max)


def _apns(settings: s.ApnsSettings) -> Parts:
    return Apns(settings), ApnsTokens(settings), _http(settings, http2=True)


def _fcm(settings: s.FcmSettings) -> Parts:
    http2 = settings.endpoint.startswith("https:")
    return Fcm(settings), GoogleTokens(settings), _http(settings, http2)


def _twilio(settings: s.TwilioSettings) -> Parts:
    return Twilio(settings), NoCredentials(), _http(settings)


def _smtp(settings: s.SmtpSettings) -> Parts:
    return Smtp(settings), NoCredentials(), SmtpTransport(settings)


def _webhook(settings: s.WebhookSettings) -> Parts:
    return Webhook(settings), NoCredentials(), _guarded(settings, settings.addresses)


def _webpush(settings: s.WebPushSettings) -> Parts:
    return WebPush(settings), VapidTokens(settings), _guarded(settings, settings.addresses)


def _slack(settings: s.SlackSettings) -> Parts:
    return Slack(settings), NoCredentials(), _guarded(settings, settings.addresses)


def _vonage(settings: s.VonageSettings) -> Parts:
    return Vonage(settings), NoCredentials(), _http(settings)


def _guarded(settings: s.ProviderSettings, rules: s.AddressRules) -> GuardedTransport:
    return GuardedTransport(settings.http, rules, settings.in_flight_max)


_BUILDERS: dict[type[s.ProviderSettings], Callable[[Any], Parts]] = {
    s.ApnsSettings: _apns,
    s.FcmSettings: _fcm,
    s.TwilioSettings: _twilio,
    s.VonageSettings: _vonage,
    s.SmtpSettings: _smtp,
    s.WebPushSettings: _webpush,
    s.WebhookSettings: _webhook,
    s.SlackSettings: _slack,
}
