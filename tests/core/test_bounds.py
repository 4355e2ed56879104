"""What one recipient can cost: under attack a named size, usually a few hundred bytes."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import state_codec
from streams.core.model import Activity, Destination, QuietWindow
from streams.core.policy import Bounds, Category, DigestRule, LimitRule
from streams.core.sizes import waiting_bytes
from tests.core.build import DAY, HOUR, MAIL, MINUTE, PHONE, T0, Person, a_policy, encoded

KAFKA_RECORD_BYTES_MAX = 1_000_000
TYPICAL_BYTES_MAX = 2_000


def sizes(person: Person) -> list[int]:
    return [len(part or b"") for part in encoded(person.state)]


def test_a_recipient_under_attack_stays_under_a_named_size() -> None:
    """Every kind of state at once, with payloads as large as are accepted."""
    bounds = Bounds(seen_per_hour_max=100, cancelled_max=20, collapse_keys_max=20)
    bounds = replace(bounds, suppressions_max=20)
    policy = a_policy(
        Category("held", expires_after_ms=7 * DAY),
        Category("digested", digest=DigestRule("window", window_ms=DAY, key=("data.key",))),
        Category("escalated", route="escalate", escalate_after_ms=DAY, channels=("push", "email")),
        Category("plain", limits=(LimitRule("destination", 100, DAY, "defer"),)),
        bounds=bounds,
    )
    ana = Person(policy, PHONE, MAIL)
    large = {"text": "é" * 30_000}
    for number in range(60):
        ana.now_ms += 20_000
        ana.gets(f"h{number}", "held", data=large, send_at_ms=ana.now_ms + 3 * DAY)
        ana.gets(f"d{number}", "digested", data={**large, "key": f"k{number}"})
        ana.gets(f"x{number}", "escalated", data=large, collapse_key=f"c{number}")
        ana.gets(f"p{number}", "plain")
        ana.cancels(f"c{number}")
        ana.answers(ana.deliveries[-1], "retry", retry_after_ms=HOUR)
        ana.hears("soft_bounced", destination_id=f"unknown-{number}")
        waiting = state_codec.encode_moving(Activity(), ana.state.waiting) or b""
        assert waiting_bytes(ana.state.waiting) <= bounds.waiting_bytes_max
        assert len(waiting) < KAFKA_RECORD_BYTES_MAX
    assert all(size < KAFKA_RECORD_BYTES_MAX for size in sizes(ana))
    state = ana.state
    assert len(state.waiting.held) <= bounds.held_max
    assert len(state.waiting.digests) <= bounds.digests_max
    assert len(state.waiting.escalations) <= bounds.escalations_max
    assert len(state.waiting.cancelled) <= bounds.cancelled_max
    assert len(state.waiting.newest) <= bounds.collapse_keys_max
    assert len(state.profile.suppressions) <= bounds.suppressions_max


def test_weights_are_close_to_what_is_stored() -> None:
    ana = Person(a_policy(Category("message", digest=None)), PHONE)
    for number in range(100):
        ana.gets(f"e{number}", send_at_ms=T0 + HOUR, data={"title": "x" * 200, "who": "Ann"})
    stored = len(state_codec.encode_moving(Activity(), ana.state.waiting) or b"")
    assert 0.7 < stored / waiting_bytes(ana.state.waiting) < 1.3


def test_ids_seen_in_a_day_under_attack() -> None:
    bounds = Bounds(seen_per_hour_max=50)
    ana = Person(a_policy(bounds=bounds), PHONE)
    for number in range(26 * 60):
        ana.gets(f"e{number}")
        ana.now_ms += MINUTE
    buckets = ana.state.activity.seen
    assert len(buckets) == 25
    assert all(len(bucket) == 50 * 12 for _, bucket in buckets)


def test_beyond_its_bounds_a_hold_is_dropped_and_says_so() -> None:
    by_count = Person(a_policy(bounds=Bounds(held_max=1)), PHONE)
    by_weight = Person(a_policy(bounds=Bounds(waiting_bytes_max=1_000)), PHONE)
    for ana in (by_count, by_weight):
        ana.gets("e1", send_at_ms=T0 + HOUR, data={"text": "x" * 500})
        ana.gets("e2", send_at_ms=T0 + HOUR, data={"text": "x" * 500})
        assert ana.verdicts == ["held scheduled", "dropped held_overflow"]


def test_too_many_digests_close_the_one_that_is_due_first() -> None:
    digested = Category("message", digest=DigestRule("window", key=("actor_id",)))
    ana = Person(a_policy(digested, bounds=Bounds(digests_max=2)), PHONE)
    for actor in ("bob", "eve", "joe"):
        ana.gets(f"of-{actor}", actor_id=actor)
        ana.waits_for(MINUTE)
    assert [d.digest_key for d in ana.deliveries] == ["bob"]
    assert "digest_closed digest_crowded" in ana.verdicts


def test_a_digest_closes_when_too_much_waits() -> None:
    digested = Category("message", digest=DigestRule("window"))
    ana = Person(a_policy(digested, bounds=Bounds(waiting_bytes_max=1_000)), PHONE)
    ana.gets("e1", data={"text": "x" * 500})
    ana.gets("e2", data={"text": "x" * 500})
    assert ana.verdicts[-2:] == ["digest_closed digest_crowded", "delivering digest_sent"]


def test_only_so_many_addresses_the_newest() -> None:
    ana = Person(a_policy(bounds=Bounds(destinations_max=2)))
    for number in range(3):
        ana.registers(Destination(f"d{number}", "fcm", f"t{number}", T0 + number))
    assert [d.destination_id for d in ana.state.profile.destinations] == ["d1", "d2"]
    assert ana.verdicts == ["noted destination_removed"]
    ana.registers(Destination("huge", "webhook", "x" * 5_000, T0))
    assert ana.verdicts[-1] == "noted destination_too_large"
    assert ana.decisions[-1].dead_letters[0].reason == "destination_too_large"


def test_only_so_many_lookbacks() -> None:
    rule = DigestRule("lookback", window_ms=DAY, key=("actor_id",))
    policy = a_policy(Category("message", digest=rule), bounds=Bounds(lookbacks_max=2))
    ana = Person(policy, PHONE)
    for number in range(4):
        ana.gets(f"e{number}", actor_id=f"a{number}")
        ana.now_ms += 1
    assert sorted(ana.state.waiting.lookbacks) == ["message|a2", "message|a3"]


def test_a_typical_recipient_is_small() -> None:
    """Preferences, two addresses, a day of twenty events, one thing held."""
    lookback = DigestRule("lookback", window_ms=30 * MINUTE, key=("actor_id",))
    limit = LimitRule("recipient", 10, HOUR)
    policy = a_policy(Category("message", digest=lookback), limits=(limit,))
    ana = Person(
        policy,
        PHONE,
        replace(MAIL, attributes={"list": "members"}),
        zone="Europe/Lisbon",
        locale="pt-PT",
        quiet_hours=(QuietWindow(22 * 60, 7 * 60),),
        cells={"message/email": False},
    )
    for number in range(20):
        ana.gets(f"college-{number:05}", actor_id="member-0017", data={"actor": "member-0017"})
        ana.waits_for(20 * MINUTE)
    ana.gets("college-99999", send_at_ms=ana.now_ms + HOUR, data={"actor": "member-0017"})
    assert sum(sizes(ana)) < TYPICAL_BYTES_MAX, sizes(ana)
