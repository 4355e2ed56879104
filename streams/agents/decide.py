"""The decide step: records in, decisions out, through the pure core.

A ``DecideLogic`` knows notifications and nothing of Kafka; the engine runs it inside its batch
protocol and makes its ``Result`` happen whole or not at all. A batch is put in order by recipient;
a few recipients at a time are read, decided in memory and written, each once however many records
it had.

Invariants: no record makes ``process`` raise (a bad one becomes a dead letter with its bytes);
the result depends on the arguments alone; a record for another partition is never decided here
but forwarded, in the same transaction, to where it belongs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from streams import tables, topics
from streams.agents import returning
from streams.agents.burying import DETAIL_CHARACTERS_MAX, remains_of, size_of
from streams.agents.forgetting import Forgetting
from streams.agents.kill_switches import KillSwitches
from streams.agents.recipient_work import RecipientWork, load_all, load_one
from streams.codec import Codec, DecodeError
from streams.core.claims import decide_claim
from streams.core.model import (
    Claim,
    DeadLetter,
    Erasure,
    EventInput,
    Feedback,
    Input,
    PreferenceInput,
    Source,
    Wake,
)
from streams.core.policy import Policy
from streams.core.state_codec import due_of_moving
from streams.engine.api import Batch, Due, Output, Record, Result, StateView
from streams.partitioning import partition_for
from streams.privacy import PrivacySettings

logger = logging.getLogger(__name__)

RECORD_BYTES_MAX = 262_144
"""A larger record, with its key and headers, is dead-lettered unread: nothing that is decided on
needs so much, and what is kept or forwarded of it fits wherever it goes."""
RECIPIENTS_AT_ONCE = 64
"""Read, decided and written before the next are read: their objects, about 2 MB, stay in the
processor's cache, which those of a batch of 1,000 would not (docs/performance.md)."""
IF_MATCH = "flowstate-if-match"
"""Header of a preference record: the version that it was made from, quoted as in an ETag."""
FORWARDED = "flowstate-forwarded"
"""Header of a record that came in on the wrong partition: ``topic/partition/offset``."""
EVENT_TOPICS = frozenset(topics.EVENTS)
CLOCK_TOPICS = frozenset((*topics.EVENTS, topics.TICKS))
_NO_RECORD: dict[str, Any] = {
    "topic": "", "offset": -1, "timestamp_ms": -1, "key": None, "value": None, "headers": [],
}  # fmt: skip


class DecideLogic:
    """``PartitionLogic`` of the decide role; see ``streams/engine/api.py`` for the contract."""

    def __init__(
        self,
        codec: Codec,
        policy: Policy,
        partitions: int,
        privacy: PrivacySettings | None = None,
    ) -> None:
        self.codec = codec
        self.policy = policy
        self.partitions = partitions
        self.forwarded_count = 0
        self._switches = KillSwitches(codec)
        self._forgetting = Forgetting(privacy or PrivacySettings(), codec, partitions)
        self._readers: dict[str, Callable[[bytes, Source], tuple[str, Input]]] = {
            **dict.fromkeys(topics.EVENTS, self._read_event),
            topics.PREFERENCES: self._read_preference,
            topics.DESTINATIONS: self._read_destination,
            topics.RECEIPTS: self._read_receipt,
            topics.CANCELLATIONS: self._read_cancellation,
            topics.FEEDBACK: self._read_feedback,
            topics.ERASURES: self._forgetting.read,
        }

    @property
    def policy_version(self) -> str:
        """Goes into each batch's fence record."""
        return self.policy.version

    # ------------------------------------------------------------------------- engine's contract

    async def prepare(self, records: Sequence[Any]) -> None:
        """Fetches writers' schemas that are not known yet."""
        await self.codec.prepare([record.value for record in records if record.value])

    def process(self, batch: Batch, view: StateView) -> Result:
        """Decides a batch: each recipient's records in their order, recipient after recipient."""
        policy = self.policy  # One for the whole batch, whatever is loaded meanwhile.
        result = Result(policy_version=policy.version)
        # In the order of their first record: who came first is written, and sent, first.
        entered = self._entered(batch, view, result)
        # In stream time records have their producers' times: nobody knows what came after a lift.
        may_return = not batch.stream_time and _has_erasures(batch)
        for some in _few(tuple(entered)):
            work = load_all(view, batch.partition, some)
            self._forgetting.mark_known(work.values(), view, batch.now_ms, result)
            for recipient_id, mine in work.items():
                inputs = entered.pop(recipient_id)
                if may_return:
                    mine.comes_back = returning.put_in_order(inputs)
                for record, what, now_ms in inputs:
                    self._apply(mine, batch, record, what, now_ms, policy, result)
                mine.write(result, self.codec, policy.version, batch.stream_time, self._claims)
        return result

    def _entered(
        self, batch: Batch, view: StateView, result: Result
    ) -> dict[str, list[returning.Entered]]:
        """What there is to decide, by recipient."""
        entered: dict[str, list[returning.Entered]] = {}
        clock_ms = batch.now_ms
        for record in batch.records:
            pair = self._decode(record, batch, result)
            if batch.stream_time and record.topic in CLOCK_TOPICS:
                clock_ms = max(clock_ms, record.timestamp)
            if pair is None:
                if record.topic == topics.DESTINATION_CLAIMS:
                    self._claim(batch, record, view, result)
                continue
            entered.setdefault(pair[0], []).append((record, pair[1], clock_ms))
        return entered

    def _apply(
        self,
        mine: RecipientWork,
        batch: Batch,
        record: Record,
        entered: Input,
        now_ms: int,
        policy: Policy,
        result: Result,
    ) -> None:
        """Decides one record of a recipient."""
        if mine.is_new and self._forward(batch, record, mine.recipient_id, result):
            return
        if batch.stream_time:
            if isinstance(entered, Feedback):
                # An answer is decided at the time of the delivery that it answers.
                now_ms = record.timestamp
                entered = replace(entered, at_ms=now_ms)
            mine.wake_through(now_ms, policy)
        about_erasure = mine.forgotten_since_ms is not None or type(entered) is Erasure
        if about_erasure and self._forgetting.apply(mine, entered, now_ms, policy, result):
            return
        mine.apply(entered, now_ms, policy)
        if mine.dead_letters:
            self._dead_letters(mine, record, batch.partition, result)

    def wake(
        self,
        partition: int,
        due: Sequence[tuple[int, bytes]],
        now_ms: int,
        view: StateView,
        stream_time: bool,
    ) -> Result:
        """Releases what is due; an entry of the index that no longer holds is removed."""
        policy = self.policy
        result = Result(policy_version=policy.version)
        entries: dict[str, list[int]] = {}
        for due_ms, owner in due:
            entries.setdefault(owner.decode(), []).append(due_ms)
        for some in _few(tuple(entries)):
            for recipient_id, mine in load_all(view, partition, some).items():
                owner = recipient_id.encode()
                result.due += [
                    Due(owner, at, None) for at in entries[recipient_id] if at != mine.due_ms
                ]
                if stream_time:
                    mine.wake_through(now_ms, policy)
                elif mine.due_ms is not None and mine.due_ms <= now_ms:
                    mine.apply(Wake(recipient_id), now_ms, policy)
                if mine.dead_letters:
                    self._dead_letters(mine, None, partition, result)
                mine.write(result, self.codec, policy.version, stream_time, self._claims)
                if mine.due_ms is not None and mine.due_ms == mine.due_ms_before:
                    # The index had a stale entry beside the true one: keep the true one.
                    result.due.append(Due(owner, None, mine.due_ms))
        return result

    def due_of(self, key: bytes, value: bytes | None) -> Due | None:
        """Due entry of a restored part that has one."""
        if not key.startswith(tables.MOVING):
            return None
        return Due(key[1:], None, due_of_moving(value))

    def clock_after(self, batch: Batch) -> int:
        """The largest time of an event or tick seen so far; control records do not move it."""
        times: list[int] = [r.timestamp for r in batch.records if r.topic in CLOCK_TOPICS]
        return max([batch.now_ms, *times])

    def on_kill_switch(self, record: Record) -> None:
        """Obeys a kill switch from the next batch on."""
        self._switches.on_record(record)
        self.use_policy(self.policy)

    def use_policy(self, policy: Policy) -> None:
        """Takes a reloaded catalogue from the next batch on; kill switches stay as they are."""
        self.policy = replace(policy, kills=self._switches.active)

    # ---------------------------------------------------------------------------------- decoding

    def _decode(self, record: Record, batch: Batch, result: Result) -> tuple[str, Input] | None:
        """(recipient, input), or ``None`` when there is nothing to decide for a recipient."""
        reader = self._readers.get(record.topic)
        if reader is None:
            return None
        if self._too_large(record, result):
            return None
        value = record.value
        if value is None:
            return self._tombstone(record, result)
        source = Source(record.topic, record.partition, record.offset, record.timestamp)
        try:
            found = reader(value, source)
            if record.topic == topics.PREFERENCES and record.headers:
                return found[0], _conditional(found[1], record, batch)
            return found
        except DecodeError as error:
            letter = DeadLetter(error.reason, error.detail, source)
            self._bury(letter, record, record.partition, None, result)
            return None

    def _too_large(self, record: Record, result: Result) -> bool:
        """Whether nobody reads it because of its size; then it is a dead letter."""
        size = size_of(record)
        if size <= RECORD_BYTES_MAX:
            return False
        source = Source(record.topic, record.partition, record.offset, record.timestamp)
        letter = DeadLetter("event_too_large", f"{size} bytes", source)
        self._bury(letter, record, record.partition, None, result)
        return True

    def _tombstone(self, record: Record, result: Result) -> tuple[str, Input] | None:
        """No value: preferences are reset; anywhere else it means nothing and is a dead letter."""
        source = Source(record.topic, record.partition, record.offset, record.timestamp)
        if record.topic == topics.PREFERENCES and record.key:
            try:
                recipient_id = record.key.decode()
                return recipient_id, PreferenceInput(recipient_id, None, source)
            except UnicodeDecodeError:
                pass
        letter = DeadLetter("undecodable", "the record has no value", source)
        self._bury(letter, record, record.partition, None, result)
        return None

    def _read_event(self, value: bytes, source: Source) -> tuple[str, Input]:
        event = self.codec.decode_event(value)
        return event.recipient_id, EventInput(event, source)

    def _read_preference(self, value: bytes, source: Source) -> tuple[str, Input]:
        recipient_id, preferences = self.codec.decode_preference(value)
        return recipient_id, PreferenceInput(recipient_id, preferences, source)

    def _read_destination(self, value: bytes, source: Source) -> tuple[str, Input]:
        change = self.codec.decode_destination(value, source)
        return change.recipient_id, change

    def _read_receipt(self, value: bytes, source: Source) -> tuple[str, Input]:
        receipt = self.codec.decode_receipt(value, source)
        return receipt.recipient_id, receipt

    def _read_cancellation(self, value: bytes, source: Source) -> tuple[str, Input]:
        request = self.codec.decode_cancellation(value, source)
        return request.recipient_id, request

    def _read_feedback(self, value: bytes, source: Source) -> tuple[str, Input]:
        feedback = self.codec.decode_feedback(value, source)
        return feedback.delivery.recipient_id, feedback

    # ------------------------------------------------------------------------------------ effects

    def _forward(self, batch: Batch, record: Record, recipient_id: str, result: Result) -> bool:
        """Sends a record of a recipient unknown here to its partition, if that is another."""
        key = recipient_id.encode()
        right = partition_for(key, self.partitions)
        if right == batch.partition:
            return False
        origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
        headers = (*((name, value) for name, value in record.headers), (FORWARDED, origin))
        result.outputs.append(
            Output(
                record.topic,
                key,
                record.value,
                right,
                record.timestamp if batch.stream_time else None,
                headers,
            )
        )
        self.forwarded_count += 1
        if self.forwarded_count & (self.forwarded_count - 1) == 0:  # 1, 2, 4, 8: never a flood
            logger.warning(
                "%d records came in on a wrong partition (latest: %s); producers need "
                "partitioner=murmur2_random, see README",
                self.forwarded_count,
                record.topic,
            )
        return True

    def _claim(self, batch: Batch, record: Record, view: StateView, result: Result) -> None:
        """Keeps who owns an address, and takes it from who owned it before."""
        if self._too_large(record, result):
            return None
        if record.value is None:
            return self._unclaim(record, view, result)
        source = Source(record.topic, record.partition, record.offset, record.timestamp)
        try:
            new = self.codec.decode_claim(record.value)
        except DecodeError as error:
            letter = DeadLetter(error.reason, error.detail, source)
            return self._bury(letter, record, batch.partition, None, result)
        key = tables.CLAIM + new.address_hash.encode()
        stored = result.changes[key] if key in result.changes else view.get_many([key])[0]
        current = self.codec.decode_claim(stored) if stored is not None else None
        transfer = decide_claim(current, new)
        if transfer.owner is not current:
            result.changes[key] = self.codec.encode_claim(transfer.owner)
        if transfer.loser is not None:
            at_ms = max(transfer.owner.claimed_at_ms, transfer.loser.claimed_at_ms)
            result.outputs.append(self._removal(transfer.loser, at_ms))
        return None

    def _unclaim(self, record: Record, view: StateView, result: Result) -> None:
        """Forgets who owns an address, when it is who was forgotten."""
        key = tables.CLAIM + (record.key or b"")
        stored = result.changes[key] if key in result.changes else view.get_many([key])[0]
        if stored is not None:
            owner = self.codec.decode_claim(stored).recipient_id
            if self._forgetting.is_owner(owner, record.headers):
                result.changes[key] = None

    def _removal(self, loser: Claim, at_ms: int) -> Output:
        removal = {
            "recipient_id": loser.recipient_id,
            "destination_id": loser.destination_id,
            "kind": loser.kind,
            # Whatever the destination's address is by now: only the claimed one is taken away.
            "attributes": {"address_hash": loser.address_hash},
            "removed": True,
            "at_ms": at_ms,
            "reason": "claimed by another recipient",
        }
        key = loser.recipient_id.encode()
        value = self.codec.encode("destination", removal)
        return Output(topics.DESTINATIONS, key, value, partition_for(key, self.partitions))

    def _claims(self, claims: list[Claim], result: Result) -> None:
        for claim in claims:
            key = claim.address_hash.encode()
            result.outputs.append(
                Output(
                    topics.DESTINATION_CLAIMS,
                    key,
                    self.codec.encode_claim(claim),
                    partition_for(key, self.partitions),
                )
            )

    def _dead_letters(
        self, mine: RecipientWork, record: Record | None, partition: int, result: Result
    ) -> None:
        for letter in mine.dead_letters:
            self._bury(letter, record if letter.source else None, partition, mine, result)
        mine.dead_letters.clear()

    def _bury(
        self,
        letter: DeadLetter,
        record: Record | None,
        partition: int,
        mine: RecipientWork | None,
        result: Result,
    ) -> None:
        """Writes a dead letter with the bytes, place and headers of the record it is about."""
        about = _NO_RECORD if record is None else remains_of(record, letter.detail)
        value = self.codec.encode_dead_letter(
            {
                "detail": letter.detail[:DETAIL_CHARACTERS_MAX],
                **about,
                "recipient_id": mine.recipient_id if mine else None,
                "partition": partition,
                "reason": letter.reason,
                "delivery": letter.delivery,
                "dead_at_ms": record.timestamp if record else (mine.now_ms if mine else 0),
            }
        )
        key = mine.recipient_id.encode() if mine else about["key"]
        result.outputs.append(Output(topics.DEAD_LETTERS, key, value))


def _few(recipients: Sequence[str]) -> Iterator[Sequence[str]]:
    """``RECIPIENTS_AT_ONCE`` at a time."""
    for start in range(0, len(recipients), RECIPIENTS_AT_ONCE):
        yield recipients[start : start + RECIPIENTS_AT_ONCE]


def _has_erasures(batch: Batch) -> bool:
    return any(record.topic == topics.ERASURES for record in batch.records)


def _conditional(change: Input, record: Record, batch: Batch) -> Input:
    """A change of preferences with the version that its record says it was made from.

    Not where everything is read again: the topic is compacted, so what it was made from is gone.
    Refused, it would leave somebody without any choice who has opted out.
    """
    made_from = dict(record.headers).get(IF_MATCH)
    if made_from is None or not isinstance(change, PreferenceInput):
        return change
    if record.offset < batch.read_again.get(record.topic, 0):
        return change
    return replace(change, replaces=made_from.decode("ascii", "replace").strip('"'))


def explain_state(view: StateView, partition: int, recipient_id: str) -> RecipientWork:
    """The state of one recipient, for pages and previews; nothing is changed."""
    return load_one(view, partition, recipient_id)
