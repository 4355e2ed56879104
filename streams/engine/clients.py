"""Keyword arguments that every aiokafka client of the engine shares: servers, security, limits.

Invariant: no client is made with other servers or other credentials than these.
"""

from __future__ import annotations

import logging
from typing import Any

from aiokafka.codec import lz4_encode

from streams.engine.settings import EngineSettings

LZ4_LEVEL = 1
"""aiokafka compresses at level 9, which takes 5.5 times the processor time of this one (5.4 against
1.0 ns a byte) for records that are a seventh smaller, and has no setting for it."""
lz4_encode.__defaults__ = (LZ4_LEVEL,)


def client_settings(settings: EngineSettings, purpose: str) -> dict[str, Any]:
    """Arguments for a consumer, producer or admin client; ``purpose`` shows in the broker's log."""
    worker = settings.worker_name or "worker"
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": f"{settings.application}-{worker}-{purpose}",
        "request_timeout_ms": settings.request_timeout_ms,
        "metadata_max_age_ms": settings.metadata_max_age_ms,
        **settings.security,
    }


def compression_of(settings: EngineSettings) -> str | None:
    """Compression as aiokafka's producer wants it named."""
    return None if settings.compression == "none" else settings.compression


def quiet_client_logs() -> None:
    """Keeps the libraries' debug and progress records from being built at all; warnings stay.

    Faust builds a record for every message sent, whatever the level of the root logger.
    """
    for name in ("aiokafka", "faust", "mode", "streams.engine.faust_app", "streams.engine.group"):
        logging.getLogger(name).setLevel(logging.WARNING)
