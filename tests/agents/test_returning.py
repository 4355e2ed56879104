"""Who was forgotten and came back: what they said since then holds, and only that."""

from __future__ import annotations

from typing import Any

import pytest

from streams import tables, topics
from streams.agents.decide import DecideLogic
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import Profile
from tests.agents.test_decide import (
    ME,
    PARTITIONS,
    POLICY,
    T0,
    Store,
    destination,
    entries,
    outputs,
    record,
    run,
)
from tests.agents.test_forgetting import DAY, MARK, PRIVACY, erasure, known, normal, preference

FORGOTTEN, LIFTED, SINCE, NOW = T0 + 1_000, T0 + 2_000, T0 + 3_000, T0 + 4_000


@pytest.fixture
def codec() -> Codec:
    return Codec()


@pytest.fixture
def logic(codec: Codec) -> DecideLogic:
    return DecideLogic(codec, POLICY, PARTITIONS, PRIVACY)


def at(appended_at_ms: int, made: Any) -> Any:
    made.timestamp = appended_at_ms
    return made


def forgotten(codec: Codec, at_ms: int = FORGOTTEN) -> Any:
    return at(at_ms, erasure(codec))


def lifted(codec: Codec, at_ms: int = LIFTED) -> Any:
    return at(at_ms, erasure(codec, 10, lifted=True))


def address(codec: Codec, at_ms: int, token: str = "t-1") -> Any:
    value = destination(codec, at_ms=at_ms, token=token)
    return record(topics.DESTINATIONS, value, at_ms=at_ms)


def unsubscribed(codec: Codec, at_ms: int) -> Any:
    fields = {"recipient_id": ME, "kind": "unsubscribed", "name": "channel:push"}
    value = codec.encode("receipt", {**fields, "occurred_at_ms": at_ms})
    return record(topics.RECEIPTS, value, 3, at_ms=at_ms)


def profile(store: Store) -> Profile:
    return state_codec.decode_profile(store.values.get(tables.PROFILE + ME.encode()))


def later(logic: DecideLogic, codec: Codec, store: Store, *records: Any) -> Any:
    return run(logic, store, *records, now_ms=NOW)


def refused_as(logic: DecideLogic, codec: Codec, store: Store) -> str:
    return str(entries(codec, later(logic, codec, store, normal(codec, "new")))[-1]["reason"])


def test_all_read_again_at_once_keeps_what_was_said_since(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    off = at(SINCE, preference(codec, default=False))
    again = (off, address(codec, SINCE), forgotten(codec), lifted(codec))
    result = later(logic, codec, store, *again)
    assert profile(store).preferences.default is False
    assert [d.registered_at_ms for d in profile(store).destinations] == [SINCE]
    assert outputs(result, topics.PREFERENCES) == [], "a tombstone would take the opt-out away"
    assert MARK not in store.values
    kept = dict(store.values)
    later(logic, codec, store, *again)
    assert store.values == kept, "the same input twice has no new effects"
    assert refused_as(logic, codec, store) == "opted_out"


def test_an_opt_out_read_together_with_the_lift_holds(logic: DecideLogic, codec: Codec) -> None:
    store = known(logic, codec)
    later(logic, codec, store, forgotten(codec))
    off = at(SINCE, preference(codec, default=False))
    result = later(logic, codec, store, off, address(codec, SINCE), lifted(codec))
    assert outputs(result, topics.PREFERENCES) == []
    assert refused_as(logic, codec, store) == "opted_out"


def test_an_unsubscription_read_together_with_the_lift_holds(
    logic: DecideLogic, codec: Codec
) -> None:
    store = known(logic, codec)
    later(logic, codec, store, forgotten(codec))
    again = (address(codec, SINCE), unsubscribed(codec, SINCE), lifted(codec))
    later(logic, codec, store, *again)
    assert [s.scope for s in profile(store).suppressions] == ["channel:push"]


def test_what_was_read_batches_before_is_kept_by_its_date(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    later(
        logic,
        codec,
        store,
        at(SINCE, preference(codec, default=False, updated_at_ms=SINCE)),
        address(codec, SINCE),
        unsubscribed(codec, SINCE),
    )
    before = dict(store.values)
    result = later(logic, codec, store, forgotten(codec), lifted(codec))
    assert profile(store).preferences.default is False
    assert store.values == before
    assert result.outputs == [], "neither the choices nor the claim are taken back"


def test_one_lift_is_enough_for_several_erasures(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    later(logic, codec, store, address(codec, SINCE))
    twice = (forgotten(codec), forgotten(codec, FORGOTTEN + 1), lifted(codec))
    result = later(logic, codec, store, *twice)
    assert len(profile(store).destinations) == 1
    assert outputs(result, topics.DESTINATION_CLAIMS) == []


@pytest.mark.parametrize("dated", [0, T0 - 1, T0, NOW + DAY])
def test_what_is_not_dated_after_the_lift_goes(
    logic: DecideLogic, codec: Codec, dated: int
) -> None:
    """Before it, at it (the lift itself is dated ``T0``), without a date, or in the future."""
    store = Store()
    later(logic, codec, store, at(T0, preference(codec, zone="Asia/Tokyo", updated_at_ms=dated)))
    result = later(logic, codec, store, forgotten(codec), lifted(codec))
    assert store.values == {}
    (tombstone,) = outputs(result, topics.PREFERENCES)
    assert tombstone.value is None


def test_what_was_said_before_the_lift_goes(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    for appended_at_ms in (T0, LIFTED):
        early = at(appended_at_ms, preference(codec, zone="Asia/Tokyo"))
        result = later(logic, codec, store, early, forgotten(codec), lifted(codec))
        assert store.values == {}
        assert outputs(result, topics.PREFERENCES)


def test_nothing_is_spared_of_who_did_not_come_back(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    late = at(SINCE, preference(codec, zone="Asia/Tokyo", updated_at_ms=SINCE))
    result = later(logic, codec, store, late, address(codec, SINCE), forgotten(codec))
    assert list(store.values) == [MARK]
    assert outputs(result, topics.PREFERENCES)
    again = (late, lifted(codec), forgotten(codec, SINCE + 1))
    later(logic, codec, store, *again)
    assert list(store.values) == [MARK], "they came back, and were forgotten once more"


def test_in_stream_time_records_have_no_times_to_go_by(logic: DecideLogic, codec: Codec) -> None:
    store = Store()
    again = (at(SINCE, preference(codec, default=False)), forgotten(codec), lifted(codec))
    run(logic, store, *again, now_ms=NOW, stream_time=True)
    assert store.values == {}
