"""A tiny stateful role for the engine's tests, and a worker process that runs it.

State per key: how many events there were (``a``), whether it opted out (``p``), and when it is
due (``w``: 8 bytes). Every event gives one output that says the key's count after it; so outputs
and state can be checked against the input exactly.

Values of events: anything counts one; ``due:MS`` also sets the due time. Control: ``out`` opts out.
A wake gives one output ``woken`` and clears the due time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from streams.engine.api import Batch, Due, Output, Result, StateView
from streams.engine.faust_app import EngineApp
from streams.engine.roles import Lane, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.stateful import StatefulRole
from streams.engine.stateful_role import role_spec
from streams.engine.worker import run_worker
from streams.tables import TableSpec


class Names(msgspec.Struct, frozen=True):
    """Topics of one test."""

    control: str
    critical: str
    normal: str
    bulk: str
    ticks: str
    out: str
    changelog: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.control, self.ticks, self.critical, self.normal, self.bulk)


class CountingLogic:
    """Implements ``PartitionLogic``."""

    policy_version = "counting"

    def __init__(self, names: Names) -> None:
        self._names = names

    async def prepare(self, records: Sequence[Any]) -> None:
        pass

    def process(self, batch: Batch, view: StateView) -> Result:
        keys = list({record.key for record in batch.records if record.key is not None})
        wanted = [prefix + key for key in keys for prefix in (b"a", b"p", b"w")]
        state = dict(zip(wanted, view.get_many(wanted), strict=True))
        changed: dict[bytes, bytes | None] = {}
        result = Result()
        for record in batch.records:
            if record.topic == self._names.ticks:
                continue
            self._apply(record, state, changed, result, batch)
        result.changes = changed
        return result

    def _apply(
        self,
        record: Any,
        state: dict[bytes, bytes | None],
        changed: dict[bytes, bytes | None],
        result: Result,
        batch: Batch,
    ) -> None:
        key = record.key
        if record.topic == self._names.control:
            state[b"p" + key] = changed[b"p" + key] = record.value
            if record.offset < batch.read_again.get(record.topic, 0):
                changed[b"again:" + key] = b"yes"
            return
        if state[b"p" + key] == b"out":
            result.outputs.append(Output(self._names.out, key, b"suppressed"))
            return
        count = int(state[b"a" + key] or b"0") + 1
        state[b"a" + key] = changed[b"a" + key] = b"%d" % count
        value = b"count:%d:%s:%d:%d" % (
            count, record.topic.encode(), record.offset, batch.now_ms,
        )  # fmt: skip
        result.outputs.append(Output(self._names.out, key, value))
        if record.value and record.value.startswith(b"due:"):
            due_ms = int(record.value[4:])
            old = state[b"w" + key]
            state[b"w" + key] = changed[b"w" + key] = due_ms.to_bytes(8, "big")
            old_ms = None if old is None else int.from_bytes(old, "big")
            result.due.append(Due(key, old_ms, due_ms))

    def wake(
        self,
        partition: int,
        due: Sequence[tuple[int, bytes]],
        now_ms: int,
        view: StateView,
        stream_time: bool,
    ) -> Result:
        result = Result()
        states = view.get_many([b"w" + owner for _, owner in due])
        for (due_ms, owner), state in zip(due, states, strict=True):
            if state is not None and int.from_bytes(state, "big") == due_ms:
                result.outputs.append(Output(self._names.out, owner, b"woken:%d" % due_ms))
                result.changes[b"w" + owner] = None
            result.due.append(Due(owner, due_ms, None))
        return result

    def due_of(self, key: bytes, value: bytes | None) -> Due | None:
        if not key.startswith(b"w"):
            return None
        return Due(key[1:], None, None if value is None else int.from_bytes(value, "big"))

    def clock_after(self, batch: Batch) -> int:
        times = [int(record.timestamp) for record in batch.records]
        return max([batch.now_ms, *times])


def counting_role(names: Names, settings: EngineSettings) -> RoleSpec:
    """The role of this file on the topics of a test."""
    role = StatefulRole(
        name="decide",
        control=Lane("control", (names.control, names.ticks), settings.control_records_max, True),
        events=(
            Lane("critical", (names.critical,), settings.critical_records_max, True),
            Lane(
                "normal",
                (names.normal,),
                settings.batch_records_max,
                at_once_max=settings.normal_partitions_max,
                backlog_records_max=settings.backlog_records_max,
                backlog_ms_max=settings.backlog_batch_ms_max,
            ),
            Lane(
                "bulk",
                (names.bulk,),
                settings.bulk_records_max,
                holds_timers=False,
                at_once_max=settings.bulk_partitions_max,
                backlog_records_max=settings.backlog_records_max,
                backlog_ms_max=settings.backlog_batch_ms_max,
            ),
        ),
        table=TableSpec("state", names.changelog, "decide", ()),
        logic_factory=lambda _: CountingLogic(names),
        ticks=names.ticks,
    )
    return role_spec(role, settings)


class WorkerArguments(msgspec.Struct, frozen=True):
    """What a worker process is started with, as JSON."""

    names: Names
    settings: EngineSettings


def main() -> None:
    """Runs a worker until it is told to stop; the JSON of ``WorkerArguments`` is argument 1."""
    import logging

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    arguments = msgspec.json.decode(sys.argv[1], type=WorkerArguments)
    role = counting_role(arguments.names, arguments.settings)
    sys.exit(run_worker(lambda: EngineApp(role, arguments.settings)))


if __name__ == "__main__":
    main()
