"""From a load to workers, partitions, brokers, disk and quotas: plain arithmetic, all of it shown.

One worker is one process on one core, so its rate is what a core's second holds of the measured
CPU time; nothing is assumed to be faster than it was measured to be. Everything is sized for the
peak at the wanted utilisation, so that the rest absorbs a lost worker and works off a backlog.

Invariant: each line's value is exactly what its arithmetic says, before rounding for people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from streams import topics
from streams.capacity.figures import Figure
from streams.capacity.result import Line, Plan, Section, power_of_two, text
from streams.ledger.settings import LedgerSettings

DAY_S = 86_400
CORE_US = 1_000_000
PARTITIONS_MAX = 4_096
"""Ids carry their partition in three hex digits."""
KEPT_AS = {
    "events": topics.EVENTS_NORMAL,
    "decisions": topics.DECISIONS,
    "deliveries": topics.deliveries("apns"),
    "outcomes": topics.OUTCOMES,
}
"""Log -> a topic that says how long it is kept."""
MEASURED_SINKS = ("apns", "fcm", "sms", "webhook", "webpush", "chat")


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. Shares are between 0 and 1."""

    events_per_day: float
    peak: float = 3.0
    """Peak rate over the day's average."""
    recipients: float
    deliveries_per_event: float
    shares: dict[str, float]
    """Kind of destination -> its share of the deliveries."""
    utilisation: float = 0.6
    """How much of a worker or broker the peak may use."""
    growth: float = 2.0
    """Partitions cannot be added later: how much larger it may become."""
    replication: int = 3
    standbys: int = 1
    outage_s: float = 3_600
    """An outage whose backlog must be worked off."""
    http_share: float = 0.1
    """Events that come in over the HTTP API."""


class Model:
    """Computes a plan, section by section."""

    def __init__(self, demand: Demand, figures: Mapping[str, Figure]) -> None:
        self._demand = demand
        self._figures = figures
        self._sections: list[Section] = []
        self._lines: list[Line] = []

    def plan(self) -> Plan:
        """Everything."""
        for title, section in (
            ("Rates", self._rates),
            ("Workers", self._workers),
            ("Partitions", self._partitions),
            ("State", self._state),
            ("Brokers and disk", self._brokers),
            ("Providers", self._providers),
            ("When something breaks", self._recovery),
            ("What it will cost", self._cost_drivers),
        ):
            self._lines = []
            section()
            self._sections.append(Section(title, self._lines))
        return Plan(self._sections)

    # -- parts

    def _of(self, name: str) -> float:
        return self._figures[name].value

    def _add(self, name: str, value: float, unit: str, arithmetic: str, note: str = "") -> float:
        self._lines.append(Line(name, value, unit, arithmetic, note))
        return value

    def _workers_for(self, name: str, rate: float, cpu_us: float, note: str = "") -> int:
        each = CORE_US / cpu_us
        needed = math.ceil(rate / (each * self._demand.utilisation))
        self._add(
            f"{name} workers", needed, "processes of one core",
            f"{text(rate)}/s / ({text(CORE_US)} µs / {text(cpu_us)} µs"
            f" x {self._demand.utilisation:g})",
            note,
        )  # fmt: skip
        return needed

    def _rates(self) -> None:
        demand = self._demand
        average = demand.events_per_day / DAY_S
        self.average = self._add(
            "events, average", average, "a second", f"{text(demand.events_per_day)} / {DAY_S:,} s"
        )
        self.peak = self._add(
            "events, peak", average * demand.peak, "a second",
            f"{text(average)} x {demand.peak:g}",
        )  # fmt: skip
        self.deliveries = self._add(
            "deliveries, peak", self.peak * demand.deliveries_per_event, "a second",
            f"{text(self.peak)} x {demand.deliveries_per_event:g}",
            "what preferences, digests and limits leave of the events",
        )  # fmt: skip

    def _workers(self) -> None:
        demand = self._demand
        self.decide = self._workers_for("decide", self.peak, self._of("decide_cpu_us_per_event"))
        self.deliver = 0
        for kind, share in demand.shares.items():
            measured = f"{kind}_cpu_us_per_delivery" in self._figures
            slowest = max(self._of(f"{each}_cpu_us_per_delivery") for each in MEASURED_SINKS)
            cpu_us = self._of(f"{kind}_cpu_us_per_delivery") if measured else slowest
            note = "" if measured else "not measured: taken as the slowest sink that was"
            rate = self.deliveries * share
            self.deliver += self._workers_for(f"deliver ({kind})", rate, cpu_us, note)
        self.ledger = self._workers_for("ledger", self.peak, self._of("ledger_cpu_us_per_event"))
        if "api_cpu_us_per_event" in self._figures:
            self._workers_for(
                "api", self.peak * demand.http_share, self._of("api_cpu_us_per_event"),
                "any number behind a balancer; events in batches of 100",
            )  # fmt: skip

    def _partitions(self) -> None:
        demand = self._demand
        for_workers = self._add(
            "for the workers", self.decide * demand.growth * 2, "partitions",
            f"{self.decide} x {demand.growth:g} x 2",
            "two for each worker of the grown cluster, so that they can be dealt evenly",
        )  # fmt: skip
        records = demand.recipients * self._of("state_records_per_recipient")
        rate, limit_s = self._of("restore_records_per_second"), self._of("restore_s_max")
        restore_s = records / self.decide / rate
        self._add(
            "a lost worker's state is back in", restore_s, "seconds",
            f"{text(records)} records / {self.decide} workers / {text(rate)}/s",
            f"without a standby; wanted are {text(limit_s)} s"
            + ("" if restore_s <= limit_s else ": MORE THAN THAT, so keep a standby"),
        )  # fmt: skip
        wanted = power_of_two(max(16.0, for_workers))
        self.partitions = self._add(
            "partitions of every topic", wanted, "for the life of the cluster",
            f"the power of two from {text(for_workers)} on, at least 16",
            "" if wanted <= PARTITIONS_MAX
            else f"MORE THAN {PARTITIONS_MAX:,}: split into cells by home region",
        )  # fmt: skip

    def _state(self) -> None:
        demand = self._demand
        each = self._of("state_disk_bytes_per_recipient")
        copies = 1 + demand.standbys
        disk = demand.recipients * each * copies
        self._add(
            "local state, all workers", disk / 1e9, "GB",
            f"{text(demand.recipients)} x {text(each)} B x {copies} copies / 1e9",
        )  # fmt: skip
        self._add(
            "local disk of a decide worker", disk / self.decide / 1e9 * 2, "GB",
            f"{text(disk / 1e9)} GB / {self.decide} x 2",
            "as much again for compaction",
        )  # fmt: skip
        memory = self._of("decide_rss_mb")
        self._add(
            "memory of the decide workers", self.decide * memory / 1e3, "GB",
            f"{self.decide} x {text(memory)} MB / 1e3",
            "resident; give each twice that, for caches of the system",
        )  # fmt: skip

        self._history()

    def _history(self) -> None:
        days = self._of("ledger_kept_days")
        bytes_each = self._of("ledger_disk_bytes_per_event")
        daily = self._demand.events_per_day * bytes_each
        self._add(
            "history of the ledger", daily * days / 1e12, "TB",
            f"{text(self._demand.events_per_day)} x {text(bytes_each)} B x {days:g} d / 1e12",
            "on the ledger workers' disks, one copy; fewer days, or bulk_kept_share, make it less",
        )  # fmt: skip
        bound = LedgerSettings().partition_bytes_max
        kept = bound * self.partitions / daily
        self._add(
            "of it in a partition", daily * days / self.partitions / 1e9, "GB",
            f"{text(daily * days / 1e12)} TB / {text(self.partitions)} x 1e3",
            f"[ledger] partition_bytes_max; its default of {bound >> 30} GiB"
            f" keeps {text(kept)} days",
        )  # fmt: skip

    def _brokers(self) -> None:
        demand = self._demand
        self.stored = 0.0
        written = 0.0
        for name, per_event in self._log_bytes().items():
            days = (topics.BY_NAME[KEPT_AS[name]].retention_hours or 0) / 24
            daily = demand.events_per_day * per_event
            written += daily / DAY_S * demand.peak
            self.stored += daily * days * demand.replication
            self._add(
                f"{name} kept", daily * days * demand.replication / 1e12, "TB",
                f"{text(demand.events_per_day)} x {text(per_event)} B x {days:g} d"
                f" x {demand.replication} / 1e12",
            )  # fmt: skip
        changelog = demand.recipients * self._of("changelog_bytes_per_recipient")
        factor = self._of("changelog_compaction_factor")
        compacted = changelog * demand.replication * factor
        self.stored += compacted
        self._add(
            "changelog kept", compacted / 1e12, "TB",
            f"{text(demand.recipients)} x {text(changelog / demand.recipients)} B"
            f" x {demand.replication} x {factor:g} / 1e12",
            "compacted; as much again waits for it",
        )  # fmt: skip
        flow = self._of("changelog_log_bytes_per_event") * self.peak + written
        self.flow = self._add(
            "written at peak", flow * demand.replication / 1e6, "MB/s",
            f"({text(written / 1e6)} + {text((flow - written) / 1e6)} of changelog) MB/s"
            f" x {demand.replication}",
        )  # fmt: skip
        self._broker_count()

    def _log_bytes(self) -> dict[str, float]:
        """Bytes of each log per event, as Kafka keeps them (compressed)."""
        deliveries = self._demand.deliveries_per_event
        return {
            "events": self._of("events_log_bytes_per_event"),
            "decisions": self._of("decisions_log_bytes_per_event"),
            "deliveries": self._of("deliveries_log_bytes_per_event"),
            "outcomes": self._of("outcomes_log_bytes_per_delivery") * deliveries,
        }

    def _broker_count(self) -> None:
        demand = self._demand
        cpu_us = self._of("broker_cpu_us_per_event")
        cores = self.peak * cpu_us / CORE_US * demand.replication / demand.utilisation
        self._add(
            "cores of the brokers", cores, "cores",
            f"{text(self.peak)}/s x {text(cpu_us)} µs x {demand.replication}"
            f" / {demand.utilisation:g} / 1e6",
            "each replica counted as a leader's work: an upper bound",
        )  # fmt: skip
        by_cores = cores / self._of("broker_cores")
        by_flow = self.flow / (self._of("broker_mb_per_second") * demand.utilisation)
        by_disk = self.stored / 1e12 / (self._of("broker_disk_tb") * demand.utilisation)
        needed = max(demand.replication, math.ceil(max(by_cores, by_flow, by_disk)))
        self._add(
            "brokers", needed, f"of {text(self._of('broker_cores'))} cores",
            f"most of {demand.replication} (replication), {text(by_cores)} (cores),"
            f" {text(by_flow)} (writing), {text(by_disk)} (disk)",
        )  # fmt: skip
        self._add(
            "disk of the brokers", self.stored / 1e12 / demand.utilisation, "TB",
            f"{text(self.stored / 1e12)} TB / {demand.utilisation:g}",
        )  # fmt: skip

    def _providers(self) -> None:
        for kind, share in self._demand.shares.items():
            rate = self.deliveries * share
            quota = self._figures.get(f"{kind}_quota_per_second")
            if quota is None:
                self._add(
                    f"{kind}, peak", rate, "a second", f"{text(self.deliveries)} x {share:g}",
                    "no published quota: agree it with the provider",
                )  # fmt: skip
                continue
            self._add(
                f"{kind} {quota.unit}", math.ceil(rate / quota.value), f"for {text(rate)}/s",
                f"{text(self.deliveries)} x {share:g} / {text(quota.value)}", quota.what,
            )  # fmt: skip

    def _recovery(self) -> None:
        demand = self._demand
        capacity = self.decide * CORE_US / self._of("decide_cpu_us_per_event")
        backlog = self.peak * demand.outage_s
        spare = capacity - self.peak
        self._add(
            "backlog of an outage at peak", backlog, "events",
            f"{text(self.peak)}/s x {text(demand.outage_s)} s",
        )  # fmt: skip
        self._add(
            "decided again up to date in", backlog / spare / 60, "minutes",
            f"{text(backlog)} / ({text(capacity)} - {text(self.peak)})/s / 60",
            "while the peak goes on",
        )  # fmt: skip
        closes = self.decide * CORE_US / self._of("timer_cpu_us_per_close")
        self._add(
            "digests of all, due at once, close in", demand.recipients / closes / 60, "minutes",
            f"{text(demand.recipients)} / ({self.decide} x {text(CORE_US)} µs"
            f" / {text(self._of('timer_cpu_us_per_close'))} µs) / 60",
            "release_jitter spreads them; keep it above this",
        )  # fmt: skip

    def _cost_drivers(self) -> None:
        demand = self._demand
        daily = demand.events_per_day * demand.deliveries_per_event
        for kind in ("sms", "email"):
            share = demand.shares.get(kind, 0.0)
            self._add(
                f"{kind} sent", daily * share / 1e6, "million a day",
                f"{text(daily / 1e6)} million deliveries x {share:g}",
                "priced by the message: more than everything else" if kind == "sms" else "",
            )  # fmt: skip
        cores = self.decide + self.deliver + self.ledger
        self._add(
            "cores of workers", cores, "cores",
            f"{self.decide} decide + {self.deliver} deliver + {self.ledger} ledger",
            "sized for the peak; a day's average needs"
            f" {text(cores / demand.peak)} of them",
        )  # fmt: skip
        crossing = self.flow * (demand.replication - 1) / demand.replication
        self._add(
            "traffic between zones at peak", crossing, "MB/s",
            f"{text(self.flow)} x {demand.replication - 1}/{demand.replication}",
            "replicas are in other zones; consumers read from their own (rack awareness)",
        )  # fmt: skip


def plan(demand: Demand, figures: Mapping[str, Figure]) -> Plan:
    """The plan for a demand."""
    return Model(demand, figures).plan()
