"""Everything on this machine: a broker, a schema registry, stand-in providers and the roles.

What ``flowstate up`` and the demo share. The configuration of the whole is one file,
``<data>/flowstate.toml``: the user's (or the shipped) one with the addresses of this run laid over
it. Every child reads it, and so does every command that is given ``--config`` with it.

Invariants: a child is started when what it needs answers; whatever fails while starting, nothing
is left running; the order of stopping is the reverse of starting, the broker last.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from streams import topics
from streams.configuration.shape import table_of
from streams.engine.topics_admin import create_topics
from streams.local.authority import identity
from streams.local.broker import EmbeddedBroker
from streams.local.processes import free_port
from streams.local.providers import Ports, provider_settings
from streams.local.supervisor import Child, Event, Supervisor, http_ok
from streams.local.toml_text import merged, toml_text
from streams.settings import Settings, default_path, load

ROLES = ("decide", "deliver", "ledger")
HOST = "127.0.0.1"
STREAM_HISTORY = {
    "ledger": {
        "retention_days": 36_500,
        "bucket_days": 7,
        "hours_kept_max": 24 * 400,
        "hours_asked_max": 24 * 400,
    }
}
"""A trace passes months in seconds, and is years old: keep all of it, a week in a bucket."""
RESEND = {"on_ambiguous": "resend"}
"""So that a killed sink changes no total: what was in flight is sent again, flagged and counted."""
HEADER = """Made by `flowstate up` or `flowstate demo` for this run; overwritten by the next one.
Use it with any command: flowstate explain RECIPIENT --config THIS_FILE"""


class StackPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and where. A port of 0 takes a free one."""

    data: Path
    clock: Literal["wall", "stream"] = "wall"
    partitions: int | None = None
    """``None``: what the configuration says."""
    config: Path | None = None
    """The user's configuration; ``None`` is the shipped one."""
    bootstrap: str | None = None
    """A Kafka that is there already; ``None`` starts the embedded one."""
    kafka_port: int = 0
    registry_port: int = 0
    web_ports: dict[str, int] = {}
    """Role -> port of its pages; a free one for roles left out."""
    provider_ports: Ports = Ports(0, 0, 0)
    api_port: int | None = None
    """The HTTP API, for this machine only; ``None`` runs none."""
    retry_share: float = 0.0
    """Share of deliveries that a provider refuses once, seeded with ``seed``."""
    seed: str = ""


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that is up."""

    plan: StackPlan
    config_file: Path
    settings: Settings
    supervisor: Supervisor
    bootstrap: str
    registry_url: str
    providers_url: str
    received_file: Path
    web_urls: dict[str, str]
    """Role -> where its pages are."""
    api_url: str | None

    @property
    def webhook_url(self) -> str:
        """Where the local webhook receiver listens."""
        return f"{self.providers_url}/webhooks"

    @property
    def received_url(self) -> str:
        """Where the providers say how much they have received."""
        return f"{self.providers_url}/received"


@contextlib.asynccontextmanager
async def open_stack(
    plan: StackPlan, on_event: Callable[[Event], None], say: Callable[[str], None]
) -> AsyncIterator[Stack]:
    """Starts everything, yields, stops everything. Call it from the main thread.

    ``say`` is told what takes long (fetching Kafka, the first time).

    Raises ``BrokerError``, ``ChildFailed``, ``TopicsWrong`` and configuration errors, each of
    which is a sentence for a person.
    """
    plan.data.mkdir(parents=True, exist_ok=True)
    async with _broker(plan, say) as bootstrap:
        stack = _describe(plan, bootstrap, on_event)
        kafka = stack.settings.kafka
        await create_topics(
            bootstrap,
            topics.SPECS,
            kafka.partitions,
            kafka.replication,
            plan.clock == "stream",
            stack.settings.security,
        )
        async with stack.supervisor:
            yield stack


@contextlib.asynccontextmanager
async def _broker(plan: StackPlan, say: Callable[[str], None]) -> AsyncIterator[str]:
    if plan.bootstrap is not None:
        yield plan.bootstrap
        return
    broker = EmbeddedBroker(plan.data / "kafka", port=plan.kafka_port)
    await broker.start_async(say)
    try:
        yield broker.bootstrap
    finally:
        await broker.stop_async()


def _describe(plan: StackPlan, bootstrap: str, on_event: Callable[[Event], None]) -> Stack:
    """Chooses ports, writes the configuration, and plans the children."""
    registry_port = plan.registry_port or free_port()
    wanted = plan.provider_ports
    ports = Ports(
        wanted.apns or free_port(), wanted.http or free_port(), wanted.smtp or free_port()
    )
    webs = {role: plan.web_ports.get(role) or free_port() for role in ROLES}
    registry_url, providers_url = f"http://{HOST}:{registry_port}", f"http://{HOST}:{ports.http}"
    config_file = plan.data / "flowstate.toml"
    base = _base(plan.config)
    over = _overrides(plan, bootstrap, registry_url, ports, webs["ledger"])
    if not base.get("privacy", {}).get("hash_key"):
        over["privacy"] = {"hash_key": _kept_secret(plan.data / "hash-key")}
    if plan.clock == "stream":
        over["categories"] = dict.fromkeys(base.get("categories", {}), RESEND)
    config_file.write_text(toml_text(merged(base, over), HEADER))
    config_file.chmod(0o600)  # it holds the local providers' keys
    data = plan.data
    children = [
        _child("registry", ["--data", data / "registry", "--port", registry_port], registry_url),
        _child(
            "providers",
            ["--data", data / "providers", "--retry-share", plan.retry_share, "--seed", plan.seed,
             "--ports", f"{ports.apns},{ports.http},{ports.smtp}"],
            providers_url,
        ),
        *(_worker(role, config_file, webs[role]) for role in ROLES),
    ]  # fmt: skip
    api_url = None
    if plan.api_port is not None:
        api_url = f"http://{HOST}:{plan.api_port}"
        children.append(_worker("api", config_file, plan.api_port))
    return Stack(
        plan=plan,
        config_file=config_file,
        settings=load(config_file),
        supervisor=Supervisor(children, data / "logs", on_event),
        bootstrap=bootstrap,
        registry_url=registry_url,
        providers_url=providers_url,
        received_file=data / "providers" / "received.jsonl",
        api_url=api_url,
        web_urls={role: f"http://{HOST}:{port}" for role, port in webs.items()},
    )


def _base(config: Path | None) -> dict[str, Any]:
    """The configuration that this run starts from; paths in it hold from anywhere."""
    path = config if config is not None else default_path()
    return _with_whole_paths(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)


def _with_whole_paths(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {
        key: _with_whole_paths(value, folder)
        if isinstance(value, dict)
        else str((folder / value).absolute())
        if key.endswith("_file") and isinstance(value, str) and "${" not in value
        else value
        for key, value in table.items()
    }


def _overrides(
    plan: StackPlan, bootstrap: str, registry_url: str, ports: Ports, ledger_port: int
) -> dict[str, Any]:
    """What this run lays over the configuration."""
    known = identity(plan.data / "providers" / "identity")
    kafka: dict[str, Any] = {"bootstrap": bootstrap}
    if plan.bootstrap is None:
        kafka["replication"] = 1
    if plan.partitions is not None:
        kafka["partitions"] = plan.partitions
    providers = {
        settings.name: table_of(settings) for settings in provider_settings(known, ports, HOST)
    }
    return {
        "clock": plan.clock,
        "data_folder": str(plan.data.absolute() / "workers"),
        "internal_secret": secrets.token_hex(32),
        "kafka": kafka,
        "registry": {"url": registry_url},
        "providers": providers,
        # Lag that is looked at every quarter of a second should not be a second old.
        # The port is the ledger's, so that `flowstate explain` finds it; the others have theirs
        # from the environment.
        "engine": {"offsets_commit": "200ms", "web_port": ledger_port},
        "api": {
            "keys_file": str(plan.data.absolute() / "api-keys.json"),
            "ledger_url": f"http://{HOST}:{ledger_port}",
        },
        **(STREAM_HISTORY if plan.clock == "stream" else {}),
    }


def _kept_secret(file: Path) -> str:
    """A secret that stays the same from one run to the next."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()


def _child(name: str, options: list[object], url: str) -> Child:
    return Child(name, [*_command(name), *map(str, options)], http_ok(url))


def _worker(role: str, config_file: Path, port: int) -> Child:
    section = "API__PORT" if role == "api" else "ENGINE__WEB_PORT"
    return Child(
        role,
        [*_command("worker"), role, "--config", str(config_file)],
        http_ok(f"http://{HOST}:{port}/health/ready"),
        env={f"FLOWSTATE_{section}": str(port)},
        restart="always",
    )


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "streams.cli", name]
