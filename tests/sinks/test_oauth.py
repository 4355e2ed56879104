"""Google access tokens: one refresh at a time, a failure is a value, time to spare."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from streams.local.providers import ProviderServers, provider_servers
from streams.sinks.base import Retry
from streams.sinks.oauth import PAUSE_MS, GoogleTokens
from streams.sinks.settings import FcmSettings
from tests.agents.delivering import delivery
from tests.sinks.cases import rsa_pem

SOME = delivery(1, "fcm")


def fcm(servers: ProviderServers, **account: str) -> FcmSettings:
    settings = next(one for one in servers.settings() if isinstance(one, FcmSettings))
    known = msgspec.json.decode(settings.service_account_json.encode())
    text = msgspec.json.encode(known | account).decode()
    return msgspec.structs.replace(settings, service_account_json=text)


async def test_many_callers_share_one_refresh_and_its_token(tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with provider_servers(tmp_path) as servers:
        tokens = GoogleTokens(fcm(servers))
        got = await asyncio.gather(*(tokens.current(SOME, now_ms) for _ in range(20)))
        assert len(set(got)) == 1
        assert await tokens.current(SOME, now_ms + 50 * 60_000) == got[0]
        expired = await tokens.current(SOME, now_ms + 61 * 60_000)
        assert isinstance(expired, str)
        assert expired != got[0]
        assert tokens.renew(expired, now_ms)
        assert await tokens.current(SOME, now_ms) not in (expired, got[0])


async def test_a_refused_account_blames_the_credentials_and_is_not_asked_again_at_once(
    tmp_path: Path,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with provider_servers(tmp_path) as servers:
        tokens = GoogleTokens(fcm(servers, private_key=rsa_pem()))
        for later_ms in (0, 1, PAUSE_MS + 1):
            outcome = await tokens.current(SOME, now_ms + later_ms)
            assert isinstance(outcome, Retry)
            assert outcome.blame == "credentials"
        good = GoogleTokens(fcm(servers, token_uri="http://127.0.0.1:9/token"))
        assert isinstance(await good.current(SOME, now_ms), Retry)
