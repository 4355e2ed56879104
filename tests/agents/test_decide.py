"""The decide step over whole batches, with the real codec and a dictionary for a store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord

from streams import tables, topics
from streams.agents.decide import FORWARDED, IF_MATCH, DecideLogic
from streams.agents.recipient_work import load_activities
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import Delivery
from streams.core.policy import Category, DigestRule, LimitRule, Policy, RetryRule
from streams.engine.api import Batch, Due, Result
from streams.partitioning import partition_for

PARTITIONS = 4
T0 = 1_700_000_000_000
POLICY = Policy(
    "test",
    {
        "message": Category("message", channels=("push", "email")),
        "like": Category("like", digest=DigestRule("window", window_ms=60_000)),
        "capped": Category("capped", limits=(LimitRule("category", 1, 60_000, "drop"),)),
        "fragile": Category("fragile", retry=RetryRule(attempts_max=1)),
        "security": Category("security", priority="critical", mandatory=True),
    },
)


class Store:
    """A partition's state in a dict, with the engine's way of applying a result."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.due: set[tuple[int, bytes]] = set()

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> Iterable[tuple[bytes, bytes]]:
        return [(k, v) for k, v in sorted(self.values.items()) if k.startswith(prefix)][:limit]

    def apply(self, result: Result) -> None:
        for key, value in result.changes.items():
            if value is None:
                self.values.pop(key, None)
            else:
                self.values[key] = value
        for due in result.due:
            if due.old_ms is not None:
                self.due.discard((due.old_ms, due.owner))
            if due.new_ms is not None:
                self.due.add((due.new_ms, due.owner))


@pytest.fixture
def codec() -> Codec:
    return Codec()


@pytest.fixture
def logic(codec: Codec) -> DecideLogic:
    return DecideLogic(codec, POLICY, PARTITIONS)


def recipient_on(partition: int, number: int = 0) -> str:
    names = (f"user-{i}" for i in range(10_000))
    found = [n for n in names if partition_for(n.encode(), PARTITIONS) == partition]
    return found[number]


ME = recipient_on(1)


def record(
    topic: str,
    value: bytes | None,
    offset: int = 0,
    key: str | None = ME,
    at_ms: int = T0,
    partition: int = 1,
) -> Any:
    raw_key = None if key is None else key.encode()
    return ConsumerRecord(
        topic, partition, offset, at_ms, 0, raw_key, value, None, 0, len(value or b""), ()
    )


def event(codec: Codec, event_id: str, category: str = "message", **fields: Any) -> bytes:
    mapping = {
        "event_id": event_id,
        "recipient_id": ME,
        "category": category,
        "created_at_ms": T0,
        "data": {},
        **fields,
    }
    return codec.encode("event", mapping)


def destination(codec: Codec, recipient: str = ME, at_ms: int = T0, token: str = "t-1") -> bytes:
    return codec.encode(
        "destination",
        {
            "recipient_id": recipient,
            "destination_id": "phone",
            "kind": "apns",
            "address": token,
            "registered_at_ms": at_ms,
        },
    )


def run(
    logic: DecideLogic, store: Store, *records: Any, now_ms: int = T0, stream_time: bool = False
) -> Result:
    result = logic.process(Batch(1, now_ms, list(records), stream_time), store)
    store.apply(result)
    return result


def gathering(logic: DecideLogic, codec: Codec) -> Store:
    """A store in which ME has an address, and a like that gathers."""
    store = Store()
    run(
        logic,
        store,
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.EVENTS_NORMAL, event(codec, "e1", "like")),
    )
    return store


def outputs(result: Result, topic: str) -> list[Any]:
    return [output for output in result.outputs if output.topic == topic]


def entries(codec: Codec, result: Result) -> list[dict[str, Any]]:
    found = []
    for output in outputs(result, topics.DECISIONS):
        found += codec.decode("decision", output.value)["entries"]
    return found


def test_an_event_is_delivered_on_the_partition_it_came_in_on(
    logic: DecideLogic, codec: Codec
) -> None:
    result = run(
        logic,
        store := Store(),
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.EVENTS_NORMAL, event(codec, "e1"), 7),
    )
    (output,) = outputs(result, "deliveries.apns")
    delivery = codec.decode_delivery(output.value)
    assert isinstance(delivery, Delivery)
    assert (delivery.address, delivery.event_id, output.partition) == ("t-1", "e1", None)
    assert delivery.delivery_id.startswith("001")
    (entry,) = entries(codec, result)
    assert (entry["verdict"], entry["source_offset"]) == ("delivering", 7)
    assert tables.PROFILE + ME.encode() in store.values


def test_critical_leaves_by_its_own_lane(logic: DecideLogic, codec: Codec) -> None:
    result = run(
        logic,
        Store(),
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.EVENTS_CRITICAL, event(codec, "e1", "security")),
    )
    assert len(outputs(result, "deliveries.apns.critical")) == 1
    assert not outputs(result, "deliveries.apns")


def test_one_write_and_one_decision_record_per_recipient_and_batch(
    logic: DecideLogic, codec: Codec
) -> None:
    events = [record(topics.EVENTS_NORMAL, event(codec, f"e{i}"), i) for i in range(5)]
    result = run(logic, Store(), record(topics.DESTINATIONS, destination(codec)), *events)
    assert len(outputs(result, topics.DECISIONS)) == 1
    assert len(entries(codec, result)) == 5
    assert sorted(key[:1] for key in result.changes) == [b"p", b"w"]


@pytest.mark.parametrize("stream_time", [False, True])
def test_how_many_recipients_are_decided_at_once_changes_nothing(
    codec: Codec, monkeypatch: pytest.MonkeyPatch, stream_time: bool
) -> None:
    everybody = [recipient_on(1, number) for number in range(10)]
    records = [
        record(topics.DESTINATIONS, destination(codec, name, token=f"t-{name}"), key=name)
        for name in everybody
    ]
    for number in range(40):  # In turn, so that nobody's records are beside each other.
        name, category = everybody[number * 7 % 10], ("message", "like", "capped")[number % 3]
        value = event(codec, f"e{number}", category, recipient_id=name)
        records.append(record(topics.EVENTS_NORMAL, value, number, name, T0 + number * 2_000))
        if number % 8 == 0:
            records.append(record(topics.EVENTS_NORMAL, b"garbage", number, name, T0))
    seen = []
    for at_once in (1, 3, 64):
        monkeypatch.setattr("streams.agents.decide.RECIPIENTS_AT_ONCE", at_once)
        logic, store = DecideLogic(codec, POLICY, PARTITIONS), Store()
        decided = run(logic, store, *records, stream_time=stream_time)
        due = sorted(store.due)
        woken = logic.wake(1, due, T0 + 200_000, store, stream_time)
        store.apply(woken)
        seen.append((decided, due, woken, store.values, store.due))
    assert seen[0] == seen[1] == seen[2]
    decided, due, woken, *_ = seen[0]
    assert [output.key.decode() for output in outputs(decided, topics.DECISIONS)] == [
        # As their first records came, and once in each decision time.
        *(name for name in everybody for _ in range(4 if stream_time else 1))
    ]
    assert len(outputs(decided, topics.DEAD_LETTERS)) == 5
    assert due
    assert outputs(woken, topics.DECISIONS)


def test_the_same_batch_again_has_no_effect_but_duplicates(
    logic: DecideLogic, codec: Codec
) -> None:
    store = Store()
    batch = [
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.EVENTS_NORMAL, event(codec, "e1"), 1),
    ]
    run(logic, store, *batch)
    again = run(logic, store, *batch)
    assert not outputs(again, "deliveries.apns")
    assert [entry["verdict"] for entry in entries(codec, again)] == ["duplicate"]
    assert not again.changes


def test_garbage_on_any_topic_is_a_dead_letter_with_its_bytes_and_stops_nothing(
    logic: DecideLogic, codec: Codec
) -> None:
    garbage = b"\xff\xfenot avro"
    inputs = (
        *topics.EVENTS,
        topics.PREFERENCES,
        topics.DESTINATIONS,
        topics.RECEIPTS,
        topics.CANCELLATIONS,
        topics.FEEDBACK,
        topics.DESTINATION_CLAIMS,
    )
    records = [record(topic, garbage, i) for i, topic in enumerate(inputs)]
    good = record(topics.EVENTS_NORMAL, event(codec, "e1"), 99)
    result = run(logic, Store(), *records, good)
    letters = [codec.decode("dead_letter", o.value) for o in outputs(result, topics.DEAD_LETTERS)]
    assert [(x["topic"], x["offset"]) for x in letters] == [(t, i) for i, t in enumerate(inputs)]
    assert all(letter["value"] == garbage and letter["reason"] for letter in letters)
    assert [entry["event_id"] for entry in entries(codec, result)] == ["e1"]


def test_an_invalid_event_is_a_dead_letter_and_has_an_entry(
    logic: DecideLogic, codec: Codec
) -> None:
    value = event(codec, "e1", "no-such-category")
    result = run(logic, Store(), record(topics.EVENTS_NORMAL, value, 3))
    (letter,) = outputs(result, topics.DEAD_LETTERS)
    decoded = codec.decode("dead_letter", letter.value)
    assert (decoded["reason"], decoded["value"], decoded["offset"]) == (
        "unknown_category",
        value,
        3,
    )
    assert entries(codec, result)[0]["verdict"] == "dead_lettered"


def test_a_record_too_large_to_read_is_a_dead_letter(logic: DecideLogic, codec: Codec) -> None:
    value = event(codec, "e1", data={"text": "x" * 300_000})
    result = run(logic, Store(), record(topics.EVENTS_NORMAL, value))
    decoded = codec.decode("dead_letter", outputs(result, topics.DEAD_LETTERS)[0].value)
    assert decoded["reason"] == "event_too_large"
    assert decoded["value"] == value


@pytest.mark.parametrize("key", [None, "somebody-else"])
def test_a_record_on_the_wrong_partition_is_forwarded_and_not_decided(
    logic: DecideLogic, codec: Codec, key: str | None
) -> None:
    other = recipient_on(2)
    value = event(codec, "e1", recipient_id=other)
    result = run(logic, Store(), record(topics.EVENTS_NORMAL, value, 5, key))
    (output,) = result.outputs
    assert (output.topic, output.partition, output.key) == (
        topics.EVENTS_NORMAL,
        2,
        other.encode(),
    )
    assert output.value == value
    assert dict(output.headers)[FORWARDED] == b"events.normal/1/5"
    assert not result.changes


def test_a_record_without_a_key_on_the_right_partition_is_decided(
    logic: DecideLogic, codec: Codec
) -> None:
    result = run(logic, Store(), record(topics.EVENTS_NORMAL, event(codec, "e1"), 0, None))
    assert len(entries(codec, result)) == 1


def test_a_device_that_changes_hands_is_taken_from_its_first_owner(
    logic: DecideLogic, codec: Codec
) -> None:
    you = recipient_on(1, 1)
    store = Store()
    claims = []
    for who, at_ms in ((ME, T0), (you, T0 + 5)):
        value = destination(codec, who, at_ms)
        result = run(logic, store, record(topics.DESTINATIONS, value, 0, who))
        claims += outputs(result, topics.DESTINATION_CLAIMS)
    assert claims[0].key == claims[1].key
    moved = [
        record(topics.DESTINATION_CLAIMS, claim.value, i, claim.key.decode())
        for i, claim in enumerate(claims)
    ]
    (removal,) = outputs(run(logic, store, *moved), topics.DESTINATIONS)
    assert (removal.key, removal.partition) == (ME.encode(), 1)
    run(logic, store, record(topics.DESTINATIONS, removal.value))
    assert not state_codec.decode_profile(store.values.get(b"p" + ME.encode())).destinations
    assert state_codec.decode_profile(store.values[b"p" + you.encode()]).destinations


def test_a_digest_is_due_and_released_and_the_index_stays_true(
    logic: DecideLogic, codec: Codec
) -> None:
    store = gathering(logic, codec)
    due = sorted(store.due)
    assert due == [(T0 + 60_000, ME.encode())]
    assert not logic.wake(1, [], T0 + 60_000, store, False).outputs
    result = logic.wake(1, due, T0 + 60_000, store, False)
    store.apply(result)
    assert len(outputs(result, "deliveries.apns")) == 1
    assert not store.due


def test_a_stale_due_entry_is_removed_and_the_true_one_kept(
    logic: DecideLogic, codec: Codec
) -> None:
    store = gathering(logic, codec)
    store.due.add((T0 + 1, ME.encode()))
    store.apply(logic.wake(1, [(T0 + 1, ME.encode())], T0 + 2, store, False))
    assert sorted(store.due) == [(T0 + 60_000, ME.encode())]


def test_restore_finds_the_due_entry_in_the_stored_part(logic: DecideLogic, codec: Codec) -> None:
    store = gathering(logic, codec)
    key = tables.MOVING + ME.encode()
    assert logic.due_of(key, store.values[key]) == Due(ME.encode(), None, T0 + 60_000)
    assert logic.due_of(key, None) == Due(ME.encode(), None, None)
    assert logic.due_of(tables.PROFILE + ME.encode(), b"") is None


def test_stream_time_moves_with_events_and_timers_fire_at_their_own_time(
    logic: DecideLogic, codec: Codec
) -> None:
    records = [
        record(topics.DESTINATIONS, destination(codec), 0, ME, T0 * 2),
        record(topics.EVENTS_NORMAL, event(codec, "e1", "like"), 0, ME, T0),
        record(topics.EVENTS_NORMAL, event(codec, "e2", "message"), 1, ME, T0 + 90_000),
    ]
    result = run(logic, Store(), *records, now_ms=0, stream_time=True)
    sent = [codec.decode_delivery(o.value) for o in outputs(result, "deliveries.apns")]
    assert [(d.count, d.decided_at_ms) for d in sent] == [(1, T0 + 60_000), (1, T0 + 90_000)]
    assert [o.timestamp_ms for o in outputs(result, "deliveries.apns")] == [
        T0 + 60_000,
        T0 + 90_000,
    ]
    assert logic.clock_after(Batch(1, 0, records, True)) == T0 + 90_000


def test_stream_time_does_not_depend_on_how_records_are_batched(codec: Codec) -> None:
    records = [record(topics.DESTINATIONS, destination(codec))] + [
        record(
            topics.EVENTS_NORMAL,
            event(codec, f"e{i}", ("like", "message", "capped")[i % 3]),
            i,
            ME,
            T0 + i * 17_000,
        )
        for i in range(60)
    ]

    def totals(size: int) -> tuple[list[Any], dict[bytes, bytes]]:
        logic, store, seen, clock = DecideLogic(codec, POLICY, PARTITIONS), Store(), [], 0
        for at in range(0, len(records), size):
            batch = Batch(1, clock, records[at : at + size], True)
            result = logic.process(batch, store)
            store.apply(result)
            seen += entries(codec, result)
            clock = logic.clock_after(batch)
            due = sorted(pair for pair in store.due if pair[0] <= clock)
            result = logic.wake(1, due, clock, store, True)
            store.apply(result)
            seen += entries(codec, result)
        return seen, store.values

    assert totals(1) == totals(7) == totals(1000)


def test_exhausted_attempts_are_dead_lettered_with_the_delivery(
    logic: DecideLogic, codec: Codec
) -> None:
    store = Store()
    result = run(
        logic,
        store,
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.EVENTS_NORMAL, event(codec, "e1", "fragile")),
    )
    delivery = codec.decode_delivery(outputs(result, "deliveries.apns")[0].value)
    value = codec.encode_feedback(delivery, "retry", "503", None, T0, "apns")
    result = run(logic, store, record(topics.FEEDBACK, value, 4))
    decoded = codec.decode("dead_letter", outputs(result, topics.DEAD_LETTERS)[0].value)
    assert decoded["delivery"]["delivery_id"] == delivery.delivery_id
    assert decoded["reason"] == "attempts_exhausted"


def test_a_kill_switch_stops_a_category_until_it_is_off(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    run(logic, store, record(topics.DESTINATIONS, destination(codec)))

    def switch(active: bool) -> None:
        mapping = {
            "scope": "category:message",
            "active": active,
            "reason": "test",
            "set_by": "test",
            "set_at_ms": T0,
        }
        logic.on_kill_switch(record(topics.KILL_SWITCH, codec.encode("kill_switch", mapping)))

    switch(True)
    stopped = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1"), 1))
    assert entries(codec, stopped)[0]["reason"] == "killed"
    switch(False)
    sent = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e2"), 2))
    assert len(outputs(sent, "deliveries.apns")) == 1


def test_a_tombstone_resets_preferences(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    off = codec.encode("preference", {"recipient_id": ME, "default": False})
    run(
        logic,
        store,
        record(topics.DESTINATIONS, destination(codec)),
        record(topics.PREFERENCES, off),
    )
    silent = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1"), 1))
    assert entries(codec, silent)[0]["reason"] == "opted_out"
    run(logic, store, record(topics.PREFERENCES, None))
    sent = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e2"), 2))
    assert len(outputs(sent, "deliveries.apns")) == 1


@pytest.mark.parametrize(("below", "reason"), [(0, "routed"), (9, "routed"), (10, "opted_out")])
def test_a_choice_that_is_read_again_holds_whatever_it_was_made_from(
    logic: DecideLogic, codec: Codec, below: int, reason: str
) -> None:
    """After a loss. What it was made from was compacted away, and with it the way to compare."""
    off = codec.encode("preference", {"recipient_id": ME, "default": False})
    chosen = record(topics.PREFERENCES, off, 9)
    chosen.headers = ((IF_MATCH, b'"some-older-version"'),)
    store = Store()
    batch = Batch(1, T0, [chosen], read_again={topics.PREFERENCES: below})
    store.apply(logic.process(batch, store))
    address = record(topics.DESTINATIONS, destination(codec))
    result = run(logic, store, address, record(topics.EVENTS_NORMAL, event(codec, "e1"), 1))
    assert entries(codec, result)[-1]["reason"] == reason


def test_a_claim_takes_the_address_it_is_about_and_no_newer_one(
    logic: DecideLogic, codec: Codec
) -> None:
    store = Store()
    first = run(logic, store, record(topics.DESTINATIONS, destination(codec)))
    (claim,) = outputs(first, topics.DESTINATION_CLAIMS)
    you = recipient_on(1, 1)
    theirs = run(logic, store, record(topics.DESTINATIONS, destination(codec, you, T0 + 5), 0, you))
    run(logic, store, record(topics.DESTINATIONS, destination(codec, ME, T0 + 3, "t-new"), 1))
    (later,) = outputs(theirs, topics.DESTINATION_CLAIMS)
    moved = [
        record(topics.DESTINATION_CLAIMS, one.value, i, one.key.decode())
        for i, one in enumerate((claim, later))
    ]
    (removal,) = outputs(run(logic, store, *moved), topics.DESTINATIONS)
    run(logic, store, record(topics.DESTINATIONS, removal.value))
    mine = state_codec.decode_profile(store.values[b"p" + ME.encode()]).destinations
    assert [kept.address for kept in mine] == ["t-new"]


def apart(store: Store) -> None:
    """Stores what moves as release 1 did: ``Activity`` under a key of its own."""
    value = store.values[tables.MOVING + ME.encode()]
    split = state_codec.waiting_at(value)
    store.values[tables.ACTIVITY + ME.encode()] = value[state_codec.HEAD_BYTES : split]
    store.values[tables.MOVING + ME.encode()] = value[: state_codec.DUE_BYTES] + value[split:]


def test_an_activity_that_release_1_kept_apart_is_known_and_joined(
    logic: DecideLogic, codec: Codec
) -> None:
    store = gathering(logic, codec)
    together = dict(store.values)
    apart(store)
    assert not state_codec.has_activity(store.values[tables.MOVING + ME.encode()])
    assert load_activities(store, [ME, "nobody"])[0].seen
    again = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1", "like")))
    assert [entry["reason"] for entry in entries(codec, again)] == ["duplicate"]
    run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e2", "like")))
    assert store.values.keys() == together.keys(), "the key of its own is gone"
    assert state_codec.has_activity(store.values[tables.MOVING + ME.encode()])
    third = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1", "like")))
    assert [entry["reason"] for entry in entries(codec, third)] == ["duplicate"]


def test_waiting_alone_is_stored_when_only_it_was_apart(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1", "message")))
    apart(store)
    del store.values[tables.MOVING + ME.encode()]
    assert load_activities(store, [ME])[0].seen
    again = run(logic, store, record(topics.EVENTS_NORMAL, event(codec, "e1", "message")))
    assert [entry["reason"] for entry in entries(codec, again)] == ["duplicate"]
