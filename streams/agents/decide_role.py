"""The decide role as the engine runs it: which lanes, in which order, over which table.

Control topics are drained before any event. Critical, normal and bulk follow, each with its own
cap, so that critical waits for one batch at most, and with a larger one while nothing critical
comes; bulk holds no timer back and is taken in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streams import tables, topics
from streams.agents.decide import DecideLogic
from streams.engine.roles import Follow, Lane, RoleSpec, WorkerService
from streams.engine.settings import EngineSettings
from streams.engine.stateful import StatefulRole
from streams.engine.stateful_role import role_spec


def decide_role(
    engine: EngineSettings,
    logic: DecideLogic,
    services: Sequence[WorkerService] = (),
    on_app: Callable[[Any], None] | None = None,
) -> RoleSpec:
    """What the engine must know to run ``logic`` over every partition it owns."""
    backlog = engine.backlog_records_max
    role = StatefulRole(
        name="decide",
        control=Lane("control", topics.CONTROL, engine.control_records_max, urgent=True),
        events=(
            Lane("critical", (topics.EVENTS_CRITICAL,), engine.critical_records_max, urgent=True),
            Lane(
                "normal", (topics.EVENTS_NORMAL,), engine.batch_records_max,
                at_once_max=engine.normal_partitions_max, backlog_records_max=backlog,
                backlog_ms_max=engine.backlog_batch_ms_max,
            ),
            Lane(
                "bulk", (topics.EVENTS_BULK,), engine.bulk_records_max,
                holds_timers=False, at_once_max=engine.bulk_partitions_max,
                rest_share=engine.bulk_rest_share, batch_ms_max=engine.bulk_batch_ms_max,
                backlog_records_max=backlog, backlog_ms_max=engine.backlog_batch_ms_max,
            ),
        ),
        table=tables.STATE,
        logic_factory=lambda _partition: logic,
        ticks=topics.TICKS,
        writes=(*topics.DELIVERIES, topics.DECISIONS, topics.DEAD_LETTERS),
        # What came in on a wrong partition goes on to the right one, as claims on addresses do.
        writes_anywhere=(*topics.EVENTS, *(one for one in topics.CONTROL if one != topics.TICKS)),
        not_again=(topics.FEEDBACK,),
    )  # fmt: skip
    return role_spec(
        role,
        engine,
        follows=(Follow(topics.KILL_SWITCH, logic.on_kill_switch),),
        services=services,
        topic_specs=topics.SPECS,
        on_app=on_app,
        clock_topic=topics.TICKS,
    )
