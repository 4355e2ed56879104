"""The Web Push sink over the network against web-push-testing, a receiver that others wrote.

It checks the VAPID signature and really decrypts (RFC 8291). Needs Node 20 and the package, which
npm fetches once into the user's cache; skipped with the reason where they cannot be had.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from streams.local.processes import free_port
from streams.sinks.apns import load_key
from streams.sinks.base import Accepted, Outcome, Rejected, Unregistered
from streams.sinks.guarded_client import GuardedTransport
from streams.sinks.settings import HttpSettings, WebPushSettings
from streams.sinks.webpush import VapidTokens, WebPush, base64url
from tests.agents.delivering import delivery
from tests.eventually import eventually
from tests.sinks.cases import ANYWHERE, answered, p256_pem, pem_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PACKAGE = "web-push-testing@1.2.2"
SERVER = """
const Server = require('web-push-testing/src/server');
const model = require('web-push-testing/src/PushApiModel');
new Server(new model.PushApiModel(), Number(process.argv[1])).startServer();
"""


@pytest.fixture(scope="module")
def modules() -> Path:
    """The folder with ``node_modules``."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no Node on this machine")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "flowstate-tests" / PACKAGE
    if not (folder / "node_modules" / "web-push-testing").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
        if done.returncode:
            pytest.skip(f"{PACKAGE} cannot be had from npm")
    return folder


class Receiver:
    """The running server, and a sink that sends to it."""

    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base
        self.session = session
        self.sink = WebPush(WebPushSettings(private_key_pem=p256_pem()))
        self.tokens = VapidTokens(self.sink.settings)
        self.transport = GuardedTransport(HttpSettings(), ANYWHERE, 10)

    async def ask(self, path: str, content: Any) -> Any:
        async with self.session.post(self.base + path, json=content) as answer:
            text = await answer.read()
            assert answer.status == 200, text
            return msgspec.json.decode(text)["data"] if text.startswith(b"{") else None

    async def subscribe(self, key_pem: str) -> dict[str, Any]:
        """A browser's subscription to an application with this key."""
        point = load_key(key_pem).public_key()
        raw = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        options = {"userVisibleOnly": "true", "applicationServerKey": base64url(raw)}
        return dict(await self.ask("/subscribe", options))

    async def push(self, subscription: dict[str, Any], **changes: Any) -> Outcome:
        address = subscription["endpoint"].replace("localhost", "127.0.0.1")
        some = delivery(
            7, "webpush", address=address, attributes=subscription["keys"], **changes
        )  # fmt: skip
        return await answered(self.sink, self.tokens, self.transport, some)


@pytest.fixture
async def receiver(modules: Path) -> AsyncIterator[Receiver]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "node", "-e", SERVER, str(port), cwd=modules, stdout=asyncio.subprocess.DEVNULL
    )
    async with aiohttp.ClientSession() as session:
        made = Receiver(f"http://127.0.0.1:{port}", session)

        async def is_up() -> bool:
            try:
                await made.ask("/status", {})
            except aiohttp.ClientError:
                return False
            return True

        await eventually(is_up, 30)
        await made.transport.start()
        yield made
        await made.transport.stop()
    process.kill()
    await process.wait()


async def test_a_browser_reads_what_was_meant_for_it(receiver: Receiver) -> None:
    subscription = await receiver.subscribe(p256_pem())
    assert isinstance(await receiver.push(subscription, collapse_key="score"), Accepted)
    wanted = {"clientHash": subscription["clientHash"]}
    (message,) = (await receiver.ask("/get-notifications", wanted))["messages"]
    content = msgspec.json.decode(message)
    assert (content["title"], content["body"]) == ("Title", "Body")
    assert content["flowstate"]["delivery_id"] == delivery(7).delivery_id


async def test_a_subscription_that_has_ended_is_given_up(receiver: Receiver) -> None:
    subscription = await receiver.subscribe(p256_pem())
    path = f"/expire-subscription/{subscription['clientHash']}"
    async with receiver.session.post(receiver.base + path) as answer:
        assert answer.status == 200
    assert isinstance(await receiver.push(subscription), Unregistered)


async def test_another_application_s_subscription_is_refused_and_kept(receiver: Receiver) -> None:
    receiver_s = await receiver.subscribe(p256_pem())
    another_key = pem_of(ec.generate_private_key(ec.SECP256R1()))
    other = WebPushSettings(private_key_pem=another_key)
    receiver.sink, receiver.tokens = WebPush(other), VapidTokens(other)
    assert isinstance(await receiver.push(receiver_s), Rejected)
