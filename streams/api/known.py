"""What an id that comes back from outside is about: only what the ledger knows is believed.

A provider's callback names a delivery, an app's receipt a notification. The ledger says whose it
is; an id that it does not know makes no record, so nobody can fill a topic by making ids up. A
callback can overtake the ledger by a moment, so an unknown id is asked for again until
``ledger_wait_ms_max``.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote

import msgspec

from streams.api.settings import ApiSettings
from streams.api.state_client import StateClient
from streams.core.ids import partition_of

ASK_AGAIN_MS = 150


class KnownDelivery(msgspec.Struct, frozen=True):
    """What the ledger knows of an id."""

    recipient_id: str
    notification_id: str
    event_id: str | None
    delivery_id: str | None = None
    destination_id: str | None = None


class _Sent(msgspec.Struct):
    delivery_id: str
    destination_id: str


class _Entry(msgspec.Struct):
    deliveries: list[_Sent] = []


class _Trace(msgspec.Struct):
    """The part of the ledger's ``Trace`` that matters here."""

    subject_id: str
    recipient_id: str
    event_id: str | None = None
    entries: list[_Entry] = []
    outcomes: list[_Sent] = []


class Known:
    """Looks ids up."""

    def __init__(self, settings: ApiSettings, states: StateClient, partitions: int) -> None:
        self._settings = settings
        self._states = states
        self._partitions = partitions

    async def by_id(self, public_id: str, wait: bool = True) -> KnownDelivery | None:
        """Of a delivery, notification or digest id; ``None`` when the ledger knows none.

        Raises ``ProblemError`` (503) when the ledger does not answer.
        """
        public_id = public_id.replace("-", "").lower()
        try:
            partition = partition_of(public_id)
        except ValueError:
            return None
        if partition >= self._partitions:
            return None
        return await self._asked(partition, f"/v1/notifications/{public_id}", public_id, wait)

    async def by_event(
        self, recipient_id: str, event_id: str, wait: bool = True
    ) -> KnownDelivery | None:
        """Of an event of a recipient."""
        path = f"/v1/events/{quote(recipient_id, safe='')}/{quote(event_id, safe='')}"
        return await self._asked(self._states.partition(recipient_id), path, "", wait)

    async def _asked(
        self, partition: int, path: str, public_id: str, wait: bool
    ) -> KnownDelivery | None:
        deadline = time.monotonic() + (self._settings.ledger_wait_ms_max / 1000 if wait else 0)
        while True:
            said = await self._states.of_ledger(partition, path)
            if said.status == 200:
                return _of(msgspec.json.decode(said.body, type=_Trace), public_id)
            if said.status != 404 or time.monotonic() >= deadline:
                return None
            await asyncio.sleep(ASK_AGAIN_MS / 1000)


def _of(trace: _Trace, public_id: str) -> KnownDelivery:
    sent = [*trace.outcomes, *(one for entry in trace.entries for one in entry.deliveries)]
    one = next((one for one in sent if one.delivery_id == public_id), None)
    return KnownDelivery(
        trace.recipient_id,
        trace.subject_id,
        trace.event_id,
        one.delivery_id if one else None,
        one.destination_id if one else None,
    )
