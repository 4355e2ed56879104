"""Simulated providers: they speak the real protocols' answers and keep a ledger of their own.

The sinks' requests and their reading of the answers are the product's; here is only what happens
between. A provider refuses, is slow, loses an answer on its way back, or is down for a while. Its
ledger says what reached it and what it said, whatever became of the worker that sent it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from streams.simulation.chaos import Chaos
from streams.simulation.cluster import Cluster
from streams.simulation.evidence import Reception, Said
from streams.simulation.loop import CURRENT, SimLoop, SimTime, sleep_us
from streams.simulation.story import Story
from streams.sinks.base import Failure, MailRequest, Reply, Request, Response

REQUEST_US_MAX = 5_000_000
"""Deadline of a request, as the transports have one."""
MESSAGE_ID = re.compile(rb"Message-ID:\s*<([0-9a-f]{32})\.")


class Providers:
    """Every provider, and the ledger."""

    def __init__(self, loop: SimLoop, time: SimTime, cluster: Cluster, story: Story) -> None:
        self._loop = loop
        self._time = time
        self._cluster = cluster
        self._chaos: Chaos = cluster.chaos
        self._story = story
        self.ledger: list[Reception] = []
        self.down_until_us: dict[str, int] = {}
        """Kind -> until when everything is refused with 503."""
        self.dead_addresses: set[str] = set()
        self.opted_out_numbers: set[str] = set()

    def transport(self, kind: str) -> SimTransport:
        """What a sink of this kind sends through."""
        return SimTransport(self, kind)

    async def send(self, kind: str, request: Request) -> Reply:
        """One request to a provider, and what comes back of it."""
        chaos, loop, troubles = self._chaos, self._loop, self._chaos.troubles
        await chaos.step(f"request to {kind}")
        silence = troubles.provider_silence and chaos.draw.random() < 0.06
        if silence and chaos.draw.random() < 0.35:
            await sleep_us(loop, chaos.latency_us())
            return Failure("connect", sent=False)
        answer: asyncio.Future[Reply] = loop.create_future()
        if silence and chaos.draw.random() < 0.5:
            await sleep_us(loop, REQUEST_US_MAX)
            return Failure("timeout", sent=True)
        # From here on it is under way: it arrives whatever becomes of who sent it.
        at_us = loop.now_us + chaos.provider_us()
        late_ms = CURRENT.get().late_us(loop.now_us) // 1_000
        self._cluster.later(at_us, self._arrive, kind, request, answer, silence, late_ms)
        reply = await answer
        await chaos.step(f"{kind} answered")
        return reply

    def _arrive(
        self, kind: str, request: Request, answer: asyncio.Future[Reply], silence: bool,
        late_ms: int,
    ) -> None:  # fmt: skip
        chaos, at_ms = self._chaos, self._time.true_ms()
        delivery_id, address = delivery_id_of(kind, request), address_of(kind, request)
        said = self._verdict(kind, address)
        self.ledger.append(Reception(at_ms, kind, delivery_id, said, address, late_ms))
        self._story.tell(f"{kind} received {delivery_id[:12]}: {said}", "provider")
        reply: Reply = answer_of(kind, said, delivery_id, at_ms)
        if silence:
            reply = Failure("reset", sent=True)
        back_us = self._loop.now_us + chaos.provider_us()
        if chaos.troubles.slow and chaos.draw.random() < 0.05:
            back_us += chaos.draw.randint(500_000, 4_000_000)
        self._cluster.later(back_us, _give, answer, reply)

    def _verdict(self, kind: str, address: str) -> Said:
        draw, troubles = self._chaos.draw, self._chaos.troubles
        if self._loop.now_us < self.down_until_us.get(kind, 0):
            return "later"
        if address in self.dead_addresses:
            return "gone"
        if kind == "sms" and address in self.opted_out_numbers:
            return "unsubscribed"
        if troubles.provider_refusals and draw.random() < 0.15:
            return "later"
        if troubles.provider_refusals and draw.random() < 0.01:
            return "never"
        return "accepted"


def _give(answer: asyncio.Future[Reply], reply: Reply) -> None:
    if not answer.done():
        answer.set_result(reply)


class SimTransport:
    """A ``sinks.base.Transport``."""

    def __init__(self, providers: Providers, kind: str) -> None:
        self._providers = providers
        self._kind = kind

    async def start(self) -> None:
        """Nothing to open."""

    async def send(self, request: Any) -> Reply:
        """One request."""
        return await self._providers.send(self._kind, request)

    async def stop(self) -> None:
        """Nothing to close."""


def delivery_id_of(kind: str, request: Request) -> str:
    """The delivery that a request is about, as a provider can know it."""
    if isinstance(request, MailRequest):
        found = MESSAGE_ID.search(request.message)
        assert found is not None, "every message has its id"
        return found[1].decode()
    if kind == "apns":
        return request.headers["apns-id"].replace("-", "")
    if kind == "webhook":
        return request.headers["webhook-id"]
    callback = parse_qs(request.body.decode())["StatusCallback"][0]
    return parse_qs(urlsplit(callback).query)["delivery_id"][0]


def address_of(kind: str, request: Request) -> str:
    """Where it goes."""
    if isinstance(request, MailRequest):
        return request.recipient
    if kind == "sms":
        return parse_qs(request.body.decode())["To"][0]
    return request.url.rsplit("/", 1)[-1] if kind == "apns" else request.url


def answer_of(kind: str, said: Said, delivery_id: str, at_ms: int) -> Response:
    """The provider's words for it. 429 and 503 alternate by the delivery."""
    throttled = int(delivery_id[-1], 16) % 2 == 0
    after = {"retry-after": "1"} if throttled else {}
    if kind == "email":
        return Response(*_MAIL[said, throttled])
    if said == "later":
        status = 429 if throttled else 503
        return Response(status, after, _LATER.get((kind, throttled), b"{}"))
    if kind == "apns":
        gone = msgspec.json.encode({"reason": "Unregistered", "timestamp": at_ms})
        return {
            "accepted": Response(200, {}, b""),
            "gone": Response(410, {}, gone),
        }.get(said, Response(400, {}, b'{"reason":"PayloadEmpty"}'))
    if kind == "sms":
        body = msgspec.json.encode({"sid": f"SM{delivery_id}", "status": "queued"})
        return {
            "accepted": Response(201, {}, body),
            "gone": Response(400, {}, b'{"code":21614,"message":"not a mobile number"}'),
            "unsubscribed": Response(400, {}, b'{"code":21610,"message":"unsubscribed"}'),
        }.get(said, Response(400, {}, b'{"code":30007,"message":"filtered"}'))
    return {
        "accepted": Response(204, {}, b""),
        "gone": Response(410, {}, b""),
    }.get(said, Response(413, {}, b""))


_LATER = {
    ("apns", True): b'{"reason":"TooManyRequests"}',
    ("apns", False): b'{"reason":"ServiceUnavailable"}',
    ("sms", True): b'{"code":20429,"message":"Too Many Requests"}',
    ("sms", False): b'{"code":20503,"message":"Service Unavailable"}',
}
_MAIL: dict[tuple[Said, bool], tuple[int, dict[str, str], bytes]] = {
    ("accepted", True): (250, {}, b"2.0.0 queued"),
    ("accepted", False): (250, {}, b"2.0.0 queued"),
    ("later", True): (421, {}, b"4.7.0 slow down"),
    ("later", False): (451, {}, b"4.3.0 try again"),
    ("gone", True): (550, {}, b"5.1.1 no such user"),
    ("gone", False): (550, {}, b"5.1.1 no such user"),
    ("never", True): (554, {}, b"5.7.1 refused"),
    ("never", False): (554, {}, b"5.7.1 refused"),
    ("unsubscribed", True): (554, {}, b"5.7.1 refused"),
    ("unsubscribed", False): (554, {}, b"5.7.1 refused"),
}
