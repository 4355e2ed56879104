"""The record of looks: who looked at whose history, when, and at what.

Every page and operation that shows something of one person calls ``note`` before it answers. The
record is acknowledged by Kafka first, or nothing is shown: a look that leaves no trace would be
the one that matters. Records are kept for the topic's retention;
``flowstate tail looks --recipient ID`` shows those of one person.

Invariants: a record holds the key's id and never the key, the keyed hash of a recipient and never
the id; what could not be recorded is not shown.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from streams import topics
from streams.codec import Codec
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.engine.settings import EngineSettings
from streams.partitioning import partition_for
from streams.privacy import PrivacySettings, Pseudonyms

log = logging.getLogger(__name__)
ACK_MS_MAX = 2_000
OPEN = "open"
"""Stands for whoever asks while no keys are configured, as ``OPEN_KEY`` of the API does."""


class Look(msgspec.Struct, frozen=True):
    """One look, as ``schemas/look.avsc`` has it."""

    at_ms: int
    who: str
    what: str
    recipient_hash: str
    subject_id: str | None = None
    revealed: bool = False


class LookNotRecorded(Exception):  # noqa: N818 (a state, named for what happened)
    """The look could not be recorded, so what was asked for must not be shown: answer 503."""


class LookLog(Protocol):
    """Takes looks; the real one is ``Looks``."""

    async def note(
        self,
        who: str,
        what: str,
        recipient_id: str,
        *,
        subject_id: str | None = None,
        revealed: bool = False,
    ) -> None:
        """Records a look. Raises ``LookNotRecorded``."""


class Looks:
    """Writes looks to their topic. Implements ``LookLog`` and ``WorkerService``."""

    def __init__(
        self,
        engine: EngineSettings,
        privacy: PrivacySettings,
        codec: Codec,
        *,
        writer: LogWriter | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``writer``: one that its owner starts and stops; else it has one of its own."""
        self._partitions = engine.partitions
        self._pseudonyms = Pseudonyms(privacy)
        self._codec = codec
        self._now_ms = now_ms
        self._is_own = writer is None
        self._writer = writer or LogWriter(engine, [topics.LOOKS], "looks", ack_ms_max=ACK_MS_MAX)

    async def start(self) -> None:
        """Connects. Raises ``TopicsWrong``."""
        if self._is_own:
            await self._writer.start()

    async def stop(self) -> None:
        """Waits for what is on its way and disconnects."""
        if self._is_own:
            await self._writer.stop()

    async def note(
        self,
        who: str,
        what: str,
        recipient_id: str,
        *,
        subject_id: str | None = None,
        revealed: bool = False,
    ) -> None:
        """Records a look, acknowledged. Raises ``LookNotRecorded``."""
        name = self._pseudonyms.of(recipient_id).hex()
        look = Look(self._now_ms(), who, what, name, subject_id, revealed)
        key = name.encode()
        record = OutRecord(
            topics.LOOKS,
            partition_for(key, self._partitions),
            key,
            self._codec.encode("look", msgspec.structs.asdict(look)),
        )
        (place,) = await self._writer.write([record])
        if not isinstance(place, Placed):
            log.warning("a look could not be recorded, so it was refused: %s", place.reason)
            raise LookNotRecorded(place.reason)
