"""The same questions to every sink, over a socket and through the dispatcher.

What a sink's table says of an answer is asked in ``test_all.py``; here it has to survive the
transport, and what a network does instead of answering has to become the right kind of doubt.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from streams.core.model import Delivery
from streams.local.processes import free_port
from streams.sinks.base import Accepted, Ambiguous, NoCredentials, Outcome, Response, Retry
from streams.sinks.dispatch import Dispatcher
from streams.sinks.providers import Provider, build_providers
from streams.sinks.settings import DeliverSettings, HttpSettings, ProviderSettings
from tests.sinks.cases import ANYWHERE, CASES, RENDERED, Case, rsa_pem
from tests.sinks.wire_server import Behaviour, Dialect, wire_server

QUICK = HttpSettings(request_ms_max=900, connect_ms_max=500)
DIALECTS: dict[str, Dialect] = {"apns": "http2", "smtp": "smtp"}

every_sink = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


class Known(NoCredentials):
    """Who we are was settled before."""

    async def current(self, delivery: Delivery, now_ms: int) -> Any:
        return "credentials"


def settings_at(case: Case, port: int) -> ProviderSettings:
    """The case's settings with the provider on this machine."""
    base = f"http://127.0.0.1:{port}"
    changes: dict[str, Any] = {
        "endpoint": base, "sandbox_endpoint": base, "host": "127.0.0.1", "port": port,
        "security": "none", "hosts": ("127.0.0.1",), "addresses": ANYWHERE, "http": QUICK,
        "destination_interval_ms": 0, "quota_per_second": None,
    }  # fmt: skip
    given = case.make().settings
    known = given.__struct_fields__
    if "service_account_json" in known:
        account = {"client_email": "a@b", "private_key": rsa_pem(), "token_uri": base}
        changes["service_account_json"] = msgspec.json.encode(account).decode()
    if "unsubscribe" in known:
        changes["sender"] = "a@example.com"
    return msgspec.structs.replace(given, **{n: v for n, v in changes.items() if n in known})


async def send(case: Case, port: int) -> Outcome:
    """One delivery, as the product sends it."""
    settings = DeliverSettings(providers=(settings_at(case, port),))  # type: ignore[arg-type]
    providers = build_providers(settings, 0)
    (provider,) = (one for kind in providers.values() for one in kind)
    provider.credentials = Known()
    dispatcher = Dispatcher(providers, 1)
    dispatcher.own(1, 0)
    far_ms = 1 << 42
    some = case.delivery(expires_at_ms=far_ms)
    if case.address:
        path = case.address.partition("//")[2].partition("/")[2]
        some = case.delivery(expires_at_ms=far_ms, address=f"http://127.0.0.1:{port}/{path}")
    await dispatcher.start()
    try:
        now_ms = time.time_ns() // 1_000_000
        assert isinstance(dispatcher.reserve(some, now_ms), Provider)
        return (await dispatcher.send(provider, some, RENDERED)).outcome
    finally:
        await dispatcher.stop()


def dialect_of(case: Case) -> Dialect:
    return DIALECTS.get(case.name, "http1")


async def answered(case: Case, answer: Response, slow: bool = False) -> Outcome:
    async with wire_server(dialect_of(case), Behaviour(answer, slow=slow)) as server:
        outcome = await send(case, server.port)
        assert server.requests == 1
    return outcome


@every_sink
@pytest.mark.parametrize("slow", [False, True])
async def test_an_acceptance_arrives_also_when_it_is_slow(case: Case, slow: bool) -> None:
    assert isinstance(await answered(case, case.accepted, slow), Accepted)


@every_sink
async def test_throttling_arrives_with_its_time_and_without(case: Case) -> None:
    outcome = await answered(case, case.throttled({}))
    assert isinstance(outcome, Retry)
    if dialect_of(case) != "smtp":
        outcome = await answered(case, case.throttled({"retry-after": "17"}))
        assert isinstance(outcome, Retry)
        assert outcome.after_ms == 17_000


@every_sink
async def test_unavailable_and_wrong_credentials_mean_the_same_as_in_the_table(case: Case) -> None:
    for answer in (case.unavailable, case.refused_credentials):
        expected = case.make().classify(case.delivery(), answer, 0)
        outcome = await answered(case, answer)
        assert (type(outcome), outcome.reason) == (type(expected), expected.reason)


@every_sink
async def test_where_nobody_listens_nothing_was_sent(case: Case) -> None:
    outcome = await send(case, free_port())
    assert isinstance(outcome, Retry)
    assert outcome.blame == "provider"


@every_sink
async def test_a_reset_before_the_request_is_read_is_no_answer(case: Case) -> None:
    async with wire_server(dialect_of(case), Behaviour(before="reset")) as server:
        outcome = await send(case, server.port)
    assert isinstance(outcome, (Retry, Ambiguous)), outcome


@every_sink
@pytest.mark.parametrize("then", ["reset", "garbage"])
async def test_a_reset_or_garbage_after_the_request_is_a_doubt_and_never_a_second_send(
    case: Case, then: str
) -> None:
    behaviour = Behaviour(then=then)  # type: ignore[arg-type]
    async with wire_server(dialect_of(case), behaviour) as server:
        outcome = await send(case, server.port)
        await asyncio.sleep(0)
        assert server.requests == 1
    assert isinstance(outcome, Ambiguous), outcome


@every_sink
async def test_silence_ends_at_the_deadline_as_a_doubt(case: Case) -> None:
    async with wire_server(dialect_of(case), Behaviour(then="silence")) as server:
        began = time.monotonic()
        outcome = await send(case, server.port)
        took_ms = (time.monotonic() - began) * 1000
        assert server.requests == 1
    assert isinstance(outcome, Ambiguous), outcome
    assert outcome.reason == "timeout"
    assert took_ms < QUICK.request_ms_max + 4_000
