"""What is particular to APNs: tokens and their renewal, who may lose a device token, sizes."""

from __future__ import annotations

import jwt
import msgspec
import pytest

from streams.sinks.apns import Apns, ApnsTokens, load_key
from streams.sinks.base import HttpRequest, Rejected, Response, Retry, Unregistered
from streams.sinks.settings import ApnsSettings
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS, RENDERED, json_reply, p256_pem

MINUTE_MS = 60_000


def settings() -> ApnsSettings:
    return ApnsSettings(
        team_id="TEAM", key_id="KEY", private_key_pem=p256_pem(), apns_topic="org.example"
    )


async def test_one_token_is_shared_and_renewed_between_20_and_60_minutes() -> None:
    tokens, some = ApnsTokens(settings()), delivery(1)
    first = str(await tokens.current(some, NOW_MS))
    assert await tokens.current(some, NOW_MS + 44 * MINUTE_MS) == first
    second = await tokens.current(some, NOW_MS + 45 * MINUTE_MS)
    assert second != first
    claims = jwt.decode(
        first, load_key(p256_pem()).public_key(), algorithms=["ES256"],
        options={"verify_iat": False},
    )  # fmt: skip
    assert claims == {"iss": "TEAM", "iat": NOW_MS // 1000}
    assert jwt.get_unverified_header(first)["kid"] == "KEY"


@pytest.mark.parametrize("jump_ms", [25 * 3_600_000, -25 * 3_600_000])
async def test_a_clock_that_jumps_makes_a_token_of_the_new_time(jump_ms: int) -> None:
    tokens, some = ApnsTokens(settings()), delivery(1)
    await tokens.current(some, NOW_MS)
    token = str(await tokens.current(some, NOW_MS + jump_ms))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iat"] == (NOW_MS + jump_ms) // 1000


async def test_an_expired_token_is_renewed_once_for_all_and_not_too_soon() -> None:
    tokens, some = ApnsTokens(settings()), delivery(1)
    used = await tokens.current(some, NOW_MS)
    assert not tokens.renew(used, NOW_MS + 19 * MINUTE_MS), "TooManyProviderTokenUpdates"
    assert tokens.renew(used, NOW_MS + 21 * MINUTE_MS)
    renewed = await tokens.current(some, NOW_MS + 21 * MINUTE_MS)
    assert tokens.renew(used, NOW_MS + 21 * MINUTE_MS), "somebody else has renewed it"
    assert await tokens.current(some, NOW_MS + 21 * MINUTE_MS) == renewed


@pytest.mark.parametrize(
    "reason",
    ["BadDeviceToken", "DeviceTokenNotForTopic", "TopicDisallowed", "BadTopic", "PayloadTooLarge"],
)
def test_our_mistakes_cost_no_device_token_and_are_not_retried(reason: str) -> None:
    outcome = Apns(settings()).classify(delivery(1), json_reply(400, {"reason": reason}), NOW_MS)
    assert isinstance(outcome, Rejected)


def test_a_device_registered_after_it_was_gone_is_alive() -> None:
    sink = Apns(settings())
    for timestamp in (NOW_MS, NOW_MS // 1000):
        gone = json_reply(410, {"reason": "Unregistered", "timestamp": timestamp})
        old, new = delivery(1, registered_at_ms=1), delivery(1, registered_at_ms=NOW_MS + 5_000)
        assert isinstance(sink.classify(old, gone, NOW_MS), Unregistered)
        assert isinstance(sink.classify(new, gone, NOW_MS), Retry)


def test_an_expired_provider_token_asks_for_one_renewal() -> None:
    reply = json_reply(403, {"reason": "ExpiredProviderToken"})
    outcome = Apns(settings()).classify(delivery(1), reply, NOW_MS)
    assert isinstance(outcome, Retry)
    assert (outcome.renew, outcome.blame) == (True, "credentials")


def test_headers_follow_the_delivery() -> None:
    sink = Apns(settings())
    request = sink.build_request(
        delivery(
            1, priority="bulk", collapse_key="\u00e4" * 60, expires_at_ms=NOW_MS,
            attributes={"environment": "sandbox", "bundle_id": "org.other"},
        ),
        RENDERED, "token", NOW_MS,
    )  # fmt: skip
    assert isinstance(request, HttpRequest)
    assert request.url.startswith("https://api.sandbox.push.apple.com/3/device/")
    assert request.headers["apns-topic"] == "org.other"
    assert request.headers["apns-priority"] == "5"
    assert request.headers["apns-expiration"] == str(NOW_MS // 1000)
    assert len(request.headers["apns-collapse-id"].encode()) <= 64
    assert request.headers["authorization"] == "bearer token"


@pytest.mark.parametrize("token", ["", "../../x", "ab cd", "a/b", "\u0430" * 64, "a" * 201])
def test_a_token_that_is_none_never_becomes_part_of_a_path(token: str) -> None:
    outcome = Apns(settings()).build_request(delivery(1, address=token), RENDERED, "t", NOW_MS)
    assert isinstance(outcome, Rejected)


def test_extras_give_way_before_words_do() -> None:
    sink = Apns(settings())
    request = sink.build_request(delivery(1, data={"x": "y" * 4_096}), RENDERED, "t", NOW_MS)
    assert isinstance(request, HttpRequest)
    payload = msgspec.json.decode(request.body)
    assert payload["aps"]["alert"]["body"] == RENDERED.body
    assert "data" not in payload


def test_a_bare_503_is_a_retry() -> None:
    assert isinstance(Apns(settings()).classify(delivery(1), Response(503, {}, b""), NOW_MS), Retry)


def test_a_token_that_may_be_right_elsewhere_is_left_alone_for_a_while() -> None:
    for reason, left_alone in (("BadDeviceToken", True), ("BadTopic", False)):
        reply = json_reply(400, {"reason": reason})
        outcome = Apns(settings()).classify(delivery(1), reply, NOW_MS)
        assert isinstance(outcome, Rejected)
        assert outcome.quarantine is left_alone
