"""A provider process with faults on request, and a ledger that survives everything.

It is the local stand-in (``streams/local``) with another recorder and a switch before it: what is
to go wrong is said by ``POST /faults`` as ``{"KIND": "MODE"}`` and takes effect at once. Each
request that reaches it is a line of the ledger, on disk before it is answered.

Modes: ``ok``, ``unavailable`` (503), ``throttled`` (429 with Retry-After), ``slow`` (2 s),
``silent`` (never answered, not taken), ``reset`` (taken, then the connection is reset), ``gone``
(410), ``unauthorized`` (401 or 403), and for apns ``goaway`` (a GOAWAY after every few requests).

Run as ``python -m tests.faults.provider FOLDER HTTP_PORT APNS_PORT SMTP_PORT``.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import h2.exceptions
import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP

from streams.local.authority import identity
from streams.local.provider_apns import Apns, ApnsConnection
from streams.local.provider_http import HttpProviders
from streams.local.provider_mail import MailHandler
from streams.simulation.evidence import Reception, Said

SLOW_S = 2.0
SILENT_S = 3_600.0
GOAWAY_EVERY = 15
SAID: dict[str, Said] = {
    "unavailable": "later",
    "throttled": "later",
    "unauthorized": "later",
    "gone": "gone",
}


class Ledger:
    """Appends receptions; looks like ``streams.local.received.Recorder`` to the stand-ins."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._lines: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._arrived = asyncio.Event()
        self.modes: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def mode(self, kind: str) -> str:
        """What is to go wrong with requests of a kind now."""
        return self.modes.get(kind, "ok")

    async def note(self, kind: str, delivery_id: str, said: Said, address: str = "") -> None:
        """Returns when the line is on disk."""
        hashed = hashlib.sha256(address.encode()).hexdigest()[:16]
        reception = Reception(time.time_ns() // 1_000_000, kind, delivery_id, said, hashed)
        self._lines.append(msgspec.json.encode(reception) + b"\n")
        self.counts[said] = self.counts.get(said, 0) + 1
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._arrived.set()
        await done

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(0.002)
            self._arrived.clear()
            lines, self._lines = self._lines, []
            waiting, self._waiting = self._waiting, []
            os.write(self._file, b"".join(lines))
            await asyncio.to_thread(os.fsync, self._file)
            for done in waiting:
                if not done.done():
                    done.set_result(None)

    # -- as a recorder

    def refuses(self, kind: str, delivery_id: str) -> bool:
        """SMTP only: the other kinds are switched before they come here."""
        if kind == "email" and self.mode(kind) in ("unavailable", "throttled"):
            asyncio.ensure_future(self.note(kind, delivery_id, "later"))  # noqa: RUF006
            return True
        return False

    async def record(
        self, kind: str, delivery_id: str, notification_id: str, address: str, size: int
    ) -> None:
        """A message is taken."""
        if self.mode(kind) == "slow":
            await asyncio.sleep(SLOW_S)
        await self.note(kind, delivery_id, "accepted", address)

    def totals(self) -> dict[str, Any]:
        """What ``GET /received`` answers."""
        return {"counts": self.counts, "modes": self.modes}


def kind_of(path: str) -> str:
    """Which provider a path belongs to."""
    if path.startswith("/v1/projects"):
        return "fcm"
    if path.startswith("/2010-04-01/"):
        return "sms"
    return "webhook" if path.startswith("/webhooks/") else ""


def delivery_of(kind: str, request: web.BaseRequest, body: bytes) -> str:
    """The delivery that a request is about."""
    if kind == "webhook":
        return str(request.headers.get("webhook-id", ""))
    if kind == "sms":
        callback = parse_qs(body.decode()).get("StatusCallback", [""])[0]
        return parse_qs(urlsplit(callback).query).get("delivery_id", [""])[0]
    message = msgspec.json.decode(body)["message"]
    return str(message.get("data", {}).get("flowstate_delivery_id", ""))


class Http:
    """The switch before the HTTP/1.1 providers."""

    def __init__(self, inner: HttpProviders, ledger: Ledger) -> None:
        self._inner = inner
        self._ledger = ledger

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST" and request.path == "/faults":
            self._ledger.modes = msgspec.json.decode(await request.read(), type=dict[str, str])
            return web.Response(text="ok\n")
        kind = kind_of(request.path)
        mode = self._ledger.mode(kind) if kind and request.method == "POST" else "ok"
        if mode in ("ok", "slow"):
            return await self._inner.handle(request)
        delivery_id = delivery_of(kind, request, await request.read())
        if mode == "silent":
            await asyncio.sleep(SILENT_S)
        if mode == "reset":
            await self._ledger.note(kind, delivery_id, "accepted")
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        await self._ledger.note(kind, delivery_id, SAID[mode])
        return _refusal(kind, mode)


def _refusal(kind: str, mode: str) -> web.Response:
    status = {"unavailable": 503, "throttled": 429, "gone": 410, "unauthorized": 401}[mode]
    headers = {"retry-after": "1"} if mode == "throttled" else {}
    body: dict[str, Any] = {}
    if kind == "sms":
        codes = {"unavailable": 20503, "throttled": 20429, "gone": 21614, "unauthorized": 20003}
        body, status = {"code": codes[mode], "message": mode}, 400 if mode == "gone" else status
    elif kind == "fcm":
        gone = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError",
                "errorCode": "UNREGISTERED"}  # fmt: skip
        details = [gone] if mode == "gone" else []
        status = 404 if mode == "gone" else status
        body = {"error": {"code": status, "status": mode.upper(), "details": details}}
    return web.Response(
        status=status, body=msgspec.json.encode(body), headers=headers,
        content_type="application/json",
    )  # fmt: skip


APNS_REFUSALS = {
    "unavailable": (503, "ServiceUnavailable"),
    "throttled": (429, "TooManyRequests"),
    "gone": (410, "Unregistered"),
    "unauthorized": (403, "InvalidProviderToken"),
}


class FaultyApns(Apns):
    """Apple's checks, behind the switch."""

    def __init__(self, known: Any, ledger: Ledger) -> None:
        super().__init__(known, ledger)  # type: ignore[arg-type]
        self.ledger = ledger

    async def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str, str]:
        mode, name = self.ledger.mode("apns"), headers.get("apns-id", "")
        delivery_id = name.replace("-", "")
        if mode == "silent":
            await asyncio.sleep(SILENT_S)
        if mode in APNS_REFUSALS:
            await self.ledger.note("apns", delivery_id, SAID[mode])
            return (*APNS_REFUSALS[mode], name)
        return await super().answer(headers, body)


class FaultyConnection(ApnsConnection):
    """A connection that can be ended in Apple's ways."""

    def __init__(self, apns: FaultyApns) -> None:
        super().__init__(apns)
        self._faulty = apns
        self._answered = 0

    async def _respond(self, stream: int, headers: dict[str, str], chunks: list[bytes]) -> None:
        mode = self._faulty.ledger.mode("apns")
        if mode == "reset":
            await self._faulty.answer(headers, b"".join(chunks))
            if self._transport is not None:
                self._transport.abort()
            return
        self._answered += 1
        if mode == "goaway" and self._answered > GOAWAY_EVERY:
            self._go_away(stream)
            return
        await super()._respond(stream, headers, chunks)

    def _go_away(self, stream: int) -> None:
        """Streams from this one on were not processed; those before are still answered."""
        try:
            self._h2.close_connection(last_stream_id=max(0, stream - 2))
        except h2.exceptions.ProtocolError:
            return
        self._flush()
        if self._transport is not None:
            asyncio.get_running_loop().call_later(0.2, self._transport.close)


async def serve(folder: Path, http_port: int, apns_port: int, smtp_port: int) -> None:
    """Listens until killed."""
    loop = asyncio.get_running_loop()
    known = identity(folder / "identity")
    ledger = Ledger(folder / "received.jsonl")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(known.certificate_file, known.key_file)
    context.set_alpn_protocols(["h2"])
    apns = FaultyApns(known, ledger)
    await loop.create_server(
        partial(FaultyConnection, apns), "127.0.0.1", apns_port, ssl=context, backlog=1_024
    )
    handler = MailHandler(ledger)  # type: ignore[arg-type]
    await loop.create_server(
        lambda: SMTP(handler, hostname="localhost", loop=loop), "127.0.0.1", smtp_port
    )
    http = Http(HttpProviders(known, ledger), ledger)  # type: ignore[arg-type]
    runner = web.ServerRunner(web.Server(http.handle), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", http_port, backlog=1_024).start()
    await ledger.run()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *map(int, sys.argv[2:5])))
