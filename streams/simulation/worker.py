"""One simulated worker process of a role: the product's runners under the product's supervisor."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import msgspec
from aiokafka.errors import KafkaError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streams.agents.decide import DecideLogic
from streams.agents.decide_role import decide_role
from streams.agents.deliver import deliver_role
from streams.codec import Codec
from streams.core.policy import Policy
from streams.engine.context import WorkerParts
from streams.engine.follower import Followers
from streams.engine.roles import Fenced, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.supervisor import Supervisor
from streams.simulation.chaos import SimKilled
from streams.simulation.group import Group, Membership
from streams.simulation.loop import Process
from streams.sinks import settings as s

EXPECTED = (Fenced, KafkaError)
"""What may end a worker: another owner, or a cluster that does not answer. All else is a bug."""


class WorkerPlan(msgspec.Struct, frozen=True):
    """What all workers of a simulation have in common."""

    codec: Codec
    policy: Policy
    engine: EngineSettings
    deliver: s.DeliverSettings


@functools.cache
def signing_key() -> str:
    """A key for APNs' tokens, made once."""
    return (
        ec.derive_private_key(7, ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def provider_settings() -> tuple[s.AnyProvider, ...]:
    """One provider of each kind that people here have addresses of."""
    breaker = s.BreakerSettings(failures_min=6, open_ms=1_000, open_ms_max=4_000)
    return (
        s.ApnsSettings(
            team_id="T", key_id="K", apns_topic="t", private_key_pem=signing_key(), breaker=breaker
        ),
        s.TwilioSettings(
            account_sid="A", auth_token="t", sender="+12025550100",  # noqa: S106
            status_callback_url="https://example.test/status", breaker=breaker,
        ),
        s.SmtpSettings(breaker=breaker),
        s.WebhookSettings(secrets=("whsec_" + "MDEy" * 8,), breaker=breaker),
    )  # fmt: skip


class Worker:
    """See the module's text. A restart is another ``Worker`` of the same name."""

    def __init__(self, role: str, name: str, plan: WorkerPlan, group: Group) -> None:
        self.role = role
        self.name = name
        self.process = Process(name)
        self.failure: BaseException | None = None
        self._plan = plan
        self._group = group
        self._supervisor: Supervisor | None = None
        self._parts: WorkerParts | None = None

    @property
    def supervisor(self) -> Supervisor:
        assert self._supervisor is not None, "started"
        return self._supervisor

    def _role(self, engine: EngineSettings) -> RoleSpec:
        plan = self._plan
        if self.role == "decide":
            return decide_role(engine, DecideLogic(plan.codec, plan.policy, engine.partitions))
        return deliver_role(plan.deliver, plan.codec)

    async def start(self, membership: Membership) -> None:
        """As ``engine.Engine.start`` does it, without what belongs to a machine."""
        engine = msgspec.structs.replace(
            self._plan.engine, worker_name=self.name, data_folder=f"/{self.name}"
        )
        try:
            role = self._role(engine)
            membership.worker = self
            self._parts = parts = WorkerParts(role, engine, membership, self.failed)
            self._supervisor = Supervisor(role, engine, parts)
            self._supervisor.on_failure = self.failed
            await parts.start()
            await Followers(role.follows, engine, self.failed).start()
            for service in role.services:
                await service.start()
        except Exception as error:
            self.failed(error)
            return
        self._group.join(self)

    async def take_over(self, actives: Sequence[int], standbys: Sequence[int]) -> None:
        """The group gave it these partitions. A share that is already another is given back."""
        try:
            await self.supervisor.revoked()
            await self.supervisor.assigned(actives, standbys)
        except Exception as error:
            self.failed(error)

    async def give_back(self) -> None:
        """A rebalance begins."""
        try:
            await self.supervisor.revoked()
        except Exception as error:
            self.failed(error)

    async def stop(self) -> None:
        """SIGTERM: the runners finish, then the group is left."""
        try:
            await self.supervisor.close()
        except Exception as error:
            self.failed(error)
        self._group.leave(self)
        self.process.alive = False

    def failed(self, error: BaseException) -> None:
        """What ends a real worker's process ends this one."""
        if not self.process.alive:
            return
        if not isinstance(error, SimKilled):
            self.failure = error
        self.process.alive = False

    @property
    def failed_badly(self) -> bool:
        """Whether it ended for a reason that is no reason to end."""
        return self.failure is not None and not isinstance(self.failure, EXPECTED)
