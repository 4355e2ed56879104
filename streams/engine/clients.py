"""Keyword arguments that every aiokafka client of the engine shares: servers, security, limits.

Invariant: no client is made with other servers or other credentials than these.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.codec import lz4_encode

from streams.engine import header_names, kafka_protocol
from streams.engine.settings import EngineSettings

kafka_protocol.use()
header_names.use()

LZ4_LEVEL = 1
"""aiokafka compresses at level 9, which takes 5.5 times the processor time of this one (5.4 against
1.0 ns a byte) for records that are a seventh smaller, and has no setting for it."""
lz4_encode.__defaults__ = (LZ4_LEVEL,)

_metadata_update = AIOKafkaClient._metadata_update


async def _update_or_wait(client: Any, *arguments: Any) -> bool:
    updated: bool = await _metadata_update(client, *arguments)
    if not updated:
        # A producer with records for a partition without a leader asks again as soon as it is told
        # that nobody answers: four thousand times a second while a broker that left in an orderly
        # way is away.
        await asyncio.sleep(client._retry_backoff)
    return updated


AIOKafkaClient._metadata_update = _update_or_wait


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
