"""The small records that the API writes beside events: receipts, cancellations, destinations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streams import topics
from streams.api.problems import refuse
from streams.api.settings import ApiSettings
from streams.codec import Codec
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.engine.settings import EngineSettings
from streams.partitioning import partition_for

TOPICS = {
    "receipt": topics.RECEIPTS,
    "cancellation": topics.CANCELLATIONS,
    "destination": topics.DESTINATIONS,
}


class Records:
    """Encodes and writes them."""

    def __init__(
        self, settings: ApiSettings, engine: EngineSettings, codec: Codec, log: LogWriter
    ) -> None:
        self._settings = settings
        self._partitions = engine.partitions
        self._codec = codec
        self._log = log

    async def write(self, record_name: str, mappings: Sequence[Mapping[str, Any]]) -> list[Placed]:
        """Writes records of one type, each keyed by its recipient. Raises 503."""
        records = []
        for mapping in mappings:
            key = str(mapping["recipient_id"]).encode()
            value = self._codec.encode(record_name, mapping)
            partition = partition_for(key, self._partitions)
            records.append(OutRecord(TOPICS[record_name], partition, key, value))
        written = await self._log.write(records)
        places = [place for place in written if isinstance(place, Placed)]
        if len(places) < len(records):
            raise refuse(
                "unavailable",
                "Kafka did not acknowledge it: send it again.",
                retry_after_s=self._settings.retry_after_s,
            )
        return places
