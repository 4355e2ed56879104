"""What benchmarks are made of: summing up, goals, the made-up load, and the laid state."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks import offer, people, state, thin_rules
from benchmarks.delivering import batch_figures, latency_figures, percentile
from benchmarks.http_api import flat
from benchmarks.report import Goal, Options, number_text, summed_up
from streams import tables, topics
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import Source

AT_MS = 1_700_000_000_000


def test_repeats_are_summed_up_by_their_median() -> None:
    repeats = [{"rate": 3.0, "late": 1.0}, {"rate": 9.0}, {"rate": 4.0}]
    assert summed_up(repeats) == {
        "rate": {"min": 3.0, "median": 4.0, "max": 9.0},
        "late": {"min": 1.0, "median": 1.0, "max": 1.0},
    }


def test_goals_are_met_at_their_limit() -> None:
    assert Goal("rate", 40_000).met(40_000)
    assert not Goal("rate", 40_000).met(39_999)
    assert Goal("late_ms", 250, at_least=False).met(250)
    assert not Goal("late_ms", 250, at_least=False).met(251)


@pytest.mark.parametrize(
    ("given", "quick", "size"), [(None, False, 1_000), (None, True, 10), (7, True, 7)]
)
def test_a_given_size_wins(given: int | None, quick: bool, size: int) -> None:
    assert Options(quick=quick).size(given, full=1_000, quick=10) == size


def test_numbers_for_people() -> None:
    assert [number_text(n) for n in (40_000.4, 2.5, 3.0)] == ["40,000", "2.50", "3"]


def test_events_can_be_read_and_differ_between_runs() -> None:
    codec = Codec()
    made = list(people.events(2_000, 50, "run1", AT_MS))
    read = [codec.decode_event(value) for _, _, value in made]
    assert len(read) == 2_000
    assert {key.decode() for _, key, _ in made} == {event.recipient_id for event in read}
    ids = Counter(event.event_id for event in read)
    assert 0 < sum(count - 1 for count in ids.values()) < 40, "a few come twice"
    other = {codec.decode_event(v).event_id for _, _, v in people.events(50, 50, "run2", AT_MS)}
    assert not other & set(ids)
    assert {topic for topic, _, _ in made} == set(topics.EVENTS)


def test_people_can_be_read() -> None:
    codec = Codec()
    source = Source(topics.DESTINATIONS, 0, 0, AT_MS)
    kinds = Counter(
        codec.decode_destination(value, source).destination.kind
        for topic, _, value in people.population(200, AT_MS)
        if topic == topics.DESTINATIONS
    )
    assert set(kinds) == {"apns", "fcm", "email", "sms"}
    phones = list(people.population(50, AT_MS, phones_only=True))
    assert len(phones) == 100
    zones = {
        codec.decode_preference(value)[1].zone
        for topic, _, value in phones
        if topic == topics.PREFERENCES
    }
    assert len(zones) > 10


def test_offered_events_get_ids_and_recipients_of_their_own() -> None:
    codec = Codec()
    settings = offer.Offer(bootstrap="", rate=1, seconds=1, recipients=1_000)
    templates = offer.pool(settings, "12345678")
    draw = random.Random(1)
    sent = [offer.event(templates, settings, draw, number) for number in range(offer.POOL + 1)]
    events = [codec.decode_event(value) for _, _, value in sent]
    assert len({event.event_id for event in events}) == offer.POOL + 1
    assert len({event.recipient_id for event in events}) == settings.recipients
    for (topic, key, _), event in zip(sent, events, strict=True):
        assert event.recipient_id.encode() == key
        assert topic == {name: lane for name, _, lane in people.MIX}[event.category]


def test_a_laid_digest_is_due_when_it_should_be() -> None:
    due_ms = AT_MS + 7_200_000
    lives = state.Lives(recipients=20, at_ms=AT_MS, digest_due_ms=due_ms)
    for life in state.templates(lives):
        parts = dict(life)
        assert state_codec.due_of_moving(parts[tables.MOVING]) == due_ms
        (digest,) = state_codec.decode_moving(parts[tables.MOVING])[1].digests
        assert digest.count == 2
        assert state_codec.decode_profile(parts[tables.PROFILE]).destinations[0].kind == "apns"


def test_laid_lives_have_seen_their_events() -> None:
    lives = state.Lives(recipients=30, at_ms=AT_MS, events_each=3)
    for life in state.templates(lives):
        activity, _ = state_codec.decode_moving(dict(life)[tables.MOVING])
        assert sum(len(entries) for _, entries in activity.seen) == 3 * 12


def test_the_thin_rules_agree_with_their_oracle() -> None:
    states: dict[bytes, list[object]] = {}
    delivered = 0
    for _, key, value in thin_rules.events(3_000, 100):
        state_of = states.setdefault(key, thin_rules.decode_state(None))
        delivered += thin_rules.apply(value, state_of)[1] is not None
    assert delivered == thin_rules.oracle(3_000, 100)


def test_latencies_become_percentiles() -> None:
    found = latency_figures({"critical": list(range(1, 1_001)), "bulk": []}, "idle_")
    assert found["idle_critical_answers"] == 1_000
    assert found["idle_critical_p99_ms"] == percentile(list(range(1, 1_001)), 0.99) == 991
    assert not [name for name in found if "bulk" in name]


def test_batches_between_two_looks() -> None:
    names = ("count", "commit", "records", "rules")
    before = dict(zip(names, (10, 1.0, 100, 0.5), strict=True))
    after = dict(zip(names, (20, 1.2, 600, 0.7), strict=True))
    found = batch_figures(before, after)
    assert found["decide_transactions"] == 10
    assert found["decide_commit_ms_mean"] == pytest.approx(20)
    assert found["decide_records_per_transaction"] == 50
    assert batch_figures(after, after) == {}


def test_nested_figures_are_flattened() -> None:
    assert flat({"batches": {"at_half": {"p99_ms": 3}}, "rss_mb": 90}) == {
        "batches_at_half_p99_ms": 3.0,
        "rss_mb": 90.0,
    }
