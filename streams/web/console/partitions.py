"""Partitions: for each role and partition its owner, lag, state size, restore, and standbys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.engine.pages import PartitionStatus
from streams.web.console.fleet import ROLES, Fleet, FleetStatus, Worker
from streams.web.console.page import Page, Visit


class StandbyDocument(msgspec.Struct, frozen=True):
    """A warm copy."""

    worker: str
    restored: int | None
    behind: int | None
    """Changelog offsets that it has still to read."""
    state_bytes: int | None


class PartitionDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one role."""

    role: str
    partition: int
    owner: str | None
    """Address of the worker that has it; ``None`` when nobody says so."""
    state: str
    """``running``, ``restoring``, ``catching up``, ``no owner``, ``silent``, ..."""
    lag: int | None
    lag_by_lane: dict[str, int] = {}
    state_bytes: int | None = None
    restored: int | None = None
    restore_end: int | None = None
    standbys: list[StandbyDocument] = []

    @property
    def restore_percent(self) -> int | None:
        """How far a restore is; ``None`` when there is none under way."""
        if self.state != "restoring" or not self.restore_end:
            return None
        return min(100, 100 * (self.restored or 0) // self.restore_end)


class WorkerDocument(msgspec.Struct, frozen=True):
    """One worker."""

    role: str
    url: str
    answers: bool
    ready: bool
    partitions: int
    standbys: int


class PartitionsDocument(msgspec.Struct, frozen=True):
    """All of it."""

    at_ms: int
    workers: list[WorkerDocument]
    partitions: list[PartitionDocument]


class PartitionPages:
    """The page."""

    def __init__(self, fleet: Fleet, partitions: int) -> None:
        self._fleet = fleet
        self._partitions = partitions

    def pages(self) -> list[Page]:
        """Its pages."""
        return [
            Page(
                path="/partitions",
                operation="partitions",
                title="Partitions",
                doc="Every partition of every role: owner, lag, state, restore, standbys.",
                template="partitions.html",
                document=PartitionsDocument,
                load=self.load,
                rows=rows,
                is_live=True,
                in_navigation=True,
            )
        ]

    async def load(self, visit: Visit) -> PartitionsDocument:
        """As of a moment ago."""
        return document_of(await self._fleet.status(), self._partitions)


def document_of(fleet: FleetStatus, partitions: int) -> PartitionsDocument:
    """What the workers said, by partition. Pure."""
    workers = [
        WorkerDocument(
            worker.role,
            worker.url,
            worker.status is not None,
            worker.status is not None and worker.status.ready,
            sum(not one.is_standby for one in _details(worker)),
            sum(one.is_standby for one in _details(worker)),
        )
        for worker in fleet.workers
    ]
    found = [
        _partition(role, number, fleet.of(role)) for role in ROLES for number in range(partitions)
    ]
    return PartitionsDocument(fleet.at_ms, workers, found)


def _details(worker: Worker) -> list[PartitionStatus]:
    return [] if worker.status is None else worker.status.details


def _partition(role: str, number: int, workers: list[Worker]) -> PartitionDocument:
    standbys = [
        StandbyDocument(worker.url, one.restored, _behind(one), one.state_bytes)
        for worker in workers
        for one in _details(worker)
        if one.partition == number and one.is_standby
    ]
    for worker in workers:
        for one in _details(worker):
            if one.partition == number and not one.is_standby:
                return PartitionDocument(
                    role=role, partition=number, owner=worker.url, state=one.state,
                    lag=sum(one.lag.values()), lag_by_lane=one.lag, state_bytes=one.state_bytes,
                    restored=one.restored, restore_end=one.restore_end, standbys=standbys,
                )  # fmt: skip
    silent = next((w for w in workers if number in w.announced and w.status is None), None)
    return PartitionDocument(
        role=role,
        partition=number,
        owner=None if silent is None else silent.url,
        state="no owner" if silent is None else "silent",
        lag=None,
        standbys=standbys,
    )


def _behind(one: PartitionStatus) -> int | None:
    if one.restored is None or one.restore_end is None:
        return None
    return max(0, one.restore_end - one.restored)


def rows(document: PartitionsDocument) -> Iterable[dict[str, Any]]:
    """Rows for CSV."""
    for one in document.partitions:
        yield {
            "role": one.role,
            "partition": one.partition,
            "owner": one.owner,
            "state": one.state,
            "lag": one.lag,
            "state_bytes": one.state_bytes,
            "restored": one.restored,
            "restore_end": one.restore_end,
            "standbys": " ".join(standby.worker for standby in one.standbys),
        }
