"""A small system in one process, for tests of the pages: a ledger worker with all partitions and
the pages, a decide worker's and a deliver worker's pages, each on a port of its own. No Kafka.

Everything that is shown is the product's: stores, queries, breakers, rolling counts. Made up are
the directory (who owns what) and the looks, which are kept in a list.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from streams import tables
from streams.api import keys
from streams.api.settings import ApiSettings, DecideWebSettings
from streams.core import state_codec
from streams.core.model import (
    Activity,
    Destination,
    Held,
    Notification,
    Preferences,
    Profile,
    RecipientState,
    Suppression,
    Waiting,
    packed,
)
from streams.core.policy import Category, LimitRule, Policy
from streams.engine.pages import PartitionStatus, WorkerStatus
from streams.engine.settings import EngineSettings
from streams.ledger.queries import LedgerQueries
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from streams.partitioning import partition_of_recipient
from streams.sinks.base import Accepted, Answer, Retry
from streams.sinks.breaker import Breaker
from streams.sinks.settings import BreakerSettings, ProviderSettings
from streams.web.console.console import Console, console_access
from streams.web.decide_pages import PATH, DecideWeb
from streams.web.deliver_pages import DeliverPages
from streams.web.ledger_pages import LedgerWeb
from streams.web.settings import WebSettings
from tests.ledger.build import (
    CODEC,
    KeptLooks,
    decision,
    entry,
    outcome,
    receipt,
    rows_of,
    sent,
    subject_of,
)

PARTITIONS = 2
POLICY = Policy(
    "v1",
    {
        "message": Category("message", limits=(LimitRule("category", 12, 3_600_000),)),
        "like": Category("like", channels=("push",)),
    },
)
NOW_MS = 1_700_000_060_000
EMAIL = "ann.secret@example.org"
BODY = "the words of a private message"


@dataclass
class FakeProvider:
    """What a page sees of a provider; the breaker is a real one."""

    name: str
    kind: str
    breaker: Breaker = field(default_factory=lambda: Breaker(BreakerSettings(failures_min=5)))
    bucket: Any = None
    in_flight: int = 3
    settings: Any = field(
        default_factory=lambda: ProviderSettings(name="p", quota_per_second=900.0)
    )


class FakeProviders:
    def __init__(self) -> None:
        self.known = [FakeProvider("apns", "apns"), FakeProvider("smtp", "email")]

    def all(self) -> list[Any]:
        return list(self.known)


class View:
    """A partition's state in a dictionary; implements ``StateView``."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def get_many(self, wanted: list[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in wanted]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> Iterable[tuple[bytes, bytes]]:
        found = [
            (key, value)
            for key, value in sorted(self.values.items())
            if key.startswith(prefix) and (after is None or key > after)
        ]
        return found[:limit]

    def keep(self, state: RecipientState) -> None:
        name = state.recipient_id.encode()
        for kind, value in (
            (tables.PROFILE, state_codec.encode_profile(state.profile)),
            (tables.MOVING, state_codec.encode_moving(state.activity, state.waiting)),
        ):
            if value is not None:
                self.values[kind + name] = value


class ConsoleWorld:
    """What is running."""

    def __init__(self, folder: Path, with_keys: bool, settings: WebSettings) -> None:
        self.folder = folder
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.looks = KeptLooks()
        self.views = [View() for _ in range(PARTITIONS)]
        self.decide_ready = True
        self.providers = FakeProviders()
        keys_file = folder / "keys.json"
        self.tokens: dict[str, str] = {}
        if with_keys:
            scopes: dict[str, tuple[keys.Scope, ...]] = {
                "reader": ("read",), "revealer": ("read", "reveal"),
                "operator": ("read", "reveal", "operate"), "producer": ("produce",),
            }  # fmt: skip
            self.tokens = {n: keys.create(keys_file, n, s, 0)[1] for n, s in scopes.items()}
        self.engine = EngineSettings(
            bootstrap="nowhere:1", partitions=PARTITIONS, web_port=self.port
        )
        ledger_settings = LedgerSettings(proxy_timeout_ms=500, internal_secret="s" * 32)
        self.decide_port, self.deliver_port = unused_port(), unused_port()
        self.api = ApiSettings(
            keys_file=str(keys_file), internal_secret="s" * 32,
            decide_urls=(f"http://127.0.0.1:{self.decide_port}",), keys_reread_ms=0,
        )  # fmt: skip
        access = console_access(settings, self.api)
        self.ledger = LedgerWeb(ledger_settings, self.engine, self.looks, access)
        self.stores = [
            LedgerStore(folder / "ledger", number, ledger_settings) for number in range(PARTITIONS)
        ]
        self.ledger_ready = True
        self.console = Console(
            settings, self.api, self.engine, CODEC, access, self.ledger, self.looks
        )
        self.other_port = unused_port()
        """A second ledger worker, without pages, that has what ``move`` gives it."""
        self.other = LedgerWeb(
            ledger_settings,
            msgspec.structs.replace(self.engine, web_port=self.other_port),
            self.looks,
            access,
        )
        self.owners = dict.fromkeys(range(PARTITIONS), self.url)
        self.deliver = DeliverPages("s" * 32, is_stream=False)
        self.killed: frozenset[str] = frozenset()
        self.deliver.show(
            self.providers, lambda name: f"provider:{name}" in self.killed, lambda: self.killed
        )
        self._servers: list[TestServer] = []
        self._offset = 0

    # -------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        async def known() -> dict[int, str]:
            return self.owners

        await self.ledger.start()
        await self.other.start()
        self.ledger._owners.all = known  # type: ignore[method-assign]
        self.other._owners.all = known  # type: ignore[method-assign]
        for number, store in enumerate(self.stores):
            queries = LedgerQueries(store, CODEC)
            self.ledger.take_over(number, queries, lambda: self.ledger_ready)
        await self._serve(self.port, self._ledger_app())
        other = web.Application()
        other.add_routes(self.other.routes())
        await self._serve(self.other_port, other)
        await self._serve(self.decide_port, self._decide_app())
        await self._serve(self.deliver_port, self._deliver_app())
        urls = {
            "ledger": self.url,
            "decide": f"http://127.0.0.1:{self.decide_port}",
            "deliver": f"http://127.0.0.1:{self.deliver_port}",
        }
        for role, url in urls.items():
            directory = self.console._fleet._directories[role]
            directory._known = dict.fromkeys(range(PARTITIONS), url)
            directory._known_at = float("inf")
        await self.console.start()

    async def stop(self) -> None:
        await self.console.stop()
        for server in self._servers:
            await server.close()
        await self.ledger.stop()
        await self.other.stop()
        for store in self.stores:
            store.close()

    def move(self, partition: int) -> None:
        """The partition's history goes to the second ledger worker."""
        self.ledger.give_up(partition)
        queries = LedgerQueries(self.stores[partition], CODEC)
        self.other.take_over(partition, queries, lambda: self.ledger_ready)
        self.owners[partition] = f"http://127.0.0.1:{self.other_port}"

    async def _serve(self, port: int, app: web.Application) -> None:
        server = TestServer(app, port=port)
        await server.start_server()
        self._servers.append(server)

    def _ledger_app(self) -> web.Application:
        app = web.Application()
        app.add_routes(self.ledger.routes())
        app.router.add_get("/engine", _engine("ledger"))
        self.console.mount_on(app)
        return app

    def _decide_app(self) -> web.Application:
        settings = DecideWebSettings(internal_secret="s" * 32)
        pages = DecideWeb(settings, self.engine, CODEC, lambda: POLICY, lambda: NOW_MS)
        for number, view in enumerate(self.views):
            pages.take_over(number, view, lambda: self.decide_ready)
        app = web.Application()
        app.add_subapp(PATH + "/", pages.application())
        app.router.add_get("/engine", _engine("decide", state_bytes=2_048))
        return app

    def _deliver_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/deliver/providers", self.deliver.page)
        app.router.add_get("/engine", _engine("deliver"))
        return app

    # ------------------------------------------------------------------------------- what happens

    def tell_a_story(self, recipient_id: str = "ann") -> str:
        """An opt-out, a message that was retried and accepted, and one that is held."""
        partition = partition_of_recipient(recipient_id, PARTITIONS)

        def subject(event_id: str) -> str:
            return subject_of(event_id, recipient_id, partition)

        delivery_id = f"{partition:03x}d{self._offset:028x}"
        delivering = entry(
            "delivering", "e-sent", subject_id=subject("e-sent"), at=1,
            deliveries=(sent(delivery_id),), inputs={"cell": "policy category message"},
        )  # fmt: skip
        opted_out = entry(
            "suppressed", "e-like", subject_id=subject("e-like"), reason="opted_out", at=2,
            category="like", inputs={"cell": "category like"},
        )  # fmt: skip
        held = entry(
            "held", "e-held", subject_id=subject("e-held"), reason="quiet_hours", at=3,
            until_ms=NOW_MS + 3_600_000,
            inputs={"zone": "Europe/Lisbon", "quiet_until_ms": str(NOW_MS + 3_600_000)},
        )  # fmt: skip
        hour_ago, first = NOW_MS - 3_600_000, self._offset
        self._offset += 3
        self.stores[partition].write(
            rows_of(
                decision(first, delivering, at_ms=hour_ago, recipient_id=recipient_id),
                outcome(
                    first, delivery_id=delivery_id, notification_id=subject("e-sent"),
                    recipient_id=recipient_id, decided_at_ms=hour_ago,
                    appended_at_ms=hour_ago - 20, answered_at_ms=hour_ago + 40,
                ),
                receipt(
                    first, hour_ago + 60_000, recipient_id=recipient_id, delivery_id=delivery_id
                ),
                decision(first + 1, opted_out, at_ms=NOW_MS - 60_000, recipient_id=recipient_id),
                decision(first + 2, held, at_ms=NOW_MS - 1_000, recipient_id=recipient_id),
            ),
            {"decisions": first + 3, "outcomes": first + 1, "receipts": first + 1},
        )  # fmt: skip
        self.views[partition].keep(_state(recipient_id, partition, subject("e-held")))
        return subject("e-sent")

    def send(self, count: int = 40) -> None:
        """The deliver worker has had some answers."""
        now_ms = time.time_ns() // 1_000_000
        for number in range(count):
            answer = Answer(Accepted("p"), "apns", 20.0 + number)
            self.deliver.answered(_delivery(now_ms - 200), answer, now_ms)

    def break_provider(self, name: str = "apns") -> None:
        """The provider fails until its breaker opens."""
        now_ms = time.time_ns() // 1_000_000
        (provider,) = [one for one in self.providers.known if one.name == name]
        for _ in range(10):
            provider.breaker.failed(now_ms)
            answer = Answer(Retry("unavailable"), name, 30.0)
            self.deliver.answered(_delivery(now_ms - 200), answer, now_ms)


def _delivery(appended_at_ms: int) -> Any:
    made = msgspec.defstruct("D", [("priority", str), ("appended_at_ms", int)])
    return made("normal", appended_at_ms)


def _state(recipient_id: str, partition: int, held_id: str) -> RecipientState:
    notification = Notification(
        held_id, "message", "normal", NOW_MS, NOW_MS, NOW_MS + 86_400_000, {"text": BODY}, "e-held"
    )
    return RecipientState(
        recipient_id,
        partition,
        Profile(
            preferences=Preferences(categories={"like": False}, zone="Europe/Lisbon"),
            destinations=(
                Destination("mail", "email", EMAIL, NOW_MS - 86_400_000),
                Destination("phone", "apns", "a1b2c3d4e5f6", NOW_MS, {"environment": "sandbox"}),
            ),
            suppressions=(Suppression("channel:sms", "unsubscribed", NOW_MS - 1_000),),
        ),
        Activity(sent={"message|category:message": (NOW_MS - 1_000,)}),
        Waiting(
            held=(Held(packed(notification), NOW_MS + 3_600_000, "quiet_hours", NOW_MS - 1_000),)
        ),
    )


def _engine(role: str, state_bytes: int | None = None) -> Any:
    async def answer(request: web.Request) -> web.Response:
        details = [
            PartitionStatus(
                partition=number, is_standby=False, state="running", lag={"normal": 7 * number},
                state_bytes=state_bytes, restored=100, restore_end=100,
            )
            for number in range(PARTITIONS)
        ]  # fmt: skip
        status = WorkerStatus(role=role, ready=True, details=details)
        return web.Response(body=msgspec.json.encode(status), content_type="application/json")

    return answer


@asynccontextmanager
async def running_console(
    folder: Path, *, with_keys: bool = False, **settings: Any
) -> AsyncIterator[ConsoleWorld]:
    """The system, with a story in it."""
    world = ConsoleWorld(folder, with_keys, WebSettings(**{"live_ms": 200, **settings}))
    await world.start()
    try:
        yield world
    finally:
        await world.stop()
