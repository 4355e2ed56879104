"""The thin job on the product's engine, as a worker process; argument 1 is JSON of its settings."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from benchmarks.thin_rules import EVENTS, apply, decode_state, encode_state
from streams.engine.api import Batch, Due, Output, Result, StateView
from streams.engine.faust_app import EngineApp
from streams.engine.roles import Lane, RoleSpec
from streams.engine.settings import EngineSettings
from streams.engine.stateful import StatefulRole
from streams.engine.stateful_role import role_spec
from streams.engine.worker import run_worker
from streams.tables import TableSpec

APPLICATION, ROLE = "thin", "job"
GROUP = f"{APPLICATION}-{ROLE}"
CONTROL, TICKS = "thin.control", "thin.ticks"
DELIVERIES, CHANGELOG = "thin.deliveries", "thin.changelog"
TOPICS = (EVENTS, CONTROL, TICKS, DELIVERIES, CHANGELOG)


class ThinLogic:
    """Implements ``PartitionLogic``."""

    async def prepare(self, records: Sequence[Any]) -> None:
        """Nothing is needed from outside."""

    def process(self, batch: Batch, view: StateView) -> Result:
        """One read and one write per recipient, however many events."""
        keys = list({record.key for record in batch.records})
        values = view.get_many(keys)
        states = {key: decode_state(value) for key, value in zip(keys, values, strict=True)}
        result, changed = Result(), set()
        for record in batch.records:
            key = record.key
            is_changed, delivery = apply(record.value, states[key])
            if is_changed:
                changed.add(key)
            if delivery is not None:
                result.outputs.append(Output(DELIVERIES, key, delivery))
        result.changes = {key: encode_state(states[key]) for key in changed}
        return result

    def wake(
        self,
        partition: int,
        due: Sequence[tuple[int, bytes]],
        now_ms: int,
        view: StateView,
        stream_time: bool,
    ) -> Result:
        """Nothing is ever due."""
        return Result()

    def due_of(self, key: bytes, value: bytes | None) -> Due | None:
        """Nothing is ever due."""
        return None

    def clock_after(self, batch: Batch) -> int:
        """Wall time is enough."""
        return batch.now_ms


def role(settings: EngineSettings) -> RoleSpec:
    """What the engine runs."""
    return role_spec(
        StatefulRole(
            name=ROLE,
            control=Lane("control", (CONTROL, TICKS), settings.control_records_max, urgent=True),
            events=(Lane("normal", (EVENTS,), settings.batch_records_max),),
            table=TableSpec("state", CHANGELOG, ROLE, ()),
            logic_factory=lambda _: ThinLogic(),
            ticks=TICKS,
        ),
        settings,
    )


def main() -> None:
    """Runs a worker until a signal."""
    logging.basicConfig(level=logging.INFO)
    settings = msgspec.json.decode(sys.argv[1], type=EngineSettings)
    sys.exit(run_worker(lambda: EngineApp(role(settings), settings)))


if __name__ == "__main__":
    main()
