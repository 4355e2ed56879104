"""Consumer groups of the simulated cluster: who owns which partition, and since when.

Eager rebalances with generations, as Faust's assignor has them: everybody gives back what it has,
then everything is handed out anew. A member that says nothing for the session's length is put out;
a worker that comes back under its name within that time gets its partitions back at once.

Invariant: a position is taken only from a member of the present generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from streams.engine.roles import Committed, Fenced
from streams.simulation.cluster import Cluster
from streams.simulation.loop import sleep_us
from streams.simulation.story import Story

if TYPE_CHECKING:
    from streams.simulation.worker import Worker

SESSION_US = 6_000_000
REBALANCE_US_MAX = 10_000_000
LOOK_US = 250_000


class Group:
    """One role's group with its coordinator."""

    def __init__(
        self, role: str, partitions: int, standbys: bool, cluster: Cluster, story: Story
    ) -> None:
        self.role = role
        self.positions: dict[TopicPartition, Committed] = {}
        self._partitions = partitions
        self._standbys = standbys
        self._cluster = cluster
        self._story = story
        self._members: list[Worker] = []
        self._generations: dict[Worker, int] = {}
        self._generation = 0
        self._shares: dict[str, tuple[list[int], list[int]]] = {}
        self._heard_us: dict[Worker, int] = {}
        self._stale = False

    # -- members

    def join(self, worker: Worker) -> None:
        """A worker wants to take part."""
        loop = self._cluster.loop
        before = next((m for m in self._members if m.name == worker.name), None)
        self._heard_us[worker] = loop.now_us
        if before is worker:
            self._stale = True
            return
        if before is not None:
            self._members[self._members.index(before)] = worker
            self._generations.pop(before, None)
            if not self._stale and worker.name in self._shares:
                self._generations[worker] = self._generation
                self._hand_out(worker)
                return
        else:
            self._members.append(worker)
        self._stale = True

    def leave(self, worker: Worker) -> None:
        """A worker has stopped."""
        if worker in self._members:
            self._members.remove(worker)
            self._generations.pop(worker, None)
            self._shares.pop(worker.name, None)
            self._stale = True

    def has(self, worker: Worker) -> bool:
        """Whether the group still counts on this worker."""
        return worker in self._members

    def owner(self, partition: int) -> str | None:
        """Name of the worker that has a partition."""
        return next((n for n, (mine, _) in self._shares.items() if partition in mine), None)

    # -- the coordinator

    async def coordinate(self) -> None:
        """Runs for ever."""
        loop = self._cluster.loop
        while True:
            await sleep_us(loop, LOOK_US)
            for member in tuple(self._members):
                if member.process.alive and not member.process.paused:
                    self._heard_us[member] = loop.now_us
                elif loop.now_us - self._heard_us[member] > SESSION_US:
                    self._story.tell(f"{member.name} is put out", f"group {self.role}")
                    self.leave(member)
            if self._stale and self._members:
                await self._rebalance()

    async def _rebalance(self) -> None:
        self._stale = False
        loop = self._cluster.loop
        self._story.tell("rebalances", f"group {self.role}")
        deadline_us = loop.now_us + REBALANCE_US_MAX
        giving_back = {
            member: loop.spawn(member.process, member.give_back(), "give back")
            for member in self._members
        }
        while loop.now_us < deadline_us:
            late = [
                member
                for member, task in giving_back.items()
                if not task.done() and member.process.alive and member in self._members
            ]
            if not late:
                break
            await sleep_us(loop, 20_000)
        for member, task in giving_back.items():
            if not task.done():
                self.leave(member)
        self._stale = False
        self._generation += 1
        self._share_out()
        for member in self._members:
            self._generations[member] = self._generation
            self._hand_out(member)

    def _share_out(self) -> None:
        names = sorted(member.name for member in self._members)
        self._shares = {name: ([], []) for name in names}
        for partition in range(self._partitions):
            at = (partition + self._generation) % len(names) if names else 0
            if names:
                self._shares[names[at]][0].append(partition)
            if self._standbys and len(names) > 1:
                self._shares[names[(at + 1) % len(names)]][1].append(partition)

    def _hand_out(self, member: Worker) -> None:
        actives, standbys = self._shares[member.name]
        loop = self._cluster.loop
        loop.spawn(member.process, member.take_over(actives, standbys), "take over")


class Membership:
    """One worker's membership (``engine.offsets.Membership``)."""

    def __init__(self, group: Group, cluster: Cluster) -> None:
        self._group = group
        self._cluster = cluster
        self.worker: Worker | None = None

    async def committed(
        self, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Positions in the group."""
        await self._cluster.request("committed")
        known = self._group.positions
        return {tp: known[tp] for tp in partitions if tp in known}

    async def commit_positions(self, positions: Mapping[TopicPartition, Committed]) -> None:
        """Commits; raises ``Fenced`` for a stale generation."""
        await self._cluster.request("commit positions")
        group, worker = self._group, self.worker
        assert worker is not None, "a membership belongs to a worker"
        generation = group._generations.get(worker)
        if generation is None or generation != group._generation or worker not in group._members:
            raise Fenced("the group refused a commit: stale generation")
        group.positions.update(positions)
        await self._cluster.answer("commit positions")
