"""Events on their way in: priority, expiry, time to send, and whether they wait already."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.intake import as_received, notification_of
from streams.core.model import Event, EventInput, Priority
from streams.core.policy import Category, DigestRule
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy, at

EVENT = Event("e1", "ana", "message", T0 - 5, actor_id="bob", data={"a": "b"},
              collapse_key="score", campaign="spring")  # fmt: skip


def test_an_event_as_something_to_tell() -> None:
    told = notification_of(EVENT, "subject", Category("message"), T0, None)
    assert (told.notification_id, told.category, told.priority) == ("subject", "message", "normal")
    assert (told.created_at_ms, told.appended_at_ms) == (T0 - 5, T0)
    assert (told.data, told.event_id, told.digest_key) == ({"a": "b"}, "e1", None)
    assert (told.count, told.actors, told.items) == (1, 1, ())
    assert (told.collapse_key, told.campaign, told.actor_id) == ("score", "spring", "bob")
    nobody = notification_of(replace(EVENT, actor_id=""), "s", Category("message"), T0, None)
    assert nobody.actors == 0


@pytest.mark.parametrize(
    ("expires_ms", "send_ms", "expected"),
    [
        (None, None, T0 + HOUR),
        (None, T0 + MINUTE, T0 + MINUTE + HOUR),
        (None, T0 - MINUTE, T0 + HOUR),
        (T0 + 5, None, T0 + 5),
        (T0 + 5, T0 + MINUTE, T0 + 5),
        (0, None, 0),
    ],
)
def test_how_long_it_lives(expires_ms: int | None, send_ms: int | None, expected: int) -> None:
    category = Category("message", expires_after_ms=HOUR)
    event = replace(EVENT, expires_at_ms=expires_ms)
    assert notification_of(event, "s", category, T0, send_ms).expires_at_ms == expected


@pytest.mark.parametrize(
    ("of_category", "of_event", "expected"),
    [
        ("critical", None, "critical"),
        ("critical", "normal", "normal"),
        ("critical", "bulk", "bulk"),
        ("normal", "critical", "normal"),
        ("normal", "normal", "normal"),
        ("normal", "bulk", "bulk"),
        ("bulk", "critical", "bulk"),
        ("bulk", "normal", "bulk"),
    ],
)
def test_a_priority_can_only_be_lowered(
    of_category: Priority, of_event: Priority | None, expected: Priority
) -> None:
    category = Category("message", priority=of_category)
    event = replace(EVENT, priority=of_event)
    assert notification_of(event, "s", category, T0, None).priority == expected


def test_of_what_is_told_to_nobody_only_its_name_is_kept() -> None:
    told = as_received(replace(EVENT, priority="critical"), "subject", T0)
    assert (told.notification_id, told.category, told.event_id) == ("subject", "message", "e1")
    assert (told.priority, told.created_at_ms, told.expires_at_ms) == ("normal", 0, 0)
    assert (told.appended_at_ms, told.data, told.count, told.collapse_key) == (T0, {}, 1, None)


def test_its_time_begins_when_kafka_took_it_and_never_before_1970() -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE)
    source = replace(ana.source(), appended_at_ms=T0 - MINUTE)
    ana.decides(EventInput(replace(EVENT, created_at_ms=0), source))
    assert ana.deliveries[0].appended_at_ms == T0 - MINUTE
    assert ana.deliveries[0].expires_at_ms == T0 - MINUTE + HOUR
    early = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE, now_ms=HOUR - 1)
    early.decides(EventInput(replace(EVENT, created_at_ms=0), replace(source, appended_at_ms=-1)))
    assert [sent.appended_at_ms for sent in early.deliveries] == [0]


def waiting_somewhere(where: str) -> Person:
    """For whom e0, e1 and e2 wait: alone, gathered, in a closed digest, as retries or steps."""
    fields: dict[str, Any] = {}
    if where in ("digest", "closed digest"):
        fields["digest"] = DigestRule("window", window_ms=5 * DAY)
    if where == "step":
        fields.update(route="escalate", escalate_after_ms=5 * DAY)
    ana = Person(a_policy(Category("message", **fields)), PHONE, MAIL)
    for number in range(3):
        ana.gets(f"e{number}", send_at_ms=T0 + 5 * DAY if where == "held" else None)
    if where == "retry":
        for sent in ana.deliveries:
            ana.answers(sent, "retry", retry_after_ms=5 * DAY)
    if where == "closed digest":
        ana.prefers(snooze_until_ms=T0 + 6 * DAY)
        ana.waits_for(5 * DAY)
    ana.waits_for(2 * DAY if where != "closed digest" else HOUR)
    return ana


@pytest.mark.parametrize("where", ["held", "digest", "closed digest", "retry", "step"])
def test_what_waits_is_known_beyond_the_horizon(where: str) -> None:
    ana = waiting_somewhere(where)
    for number in range(3):
        ana.gets(f"e{number}", created_at_ms=T0)
        assert ana.verdicts[-1] == "duplicate duplicate", where
    ana.gets("e3")
    assert ana.verdicts[-1] != "duplicate duplicate"


@pytest.mark.parametrize(
    ("text", "zone", "stored", "due"),
    [
        ("2026-03-02T09:30", "Asia/Tokyo", "2026-03-02T09:30", "2026-03-02 00:30"),
        ("08:00", "Asia/Tokyo", "2026-03-02T08:00", "2026-03-01 23:00"),
        ("21:45", "Asia/Tokyo", "2026-03-01T21:45", "2026-03-01 12:45"),
    ],
)
def test_a_local_time_keeps_its_date(text: str, zone: str, stored: str, due: str) -> None:
    ana = Person(a_policy(Category("message", expires_after_ms=HOUR)), PHONE, zone=zone)
    ana.gets("e1", send_at_local=text)
    (held,) = ana.state.waiting.held
    assert (held.send_at_local, held.lifetime_ms) == (stored, HOUR)
    assert held.due_ms == at(due)
    assert ana.entries[-1].inputs == {"send_at_ms": str(at(due)), "send_at_local": stored}
    ana.gets("e2", send_at_local=text, expires_at_ms=T0 + 5 * DAY)
    assert ana.state.waiting.held[1].lifetime_ms == 0
    ana.gets("e3", send_at_ms=T0 + HOUR)
    third = ana.state.waiting.held[2]
    assert (third.send_at_local, third.lifetime_ms, third.due_ms) == ("", 0, T0 + HOUR)
    assert ana.entries[-1].inputs == {"send_at_ms": str(T0 + HOUR), "send_at_local": ""}


def test_a_time_of_now_is_now() -> None:
    for ahead_ms, verdict in ((0, "delivering routed"), (1, "held scheduled")):
        ana = Person(a_policy(), PHONE)
        ana.gets("e1", send_at_ms=T0 + ahead_ms)
        assert ana.verdicts == [verdict]


def test_the_first_year_has_no_earlier_zone() -> None:
    """In UTC it is a time; east of it, it would be before the year 1: then it is now."""
    ana = Person(a_policy(), PHONE, zone="Asia/Tokyo")
    ana.gets("e1", send_at_local="0001-01-01T00:00")
    assert ana.verdicts[-1] == "delivering routed"
