"""A provider that cannot be built is named with its key, and nothing is connected to."""

from __future__ import annotations

import pytest

from streams.sinks.providers import ProviderMisconfigured, build_providers, provider_problems
from streams.sinks.settings import (
    AddressRules,
    AnyProvider,
    ApnsSettings,
    DeliverSettings,
    FcmSettings,
    HttpSettings,
    SlackSettings,
    SmtpSettings,
    TwilioSettings,
    WebhookSettings,
    WebPushSettings,
)

WRONG: list[tuple[AnyProvider, str]] = [
    (ApnsSettings(private_key_pem="no key"), "providers.apns.private_key_pem"),
    (FcmSettings(service_account_json=""), "providers.fcm.service_account_json"),
    (FcmSettings(service_account_json="{}"), "providers.fcm.service_account_json"),
    (WebPushSettings(private_key_pem="no key"), "providers.webpush.private_key_pem"),
    (WebhookSettings(secrets=("whsec_!",)), "providers.webhook.secrets"),
    (WebhookSettings(secrets=("whsec_c2hvcnQ=",)), "providers.webhook.secrets"),
    (SmtpSettings(dkim_selector="s", private_key_pem="no key"), "providers.smtp.private_key_pem"),
    (
        SlackSettings(addresses=AddressRules(allow_networks=("10.0.0.0/99",))),
        "providers.slack.addresses.allow_networks",
    ),
    (TwilioSettings(name="t2", http=HttpSettings(ca_pem="no key")), "providers.t2.http.ca_pem"),
]


@pytest.mark.parametrize(("entry", "key"), WRONG)
def test_the_key_that_is_wrong_is_named(entry: AnyProvider, key: str) -> None:
    settings = DeliverSettings(providers=(entry,))
    (found,) = provider_problems(settings)
    assert found.startswith(f"{key} cannot be used: ")
    with pytest.raises(ProviderMisconfigured, match=key):
        build_providers(settings, 0)


def test_all_that_are_wrong_are_told_at_once() -> None:
    entries = (WRONG[0][0], TwilioSettings(), WRONG[1][0])
    assert len(list(provider_problems(DeliverSettings(providers=entries)))) == 2
