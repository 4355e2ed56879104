"""The Faust app of a role: membership, assignment, tables as declarations, pages, worker.

What Faust decides: who owns which partition, who keeps which copy warm, who answers for which key.
What it does not do here: fetch, restore, write state, produce, commit. Each override says which
part of Faust it stands in for.

Invariant: nothing is owned before ``Engine.start`` has returned; the engine hears of every
revocation before the group goes on.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
from aiokafka import TopicPartition
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager

from streams.engine.engine import Engine
from streams.engine.group import Assignor, GroupConsumer, GroupTransport
from streams.engine.pages import add_pages
from streams.engine.roles import Committed, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.shared_commits import SharedCommits
from streams.engine.steps import StepAgent

log = logging.getLogger(__name__)


class CannotStart(Exception):  # noqa: N818 (a state, named for what it is)
    """A key of the configuration cannot work on this machine: which, why, and what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


class EngineBoot(BootStrategy):
    """Faust without its producer: nothing is produced through it."""

    enable_kafka_producer = False


class EngineTables(TableManager):
    """Stands in for Faust's recovery: assignments go to the engine, which restores by itself."""

    app: EngineApp

    async def on_start(self) -> None:
        """Starts the engine, then lets the consumer subscribe."""
        try:
            await self.app.engine.start()
        except Exception as error:
            self.app.engine.fail(error)
        self._tables_finalized.set()
        for table in self.values():
            self.app.topics.add(table.changelog_topic)
        self._tables_registered.set()

    async def on_stop(self) -> None:
        """Stops the engine, if nobody did before."""
        await self.app.engine.close()

    async def wait_until_recovery_completed(self) -> bool:
        """Faust's recovery is not used: the web server starts at once, and says when not ready."""
        return False

    def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """The engine hears of it through the app's signal, which can wait."""

    async def on_rebalance(
        self,
        assigned: set[Any],
        revoked: set[Any],
        newly_assigned: set[Any],
        generation_id: int = 0,
    ) -> None:
        """Tells the engine what this worker owns now."""
        self._recovery_started.set()
        app = self.app
        app.on_engine_assigned(assigned)
        await app.engine.supervisor.assigned(app.owned(assigned), app.kept_warm())
        app.flow_control.resume()
        app.consumer.resume_flow()
        self.on_actives_ready()
        self.on_standbys_ready()


class EngineApp(faust.App):
    """A Faust app that hands its partitions to an engine. Implements ``Membership``."""

    BootStrategy = EngineBoot

    def __init__(self, role: RoleSpec, settings: EngineSettings) -> None:
        self.role = role
        """Raises ``CannotStart`` for a port that is taken, and a folder that cannot be made."""
        if settings.web_enabled:
            _check_port(settings.web_host, settings.web_port)
        port = settings.web_port or _free_port(settings.web_host)
        folder = Path(settings.data_folder) / role.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"data_folder: {folder} cannot be made: {error.strerror}") from error
        super().__init__(
            f"{settings.application}-{role.name}",
            broker=f"kafka://{settings.bootstrap.split(',')[0]}",
            datadir=folder / "faust",
            store="memory://",
            TableManager=EngineTables,
            PartitionAssignor=Assignor,
            key_serializer="raw",
            value_serializer="raw",
            topic_partitions=settings.partitions,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=settings.standby_replicas,
            stream_wait_empty=False,
            broker_session_timeout=settings.session_timeout_ms / 1000,
            broker_heartbeat_interval=settings.heartbeat_ms / 1000,
            broker_request_timeout=settings.request_timeout_ms / 1000,
            producer_request_timeout=settings.request_timeout_ms / 1000,
            web_enabled=settings.web_enabled,
            web_host=settings.web_host,
            web_bind=settings.web_host,
            web_port=port,
            canonical_url=settings.advertised_url or f"http://{settings.web_host}:{port}",
            worker_redirect_stdouts=False,
            autodiscover=False,
        )
        self._commits = SharedCommits(self._commit_now)
        self.engine = Engine(role, settings, self)
        self._declare()
        self.on_partitions_revoked.connect(self._hand_back)
        add_pages(self)
        if role.on_app is not None:
            role.on_app(self)

    def _declare(self) -> None:
        """Subscribes the role's topics, and its table's changelog as Faust wants it declared."""
        for name in self.role.topics:
            self.topics.add(self.topic(name, key_type=bytes, value_type=bytes, acks=False))
        table = self.role.table
        if table is not None:
            self.engine.worker.step = StepAgent(self, self.role.name)
            self.Table(
                table.name,
                partitions=self.engine.settings.partitions,
                key_type=bytes,
                value_type=bytes,
                changelog_topic=self.topic(
                    table.changelog, key_type=bytes, value_type=bytes, acks=False
                ),
            )

    def _new_transport(self) -> GroupTransport:
        return GroupTransport(self.conf.broker_consumer, self)

    def on_rebalance_return(self) -> None:
        """Faust ends a rebalance when its recovery does; ours goes on beside it."""
        super().on_rebalance_return()
        self.on_rebalance_end()

    # -- assignment

    def owned(self, assigned: set[Any]) -> set[int]:
        """Partition numbers of the role's input topics among ``assigned``."""
        inputs = set(self.role.topics)
        return {tp.partition for tp in assigned if tp.topic in inputs}

    def kept_warm(self) -> set[int]:
        """Partition numbers whose changelog this worker follows."""
        table = self.role.table
        if table is None:
            return set()
        standbys = self.assignor.assigned_standbys()
        return {tp.partition for tp in standbys if tp.topic == table.changelog}

    def on_engine_assigned(self, assigned: set[Any]) -> None:
        """The group has answered; an empty answer counts."""
        self.engine.joined = True

    async def _hand_back(self, *_: Any, **__: Any) -> None:
        await self.engine.supervisor.revoked()

    # -- Membership

    @property
    def _group(self) -> GroupConsumer:
        assert isinstance(self.consumer, GroupConsumer)
        return self.consumer

    async def committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Positions in the group."""
        return await self._group.member.committed_positions(partitions)

    async def commit_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Commits with this member's generation; raises ``Fenced`` when it is over."""
        await self._commits.commit(positions)

    async def _commit_now(self, positions: Mapping[TopicPartition, Committed]) -> None:
        await self._group.member.commit_positions(positions)


def _check_port(host: str, port: int) -> None:
    """Binds the port as the web server will, which would only say why not in a traceback."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
    except OSError as error:
        why = f"the worker cannot listen on {host}, port {port}: {error.strerror}"
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise CannotStart(f"engine.web_host: {why}") from error
        raise CannotStart(
            f"engine.web_port: {why}",
            "Workers on one machine have a port each, such as FLOWSTATE_ENGINE__WEB_PORT=6067 in"
            " the environment of this one.",
        ) from error


def _free_port(host: str) -> int:
    """A port that nobody listens on now; others must be told it before the server binds it."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
