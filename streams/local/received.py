"""What the local provider servers received: an append-only file, durable before each answer.

An independent ledger: when a worker, or everything, is killed, it still says what reached a
provider. So an answer is sent only after the line is on disk; lines that arrive while one fsync
runs share the next.

Invariants: a line is on disk before its answer leaves; a line is written once per accepted
message, so a delivery id on two lines was sent twice; no address is kept, only its hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from pathlib import Path

import msgspec

GATHER_SECONDS = 0.003
"""How long lines are gathered before they are written: an fsync costs about as much."""
SEEN_MAX = 5_000_000
"""Bound of the delivery ids that the seeded faults remember."""


class Received(msgspec.Struct, frozen=True):
    """One accepted message."""

    time: int
    kind: str
    delivery_id: str
    notification_id: str
    destination: str
    """SHA-256 of the address, 16 hex digits."""
    bytes: int


class Recorder:
    """The file, and how often each kind and each id was received."""

    def __init__(self, path: Path, retry_share: float = 0.0, seed: str = "") -> None:
        self._path = path
        self._retry_share = retry_share
        self._seed = seed
        self._file = -1
        self._lines: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._encode = msgspec.json.Encoder().encode
        self._ids: set[str] = set()
        self._refused: set[str] = set()
        self.received: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.repeated = 0

    async def start(self) -> None:
        """Opens the file for appending and counts what it holds already."""
        if self._path.exists():
            for line in self._path.read_bytes().splitlines():
                self._count(msgspec.json.decode(line, type=Received))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what is left and closes."""
        if self._task is not None:
            self._task.cancel()
        if self._file >= 0:
            self._write(self._lines)
            os.close(self._file)
            self._file = -1

    def refuses(self, kind: str, delivery_id: str) -> bool:
        """Whether the seeded fault says so: the first time that a chosen id is seen, and once."""
        if self._retry_share <= 0 or delivery_id in self._refused:
            return False
        digest = hashlib.blake2b((self._seed + delivery_id).encode(), digest_size=8).digest()
        if int.from_bytes(digest, "big") >= self._retry_share * 2**64:
            return False
        if len(self._refused) < SEEN_MAX:
            self._refused.add(delivery_id)
        self.refused[kind] += 1
        return True

    async def record(
        self, kind: str, delivery_id: str, notification_id: str, address: str, size: int
    ) -> None:
        """Returns when the line is on disk."""
        destination = hashlib.sha256(address.encode()).hexdigest()[:16]
        now_ms = time.time_ns() // 1_000_000
        entry = Received(now_ms, kind, delivery_id, notification_id, destination, size)
        self._count(entry)
        done = asyncio.get_running_loop().create_future()
        self._lines.append(self._encode(entry) + b"\n")
        self._waiting.append(done)
        self._arrived.set()
        await done

    def totals(self) -> dict[str, object]:
        """What ``GET /received`` answers."""
        return {
            "received": dict(self.received),
            "refused": dict(self.refused),
            "total": sum(self.received.values()),
            "distinct": len(self._ids),
            "repeated": self.repeated,
        }

    def _count(self, entry: Received) -> None:
        self.received[entry.kind] += 1
        if entry.delivery_id in self._ids:
            self.repeated += 1
        else:
            self._ids.add(entry.delivery_id)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._arrived.clear()
            lines, self._lines = self._lines, []
            waiting, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, lines)
            for done in waiting:
                if not done.done():
                    done.set_result(None)

    def _write(self, lines: list[bytes]) -> None:
        data = b"".join(lines)
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
