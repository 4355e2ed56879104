"""What is left of a run when it is over: the log, and the providers' own ledger.

The checks read nothing else, so they are the same for a simulated run and for one of real
processes on a real Kafka; and nothing that the product believes of itself is taken for granted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec
from aiokafka import TopicPartition

from streams import topics
from streams.codec import Codec, DecodeError
from streams.core.model import Delivery, Preferences, Source
from streams.core.policy import Policy
from streams.partitioning import partition_for

Said = Literal["accepted", "later", "never", "gone", "unsubscribed"]
"""What a provider answered: taken; try again; refused for good; address gone; opted out."""


class Reception(msgspec.Struct, frozen=True):
    """One request that reached a provider, as the provider wrote it down."""

    at_ms: int
    kind: str
    delivery_id: str
    said: Said
    address: str = ""
    """Where it went, or a hash of it; always the same for the same address."""
    late_ms: int = 0
    """How long its sender had been stopped (SIGSTOP) with the request in its hands."""


class Allowance(msgspec.Struct, frozen=True):
    """How much later than its decision something may still be seen, in milliseconds."""

    stale_ms: int
    """An opt-out that came after the event applies at the latest so long after it came."""
    send_ms: int
    """From the last look at a clock in a worker to the provider's ledger."""


class Evidence:
    """See the module's text. Times are the cluster's and the providers'."""

    def __init__(
        self,
        records: Mapping[tuple[str, int], Sequence[Any]],
        taken: Mapping[TopicPartition, int],
        receptions: Sequence[Reception],
        policy: Policy,
        codec: Codec,
        partitions: int,
        allowance: Allowance,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        """``policies``: by version, when the catalogue was changed while it ran."""
        self.records = records
        self.taken = dict(taken)
        self.receptions = sorted(receptions, key=lambda one: one.at_ms)
        self.policy = policy
        self.policies = policies or {policy.version: policy}
        self.codec = codec
        self.partitions = partitions
        self.allowance = allowance

    def of(self, names: Iterable[str]) -> Iterable[Any]:
        """Committed records of some topics, partition by partition."""
        for name in names:
            for number in range(self.partitions):
                yield from self.records.get((name, number), ())

    @cached_property
    def deliveries(self) -> dict[str, list[tuple[Any, Delivery]]]:
        """Delivery id -> (record, delivery) of each time that it was handed over."""
        found: defaultdict[str, list[tuple[Any, Delivery]]] = defaultdict(list)
        for record in self.of(topics.DELIVERIES):
            try:
                delivery = self.codec.decode_delivery(record.value)
            except DecodeError:
                continue  # somebody else's garbage: nobody can send it
            found[delivery.delivery_id].append((record, delivery))
        return found

    @cached_property
    def outcomes(self) -> dict[str, list[dict[str, Any]]]:
        """Delivery id -> its outcomes in their order."""
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for record in self.of((topics.OUTCOMES,)):
            outcome = self.codec.decode("outcome", record.value)
            found[outcome["delivery_id"]].append(outcome)
        return found

    @cached_property
    def event_times(self) -> dict[tuple[str, str], int]:
        """(recipient, event id) -> when its first record was appended."""
        found: dict[tuple[str, str], int] = {}
        for record in self.of(topics.EVENTS):
            try:
                event = self.codec.decode_event(record.value)
            except DecodeError:
                continue
            key = (event.recipient_id, event.event_id)
            found[key] = min(record.timestamp, found.get(key, record.timestamp))
        return found

    @cached_property
    def preferences(self) -> dict[str, list[tuple[int, Preferences]]]:
        """Recipient -> (since when, what they chose), in order, from the right partition only."""
        found: defaultdict[str, list[tuple[int, Preferences]]] = defaultdict(list)
        for record in self.of((topics.PREFERENCES,)):
            try:
                recipient, chosen = self.codec.decode_preference(record.value)
            except DecodeError:
                continue
            if partition_for(recipient.encode(), self.partitions) == record.partition:
                found[recipient].append((record.timestamp, chosen))
        return found

    @cached_property
    def unsubscribed(self) -> dict[str, list[tuple[int, str]]]:
        """Recipient -> (since when, scope) of each unsubscription."""
        found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        for record in self.of((topics.RECEIPTS,)):
            source = Source(record.topic, record.partition, record.offset, record.timestamp)
            try:
                receipt = self.codec.decode_receipt(record.value, source)
            except DecodeError:
                continue
            if receipt.kind == "unsubscribed":
                found[receipt.recipient_id].append((record.timestamp, receipt.name or "all"))
        return found


class Snapshot:
    """The evidence as ``ledger.reconcile`` wants to read it (``ledger.log_snapshot``)."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self.partitions = list(range(evidence.partitions))
        self.taken = evidence.taken
        self.starts: defaultdict[TopicPartition, int] = defaultdict(int)

    async def read(self, partition: int, names: Sequence[str]) -> AsyncIterator[list[Any]]:
        """All records of one partition of some topics, each topic in its order."""
        for name in names:
            yield list(self._evidence.records.get((name, partition), ()))
