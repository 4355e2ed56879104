"""The provider servers of one machine, in one process: what ``flowstate providers`` runs.

They take what the sinks send, keep an independent record of it (``received.jsonl``), and can
refuse a seeded share once, so that retries happen where everything else is deterministic. Never
imported by the product's own path.

``provider_settings`` says how a worker has to be configured to send to them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
from aiohttp import web
from aiosmtpd.smtp import SMTP

from streams.local.authority import PROJECT, Identity, identity, service_account
from streams.local.provider_apns import Apns, ApnsConnection
from streams.local.provider_http import HttpProviders
from streams.local.provider_mail import MailHandler
from streams.local.received import Recorder
from streams.sinks import settings as s

BACKLOG = 1_024


class Ports(msgspec.Struct, frozen=True):
    """Where the servers listen; 0 takes a free port."""

    apns: int = 8443
    http: int = 8480
    smtp: int = 8425


DEFAULT_PORTS = Ports()
FREE_PORTS = Ports(0, 0, 0)


class ProviderServers:
    """All servers with what they share."""

    def __init__(
        self, folder: Path, ports: Ports = DEFAULT_PORTS, retry_share: float = 0.0, seed: str = "",
        host: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self._host = host
        self._wanted = ports
        self.ports = ports
        self.identity = identity(folder / "identity")
        self.recorder = Recorder(folder / "received.jsonl", retry_share, seed)
        self._servers: list[asyncio.Server] = []
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listens; ``ports`` then holds the real ones."""
        loop = asyncio.get_running_loop()
        await self.recorder.start()
        apns = Apns(self.identity, self.recorder)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.identity.certificate_file, self.identity.key_file)
        context.set_alpn_protocols(["h2"])
        apns_server = await loop.create_server(
            partial(ApnsConnection, apns), self._host, self._wanted.apns,
            ssl=context, backlog=BACKLOG,
        )  # fmt: skip
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        handler = MailHandler(self.recorder)
        mail_server = await loop.create_server(
            lambda: SMTP(handler, hostname="localhost", loop=loop, ident="flowstate"),
            self._host, self._wanted.smtp, backlog=BACKLOG,
        )  # fmt: skip
        http = HttpProviders(self.identity, self.recorder)
        self._runner = web.ServerRunner(web.Server(http.handle), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted.http, backlog=BACKLOG)
        await site.start()
        self._servers = [apns_server, mail_server]
        http_port = self._runner.addresses[0][1]
        self.ports = Ports(_port(apns_server), http_port, _port(mail_server))

    async def stop(self) -> None:
        """Stops listening and makes the record whole."""
        for server in self._servers:
            server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.recorder.stop()

    def settings(self) -> tuple[s.AnyProvider, ...]:
        """How a worker is configured to send to these servers."""
        return provider_settings(self.identity, self.ports, self._host)


@contextlib.asynccontextmanager
async def provider_servers(
    folder: Path, ports: Ports = FREE_PORTS, retry_share: float = 0.0
) -> AsyncIterator[ProviderServers]:
    """Running servers, for tests and the command."""
    servers = ProviderServers(folder, ports, retry_share)
    await servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


def provider_settings(
    known: Identity, ports: Ports, host: str = "127.0.0.1"
) -> tuple[s.AnyProvider, ...]:
    """One entry of the settings per local provider."""
    http = f"http://{host}:{ports.http}"
    trusting = s.HttpSettings(ca_pem=known.ca_pem)
    local = s.AddressRules(schemes=("http",), ports=(ports.http,), allow_networks=("127.0.0.0/8",))
    return (
        s.ApnsSettings(
            endpoint=f"https://{host}:{ports.apns}",
            sandbox_endpoint=f"https://{host}:{ports.apns}",
            team_id=known.apns_team_id,
            key_id=known.apns_key_id,
            private_key_pem=known.apns_key_pem,
            apns_topic="org.example.flowstate",
            http=trusting,
        ),
        s.FcmSettings(
            endpoint=http,
            project_id=PROJECT,
            service_account_json=service_account(known, f"{http}/token"),
            quota_per_second=None,
        ),
        s.TwilioSettings(
            endpoint=http,
            account_sid=known.twilio_account,
            auth_token=known.twilio_token,
            sender="+15005550006",
            status_callback_url=f"{http}/status",
        ),
        s.SmtpSettings(host=host, port=ports.smtp, security="none"),
        s.VonageSettings(
            endpoint=http,
            api_key=known.vonage_key,
            api_secret=known.vonage_secret,
            sender="Flowstate",
            weight=0,  # takes over when Twilio is away
        ),
        s.WebhookSettings(secrets=(known.webhook_secret,), addresses=local),
        s.WebPushSettings(private_key_pem=known.vapid_key_pem, addresses=local),
        s.SlackSettings(hosts=(host,), addresses=local),
    )


def _port(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])
