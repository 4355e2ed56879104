"""What is particular to FCM: INVALID_ARGUMENT means two things, and only one costs a token."""

from __future__ import annotations

import pytest

from streams.sinks.base import Outcome, Rejected, Retry, Unregistered
from streams.sinks.fcm import BAD_REQUEST, FCM_ERROR, Fcm
from streams.sinks.settings import FcmSettings
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS, fcm_error, json_reply


def answer(status: int, *details: object) -> Outcome:
    reply = json_reply(status, {"error": {"code": status, "details": details}})
    return Fcm(FcmSettings(project_id="p")).classify(delivery(1), reply, NOW_MS)


def violation(*fields: str) -> dict[str, object]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field} for field in fields]}


INVALID = {"@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT"}


def test_an_invalid_token_is_given_up() -> None:
    assert isinstance(answer(400, INVALID), Unregistered)
    assert isinstance(answer(400, INVALID, violation("message.token")), Unregistered)


@pytest.mark.parametrize(
    "details",
    [
        (INVALID, violation("message.data[0].value")),
        (INVALID, violation("message.token", "message.notification.title")),
        (INVALID, {"@type": BAD_REQUEST}),
        (violation("message.token"),),
        (),
    ],
)
def test_our_payload_never_costs_a_token(details: tuple[object, ...]) -> None:
    assert isinstance(answer(400, *details), Rejected)


def test_another_project_s_token_is_refused_and_kept() -> None:
    assert isinstance(
        answer(403, {"@type": FCM_ERROR, "errorCode": "SENDER_ID_MISMATCH"}), Rejected
    )


def test_unavailable_waits_at_least_ten_seconds_and_quota_a_minute() -> None:
    sink = Fcm(FcmSettings(project_id="p"))
    later = sink.classify(delivery(1), fcm_error(503, "UNAVAILABLE"), NOW_MS)
    assert isinstance(later, Retry)
    assert later.after_ms == 10_000
    quota = sink.classify(delivery(1), fcm_error(429, "QUOTA_EXCEEDED"), NOW_MS)
    assert isinstance(quota, Retry)
    assert (quota.after_ms, quota.blame) == (60_000, "quota")
