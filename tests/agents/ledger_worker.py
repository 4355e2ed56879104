"""Runs one ledger worker as a process; the JSON of ``EngineSettings`` is argument 1."""

from __future__ import annotations

import logging
import sys

import msgspec

from streams.agents.ledger import ledger_role
from streams.codec import Codec
from streams.engine.faust_app import EngineApp
from streams.engine.settings import EngineSettings
from streams.engine.worker import run_worker
from streams.ledger.settings import LedgerSettings
from streams.privacy import PrivacySettings

SETTINGS = LedgerSettings(
    records_max=200, take_timeout_ms=100, commit_ms=100, sync_ms=200, owners_cached_ms=100
)

if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    engine = msgspec.json.decode(sys.argv[1], type=EngineSettings)
    role = ledger_role(SETTINGS, engine, Codec(), PrivacySettings())
    sys.exit(run_worker(lambda: EngineApp(role, engine)))
