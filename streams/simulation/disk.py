"""Stands in for ``engine.store.PartitionStore``: a local database that can be lost or damaged.

A kill of the process loses nothing that was written; a machine that goes down may lose the latest
writes, in whole batches; a disk may lose everything, or give it back damaged.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from streams.engine.api import Due
from streams.engine.store import Followed
from streams.simulation.loop import CURRENT

Write = tuple[list[tuple[bytes, bytes | None]], list[Due], Followed]


class Disk:
    """What is on the disk of one worker for one partition: the writes in their order."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.damaged = False


class SimStore:
    """See the module's text; the methods are those of ``PartitionStore``."""

    def __init__(self, disks: dict[Path, Disk], folder: Path, _memory: Any) -> None:
        self.folder = folder
        self._disks = disks
        self._disk: Disk | None = None
        self._data: dict[bytes, bytes] = {}
        self._due: list[tuple[int, bytes]] = []
        self._followed: Followed | None = None
        self._process = CURRENT.get()

    # -- life

    def open(self) -> str | None:
        """Opens what is there. Returns why it was wiped, or ``None``."""
        disk = self._disks.setdefault(self.folder, Disk())
        wiped = "it cannot be opened" if disk.damaged else None
        if wiped:
            disk = self._disks[self.folder] = Disk()
        self._load(disk)
        return wiped

    def _load(self, disk: Disk) -> None:
        self._disk = disk
        self._data, self._due, self._followed = {}, [], None
        for write in disk.writes:
            self._apply(*write)

    @property
    def is_open(self) -> bool:
        return self._disk is not None

    def close(self) -> None:
        self._disk = None

    def start_over(self) -> None:
        disk = self._disks[self.folder] = Disk()
        self._load(disk)

    # -- reading

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self._data.get(key) for key in keys]

    def get(self, key: bytes) -> bytes | None:
        return self._data.get(key)

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        found = sorted(
            (key, value)
            for key, value in self._data.items()
            if key.startswith(prefix) and (after is None or key > after)
        )
        return found[:limit]

    def due_until(self, now_ms: int, limit: int) -> list[tuple[int, bytes]]:
        return self._due[: min(limit, bisect.bisect_left(self._due, (now_ms + 1, b"")))]

    def first_due_ms(self) -> int | None:
        return self._due[0][0] if self._due else None

    def followed(self) -> Followed | None:
        return self._followed

    # -- writing

    def write(
        self, changes: Iterable[tuple[bytes, bytes | None]], due: Iterable[Due], followed: Followed
    ) -> None:
        """All of it or nothing; nothing at all from a process that is dead."""
        if self._disk is None or not self._process.alive:
            return
        write = (list(changes), list(due), followed)
        self._disk.writes.append(write)
        self._apply(*write)

    def _apply(
        self, changes: list[tuple[bytes, bytes | None]], due: list[Due], followed: Followed
    ) -> None:
        for key, value in changes:
            if value is None:
                self._data.pop(key, None)
            else:
                self._data[key] = value
        for entry in due:
            if entry.old_ms is not None:
                self._remove((entry.old_ms, entry.owner))
            if entry.new_ms is not None:
                self._remove((entry.new_ms, entry.owner))
                bisect.insort(self._due, (entry.new_ms, entry.owner))
        self._followed = followed

    def _remove(self, entry: tuple[int, bytes]) -> None:
        at = bisect.bisect_left(self._due, entry)
        if at < len(self._due) and self._due[at] == entry:
            del self._due[at]

    def contents(self) -> tuple[dict[bytes, bytes], list[tuple[int, bytes]]]:
        """State and due index, for comparing."""
        return dict(self._data), list(self._due)
