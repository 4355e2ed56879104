"""Runs an app in this process until it is told to stop: uvloop, signals, exit status.

SIGTERM and SIGINT stop gracefully: runners finish what is in flight and commit while the worker
is still a member, then the group is left, so that others take over at once. Anything that goes
wrong ends the process with a status other than 0 (see ``supervisor.end_process``).

Invariant: a worker that returns 0 has committed everything it did.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

import faust
import uvloop

from streams.engine.client_logs import quiet_client_logs
from streams.engine.faust_app import EngineApp

log = logging.getLogger(__name__)

COLLECT_AFTER = (50_000, 20, 20)
"""Objects between collections, and collections between those of older generations. Cycles are few:
at Python's own 700 a deliver worker spent a tenth of its time looking for them."""
EXIT_OK = 0
EXIT_STOPPED_LATE = 3


class EngineWorker(faust.Worker):
    """Faust's worker without its logging, its spinner, and its signals."""

    def install_signal_handlers(self) -> None:
        """Signals are ours: the runners stop before the membership does."""

    def _setproctitle(self, info: str, *, ident: str = "") -> None:
        """The process keeps the name that it was started with."""


def run_worker(make_app: Callable[[], EngineApp]) -> int:
    """Runs until a signal; returns the exit status.

    The app is made on the running loop: parts of Faust take the loop that they are made on.
    """
    quiet_client_logs()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(make_app))


async def _run(make_app: Callable[[], EngineApp]) -> int:
    app = make_app()
    loop = asyncio.get_running_loop()
    worker = EngineWorker(
        app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True
    )
    worker.spinner = None
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, log_tasks)
    # Its default would end the process; a role that has something to read again takes it over.
    loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: nothing to read again")
    # Collections of the oldest generation walk every live object; state is not kept in objects.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    running = asyncio.create_task(_start(worker, app), name="faust")
    asked = asyncio.create_task(stopping.wait(), name="signals")
    await asyncio.wait({running, asked}, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        app.engine.fail(RuntimeError("Faust's worker ended by itself"))
    log.info("stopping")
    loop.call_later(app.engine.settings.shutdown_ms_max / 1000, _stopped_late)
    await app.engine.close()
    await worker.stop()
    await asyncio.gather(running, return_exceptions=True)
    log.info("stopped")
    return EXIT_OK


async def _start(worker: EngineWorker, app: EngineApp) -> None:
    try:
        await worker.start()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        app.engine.fail(error)
    reason: Any = worker.crash_reason or app.crash_reason
    if reason is not None:
        app.engine.fail(reason)


def log_tasks() -> None:
    """Says where every task waits (SIGUSR1): what to ask a worker that seems stuck."""
    for task in asyncio.all_tasks():
        text = io.StringIO()
        task.print_stack(file=text, limit=4)
        log.warning("%s", text.getvalue().rstrip())


def _stopped_late() -> None:
    log.critical("the graceful stop took too long: ends as it is")
    os._exit(EXIT_STOPPED_LATE)
