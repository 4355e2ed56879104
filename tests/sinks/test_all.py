"""The same questions to every sink: what it promises, whatever its provider's dialect."""

from __future__ import annotations

import email.utils

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.sinks.base import (
    Accepted,
    Ambiguous,
    Failure,
    HttpRequest,
    MailRequest,
    Outcome,
    Rejected,
    Response,
    Retry,
    Unregistered,
    classify_failure,
)
from streams.templates.rendered import Rendered
from tests.sinks.cases import CASES, NOW_MS, RENDERED, Case

every_sink = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def build(case: Case, now_ms: int = NOW_MS, **changes: object) -> HttpRequest | MailRequest:
    request = case.make().build_request(case.delivery(**changes), RENDERED, "credentials", now_ms)
    assert isinstance(request, (HttpRequest, MailRequest)), request
    return request


def classify(case: Case, reply: Response, **changes: object) -> Outcome:
    return case.make().classify(case.delivery(**changes), reply, NOW_MS)


@every_sink
def test_the_delivery_id_travels_and_is_the_same_on_every_attempt(case: Case) -> None:
    wanted = case.delivery().delivery_id
    assert case.identity_of(build(case)) == wanted
    assert case.identity_of(build(case, NOW_MS + 60_000, attempt=2)) == wanted


@every_sink
def test_an_acceptance_is_one(case: Case) -> None:
    assert isinstance(classify(case, case.accepted), Accepted)


@every_sink
def test_unavailable_is_tried_again(case: Case) -> None:
    assert isinstance(classify(case, case.unavailable), Retry)


@every_sink
@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_any_5xx_of_a_web_server_is_tried_again(case: Case, status: int) -> None:
    if case.kind == "email":
        pytest.skip("SMTP's 5xx are permanent (RFC 5321)")
    outcome = classify(case, Response(status, {}, b"<html>oops</html>"))
    assert isinstance(outcome, Retry)


@every_sink
def test_throttling_without_a_time_waits_for_a_default(case: Case) -> None:
    outcome = classify(case, case.throttled({}))
    assert isinstance(outcome, Retry)
    assert outcome.blame != "provider", "a throttled provider is not a broken one"


@every_sink
def test_throttling_with_a_time_is_honoured_in_both_forms(case: Case) -> None:
    if case.kind == "email":
        pytest.skip("SMTP has no Retry-After")
    outcome = classify(case, case.throttled({"retry-after": "17"}))
    assert isinstance(outcome, Retry)
    assert outcome.after_ms == 17_000
    date = email.utils.formatdate(NOW_MS / 1000 + 17, usegmt=True)
    outcome = classify(case, case.throttled({"retry-after": date}))
    assert isinstance(outcome, Retry)
    assert outcome.after_ms == 17_000


@every_sink
@pytest.mark.parametrize("value", ["", "soon", "-5", "9" * 400, "Thu, 99 Foo 2026", "١٢"])
def test_a_senseless_time_is_no_harm(case: Case, value: str) -> None:
    outcome = classify(case, case.throttled({"retry-after": value}))
    assert isinstance(outcome, Retry)
    assert outcome.after_ms is None or 0 <= outcome.after_ms <= 86_400_000


@every_sink
def test_wrong_credentials_never_cost_an_address(case: Case) -> None:
    outcome = classify(case, case.refused_credentials)
    if case.blames_credentials:
        assert isinstance(outcome, Retry)
        assert outcome.blame == "credentials"
    else:
        assert isinstance(outcome, (Retry, Rejected))


@every_sink
def test_an_address_that_is_gone_is_given_up(case: Case) -> None:
    assert case.gone is not None
    assert isinstance(classify(case, case.gone), Unregistered)


@every_sink
@settings(max_examples=300, deadline=None)
@given(
    status=st.integers(100, 599) | st.sampled_from([-1, 0, 999]),
    body=st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "details", "code", "reason", "messages", "status",
                                 "timestamp", "@type", "errorCode", "sid"]),
                inner, max_size=4,
            )
        ),
        max_leaves=9,
    ).map(msgspec.json.encode),
)  # fmt: skip
def test_every_answer_has_an_outcome_and_garbage_costs_no_address(
    case: Case, status: int, body: bytes
) -> None:
    outcome = classify(case, Response(status, {}, body))
    assert isinstance(outcome, Outcome)
    assert len(outcome.detail) <= 300
    if isinstance(outcome, Unregistered) and case.name in ("twilio", "vonage", "fcm"):
        assert body.strip() not in (b"", b"{}"), "a bare status says nothing about an address"


@every_sink
@given(text=st.text(max_size=6_000))
@settings(max_examples=60, deadline=None)
def test_whatever_the_words_the_request_is_within_the_provider_s_limits(
    case: Case, text: str
) -> None:
    rendered = Rendered(" ".join(text.split())[:300], text, " ".join(text.split())[:300])
    request = case.make().build_request(case.delivery(), rendered, "credentials", NOW_MS)
    if isinstance(request, (HttpRequest, MailRequest)) and case.kind in ("apns", "webpush"):
        assert isinstance(request, HttpRequest)
        assert len(request.body) <= 4_096
    assert isinstance(request, (HttpRequest, MailRequest, Rejected))


def test_no_answer_is_ambiguous_unless_the_request_cannot_have_been_sent() -> None:
    assert isinstance(classify_failure(Failure("timeout", sent=True)), Ambiguous)
    assert isinstance(classify_failure(Failure("reset", sent=True)), Ambiguous)
    assert isinstance(classify_failure(Failure("connect", sent=False)), Retry)
    assert isinstance(classify_failure(Failure("forbidden_address", sent=False)), Rejected)
