"""Turns a stateful role into a ``RoleSpec``: runners, standbys, turns.

Invariant: the turns of a lane with ``at_once_max`` are shared by all partitions of one worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streams.engine.context import Context
from streams.engine.order import Turns
from streams.engine.partition import StatefulRunner
from streams.engine.roles import Follow, PartitionContext, RoleSpec, WorkerService
from streams.engine.settings import EngineSettings
from streams.engine.standby import StandbyRunner
from streams.engine.stateful import StatefulRole
from streams.topics import TopicSpec


def role_spec(
    role: StatefulRole,
    settings: EngineSettings,
    *,
    follows: Sequence[Follow] = (),
    services: Sequence[WorkerService] = (),
    topic_specs: Sequence[TopicSpec] = (),
    on_app: Callable[[Any], None] | None = None,
    clock_topic: str = "",
) -> RoleSpec:
    """What the engine runs for a stateful role."""
    turns = {lane.name: Turns(lane) for lane in role.events if lane.at_once_max is not None}

    def runner(partition: int, context: PartitionContext) -> StatefulRunner:
        assert isinstance(context, Context)
        return StatefulRunner(context, role, turns)

    def standby(partition: int, context: PartitionContext) -> StandbyRunner:
        assert isinstance(context, Context)
        return StandbyRunner(context, role)

    return RoleSpec(
        name=role.name,
        lanes=role.lanes,
        runner_factory=runner,
        table=role.table,
        standby_factory=standby,
        follows=tuple(follows),
        services=tuple(services),
        topic_specs=tuple(topic_specs),
        on_app=on_app,
        clock_topic=clock_topic,
    )
