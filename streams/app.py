"""Puts a role together from its parts: the one place that knows all of them.

A role is a Faust app, so a consumer group of its own: ``decide`` (stateful), ``deliver`` (sinks),
``ledger`` (history) and ``api`` (stateless HTTP). Everything below this file is handed what it
needs and knows nobody above itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from streams import topics
from streams.agents.decide import DecideLogic
from streams.agents.decide_role import decide_role
from streams.agents.deliver import deliver_role
from streams.agents.ledger import ledger_role
from streams.api import keys
from streams.codec import Codec
from streams.configuration.coverage import uncovered
from streams.configuration.reload import CatalogueReload
from streams.core.policy import Policy
from streams.engine.faust_app import EngineApp
from streams.engine.roles import RoleSpec
from streams.engine.worker import run_worker
from streams.ledger.looks import Looks
from streams.settings import Settings, load
from streams.web.console.console import Console, console_access
from streams.web.decide_owners import announced, with_pages
from streams.web.decide_pages import DecideWeb
from streams.web.deliver_pages import DeliverPages
from streams.web.internal import LOOPBACK_HOSTS
from streams.web.ledger_pages import LedgerWeb

log = logging.getLogger(__name__)
LOOPBACK = "127.0.0.1"
WORKER_ROLES = ("decide", "deliver", "ledger")
"""Roles that own partitions."""


def role_of(name: str, settings: Settings) -> RoleSpec:
    """The role as the engine runs it. Raises ``ValueError`` for a name that is no role."""
    codec = Codec(settings.registry_url)
    if name == "decide":
        logic = DecideLogic(codec, settings.policy, settings.kafka.partitions, settings.privacy)
        catalogue = catalogue_of(settings, logic.use_policy)
        pages = DecideWeb(settings.decide, settings.engine, codec, lambda: logic.policy)
        role = decide_role(settings.engine, logic, (catalogue,), catalogue.on_app)
        return with_pages(role, pages, settings.engine)
    if name == "deliver":
        for warning in uncovered(settings.policy, settings.deliver.providers):
            log.warning("%s", warning)
        engine = settings.engine
        providers = DeliverPages(settings.api.internal_secret, engine.clock == "stream")
        spec = deliver_role(settings.deliver, codec, pages=providers)
        return announced(spec, engine, topics.deliveries("apns"))
    if name == "ledger":
        return _ledger_role(settings, codec)
    raise ValueError(f"{name!r} is no role; choose one of {', '.join(WORKER_ROLES)}")


def catalogue_of(
    settings: Settings, use: Callable[[Policy], None] = lambda _: None
) -> CatalogueReload:
    """Follows the catalogue of the settings' own file while a worker runs."""
    return CatalogueReload(
        Path(settings.source),
        settings.policy,
        lambda: load(settings.source).policy,
        use,
        settings.catalogue_poll_ms,
    )


def _ledger_role(settings: Settings, codec: Codec) -> RoleSpec:
    """The ledger with the pages for people: any of its workers answers for the whole system."""
    access = console_access(settings.web, settings.api)

    def pages(ledger: LedgerWeb, looks: Looks) -> Console:
        return Console(settings.web, settings.api, settings.engine, codec, access, ledger, looks)

    bulk = [c.name for c in settings.policy.categories.values() if c.priority == "bulk"]
    return ledger_role(
        settings.ledger, settings.engine, codec, settings.privacy, access, pages, bulk
    )


def loopback_without_keys(settings: Settings) -> Settings:
    """Settings of a ledger worker: while no key was ever made it listens on loopback alone.

    The pages would refuse other machines anyway; a socket that is not there cannot be wrong.
    Raises ``KeysUnreadable``.
    """
    engine, api = settings.engine, settings.api
    if engine.web_host in LOOPBACK_HOSTS or keys.read(Path(api.keys_file)).keys:
        return settings
    log.warning(
        "there are no API keys in %s, so the ledger's pages listen on %s and not on %s: make one"
        " with `flowstate keys create NAME --scope read` and start again",
        api.keys_file,
        LOOPBACK,
        engine.web_host,
    )
    # Others on this machine must find it where it is.
    engine = msgspec.structs.replace(engine, web_host=LOOPBACK, advertised_url="")
    return msgspec.structs.replace(settings, engine=engine)


def run_role(name: str, settings: Settings) -> int:
    """Runs a worker of a role until a signal; returns the exit status (0: all is committed).

    Raises ``KeysUnreadable`` and ``CannotStart``.
    """
    if name == "ledger":
        settings = loopback_without_keys(settings)
    role = role_of(name, settings)
    return run_worker(lambda: EngineApp(role, settings.engine))
