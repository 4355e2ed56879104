"""A whole small system for the API's tests: its own Kafka, a decide and a ledger worker, as
processes, from a configuration file; and the API itself inside the test's loop."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from streams.api.app import Api
from streams.api.callback_ses import Fetch, fetch_amazon
from streams.api.settings import ApiSettings
from streams.local.processes import ManagedProcess
from streams.settings import Settings, load
from streams.sinks.settings import UnsubscribeSettings

PARTITIONS = 4
CONFIGURATION = """
data_folder = "{folder}/state"
[kafka]
bootstrap = "{bootstrap}"
partitions = {partitions}
[api]
keys_file = "{folder}/no-keys.json"
[privacy]
hash_key = "a key of these tests alone"
[categories.message]
channels = ["push", "email"]
[categories.later]
channels = ["email"]
[categories.later.digest]
mode = "window"
window = "1h"
[categories.security]
priority = "critical"
mandatory = true
channels = ["push", "sms", "email"]
[categories.marketing]
priority = "bulk"
default_on = false
channels = ["email", "push"]
"""
LINK_SECRETS = ("link-secret-of-these-tests",)
UNSUBSCRIBE = UnsubscribeSettings("https://n.example", ("unsubscribe-secret",))


@dataclass
class World:
    """What is running, and how it is configured."""

    settings: Settings
    folder: Path
    processes: dict[str, ManagedProcess]
    urls: dict[str, str]

    def logs(self) -> str:
        return "\n".join(f"== {n}\n{p.output()[-3000:]}" for n, p in self.processes.items())


def start_world(folder: Path, bootstrap: str) -> World:
    """Starts the workers; they are ready when their /health/ready says so."""
    path = folder / "flowstate.toml"
    text = CONFIGURATION.format(folder=folder, bootstrap=bootstrap, partitions=PARTITIONS)
    path.write_text(text)
    world = World(load(path, environment={}), folder, {}, {})
    for role in ("decide", "ledger"):
        start_worker(world, role)
    return world


def start_worker(world: World, role: str) -> None:
    port = _free_port()
    argv = [sys.executable, "-c", "from streams.cli import main; main()", "worker", role]
    world.processes[role] = ManagedProcess(
        [*argv, "--config", str(world.folder / "flowstate.toml")],
        world.folder / f"{role}.log",
        {
            # Without keys a ledger worker listens on loopback all the same: see test_process.py.
            "FLOWSTATE_ENGINE__WEB_HOST": "0.0.0.0" if role == "ledger" else "127.0.0.1",
            "FLOWSTATE_ENGINE__WEB_PORT": str(port),
            "FLOWSTATE_ENGINE__SESSION_TIMEOUT": "15s",
        },
    )
    world.urls[role] = f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Client:
    """Asks a running API."""

    def __init__(self, url: str, session: aiohttp.ClientSession, api: Api) -> None:
        self.url = url
        self.session = session
        self.api = api

    async def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> Answer:
        if document is not None:
            body = json.dumps(document).encode()
        sent = {"Content-Type": kind} if body is not None else {}
        async with self.session.request(
            method,
            self.url + path,
            data=body,
            headers={**sent, **(headers or {})},
            allow_redirects=False,
        ) as response:
            return Answer(response.status, await response.read(), response.headers)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def problem(self) -> str:
        """Kind of the problem; fails when it is none."""
        assert self.headers["Content-Type"] == "application/problem+json", self.text
        kind: str = self.json["type"]
        return kind.rpartition(":")[2]


@asynccontextmanager
async def running_api(
    settings: Settings, folder: Path, *, fetch: Fetch = fetch_amazon, **changes: Any
) -> AsyncIterator[Client]:
    """An API on a free port; ``changes`` are fields of ``ApiSettings``."""
    fields: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "keys_file": str(folder / f"keys-{uuid.uuid4().hex}.json"),
        "link_secrets": LINK_SECRETS,
        "public_url": "https://n.example",
        **changes,
    }
    own = msgspec.structs.replace(ApiSettings(), **fields)
    api = Api(own, settings.engine, lambda: settings.policy, UNSUBSCRIBE, fetch=fetch)
    await api.start()
    try:
        url = await api.listen()
        async with aiohttp.ClientSession() as session:
            yield Client(url, session, api)
    finally:
        await api.stop()


def new_id(prefix: str = "r") -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


Check = Callable[[], Awaitable[Any]]
