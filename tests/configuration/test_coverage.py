"""Channels of the catalogue that nothing can be sent on."""

from __future__ import annotations

from typing import Any

import pytest

from streams.configuration.coverage import uncovered
from streams.core.policy import Category, Policy
from streams.sinks.settings import ApnsSettings, SmtpSettings, TwilioSettings

APNS = ApnsSettings(team_id="t", key_id="k", private_key_pem="p", apns_topic="a")
SMTP = SmtpSettings(host="localhost", port=25)
TWILIO = TwilioSettings(account_sid="AC1", auth_token="t", sender="+15005550006")
POLICY = Policy(
    version="v1",
    categories={
        "message": Category("message", channels=("push", "email")),
        "security": Category("security", channels=("push", "sms")),
    },
)


@pytest.mark.parametrize(
    ("providers", "channels"),
    [
        ((), ["email", "push", "sms"]),
        ((TWILIO,), ["email", "push"]),
        ((TWILIO, APNS), ["email"]),
        ((TWILIO, APNS, SMTP), []),
    ],
)
def test_each_channel_that_is_used_and_not_served_is_named(
    providers: tuple[Any, ...], channels: list[str]
) -> None:
    found = uncovered(POLICY, providers)
    assert [text.split(" (")[0].rpartition(" ")[2] for text in found] == channels


def test_who_uses_it_what_would_serve_it_and_what_happens_is_said() -> None:
    (said,) = uncovered(POLICY, (TWILIO, SMTP))
    assert "push (apns or fcm or webpush), which is used by message, security" in said
    assert "becomes a dead letter (no_provider)" in said
