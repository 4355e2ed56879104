"""The ``api`` role: puts the routes together, listens, and ends cleanly.

Stateless: what it remembers is a convenience (see ``remembered.py``), so run as many as you like
behind a balancer. Without API keys it binds to loopback, whatever the settings say.

Order of starting: keys, Kafka (which may be away: then it refuses until it is there), workers'
directory, socket. Order of stopping: no new connections, requests under way to their end, then the
rest in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import uvloop
from aiohttp import web

from streams import topics
from streams.api import metrics
from streams.api.callback_ses import Fetch, SesRoutes, fetch_amazon
from streams.api.callbacks import CallbackRoutes
from streams.api.cancel import CancelRoutes
from streams.api.decision_tail import DecisionTail
from streams.api.destinations import DestinationRoutes
from streams.api.events import EventRoutes
from streams.api.gate import Gate, unrouted
from streams.api.history import HistoryRoutes
from streams.api.keys import KeyRing
from streams.api.known import Known
from streams.api.preference_page import PreferencePageRoutes
from streams.api.preferences import PreferenceRoutes
from streams.api.receipts import ReceiptRoutes
from streams.api.records import Records
from streams.api.routes import Route
from streams.api.server_routes import ServerRoutes
from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.api.tracking import TrackingRoutes
from streams.api.unsubscribe import UnsubscribeRoutes
from streams.codec import Codec
from streams.configuration.reload import CatalogueReload
from streams.core.policy import Policy
from streams.engine.client_logs import quiet_client_logs
from streams.engine.log_writer import LogWriter
from streams.engine.settings import EngineSettings
from streams.ledger.looks import Looks
from streams.privacy import PrivacySettings
from streams.sinks.settings import DeliverSettings, SmtpSettings, UnsubscribeSettings
from streams.wire.writer import compile_writer

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
WRITTEN = (*topics.EVENTS, topics.RECEIPTS, topics.CANCELLATIONS, topics.DESTINATIONS, topics.LOOKS)
SHUTDOWN_S_MAX = 15.0


class Configuration(Protocol):
    """What the role needs of ``streams.settings.Settings``."""

    @property
    def api(self) -> ApiSettings: ...
    @property
    def engine(self) -> EngineSettings: ...
    @property
    def deliver(self) -> DeliverSettings: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def privacy(self) -> PrivacySettings: ...


class Api:
    """One process of the role: parts with a life, and the routes over them."""

    def __init__(
        self,
        settings: ApiSettings,
        engine: EngineSettings,
        policy: Callable[[], Policy],
        unsubscribe: UnsubscribeSettings,
        *,
        privacy: PrivacySettings | None = None,
        fetch: Fetch = fetch_amazon,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.settings = settings
        self._engine = engine
        self._ring = KeyRing(Path(settings.keys_file), settings.keys_reread_ms)
        self.is_open = not self._ring.has_keys
        codec = Codec()
        event = codec.contracts.current["event"]
        self._log = LogWriter(
            engine,
            WRITTEN,
            "api",
            ack_ms_max=settings.ack_ms_max,
            probe_ms=settings.probe_ms,
            linger_ms=settings.linger_ms,
        )
        self._states = StateClient(settings, engine)
        self._tail = DecisionTail(engine, codec)
        self._gate = Gate(settings, self._ring, self.is_open, now_ms=now_ms)
        records = Records(settings, engine, codec, self._log)
        looks = Looks(engine, privacy or PrivacySettings(), codec, writer=self._log, now_ms=now_ms)
        known = Known(settings, self._states, engine.partitions)
        states, write = self._states, compile_writer(event.schema, event.header)
        self._groups = (
            EventRoutes(settings, engine, policy, write, self._log, states, now_ms, time.monotonic),
            CancelRoutes(settings, records, states, self._tail, now_ms),
            PreferenceRoutes(settings, states, now_ms),
            DestinationRoutes(records, states, looks, now_ms),
            HistoryRoutes(states, looks),
            ReceiptRoutes(settings, records, known, time.monotonic),
            CallbackRoutes(settings, records, known, now_ms),
            SesRoutes(settings, records, known, now_ms, fetch),
            TrackingRoutes(settings, records, now_ms),
            UnsubscribeRoutes(unsubscribe, records, states, now_ms),
            PreferencePageRoutes(settings, states, policy, now_ms),
            ServerRoutes(settings, self._log, self.routes),
        )
        self._runner: web.AppRunner | None = None

    # -------------------------------------------------------------------------------------- life

    async def start(self) -> None:
        """Everything but the socket. Raises ``TopicsWrong``."""
        await self._log.start()
        await self._states.start()

    async def listen(self) -> str:
        """Binds and serves; returns the URL. Raises ``OSError`` for a taken port."""
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=SHUTDOWN_S_MAX)
        await runner.setup()
        self._runner = runner
        host = LOOPBACK if self.is_open else self.settings.host
        await web.TCPSite(runner, host, self.settings.port, reuse_address=True).start()
        address = runner.addresses[0]
        shown = f"[{address[0]}]" if runner.sites and ":" in address[0] else address[0]
        if self.is_open:
            log.warning(
                "there are no API keys: only this machine is answered, and may do everything;"
                " make a key with `flowstate keys create` and start again"
            )
        return f"http://{shown}:{address[1]}"

    async def stop(self) -> None:
        """Finishes what is under way, then disconnects."""
        if self._runner is not None:
            await self._runner.cleanup()
        await self._tail.stop()
        await self._states.stop()
        await self._log.stop()

    # ------------------------------------------------------------------------------------- routes

    def routes(self) -> list[Route]:
        """Every operation, the server's own included."""
        return [route for group in self._groups for route in group.routes()]

    def application(self) -> web.Application:
        """The routes as an aiohttp application."""
        application = web.Application(
            middlewares=[web.middleware(unrouted)], client_max_size=self.settings.body_bytes_max
        )
        for route in self.routes():
            application.router.add_route(route.method, route.path, self._gate.wrap(route))
        return application


def api_of(settings: Configuration, catalogue: CatalogueReload | None = None) -> Api:
    """The role from the whole configuration; ``catalogue`` gives newer policies as they come."""
    return Api(
        settings.api,
        settings.engine,
        lambda: settings.policy if catalogue is None else catalogue.policy,
        _unsubscribe_of(settings.deliver),
        privacy=settings.privacy,
    )


def run_api(settings: Configuration, catalogue: CatalogueReload) -> int:
    """Runs the role until a signal; returns the exit status.

    Raises ``KeysUnreadable``, ``TopicsWrong`` and ``OSError`` (a taken port).
    """
    quiet_client_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(settings, catalogue))


async def _run(settings: Configuration, catalogue: CatalogueReload) -> int:
    api = api_of(settings, catalogue)
    metrics.REGISTRY.register(catalogue)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await api.start()
        await catalogue.start()
        url = await api.listen()
        log.info("listens on %s", url)
        await stopping.wait()
        log.info("stopping")
    finally:
        await catalogue.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(api.stop(), 2 * SHUTDOWN_S_MAX)
    return 0


def _unsubscribe_of(deliver: DeliverSettings) -> UnsubscribeSettings:
    """What signs the links of the mail that is sent: the secrets of every SMTP provider."""
    found = [p.unsubscribe for p in deliver.providers if isinstance(p, SmtpSettings)]
    secrets = tuple(dict.fromkeys(secret for each in found for secret in each.secrets))
    return UnsubscribeSettings(next((e.base_url for e in found if e.base_url), ""), secrets)
