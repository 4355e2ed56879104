"""The APNs sink over the network against pushy's MockApnsServer, somebody else's idea of Apple.

Needs a Java compiler and pushy's jars (from Maven Central, once); skipped with the reason where
they cannot be had. pushy's *validating* handler is not used: it takes DER signatures only and
answers a correct ES256 token (R||S, as JOSE and Apple want) with 500. The token is verified here.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from streams.local.authority import Identity, identity
from streams.sinks.apns import Apns, ApnsTokens, load_key
from streams.sinks.base import Accepted, Outcome, Rejected, Retry
from streams.sinks.base import Unregistered as Gone
from streams.sinks.http2_client import Http2Transport
from streams.sinks.settings import ApnsSettings, HttpSettings
from tests.agents.delivering import delivery
from tests.eventually import eventually
from tests.sinks.cases import answered

pytestmark = pytest.mark.slow

COORDINATES = "com.eatthepath:pushy:0.15.4+org.slf4j:slf4j-nop:2.0.17"
SOURCE = Path(__file__).with_name("PushyServer.java")
GONE = 5_000
"""In a row. A client that gives no flow-control credit back stalls after about 1,200."""


class Pushy:
    """The server, and a sink that sends to it."""

    def __init__(self, process: Any, known: Identity) -> None:
        self.process = process
        self.known = known
        self.lines: list[str] = []
        self.settings = ApnsSettings()

    async def open(self) -> None:
        port = int(await asyncio.wait_for(self.process.stdout.readline(), 30))
        self._reading = asyncio.create_task(self._read())
        self.settings = ApnsSettings(
            endpoint=f"https://127.0.0.1:{port}", apns_topic="org.example",
            team_id=self.known.apns_team_id, key_id=self.known.apns_key_id,
            private_key_pem=self.known.apns_key_pem,
            http=HttpSettings(ca_pem=self.known.ca_pem),
        )  # fmt: skip
        self.sink, self.tokens = Apns(self.settings), ApnsTokens(self.settings)
        self.transport = Http2Transport(self.settings.http)
        await self.transport.start()

    async def close(self) -> None:
        await self.transport.stop()
        self._reading.cancel()
        self.process.kill()
        await self.process.wait()

    async def _read(self) -> None:
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().rstrip("\n"))

    async def push(self, token: str = "ab" * 32, **changes: Any) -> Outcome:
        some = delivery(7, "apns", address=token, **changes)
        return await answered(self.sink, self.tokens, self.transport, some)


@pytest.fixture(scope="module")
def classpath(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the compiled server and pushy's jars are."""
    if not shutil.which("javac") or not shutil.which("java"):
        pytest.skip("no Java compiler on this machine")
    import jgo

    try:
        jars = [str(jar.resolve()) for jar in jgo.resolve(COORDINATES)]
    except (OSError, RuntimeError) as error:
        pytest.skip(f"pushy cannot be had from Maven Central: {type(error).__name__}")
    folder = tmp_path_factory.mktemp("pushy")
    path = ":".join([str(folder), *jars])
    subprocess.run(["javac", "-cp", path, "-d", str(folder), str(SOURCE)], check=True)
    return path


@pytest.fixture
async def pushy(classpath: str, tmp_path: Path) -> AsyncIterator[Pushy]:
    known = identity(tmp_path / "identity")
    process = await asyncio.create_subprocess_exec(
        "java", "-Xmx256m", "-cp", classpath, "PushyServer",
        known.certificate_file, known.key_file,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    made = Pushy(process, known)
    await made.open()
    yield made
    await made.close()


async def test_a_push_arrives_as_it_was_meant(pushy: Pushy) -> None:
    some = delivery(7, "apns", priority="critical", collapse_key="score")
    assert isinstance(await pushy.push(priority="critical", collapse_key="score"), Accepted)
    (line,) = await eventually(lambda: pushy.lines)
    what, *pairs = line.split("\t")
    headers = dict(pair.split("=", 1) for pair in pairs)
    assert what == "accepted"
    assert headers[":path"] == f"/3/device/{'ab' * 32}"
    assert headers["apns-id"].replace("-", "") == some.delivery_id
    assert headers["apns-topic"] == "org.example"
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-priority"] == "10"
    assert headers["apns-collapse-id"] == "score"
    assert msgspec.json.decode(headers["payload"])["aps"]["alert"] == {
        "title": "Title", "body": "Body",
    }  # fmt: skip
    token = headers["authorization"].removeprefix("bearer ")
    key = load_key(pushy.known.apns_key_pem).public_key()
    assert jwt.decode(token, key, algorithms=["ES256"])["iss"] == pushy.known.apns_team_id


MEANINGS: list[tuple[str, type, str | None]] = [
    ("BADDEVICETOKEN", Rejected, None),
    ("DEVICETOKENNOTFORTOPIC", Rejected, None),
    ("PAYLOADTOOLARGE", Rejected, None),
    ("UNREGISTERED", Gone, None),
    ("INVALIDPROVIDERTOKEN", Retry, "credentials"),
    ("EXPIREDPROVIDERTOKEN", Retry, "credentials"),
    ("FORBIDDEN", Retry, "credentials"),
    ("TOOMANYREQUESTS", Retry, "destination"),
    ("TOOMANYPROVIDERTOKENUPDATES", Retry, "quota"),
    ("INTERNALSERVERERROR", Retry, "provider"),
    ("SERVICEUNAVAILABLE", Retry, "provider"),
    ("SHUTDOWN", Retry, "provider"),
]


async def test_a_refusal_means_what_apple_says_it_means(pushy: Pushy) -> None:
    for reason, kind, blame in MEANINGS:
        outcome = await pushy.push(reason)
        assert isinstance(outcome, kind), (reason, outcome)
        if isinstance(outcome, Retry):
            assert outcome.blame == blame, reason
    registered_since = await pushy.push("UNREGISTERED", registered_at_ms=1_800_000_000_000)
    assert isinstance(registered_since, Retry), "a device registered since is kept"


async def test_five_thousand_410_in_a_row_are_all_seen(pushy: Pushy) -> None:
    outcomes = await asyncio.gather(*(pushy.push("UNREGISTERED") for _ in range(GONE)))
    assert sum(isinstance(outcome, Gone) for outcome in outcomes) == GONE
    assert isinstance(await pushy.push(), Accepted), "and the connection goes on"
