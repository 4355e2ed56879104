"""Local stand-ins for the providers that speak HTTP/1.1: FCM, Twilio, Vonage, webhooks, Slack.

One server, told apart by path. Each checks what its original checks first (who is calling) and
answers in its original's words. ``GET /received`` counts what was taken.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import http_ece
import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from streams.local.authority import PROJECT, Identity, public_pem
from streams.local.received import Recorder

ACCESS_TOKEN_SECONDS = 3_600
AUDIENCE = "https://oauth2.googleapis.com/token"  # google-auth's, whatever the token_uri
TOKENS_MAX = 10_000
UNAVAILABLE = b'{"error":{"code":503,"status":"UNAVAILABLE","message":"seeded fault"}}'

Handler = Callable[[web.BaseRequest, bytes], Awaitable[web.Response]]


class HttpProviders:
    """Every HTTP/1.1 provider behind one handler."""

    def __init__(self, known: Identity, recorder: Recorder) -> None:
        self._recorder = recorder
        self._google_key = public_pem(known.google_key_pem)
        pair = f"{known.twilio_account}:{known.twilio_token}".encode()
        self._twilio_authorization = "Basic " + base64.b64encode(pair).decode()
        self._vonage = (known.vonage_key, known.vonage_secret)
        self._webhook = Webhook(known.webhook_secret)
        self._vapid_key = public_pem(known.vapid_key_pem)
        self._browser_key = load_pem_private_key(known.browser_key_pem.encode(), None)
        self._browser_auth = base64.urlsafe_b64decode(known.browser_auth + "==")
        self._access_tokens: set[str] = set()
        self._routes: tuple[tuple[str, Handler], ...] = (
            (f"/v1/projects/{PROJECT}/messages:send", self._fcm),
            ("/2010-04-01/", self._twilio),
            ("/webhooks/", self._webhooks),
            ("/services/", self._slack),
            ("/push/", self._push),
            ("/sms/json", self._vonage_sms),
            ("/token", self._token),
        )

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Handler for ``web.Server``."""
        if request.method == "GET":
            if request.path == "/received":
                return _json(200, self._recorder.totals())
            return _json(200, {"status": "ok"})
        for prefix, handler in self._routes:
            if request.path.startswith(prefix):
                return await handler(request, await request.read())
        return _json(404, {"error": "no such path"})

    async def _token(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """RFC 7523: an assertion signed by the service account for an access token."""
        form = parse_qs(body.decode())
        try:
            assertion = form["assertion"][0]
            jwt.decode(assertion, self._google_key, algorithms=["RS256"], audience=AUDIENCE)
        except (KeyError, jwt.InvalidTokenError):
            return _json(400, {"error": "invalid_grant"})
        if len(self._access_tokens) >= TOKENS_MAX:
            self._access_tokens.clear()
        token = "ya29." + secrets.token_urlsafe(32)
        self._access_tokens.add(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": ACCESS_TOKEN_SECONDS}
        return _json(200, answer)

    async def _fcm(self, request: web.BaseRequest, body: bytes) -> web.Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._access_tokens:
            return _json(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}})
        message = msgspec.json.decode(body)["message"]
        data = message.get("data", {})
        delivery_id = data.get("flowstate_delivery_id", "")
        if self._recorder.refuses("fcm", delivery_id):
            return web.Response(status=503, body=UNAVAILABLE)
        await self._recorder.record(
            "fcm",
            delivery_id,
            data.get("flowstate_notification_id", ""),
            message["token"],
            len(body),
        )
        return _json(200, {"name": f"projects/{PROJECT}/messages/{delivery_id}"})

    async def _twilio(self, request: web.BaseRequest, body: bytes) -> web.Response:
        if request.headers.get("authorization") != self._twilio_authorization:
            return _json(401, {"code": 20003, "message": "Authenticate", "status": 401})
        form = parse_qs(body.decode())
        callback = parse_qs(urlsplit(form.get("StatusCallback", [""])[0]).query)
        delivery_id = callback.get("delivery_id", [""])[0]
        if self._recorder.refuses("sms", delivery_id):
            return _json(503, {"code": 20503, "message": "Service Unavailable", "status": 503})
        notification_id = callback.get("notification_id", [""])[0]
        number = form.get("To", [""])[0]
        await self._recorder.record("sms", delivery_id, notification_id, number, len(body))
        return _json(201, {"sid": f"SM{delivery_id}", "status": "queued"})

    async def _vonage_sms(self, request: web.BaseRequest, body: bytes) -> web.Response:
        form = parse_qs(body.decode())
        if (form.get("api_key", [""])[0], form.get("api_secret", [""])[0]) != self._vonage:
            answer = {"status": "4", "error-text": "Bad Credentials"}
            return _json(200, {"message-count": "1", "messages": [answer]})
        delivery_id, _, notification_id = form.get("client-ref", [""])[0].partition(".")
        if self._recorder.refuses("sms", delivery_id):
            answer = {"status": "5", "error-text": "Internal Error"}
            return _json(200, {"message-count": "1", "messages": [answer]})
        number = form.get("to", [""])[0]
        await self._recorder.record("sms", delivery_id, notification_id, number, len(body))
        answer = {"status": "0", "message-id": delivery_id, "to": number}
        return _json(200, {"message-count": "1", "messages": [answer]})

    async def _webhooks(self, request: web.BaseRequest, body: bytes) -> web.Response:
        try:
            content = self._webhook.verify(body, dict(request.headers))
        except WebhookVerificationError:
            return _json(401, {"error": "signature"})
        delivery_id = request.headers["webhook-id"]
        if self._recorder.refuses("webhook", delivery_id):
            return _json(503, {"error": "seeded fault"})
        notification_id = content["data"]["notification_id"]
        await self._recorder.record(
            "webhook", delivery_id, notification_id, request.path, len(body)
        )
        return web.Response(status=204)

    async def _push(self, request: web.BaseRequest, body: bytes) -> web.Response:
        scheme, _, parameters = request.headers.get("authorization", "").partition(" t=")
        try:
            origin = f"{request.scheme}://{request.host}"
            token = parameters.partition(",")[0]
            jwt.decode(token, self._vapid_key, algorithms=["ES256"], audience=origin)
            plain = http_ece.decrypt(
                body, private_key=self._browser_key, auth_secret=self._browser_auth,
                version="aes128gcm",
            )  # fmt: skip
        except (jwt.InvalidTokenError, http_ece.ECEException, ValueError):
            return _json(403, {"error": "token or encryption"})
        if scheme != "vapid" or not request.headers.get("ttl", "").isdigit():
            return _json(400, {"error": "TTL"})
        ours = msgspec.json.decode(plain)["flowstate"]
        delivery_id = ours["delivery_id"]
        if self._recorder.refuses("webpush", delivery_id):
            return _json(503, {"error": "seeded fault"})
        notification_id = ours["notification_id"]
        await self._recorder.record(
            "webpush", delivery_id, notification_id, request.path, len(body)
        )
        return web.Response(status=201, headers={"location": f"/message/{delivery_id}"})

    async def _slack(self, request: web.BaseRequest, body: bytes) -> web.Response:
        blocks = msgspec.json.decode(body).get("blocks", [])
        reference = str(blocks[0].get("block_id", "")) if blocks else ""
        delivery_id, _, notification_id = reference.partition(".")
        if self._recorder.refuses("chat", delivery_id):
            return web.Response(status=503, text="service_unavailable")
        await self._recorder.record("chat", delivery_id, notification_id, request.path, len(body))
        return web.Response(status=200, text="ok")


def _json(status: int, content: object) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(content),
        content_type="application/json",
        headers={"date": str(int(time.time()))},
    )
