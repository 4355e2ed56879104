"""A local stand-in for Apple's push service: HTTP/2 over TLS with its checks and its answers.

Enough of the real one to catch a wrong client: token signatures are verified, paths, headers and
sizes checked, reasons spelled as Apple spells them. The sink's conformance is judged against other
people's servers, not this one; this one is for running everything on one machine.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import jwt
import msgspec

from streams.local.authority import Identity, public_pem
from streams.local.received import Recorder

STREAMS_MAX = 1_000
PAYLOAD_BYTES_MAX = 4_096
WINDOW_BYTES = 1 << 20
TOKENS_MAX = 1_000
PATH = re.compile(r"/3/device/([0-9a-zA-Z]{1,200})")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Headers = list[tuple[str, str]]


class Apns:
    """What all connections share: keys, tokens seen, the recorder."""

    def __init__(self, known: Identity, recorder: Recorder) -> None:
        self._public_key = public_pem(known.apns_key_pem)
        self._key_id = known.apns_key_id
        self._recorder = recorder
        self._good_tokens: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs ``work`` beside the protocol's callbacks."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str, str]:
        """(status, reason, apns-id) of one push."""
        identity = headers.get("apns-id", "")
        path = PATH.fullmatch(headers.get(":path", ""))
        if path is None:
            return 404, "BadPath", identity
        if reason := self._token_refusal(headers.get("authorization", "")):
            return 403, reason, identity
        if not headers.get("apns-topic"):
            return 400, "MissingTopic", identity
        if not UUID.fullmatch(identity):
            return 400, "BadMessageId", identity
        if len(headers.get("apns-collapse-id", "").encode()) > 64:
            return 400, "BadCollapseId", identity
        if not body:
            return 400, "PayloadEmpty", identity
        if len(body) > PAYLOAD_BYTES_MAX:
            return 413, "PayloadTooLarge", identity
        delivery_id = identity.replace("-", "")
        if self._recorder.refuses("apns", delivery_id):
            return 503, "ServiceUnavailable", identity
        payload = msgspec.json.decode(body)
        notification_id = payload.get("flowstate", {}).get("notification_id", "")
        await self._recorder.record("apns", delivery_id, notification_id, path[1], len(body))
        return 200, "", identity

    def _token_refusal(self, authorization: str) -> str:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "MissingProviderToken"
        if token in self._good_tokens:
            return ""
        try:
            header = jwt.get_unverified_header(token)
            jwt.decode(token, self._public_key, algorithms=["ES256"], options={"verify_iat": False})
        except jwt.InvalidTokenError:
            return "InvalidProviderToken"
        if header.get("kid") != self._key_id:
            return "InvalidProviderToken"
        if len(self._good_tokens) < TOKENS_MAX:
            self._good_tokens.add(token)
        return ""


class ApnsConnection(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self, apns: Apns) -> None:
        self._apns = apns
        self._transport: asyncio.Transport | None = None
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding="utf-8",
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        self._streams: dict[int, tuple[dict[str, str], list[bytes]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        self._h2.local_settings.update(
            {
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            }
        )
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES * 16)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._streams.clear()

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            if self._transport is not None:
                self._transport.close()
            return
        for event in events:
            self._on_event(event)
        self._flush()

    def _on_event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = {str(name): str(value) for name, value in event.headers}
            self._streams[event.stream_id] = (headers, [])
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in self._streams:
                self._streams[event.stream_id][1].append(event.data)
            # The connection's credit alone: a stream ends long before its own is used up.
            if event.flow_controlled_length:
                self._h2.increment_flow_control_window(event.flow_controlled_length)
        elif isinstance(event, h2.events.StreamEnded):
            request = self._streams.pop(event.stream_id, None)
            if request is not None:
                self._apns.spawn(self._respond(event.stream_id, *request))
        elif isinstance(event, h2.events.StreamReset):
            self._streams.pop(event.stream_id, None)

    async def _respond(self, stream: int, headers: dict[str, str], chunks: list[bytes]) -> None:
        status, reason, identity = await self._apns.answer(headers, b"".join(chunks))
        if self._transport is None:
            return
        answer: Headers = [(":status", str(status)), ("apns-id", identity)]
        try:
            self._h2.send_headers(stream, answer, end_stream=not reason)
            if reason:
                self._h2.send_data(stream, b'{"reason":"%s"}' % reason.encode(), end_stream=True)
        except h2.exceptions.ProtocolError:
            return  # the client has reset the stream meanwhile
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)
