"""From settings to sinks that can be sent through: one ``Provider`` per entry of the settings.

The only place that knows every provider. A configuration that cannot work (a key that is none, a
secret that is too short) stops the start with the name of the provider's key. Building opens no
connection, so ``flowstate config check`` can try it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from streams.sinks import settings as s
from streams.sinks.addresses import networks
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
from streams.sinks.smtp import Smtp, check_dkim_key
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
        sink, credentials, transport = _parts(entry)
        kind = s.KIND_OF_PROVIDER[type(entry)]
        provider = Provider(kind, sink, credentials, transport, now_ms)
        by_kind.setdefault(kind, []).append(provider)
    return by_kind


def provider_problems(settings: s.DeliverSettings) -> Iterator[str]:
    """Why deliver would not start, one sentence for each provider that cannot be built."""
    for entry in settings.providers:
        try:
            _parts(entry)
        except ProviderMisconfigured as error:
            yield str(error)


def _parts(entry: s.ProviderSettings) -> Parts:
    if entry.http.ca_pem:
        with _key(entry, "http.ca_pem"):
            ssl.create_default_context().load_verify_locations(cadata=entry.http.ca_pem)
    return _BUILDERS[type(entry)](entry)


@contextmanager
def _key(entry: s.ProviderSettings, key: str) -> Iterator[None]:
    """What is wrong inside is the fault of this key."""
    try:
        yield
    except (ValueError, TypeError, KeyError, ssl.SSLError) as error:
        why = f"providers.{entry.name}.{key} cannot be used: {error}"
        raise ProviderMisconfigured(why) from error


def _http(settings: s.ProviderSettings, http2: bool = False) -> Transport:
    if http2:
        return Http2Transport(settings.http)
    return HttpTransport(settings.name, settings.http, settings.in_flight_max)


def _apns(settings: s.ApnsSettings) -> Parts:
    with _key(settings, "private_key_pem"):
        tokens = ApnsTokens(settings)
    return Apns(settings), tokens, _http(settings, http2=True)


def _fcm(settings: s.FcmSettings) -> Parts:
    http2 = settings.endpoint.startswith("https:")
    with _key(settings, "service_account_json"):
        tokens = GoogleTokens(settings)
    return Fcm(settings), tokens, _http(settings, http2)


def _twilio(settings: s.TwilioSettings) -> Parts:
    return Twilio(settings), NoCredentials(), _http(settings)


def _smtp(settings: s.SmtpSettings) -> Parts:
    if settings.dkim_selector:
        with _key(settings, "private_key_pem"):
            check_dkim_key(settings.private_key_pem)
        with _key(settings, "dkim_domain"):
            if not settings.dkim_domain:
                raise ValueError("dkim_selector is set, and needs it")
    return Smtp(settings), NoCredentials(), SmtpTransport(settings)


def _webhook(settings: s.WebhookSettings) -> Parts:
    with _key(settings, "secrets"):
        sink = Webhook(settings)
    return sink, NoCredentials(), _guarded(settings, settings.addresses)


def _webpush(settings: s.WebPushSettings) -> Parts:
    with _key(settings, "private_key_pem"):
        tokens = VapidTokens(settings)
    return WebPush(settings), tokens, _guarded(settings, settings.addresses)


def _slack(settings: s.SlackSettings) -> Parts:
    return Slack(settings), NoCredentials(), _guarded(settings, settings.addresses)


def _vonage(settings: s.VonageSettings) -> Parts:
    return Vonage(settings), NoCredentials(), _http(settings)


def _guarded(settings: s.ProviderSettings, rules: s.AddressRules) -> GuardedTransport:
    with _key(settings, "addresses.allow_networks"):
        networks(rules.allow_networks)
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
