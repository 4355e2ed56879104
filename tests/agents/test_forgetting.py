"""Forgetting a recipient in the decide step: what goes, what stays, and what is refused after."""

from __future__ import annotations

from typing import Any

import pytest

from streams import tables, topics
from streams.agents.decide import DecideLogic
from streams.agents.recipient_work import FORGOTTEN_NAME
from streams.codec import Codec
from streams.core.control import address_hash
from streams.engine.api import Due, Result
from streams.privacy import PrivacySettings, Pseudonyms
from tests.agents.test_decide import (
    ME,
    PARTITIONS,
    POLICY,
    T0,
    Store,
    apart,
    destination,
    entries,
    event,
    outputs,
    record,
    run,
)

PRIVACY = PrivacySettings(hash_key="a key of these tests alone", forgotten_days=2)
DAY = 24 * 3_600_000
NAMES = Pseudonyms(PRIVACY)
MARK = tables.FORGOTTEN + NAMES.of(ME)


@pytest.fixture
def codec() -> Codec:
    return Codec()


@pytest.fixture
def logic(codec: Codec) -> DecideLogic:
    return DecideLogic(codec, POLICY, PARTITIONS, PRIVACY)


def erasure(codec: Codec, offset: int = 9, lifted: bool = False, names: Any = NAMES) -> Any:
    fields = {
        "recipient_hash": names.of(ME).hex(),
        "sealed": names.seal(ME),
        "forgotten_at_ms": T0,
        "lifted": lifted,
    }
    return record(topics.ERASURES, codec.encode("erasure", fields), offset, names.of(ME).hex())


def preference(codec: Codec, **fields: Any) -> Any:
    value = codec.encode("preference", {"recipient_id": ME, **fields})
    return record(topics.PREFERENCES, value, 5)


def normal(codec: Codec, event_id: str, category: str = "message", **fields: Any) -> Any:
    return record(topics.EVENTS_NORMAL, event(codec, event_id, category, **fields), 7)


def known(logic: DecideLogic, codec: Codec) -> Store:
    """A store in which ME has an address, choices, a digest that gathers and an event to come."""
    store = Store()
    run(
        logic,
        store,
        record(topics.DESTINATIONS, destination(codec)),
        preference(codec, zone="Asia/Tokyo"),
        normal(codec, "e1", "like"),
        normal(codec, "e2", send_at_ms=T0 + DAY),
    )
    assert store.due
    assert {key[:1] for key in store.values} == {b"p", b"w"}
    return store


def texts(result: Result) -> bytes:
    return b"".join((o.key or b"") + (o.value or b"") for o in result.outputs)


def test_state_goes_and_a_mark_stays(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    result = run(logic, store, erasure(codec))
    assert store.values == {MARK: T0.to_bytes(8)}
    assert not store.due
    assert ME.encode() not in MARK
    (tombstone,) = outputs(result, topics.PREFERENCES)
    assert (tombstone.key, tombstone.value) == (ME.encode(), None)
    (claim,) = outputs(result, topics.DESTINATION_CLAIMS)
    assert (claim.key, claim.value) == (address_hash("apns", "t-1").encode(), None)


def test_what_waited_has_its_verdict_under_no_name(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    result = run(logic, store, erasure(codec))
    decided = outputs(result, topics.DECISIONS)
    assert {codec.decode("decision", o.value)["recipient_id"] for o in decided} == {FORGOTTEN_NAME}
    assert {o.key for o in decided} == {FORGOTTEN_NAME.encode()}
    ended = [e for e in entries(codec, result) if e["verdict"] == "suppressed"]
    assert {e["reason"] for e in ended} == {"forgotten"}
    assert {e["event_id"] for e in ended} == {"e2", None}, "the scheduled one, and the digest"


@pytest.mark.parametrize("category", ["message", "like", "security", "no-such-category"])
@pytest.mark.parametrize("send_at_ms", [None, T0 + DAY])
def test_late_events_are_refused_and_nothing_of_them_is_kept(
    logic: DecideLogic, codec: Codec, category: str, send_at_ms: int | None
) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    late = normal(codec, "late", category, data={"x": "secret"}, send_at_ms=send_at_ms)
    result = run(logic, store, late, record(topics.DESTINATIONS, destination(codec)))
    assert store.values == {MARK: T0.to_bytes(8)}
    assert not store.due
    assert {o.topic for o in result.outputs} == {topics.DECISIONS}
    assert ME.encode() not in texts(result)
    assert b"secret" not in texts(result)
    last = entries(codec, result)[-1]
    refused = ("dead_lettered", "unknown_category") if "no-such" in category else None
    assert (last["verdict"], last["reason"]) == (refused or ("suppressed", "forgotten"))
    assert last["source_offset"] == 7 or send_at_ms, "its record has its verdict"


def test_saying_it_again_changes_nothing(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    again = run(logic, store, erasure(codec))
    assert store.values == {MARK: T0.to_bytes(8)}
    assert not outputs(again, topics.DECISIONS)
    assert not run(logic, store, record(topics.PREFERENCES, None, 6)).outputs
    assert store.values == {MARK: T0.to_bytes(8)}


def test_in_one_batch_what_came_before_goes_and_what_came_after_is_refused(
    logic: DecideLogic, codec: Codec
) -> None:
    store = Store()
    result = run(
        logic,
        store,
        record(topics.DESTINATIONS, destination(codec)),
        erasure(codec),
        preference(codec, zone="Asia/Tokyo"),
        normal(codec, "e1"),
    )
    assert store.values == {MARK: T0.to_bytes(8)}
    assert [(e["event_id"], e["reason"]) for e in entries(codec, result)] == [("e1", "forgotten")]


@pytest.mark.parametrize("together", [False, True])
def test_who_comes_back_starts_anew(logic: DecideLogic, codec: Codec, together: bool) -> None:
    store = known(logic, codec)
    if together:
        run(logic, store, erasure(codec), erasure(codec, 10, lifted=True))
    else:
        run(logic, store, erasure(codec))
        run(logic, store, erasure(codec, 10, lifted=True))
    assert not store.values
    run(logic, store, record(topics.DESTINATIONS, destination(codec), at_ms=T0 + DAY))
    result = run(logic, store, normal(codec, "new"))
    assert [o.topic for o in result.outputs if "deliv" in o.topic] == ["deliveries.apns"]


def test_a_mark_ends_by_itself(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    run(logic, store, preference(codec, zone="Asia/Tokyo"), now_ms=T0 + 2 * DAY)
    assert MARK in store.values
    run(logic, store, preference(codec, zone="Asia/Tokyo"), now_ms=T0 + 2 * DAY + 1)
    assert list(store.values) == [tables.PROFILE + ME.encode()]


def test_only_ones_own_claim_is_taken_back(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    claim = outputs(run(logic, store, erasure(codec)), topics.DESTINATION_CLAIMS)[0]
    for owner, is_left in (("somebody else", True), (ME, False)):
        value = codec.encode(
            "claim",
            {
                "address_hash": claim.key.decode(),
                "recipient_id": owner,
                "destination_id": "phone",
                "kind": "apns",
                "claimed_at_ms": T0,
            },
        )
        store.values[tables.CLAIM + claim.key] = value
        tombstone = record(topics.DESTINATION_CLAIMS, None, 0, claim.key.decode())
        run(logic, store, tombstone)
        assert tables.CLAIM + claim.key in store.values, "it does not say whose it was"
        tombstone.headers = claim.headers
        run(logic, store, tombstone)
        assert (tables.CLAIM + claim.key in store.values) is is_left


def test_an_erasure_under_another_key_is_a_dead_letter(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    other = Pseudonyms(PrivacySettings(hash_key="not the key of these tests"))
    result = run(logic, store, erasure(codec, names=other))
    (letter,) = outputs(result, topics.DEAD_LETTERS)
    assert "hash_key" in codec.decode("dead_letter", letter.value)["detail"]
    assert MARK not in store.values


def test_a_due_entry_of_a_forgotten_recipient_is_removed(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    result = logic.wake(1, [(T0, ME.encode())], T0 + DAY, store, False)
    assert result.due == [Due(ME.encode(), T0, None)]


def test_what_was_refused_is_no_dead_letter_after_a_return(
    logic: DecideLogic, codec: Codec
) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    bad = "no-such-category"
    records = (
        normal(codec, "secret", bad),
        erasure(codec, 10, lifted=True),
        normal(codec, "new", bad),
    )
    (letter,) = outputs(run(logic, store, *records), topics.DEAD_LETTERS)
    assert b"new" in letter.value
    assert b"secret" not in letter.value


def test_late_preferences_are_taken_out_of_their_compacted_topic(
    logic: DecideLogic, codec: Codec
) -> None:
    store = known(logic, codec)
    run(logic, store, erasure(codec))
    result = run(logic, store, preference(codec, zone="Asia/Tokyo"))
    (tombstone,) = outputs(result, topics.PREFERENCES)
    assert (tombstone.key, tombstone.value) == (ME.encode(), None)
    assert store.values == {MARK: T0.to_bytes(8)}
    # Its own tombstone comes back to it, and is answered with nothing.
    result = run(logic, store, record(topics.PREFERENCES, None, 6))
    assert outputs(result, topics.PREFERENCES) == []


def test_what_release_1_kept_apart_goes_too(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    apart(store)
    run(logic, store, erasure(codec))
    assert not [key for key in store.values if key[1:] == ME.encode()]
