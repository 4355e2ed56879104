"""Keyword arguments that every aiokafka client of the engine shares: servers, security, limits.

Invariant: no client is made with other servers or other credentials than these.
"""

from __future__ import annotations

import logging
from typing import Any

from streams.engine.settings import EngineSettings


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
    """Keeps the clients' debug records from being built at all; their warnings stay."""
    for name in ("aiokafka", "kafka", "faust", "mode"):
        logger = logging.getLogger(name)
        if logger.level in (logging.NOTSET, logging.DEBUG):
            logger.setLevel(logging.INFO)
