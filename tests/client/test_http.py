"""The client against a real server that answers what a script says: retries, and their bounds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from streams.api.problems import answer, problem
from streams.client import (
    Accepted,
    Event,
    HttpClient,
    NotAccepted,
    Refused,
    Unavailable,
    VersionChanged,
)


def event(event_id: str) -> Event:
    return Event(event_id=event_id, recipient_id="ann", category="message", created_at_ms=1)


class Script:
    """Answers in turn; the last one again and again."""

    def __init__(self, *steps: Any) -> None:
        self._steps = list(steps)
        self.bodies: list[Any] = []
        self.headers: list[Any] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(msgspec.json.decode(body) if body else None)
        self.headers.append(request.headers)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if step == "cut":
            assert request.transport is not None
            request.transport.close()
        if isinstance(step, web.Response):
            return step
        if isinstance(step, str):
            return answer(
                problem(step, "a detail", retry_after_s=0 if step == "unavailable" else None)
            )
        events = self.bodies[-1]
        items = [
            {"index": n, "status": 202, "event_id": e["event_id"]}
            if status == 202
            else {
                "index": n,
                "status": status,
                "event_id": e["event_id"],
                "problem": msgspec.to_builtins(
                    problem({409: "conflict", 422: "invalid", 503: "unavailable"}[status], "why")
                ),
            }
            for n, (e, status) in enumerate(zip(events, step, strict=True))
        ]
        accepted = sum(status == 202 for status in step)
        return web.json_response(
            {"accepted": accepted, "refused": len(step) - accepted, "items": items},
            status=202 if accepted == len(step) else 207,
        )


@asynccontextmanager
async def served(script: Script, **options: Any) -> AsyncIterator[HttpClient]:
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", script.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    options = {"attempts_max": 3, "backoff_s_max": 0.01, **options}
    async with HttpClient(url, "fsk_a_b", **options) as client:
        yield client
    await runner.cleanup()


async def test_only_what_was_unavailable_is_sent_again() -> None:
    script = Script([202, 503, 409], [202])
    async with served(script) as client:
        answers = await client.send([event("a"), event("b"), event("c")])
    assert answers[:2] == [Accepted("a"), Accepted("b")]
    conflict = answers[2]
    assert isinstance(conflict, NotAccepted)
    assert (conflict.reason, conflict.retry) == ("conflict", False)
    assert [[e["event_id"] for e in body] for body in script.bodies] == [["a", "b", "c"], ["b"]]
    assert script.headers[0]["Authorization"] == "Bearer fsk_a_b"


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes() -> None:
    script = Script("cut", "unavailable", [202])
    async with served(script) as client:
        assert await client.send([event("a")]) == [Accepted("a")]
    assert script.bodies[0] == script.bodies[1] == script.bodies[2]


async def test_what_stays_away_is_never_called_accepted() -> None:
    script = Script("unavailable")
    async with served(script) as client:
        (said,) = await client.send([event("a")])
        assert isinstance(said, NotAccepted)
        assert said.retry
        with pytest.raises(Unavailable):
            await client.preferences("ann")
    assert len(script.bodies) == 6


async def test_a_refusal_is_not_tried_again() -> None:
    for kind, expected in (("unauthenticated", Refused), ("precondition_failed", VersionChanged)):
        script = Script(kind)
        async with served(script) as client:
            with pytest.raises(expected) as caught:
                await client.change_preferences("ann", {}, '"v"')
        assert caught.value.problem is not None
        assert len(script.bodies) == 1
    async with served(Script("unauthenticated")) as client:
        with pytest.raises(Refused):
            await client.send([event("a")])


async def test_it_waits_as_long_as_it_is_told() -> None:
    later = answer(problem("too_many_requests", "later", retry_after_s=1))
    script = Script(later, [202])
    async with served(script) as client:
        began = time.monotonic()
        assert await client.send([event("a")]) == [Accepted("a")]
        assert time.monotonic() - began >= 1


async def test_nonsense_is_no_acceptance() -> None:
    for nonsense in (web.Response(text="<html>"), web.Response(status=202, text="{}")):
        script = Script(nonsense, "unauthenticated")
        async with served(script, attempts_max=1) as client:
            (said,) = await client.send([event("a")])
            assert isinstance(said, NotAccepted)


async def test_more_than_a_request_takes_is_sent_in_several() -> None:
    script = Script([202] * 1_000, [202] * 5)
    async with served(script) as client:
        answers = await client.send([event(str(n)) for n in range(1_005)])
    assert [len(body) for body in script.bodies] == [1_000, 5]
    assert answers[-1] == Accepted("1004")
