"""Google access tokens for service accounts: one refresh in flight, in a thread.

``google-auth`` blocks, so it runs in a thread. A token is renewed a few minutes before it expires
while the old one goes on being used; only a first token, or one that was refused, is waited for.

Invariants: never more than one refresh at a time; a refresh that fails is an expected failure (a
``Retry`` that blames the credentials) and is not repeated within ``PAUSE_MS``.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import ssl
from functools import partial
from typing import Any

import google.auth.exceptions
import google.auth.transport.requests
import requests
import requests.adapters
from google.oauth2 import service_account

from streams.core.model import Delivery
from streams.sinks.base import Retry
from streams.sinks.settings import FcmSettings

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
RENEW_BEFORE_MS = 5 * 60_000
PAUSE_MS = 5_000
REQUEST_SECONDS_MAX = 10
REFRESH_SECONDS_MAX = 15

log = logging.getLogger(__name__)


class GoogleTokens:
    """Access tokens of one service account."""

    def __init__(self, settings: FcmSettings) -> None:
        info = json.loads(settings.service_account_json)
        self._name = settings.name
        self._ca_pem = settings.http.ca_pem
        self._credentials = service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
            info, scopes=[SCOPE]
        )
        self._token = ""
        self._expires_at_ms = 0
        self._failed_at_ms = 0
        self._refresh: asyncio.Task[None] | None = None

    async def current(self, delivery: Delivery, now_ms: int) -> Any | Retry:
        if self._token and now_ms < self._expires_at_ms - RENEW_BEFORE_MS:
            return self._token
        self._start_refresh(now_ms)
        if self._refresh is not None and (not self._token or now_ms >= self._expires_at_ms):
            await asyncio.shield(self._refresh)
        if not self._token:
            return Retry("no_access_token", PAUSE_MS, "credentials")
        return self._token

    def renew(self, used: Any, now_ms: int) -> bool:
        if used == self._token:
            self._token = ""
        return now_ms - self._failed_at_ms >= PAUSE_MS

    def _start_refresh(self, now_ms: int) -> None:
        pausing = 0 <= now_ms - self._failed_at_ms < PAUSE_MS
        if (self._refresh is None or self._refresh.done()) and not pausing:
            self._refresh = asyncio.create_task(self._fetch(now_ms))

    async def _fetch(self, now_ms: int) -> None:
        try:
            async with asyncio.timeout(REFRESH_SECONDS_MAX):
                await asyncio.to_thread(self._fetch_blocking)
        except (google.auth.exceptions.GoogleAuthError, OSError, ValueError) as error:
            self._failed_at_ms = now_ms
            log.error("%s: no access token: %s", self._name, type(error).__name__)
            return
        self._token = str(self._credentials.token)
        expiry = self._credentials.expiry.replace(tzinfo=datetime.UTC)  # google-auth's is naive
        self._expires_at_ms = int(expiry.timestamp() * 1000)

    def _fetch_blocking(self) -> None:
        with requests.Session() as session:
            if self._ca_pem:
                session.mount("https://", _TrustingAdapter(self._ca_pem))
            request = google.auth.transport.requests.Request(session)
            self._credentials.refresh(partial(request, timeout=REQUEST_SECONDS_MAX))


class _TrustingAdapter(requests.adapters.HTTPAdapter):
    """Trusts further authorities beside the system's."""

    def __init__(self, ca_pem: str) -> None:
        self._context = ssl.create_default_context()
        self._context.load_verify_locations(cadata=ca_pem)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
