"""Choosing a provider and sending: weights, failover, breakers, budgets, credentials."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from streams.core.model import Delivery
from streams.sinks.base import (
    Accepted,
    Failure,
    NoCredentials,
    Outcome,
    Rejected,
    Reply,
    Response,
    Retry,
    Wait,
)
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider, ProviderMisconfigured, build_providers
from streams.sinks.settings import (
    ApnsSettings,
    BreakerSettings,
    DeliverSettings,
    ProviderSettings,
    TwilioSettings,
    VonageSettings,
)
from streams.templates.rendered import Rendered
from tests.agents.delivering import delivery
from tests.sinks.cases import NOW_MS, RENDERED


class Echo:
    """A sink whose outcome is what its transport replied."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    def build_request(
        self, delivery: Delivery, rendered: Rendered, credentials: Any, now_ms: int
    ) -> Any:
        return credentials

    def classify(self, delivery: Delivery, reply: Response, now_ms: int) -> Outcome:
        outcome: Outcome = self.outcomes.pop(0)
        return outcome

    outcomes: list[Any]


class Wire:
    """A transport that answers from a list, or at once."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply or Response(200, {}, b"")
        self.requests: list[Any] = []

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    async def send(self, request: Any) -> Reply:
        self.requests.append(request)
        return self.reply


class Expiring(NoCredentials):
    """Credentials that can be renewed once."""

    def __init__(self) -> None:
        self.names = ["old", "new"]

    async def current(self, delivery: Delivery, now_ms: int) -> Any:
        return self.names[0]

    def renew(self, used: Any, now_ms: int) -> bool:
        return len(self.names) > 1 and self.names.pop(0) == used


def provider(
    name: str, weight: int = 100, outcomes: list[Any] | None = None, reply: Reply | None = None,
    credentials: Any = None, **changes: Any,
) -> Provider:  # fmt: skip
    sink = Echo(ProviderSettings(name=name, weight=weight, **changes))
    sink.outcomes = list(outcomes or [])
    return Provider("sms", sink, credentials or NoCredentials(), Wire(reply), NOW_MS)


def dispatcher(*providers: Provider, killed: str = "") -> Dispatcher:
    return Dispatcher({"sms": list(providers)}, 16, lambda name: name == killed)


def chosen(dispatcher: Dispatcher, number: int, **changes: Any) -> str:
    found = dispatcher.reserve(delivery(number, "sms", **changes), NOW_MS)
    assert isinstance(found, Provider), found
    dispatcher.release(found)
    return found.name


def test_shares_follow_the_weights_and_one_attempt_stays_where_it_is() -> None:
    both = dispatcher(provider("a", 75), provider("b", 25))
    shares = Counter(chosen(both, n) for n in range(2_000))
    assert 1_400 < shares["a"] < 1_600
    assert all(chosen(both, n) == chosen(both, n) for n in range(50))
    moved = sum(chosen(both, n) != chosen(both, n, attempt=2) for n in range(1_000))
    assert moved > 200, "another attempt may fall elsewhere"


def test_a_stand_by_takes_over_when_the_first_is_away() -> None:
    main, spare = provider("main", 100), provider("spare", 0)
    both = dispatcher(main, spare)
    assert {chosen(both, n) for n in range(100)} == {"main"}
    for _ in range(20):
        main.breaker.failed(NOW_MS)
    assert {chosen(both, n) for n in range(100)} == {"spare"}
    for _ in range(20):
        spare.breaker.failed(NOW_MS)
    waiting = both.reserve(delivery(1, "sms"), NOW_MS)
    assert isinstance(waiting, Wait)
    assert not waiting.alone


def test_a_killed_provider_is_passed_over() -> None:
    both = dispatcher(provider("a"), provider("b"), killed="a")
    assert {chosen(both, n) for n in range(50)} == {"b"}


def test_a_destination_may_name_its_provider() -> None:
    both = dispatcher(provider("a"), provider("b"))
    assert {chosen(both, n, attributes={"provider": "b"}) for n in range(50)} == {"b"}


def test_without_a_provider_it_is_refused_by_name() -> None:
    outcome = Dispatcher({}, 16).reserve(delivery(1, "sms"), NOW_MS)
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "no_provider"


def test_no_more_are_under_way_than_the_provider_may_have() -> None:
    alone = dispatcher(provider("a", in_flight_max=2))
    for n in range(2):
        assert isinstance(alone.reserve(delivery(n, "sms"), NOW_MS), Provider)
    assert isinstance(alone.reserve(delivery(3, "sms"), NOW_MS), Wait)


def test_a_quota_is_shared_by_partitions_and_starts_empty() -> None:
    alone = dispatcher(provider("a", quota_per_second=160.0))
    alone.own(4, NOW_MS)
    assert isinstance(alone.reserve(delivery(0, "sms"), NOW_MS), Wait)
    taken = sum(
        isinstance(alone.reserve(delivery(n, "sms"), NOW_MS + n), Provider) for n in range(10_000)
    )
    assert 370 <= taken <= 400, "40 a second for 10 seconds"


async def send(dispatcher: Dispatcher, provider: Provider) -> Outcome:
    some = delivery(1, "sms")
    assert dispatcher.reserve(some, NOW_MS) is provider
    answer = await dispatcher.send(provider, some, RENDERED)
    assert provider.in_flight == 0
    return answer.outcome


async def test_our_expired_credentials_are_renewed_and_tried_once() -> None:
    expired = Retry("expired", blame="credentials", renew=True)
    one = provider("a", outcomes=[expired, Accepted("1")], credentials=Expiring())
    assert await send(dispatcher(one), one) == Accepted("1")
    two = provider("a", outcomes=[expired, expired, expired], credentials=Expiring())
    outcome = await send(dispatcher(two), two)
    assert isinstance(outcome, Retry)
    assert len(two.sink.outcomes) == 1, "never more than twice"  # type: ignore[attr-defined]


async def test_a_wish_to_wait_pauses_the_whole_provider_only_for_a_quota() -> None:
    for blame, pauses in (("quota", True), ("destination", False)):
        one = provider("a", outcomes=[Retry("slow", 60_000, blame)])  # type: ignore[arg-type]
        every = dispatcher(one)
        await send(every, one)
        import time

        found = every.reserve(delivery(2, "sms"), time.time_ns() // 1_000_000)
        assert isinstance(found, Wait) is pauses


async def test_unanswered_and_refused_credentials_open_the_breaker_refusals_do_not() -> None:
    quick = BreakerSettings(failures_min=2)
    for outcomes, reply, state in (
        ([Retry("x", blame="credentials")] * 2, None, "open"),
        ([], Failure("timeout", sent=True), "open"),
        ([], Failure("connect", sent=False), "open"),
        ([Rejected("bad")] * 2, None, "closed"),
    ):
        one = provider("a", outcomes=outcomes, reply=reply, breaker=quick)
        every = dispatcher(one)
        for _ in range(2):
            await send(every, one)
        assert one.breaker.state == state


async def test_no_address_is_in_an_outcome() -> None:
    some = delivery(1, "sms")
    quoted = f"The number {some.address} or 00351 912 345 678 or a.b@example.com, code 21610"
    one = provider("a", outcomes=[Rejected("bad", quoted)])
    outcome = await send(dispatcher(one), one)
    assert outcome.detail == "The number [address] or [number] or [address] code 21610"


def test_settings_that_cannot_work_stop_the_start_with_the_provider_s_name() -> None:
    for wrong in (
        (ApnsSettings(name="mine", private_key_pem="no key"),),
        (TwilioSettings(name="mine"), VonageSettings(name="mine")),
    ):
        with pytest.raises(ProviderMisconfigured, match="mine"):
            build_providers(DeliverSettings(providers=wrong), NOW_MS)


def test_no_secret_is_in_a_repr() -> None:
    settings = TwilioSettings(auth_token="very-secret")
    assert "very-secret" not in repr(settings)
    assert "very-secret" not in repr(DeliverSettings(providers=(settings,)))
