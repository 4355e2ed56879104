"""Stands in for ``engine.reader.SharedReader``: fetches ahead, gives what is at hand, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka import TopicPartition

from streams.simulation.cluster import Cluster
from streams.simulation.log import Stored
from streams.simulation.loop import CURRENT


class _Place(msgspec.Struct):
    """One partition on a connection."""

    position: int
    paused: bool
    buffer: list[Stored] = []
    after: int = 0
    """Position behind the buffer, markers included."""


class SimReader:
    """See the module's text; the methods are those of ``SharedReader``."""

    def __init__(self, cluster: Cluster, name: str, *_: Any) -> None:
        self.name = name
        self._cluster = cluster
        self._places: dict[TopicPartition, _Place] = {}
        self._by_place: dict[tuple[str, int], _Place] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._process = CURRENT.get()
        self._fetching = False

    async def start(self) -> None:
        """Connects."""
        await self._cluster.request("reader")
        self._cluster.log.listeners.append(self._on_news)

    async def stop(self) -> None:
        """Disconnects."""
        listeners = self._cluster.log.listeners
        if self._on_news in listeners:
            listeners.remove(self._on_news)

    # -- which partitions

    def add(self, positions: Mapping[TopicPartition, int | None]) -> None:
        for tp, position in positions.items():
            self._places[tp] = _Place(position or 0, position is None)
        self._changed()

    def remove(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in list(partitions):
            self._places.pop(tp, None)
        self._changed()

    def assigned(self) -> frozenset[TopicPartition]:
        return frozenset(self._places)

    def _changed(self) -> None:
        self._by_place = {(tp.topic, tp.partition): one for tp, one in self._places.items()}
        self._fetch_soon()

    # -- reading

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._places[tp] = _Place(offset, False)
        self._changed()

    def position(self, tp: TopicPartition) -> int:
        return self._places[tp].position

    def stable_end(self, tp: TopicPartition) -> int | None:
        return self._cluster.log[tp].stable_end

    def at_hand(self, tp: TopicPartition) -> bool:
        return bool(self._places[tp].buffer)

    def drain(self, tp: TopicPartition, records_max: int) -> list[Stored]:
        place = self._places.get(tp)
        if place is None or not place.buffer:
            return []
        records = place.buffer[:records_max]
        place.buffer = place.buffer[records_max:]
        place.position = records[-1].offset + 1 if place.buffer else place.after
        self._fetch_soon()
        return records

    def arrival(self) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = self._cluster.loop.create_future()
        self._waiters = [one for one in self._waiters if not one.done()]
        self._waiters.append(waiter)
        return waiter

    # -- fetching

    def _on_news(self, topic: str, partition: int) -> None:
        if not self._process.alive:
            self._cluster.log.listeners.remove(self._on_news)
        elif (topic, partition) in self._by_place:
            self._fetch_soon()

    def _fetch_soon(self) -> None:
        if self._fetching or not self._process.alive:
            return
        log = self._cluster.log
        for tp, place in self._places.items():
            if not place.paused and not place.buffer and log[tp].stable_end > place.position:
                self._fetching = True
                at_us = self._cluster.loop.now_us + self._cluster.chaos.latency_us()
                self._cluster.later(max(at_us, log.away_until_us), self._fetched)
                return

    def _fetched(self) -> None:
        """An answer to a fetch arrives: new records, or only markers that can be passed."""
        cluster = self._cluster
        self._fetching = False
        if not self._process.alive:
            return
        if self._process.paused or cluster.loop.now_us < cluster.log.away_until_us:
            at_us = max(cluster.loop.now_us + 10_000, cluster.log.away_until_us)
            self._fetching = True
            cluster.later(at_us, self._fetched)
            return
        arrived = False
        for tp, place in self._places.items():
            if place.paused or place.buffer:
                continue
            size = cluster.chaos.draw.randint(1, 60)
            records, after = cluster.log[tp].read(place.position, size)
            if records:
                place.buffer, place.after = records, after
                arrived = True
            else:
                place.position = max(place.position, after)
        if arrived:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()
        self._fetch_soon()

    # -- questions

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        wanted = sorted(partitions)
        await self._cluster.request("end offsets")
        return {tp: self._cluster.log[tp].stable_end for tp in wanted}

    async def beginning_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, int]:
        wanted = list(partitions)
        await self._cluster.request("beginning offsets")
        return {tp: self._cluster.log[tp].start for tp in wanted}
