"""State parts as bytes: what older releases stored is read, what newer ones add is not lost sight
of, and the due time stands in front."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from streams.core import state_codec
from streams.core.decide import decide
from streams.core.model import (
    Activity,
    Escalation,
    Held,
    Notification,
    OpenDigest,
    Profile,
    RecipientState,
    Retry,
    Waiting,
    Wake,
    packed,
    struct_to_dict,
)
from streams.core.policy import Category
from tests.core.build import PHONE, T0, Person, a_policy, encoded

STORED = json.loads((Path(__file__).parent / "data" / "state_v1.json").read_text())
DECODERS: dict[str, Any] = {
    "profile": state_codec.decode_profile,
    "activity": state_codec.decode_activity,
    "waiting": lambda value: state_codec.decode_moving(value)[1],
}


def stored(part: str) -> bytes:
    return base64.b64decode(STORED[part])


def as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def contains(actual: Any, expected: Any) -> bool:
    """Everything expected is there; fields that were added later may be there too."""
    if isinstance(expected, dict) and "base64" not in expected:
        return all(name in actual and contains(actual[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(actual) == len(expected) and all(map(contains, actual, expected))
    return bool(actual == expected)


@pytest.mark.parametrize("part", ["profile", "activity", "waiting"])
def test_what_release_1_stored_is_read(part: str) -> None:
    found = as_json(struct_to_dict(DECODERS[part](stored(part))))
    assert contains(found, STORED["expected"][part])


def test_what_release_1_stored_goes_on() -> None:
    state = RecipientState("ana", 1, *(DECODERS[part](stored(part)) for part in DECODERS))
    policy = a_policy(Category("message"), Category("like"), Category("marketing"))
    due_ms = state_codec.next_due_ms(state.waiting)
    assert due_ms == 1_763_000_030_000
    decision = decide(state, Wake("ana"), 1_763_030_000_000, policy)
    said = {f"{entry.verdict} {entry.reason}" for entry in decision.entries}
    assert "digest_closed digest_due" in said
    assert decision.state != state
    assert all(part is not None for part in encoded(decision.state))


def test_fields_that_a_newer_release_added_do_not_hinder() -> None:
    newer = msgspec.msgpack.decode(msgspec.msgpack.encode(Profile(1)))
    value = msgspec.msgpack.encode([*newer, "added", {"later": 1}])
    assert state_codec.decode_profile(value) == Profile(1)


def test_nothing_to_keep_is_no_record() -> None:
    assert state_codec.encode_profile(Profile()) is None
    assert state_codec.encode_moving(Activity(), Waiting()) is None
    assert state_codec.decode_profile(None) == Profile()
    assert state_codec.decode_activity(None) == Activity()
    assert state_codec.decode_moving(None) == (Activity(), Waiting())


def test_the_due_time_stands_in_front() -> None:
    told = Notification("n", "message", "normal", T0, T0, T0 + 9, {})
    later, sooner = (Held(packed(told), T0 + ms, "scheduled", T0) for ms in (7, 3))
    waiting = Waiting(held=(later, sooner))
    value = state_codec.encode_moving(Activity(), waiting)
    assert value is not None
    assert value[:8] == (T0 + 3).to_bytes(8)
    assert state_codec.due_of_moving(value) == T0 + 3
    only_marks = state_codec.encode_moving(Activity(), Waiting(lookbacks={"a|b": T0}))
    assert state_codec.due_of_moving(only_marks) is None
    assert state_codec.due_of_moving(None) is None


def test_damage_is_an_error_of_its_own() -> None:
    with pytest.raises(msgspec.DecodeError):
        state_codec.decode_profile(b"\xc1")


@pytest.mark.parametrize("length", [*range(60), -1])
def test_damage_of_what_moves_is_an_error_of_its_own(length: int) -> None:
    value = state_codec.encode_moving(Activity(seen=((1, b"x" * 60),)), Waiting(newest={"a": 1}))
    assert value is not None
    with pytest.raises(msgspec.DecodeError):
        state_codec.decode_moving(value[:length])


def test_both_parts_come_back_with_the_due_time_in_front() -> None:
    activity = Activity(seen=((T0, b"x" * 12),), sent={"like": (T0,)})
    for waiting in (Waiting(), everything_waits(T0 + 4, T0 + 3, T0 + 2, T0 + 1)):
        value = state_codec.encode_moving(activity, waiting)
        assert value is not None
        assert state_codec.has_activity(value)
        assert state_codec.decode_moving(value) == (activity, waiting)
        assert state_codec.due_of_moving(value) == state_codec.next_due_ms(waiting)


def test_what_release_1_stored_has_its_activity_elsewhere() -> None:
    assert not state_codec.has_activity(stored("waiting"))
    assert not state_codec.has_activity(None)
    assert state_codec.decode_moving(stored("waiting"))[0] == Activity()


def test_an_untouched_part_is_the_same_object() -> None:
    ana = Person(a_policy(), PHONE)
    before = ana.state
    ana.gets("e1")
    assert ana.state.profile is before.profile
    assert ana.state.waiting is before.waiting
    assert ana.state.activity is not before.activity
    after = ana.state
    ana.gets("e1")
    assert ana.verdicts[-1] == "duplicate duplicate"
    assert ana.state is after


def everything_waits(held: int, digest: int, retry: int, step: int) -> Waiting:
    told = Notification("n", "message", "normal", T0, T0, T0 + 9, {})
    ana = Person(a_policy(), PHONE)
    ana.gets("e1")
    opened = OpenDigest("d", "", "message", T0, digest, T0, "normal", T0, T0, 0, b"", b"", ())
    return Waiting(
        held=(
            Held(packed(told), held, "scheduled", T0),
            Held(packed(told), held + 50, "scheduled", T0),
        ),
        digests=(opened, replace(opened, closes_at_ms=digest + 50)),
        retries=(Retry(ana.deliveries[0], retry, "busy"), Retry(ana.deliveries[0], 99, "busy")),
        escalations=(Escalation(packed(told), 1, step), Escalation(packed(told), 1, step + 50)),
    )


@pytest.mark.parametrize("first", range(4))
def test_the_earliest_of_all_that_waits_is_due_first(first: int) -> None:
    due = [40, 41, 42, 43]
    due[first] = 7
    waiting = everything_waits(*due)
    assert state_codec.next_due_ms(waiting) == 7
    due[first] = 0
    assert state_codec.next_due_ms(everything_waits(*due)) == 0
    for at, kind in enumerate(("held", "digests", "retries", "escalations")):
        alone = replace(Waiting(), **{kind: getattr(waiting, kind)[::-1]})
        assert state_codec.next_due_ms(alone) == (7 if at == first else 40 + at)
    assert state_codec.next_due_ms(Waiting(lookbacks={"a": 1})) is None


def test_the_latest_time_there_is_can_be_waited_for() -> None:
    for due_ms in (0, 1, (1 << 62) + 1, (1 << 63) - 1):
        waiting = Waiting(held=everything_waits(due_ms, 0, 0, 0).held[:1])
        assert state_codec.next_due_ms(waiting) == due_ms
        value = state_codec.encode_moving(Activity(), waiting)
        assert value is not None
        assert state_codec.due_of_moving(value) == due_ms
