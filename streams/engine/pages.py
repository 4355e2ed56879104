"""Pages on every worker: is it alive, is it ready, what does it count, what does it own.

``/health/live`` answers while the event loop turns (the watchdog ends a worker that is alive and
does nothing). ``/health/ready`` is 200 when every owned partition has been restored. ``/metrics``
is for Prometheus, ``/engine`` for people.

Invariant: no page says anything of a recipient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.engine.faust_app import EngineApp

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


def describe(app: EngineApp) -> dict[str, Any]:
    """What this worker is and owns."""
    supervisor = app.engine.supervisor
    return {
        "role": app.role.name,
        "ready": app.engine.ready(),
        "partitions": {
            str(number): "running" if seat.running else "starting"
            for number, seat in sorted(supervisor.seats.items())
        },
        "standbys": sorted(supervisor.standbys),
    }
