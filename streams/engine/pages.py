"""Pages on every worker: is it alive, is it ready, what does it count, what does it own.

``/health/live`` answers while the event loop turns (the watchdog ends a worker that is alive and
does nothing). ``/health/ready`` is 200 when every owned partition has been restored. ``/metrics``
is for Prometheus, ``/engine`` for people.

Invariant: no page says anything of a recipient.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

from streams.engine.roles import status_of

if TYPE_CHECKING:
    from streams.engine.faust_app import EngineApp
    from streams.engine.supervisor import Seat

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def add_pages(app: EngineApp) -> None:
    """Adds the engine's pages to the app's web server."""

    @app.page("/health/live")
    async def live(web: Any, request: Any) -> Any:
        return web.text("alive\n")

    @app.page("/health/ready")
    async def ready(web: Any, request: Any) -> Any:
        is_ready = app.engine.ready()
        return web.text("ready\n" if is_ready else "not ready\n", status=200 if is_ready else 503)

    @app.page("/metrics")
    async def metrics(web: Any, request: Any) -> Any:
        text = app.engine.worker.metrics.text()
        return web.bytes(text, content_type="text/plain")

    @app.page("/engine")
    async def engine(web: Any, request: Any) -> Any:
        return web.json(describe(app))


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One partition as a worker has it."""

    partition: int
    is_standby: bool
    state: str
    lag: dict[str, int] = {}
    """Lane -> records that it has still to read."""
    state_bytes: int | None = None
    restored: int | None = None
    restore_end: int | None = None


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``/engine``: what a worker is, owns and keeps warm."""

    role: str
    ready: bool
    partitions: dict[str, str] = {}
    standbys: list[int] = []
    details: list[PartitionStatus] = []
    process_id: int = 0


def describe(app: EngineApp) -> dict[str, Any]:
    """What this worker is and owns (``WorkerStatus``)."""
    supervisor = app.engine.supervisor
    seats = [(seat, False) for seat in supervisor.seats.values()]
    seats += [(seat, True) for seat in supervisor.standbys.values()]
    details = [_status(app, seat, is_standby) for seat, is_standby in seats]
    return {
        "role": app.role.name,
        "ready": app.engine.ready(),
        "partitions": {
            str(number): "running" if seat.running else "starting"
            for number, seat in sorted(supervisor.seats.items())
        },
        "standbys": sorted(supervisor.standbys),
        "details": [msgspec.to_builtins(one) for one in details],
        "process_id": os.getpid(),
    }


def _status(app: EngineApp, seat: Seat, is_standby: bool) -> PartitionStatus:
    said = status_of(seat.runner)
    lanes = () if is_standby else app.role.lanes
    ordinary = "standby" if is_standby else "running"
    return PartitionStatus(
        partition=seat.partition,
        is_standby=is_standby,
        state=(said.state or ordinary) if seat.running else (said.state or "starting"),
        lag={lane.name: seat.context.lag(lane.topics) for lane in lanes},
        state_bytes=said.state_bytes,
        restored=said.restored,
        restore_end=said.restore_end,
    )
