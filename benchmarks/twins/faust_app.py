"""What the twins in ordinary Faust share: an app with what makes Faust fast turned on."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from typing import Any

import faust
import mode.loop

COMMIT_S = 0.2
LINGER_S = 0.1


class EndingApp(faust.App):
    """Ends its process when an agent fails.

    Faust starts the agent again, past the record that it failed at: a twin that fails at each
    record would look like a slow one.
    """

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        traceback.print_exception(exc, file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


def make_app(name: str, bootstrap: str, partitions: int, folder: str) -> faust.App:
    """An app on RocksDB that takes its inputs from their beginning."""
    mode.loop.use("uvloop")
    # Faust builds a record for every message sent, whatever the level of the root logger.
    logging.disable(logging.INFO)
    return EndingApp(
        name,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://",
        datadir=folder,
        topic_partitions=partitions,
        topic_replication_factor=1,
        key_serializer="raw",
        value_serializer="raw",
        web_enabled=False,
        broker_commit_interval=COMMIT_S,
        producer_linger=LINGER_S,
        table_standby_replicas=0,
    )


def run_app(app: faust.App) -> None:
    """Runs the app's worker until a signal."""
    faust.Worker(app, loglevel="warning").execute_from_commandline()
