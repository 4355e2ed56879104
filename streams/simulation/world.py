"""One simulated history: a cluster, workers, providers, producers, and what befalls them.

Two workers of ``decide`` and two of ``deliver`` share the partitions. The script is sent while
the troubles of this seed happen; then troubles end, everything that is down comes back, and the
world is left alone until nothing can be waiting any more. What must hold then is in ``checks.py``.
"""

from __future__ import annotations

import asyncio
import functools
import random
from pathlib import Path

import msgspec

from streams.codec import Codec
from streams.engine.settings import EngineSettings
from streams.simulation import workload
from streams.simulation.chaos import Chaos, Troubles
from streams.simulation.cluster import Cluster
from streams.simulation.disk import Disk, SimStore
from streams.simulation.edges import installed
from streams.simulation.evidence import Allowance, Evidence
from streams.simulation.group import Group, Membership
from streams.simulation.log import Log
from streams.simulation.loop import Process, SimLoop, SimTime, sleep_us
from streams.simulation.providers import Providers
from streams.simulation.story import Story
from streams.simulation.worker import Worker, WorkerPlan, provider_settings
from streams.sinks.settings import DeliverSettings
from streams.tables import FENCE

SECOND_US = 1_000_000
TROUBLES_S = workload.LOAD_S + 20
REST_S = 130
"""Longer than anything of the policy lives."""
WORKERS = {"decide": 2, "deliver": 2}
SEND_MS = 6_000
"""A deadline of a request, and the slowest network."""
STALE_MS = 6_000 + 12_000 + SEND_MS
"""Validity of a decision, the longest that an owner of a partition can be without a look at the
control topics (its session, and a little), and the way to the provider."""
TRANSACTION_US_MAX = 15 * SECOND_US


@functools.cache
def shared_codec() -> Codec:
    """Compiled once per operating-system process; it holds nothing of any simulation."""
    return Codec()


class World:
    """Everything of one simulation. ``run`` lives it from beginning to end."""

    def __init__(self, seed: int, troubles: Troubles | None = None) -> None:
        """``troubles``: those of a scenario, instead of the seed's own."""
        self.seed = seed
        self.loop = SimLoop()
        self.time = SimTime(self.loop)
        self.story = Story(self.loop)
        self.chaos = Chaos(self.loop, self.story, f"{seed}/chaos", troubles)
        draw = random.Random(f"{seed}/shape")
        self.partitions = draw.choice((1, 2, 3))
        self.log = Log(self.time, self.partitions)
        self.cluster = Cluster(self.loop, self.log, self.chaos)
        self.providers = Providers(self.loop, self.time, self.cluster, self.story)
        self.disks: dict[Path, Disk] = {}
        standbys = draw.random() < 0.4
        self.groups = {
            role: Group(role, self.partitions, standbys, self.cluster, self.story)
            for role in WORKERS
        }
        self.plan = WorkerPlan(
            codec=shared_codec(),
            policy=workload.policy(),
            engine=EngineSettings(
                bootstrap="simulated",
                partitions=self.partitions,
                tick_ms=draw.choice((250, 500, 1_000)),
                batch_records_max=draw.choice((5, 40, 2_000)),
                control_records_max=draw.choice((3, 20, 2_000)),
                critical_records_max=draw.choice((2, 500)),
                bulk_records_max=draw.choice((3, 1_000)),
                bulk_partitions_max=1,
                backlog_records_max=draw.choice((0, 4_000)),
                wake_owners_max=draw.choice((1, 3, 1_000)),
                idle_fence_ms=draw.choice((1_000, 5_000)),
                restore_records_max=draw.choice((3, 5_000)),
                offsets_commit_ms=1_000,
            ),
            deliver=DeliverSettings(
                providers=provider_settings(),
                partitions=self.partitions,
                in_flight_max=draw.choice((1, 4, 128)),
                waiting_max=draw.choice((4, 1_000)),
                take_records_max=draw.choice((3, 500)),
                take_ms_max=1_000,
                commit_interval_ms=draw.choice((300, 1_000)),
                lease_ms=4_000,
                stop_ms_max=6_000,
            ),
        )
        writer = workload.Writer(f"{seed}/script", shared_codec(), self.partitions)
        troubles = self.chaos.troubles
        self.script = writer.script(
            troubles.garbage, troubles.repeats, 0.15 if troubles.dead_addresses else 0.0
        )
        self.providers.dead_addresses = set(self.script.dead_addresses)
        self.providers.opted_out_numbers = set(self.script.opted_out_numbers)
        self.workers: dict[str, Worker] = {}
        self.all_workers: list[Worker] = []
        self.bad_ends: list[str] = []
        self.drawn_troubles = self.chaos.troubles
        self.calm = False

    def run(self) -> None:
        """Lives the whole history."""
        with installed(self):
            try:
                self.loop.run(self._live())
            finally:
                for worker in self.all_workers:
                    worker.process.alive = False
                    self.loop.bury(worker.process)
                self.loop.bury(self._outside)

    @property
    def _outside(self) -> Process:
        from streams.simulation.loop import OUTSIDE  # noqa: PLC0415

        return OUTSIDE

    async def _live(self) -> None:
        self._tell_beginning()
        for group in self.groups.values():
            asyncio.create_task(group.coordinate())  # noqa: RUF006 - lives as long as the world
        asyncio.create_task(self._transaction_coordinator())  # noqa: RUF006
        for role, count in WORKERS.items():
            for number in range(count):
                self._start(role, f"{role}-{number}")
        keeper = asyncio.create_task(self._keep_running())
        troubles = asyncio.create_task(self._troubles())
        sending = asyncio.create_task(self._send_script())
        await self._until(TROUBLES_S)
        troubles.cancel()
        self._calm_down()
        await sending
        await sleep_us(self.loop, REST_S * SECOND_US)
        keeper.cancel()

    def _tell_beginning(self) -> None:
        troubles = self.chaos.troubles
        names = [name for name in troubles.__struct_fields__ if getattr(troubles, name)]
        self.story.tell(f"{self.partitions} partitions; troubles: {', '.join(names) or 'none'}")

    async def _until(self, second: int) -> None:
        left_us = second * SECOND_US - self.loop.now_us
        if left_us > 0:
            await sleep_us(self.loop, left_us)

    # -- producers

    async def _send_script(self) -> None:
        for sending in self.script.sendings:
            if sending.at_us > self.loop.now_us:
                await sleep_us(self.loop, sending.at_us - self.loop.now_us)
            while self.loop.now_us < self.log.away_until_us:
                await sleep_us(self.loop, self.log.away_until_us - self.loop.now_us + 1)
            offset = self.log.append(sending.topic, sending.partition, sending.key, sending.value)
            where = f"{sending.topic}/{sending.partition}/{offset}"
            self.story.tell(f"sends {where} of {sending.key.decode()}", "producer")

    # -- processes

    def _start(self, role: str, name: str) -> None:
        known = (worker for worker in self.all_workers if worker.name == name)
        assert not any(worker.process.alive for worker in known), f"{name} runs twice at once"
        group = self.groups[role]
        worker = Worker(role, name, self.plan, group)
        self.workers[name] = worker
        self.all_workers.append(worker)
        draw = self.chaos.draw
        if self.chaos.troubles.kills and not self.calm and draw.random() < 0.6:
            self.chaos.doom(worker.process, draw.randint(1, draw.choice((30, 200, 900))))
        if self.chaos.troubles.stops and not self.calm and draw.random() < 0.6:
            soon_us = draw.randint(100_000, 6 * SECOND_US)
            self.cluster.later(self.loop.now_us + soon_us, self._stop, worker)
        self.story.tell("starts", name)
        membership = Membership(group, self.cluster)
        self.loop.spawn(worker.process, worker.start(membership), "start")

    async def _keep_running(self) -> None:
        """Starts again what ended, as a supervisor outside would."""
        while True:
            await sleep_us(self.loop, 100_000)
            for worker in tuple(self.workers.values()):
                if not worker.process.alive:
                    self._note_end(worker)
                    del self.workers[worker.name]
                    asyncio.create_task(self._restart(worker))  # noqa: RUF006

    def _note_end(self, worker: Worker) -> None:
        failure = worker.failure
        if failure is not None:
            self.story.tell(f"ENDED {type(failure).__name__}: {failure}", worker.name)
        if worker.failed_badly:
            self.bad_ends.append(f"{worker.name} ended with {type(failure).__name__}: {failure}")

    async def _restart(self, worker: Worker) -> None:
        draw = self.chaos.draw
        longest_us = SECOND_US // 2 if self.calm else draw.choice((SECOND_US, 9 * SECOND_US))
        await sleep_us(self.loop, draw.randint(100_000, longest_us))
        if self.chaos.troubles.disks and not self.calm:
            self._harm_disks(worker.name)
        self._start(worker.role, worker.name)

    def _harm_disks(self, name: str) -> None:
        draw = self.chaos.draw
        for folder, disk in self.disks.items():
            if folder.parts[1] != name:
                continue
            what = draw.random()
            if what < 0.15:
                self.story.tell(f"{folder} is lost", "disk")
                disk.writes.clear()
            elif what < 0.3:
                self.story.tell(f"{folder} is damaged", "disk")
                disk.damaged = True
            elif what < 0.6 and disk.writes:
                lost = draw.randint(1, min(20, len(disk.writes)))
                self.story.tell(f"{folder} loses its last {lost} writes", "disk")
                del disk.writes[-lost:]

    async def _transaction_coordinator(self) -> None:
        """Aborts what is open for too long."""
        while True:
            await sleep_us(self.loop, SECOND_US)
            now_ms = self.time.true_ms()
            for name, state in self.log.producers.items():
                transaction = state.transaction
                if transaction is None or transaction.state != "open":
                    continue
                if (now_ms - state.opened_at_ms) * 1_000 > TRANSACTION_US_MAX:
                    self.story.tell(f"transaction of {name} timed out", "cluster")
                    state.epoch += 1
                    self.log.end(state, "aborted")
                    self.cluster.spread_markers(transaction)

    # -- troubles

    async def _troubles(self) -> None:
        draw, troubles = self.chaos.draw, self.chaos.troubles
        kinds = [
            what
            for what, wanted in (
                (self._kill_one, troubles.kills),
                (self._pause_one, troubles.pauses),
                (self._stop_one, troubles.stops),
                (self._one_joins, troubles.joins),
                (self._outage, troubles.outages),
                (self._provider_outage, troubles.provider_outages),
            )
            if wanted
        ]
        while kinds:
            await sleep_us(self.loop, draw.randint(SECOND_US // 2, 9 * SECOND_US))
            draw.choice(kinds)()

    def _some_worker(self) -> Worker | None:
        running = [worker for worker in self.workers.values() if worker.process.alive]
        return self.chaos.draw.choice(running) if running else None

    def _kill_one(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self.chaos.kill(worker.process, "at random")

    def _pause_one(self) -> None:
        worker = self._some_worker()
        if worker is not None and not worker.process.paused:
            length_us = self.chaos.draw.randint(SECOND_US, 20 * SECOND_US)
            self.story.tell(f"PAUSED for {length_us / 1e6:.1f} s", worker.name)
            self.loop.pause(worker.process)
            self.cluster.later(self.loop.now_us + length_us, self._resume, worker)

    def _resume(self, worker: Worker) -> None:
        if not worker.process.alive:
            return
        self.story.tell("RESUMED", worker.name)
        self.loop.resume(worker.process)
        self.loop.spawn(worker.process, self._notice_absence(worker), "rejoin")

    async def _notice_absence(self, worker: Worker) -> None:
        """A member that was put out hears of it with a heartbeat, and joins again."""
        await sleep_us(self.loop, self.chaos.draw.randint(0, 3 * SECOND_US))
        group = self.groups[worker.role]
        if not group.has(worker) and worker.process.alive:
            await worker.give_back()
            group.join(worker)

    def _stop_one(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self._stop(worker)

    def _stop(self, worker: Worker) -> None:
        process = worker.process
        if process.alive and not process.paused and worker._supervisor is not None:
            self.story.tell("SIGTERM", worker.name)
            self.loop.spawn(process, worker.stop(), "stop")

    def _one_joins(self) -> None:
        """Another worker comes; from then on it is one of those that are started again."""
        role = self.chaos.draw.choice(tuple(WORKERS))
        name = f"{role}-more"
        if all(worker.name != name for worker in self.all_workers):
            self._start(role, name)  # Later ``_restart`` does: it may be about to.

    def _outage(self) -> None:
        length_us = self.chaos.draw.choice((300_000, 3 * SECOND_US, 12 * SECOND_US, 40 * SECOND_US))
        length_us = self.chaos.draw.randint(length_us // 3, length_us)
        self.story.tell(f"AWAY for {length_us / 1e6:.1f} s", "cluster")
        self.log.away_until_us = max(self.log.away_until_us, self.loop.now_us + length_us)

    def _provider_outage(self) -> None:
        kind = self.chaos.draw.choice(("apns", "email", "sms", "webhook"))
        length_us = self.chaos.draw.randint(SECOND_US, 15 * SECOND_US)
        self.story.tell(f"down for {length_us / 1e6:.1f} s", kind)
        self.providers.down_until_us[kind] = self.loop.now_us + length_us

    def _calm_down(self) -> None:
        """No more trouble: what is left must be brought to an end."""
        self.calm = True
        self.story.tell("troubles end")
        self.chaos.troubles = msgspec.structs.replace(
            self.chaos.troubles, provider_refusals=False, provider_silence=False, slow=False
        )
        self.chaos.spare_everybody()
        self.log.away_until_us = 0
        self.providers.down_until_us.clear()
        for worker in self.workers.values():
            if worker.process.paused:
                self._resume(worker)

    # -- afterwards

    def stored(self, partition: int) -> tuple[dict[bytes, bytes], list[tuple[int, bytes]]] | None:
        """State and due index on the disk of the partition's owner, without its fence."""
        owner = self.groups["decide"].owner(partition)
        disk = self.disks.get(Path(f"/{owner}/decide/partition-{partition:05}"))
        if owner is None or disk is None:
            return None
        store = SimStore(self.disks, Path(f"/{owner}/decide/partition-{partition:05}"), None)
        store.open()
        data, due = store.contents()
        data.pop(FENCE, None)
        return data, due

    def evidence(self) -> Evidence:
        """What is left of it, for the checks."""
        records = {
            (name, place.number): place.committed()
            for name, places in self.log.topics.items()
            for place in places
        }
        taken = {tp: at.offset for tp, at in self.groups["decide"].positions.items()}
        allowance = Allowance(stale_ms=STALE_MS, send_ms=SEND_MS)
        return Evidence(
            records, taken, self.providers.ledger, self.plan.policy, shared_codec(),
            self.partitions, allowance,
        )  # fmt: skip
