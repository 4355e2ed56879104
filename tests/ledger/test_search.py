"""Search and reasons over time: against a plain list of what was decided."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streams.ledger.documents import SearchPage
from streams.ledger.queries import LedgerQueries
from streams.ledger.reasons import ReasonsQuestion
from streams.ledger.search import SearchQuestion, merged
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from tests.ledger.build import CODEC, T0, decision, entry, rows_of, sent, subject_of

HOUR = 3_600_000
DAY = 24 * HOUR
CATEGORIES = ("message", "like", "promo")
VERDICTS = (("suppressed", "opted_out"), ("held", "quiet_hours"), ("delivering", "routed"))
Known = tuple[int, str, str, str, str, str]
"""(time, recipient, event id, category, verdict, reason)."""


def history(draw: random.Random, count: int) -> list[Known]:
    """Verdicts over some days, many in one millisecond."""
    found = []
    for number in range(count):
        time_ms = T0 + draw.choice((0, 1, 2)) + draw.randrange(6) * DAY // 2
        verdict, reason = draw.choice(VERDICTS)
        recipient = f"r{draw.randrange(5)}"
        event_id = f"e{number % 40}"
        found.append((time_ms, recipient, event_id, draw.choice(CATEGORIES), verdict, reason))
    return found


def filled(folder: Path, known: list[Known], **settings: Any) -> LedgerStore:
    store = LedgerStore(folder, 3, LedgerSettings(**settings))
    for offset, (time_ms, recipient, event_id, category, verdict, reason) in enumerate(known):
        one = entry(
            verdict,
            event_id,
            reason=reason,
            category=category,
            subject_id=subject_of(event_id, recipient),
            deliveries=(sent(),) if verdict == "delivering" else (),
        )
        store.write(
            rows_of(decision(offset, one, at_ms=time_ms, recipient_id=recipient)),
            {"decisions": offset + 1},
        )
    return store


def every_page(queries: LedgerQueries, **asked: Any) -> list[SearchPage]:
    pages = []
    before_ms: int | None = asked.pop("before_ms", T0 + 100 * DAY)
    while before_ms is not None:
        pages.append(queries.search(SearchQuestion(before_ms=before_ms, **asked)))
        assert pages[-1].before_ms is None or pages[-1].before_ms < before_ms, "it goes on"
        before_ms = pages[-1].before_ms
    return pages


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"recipient_id": "r1"},
        {"recipient_id": "nobody"},
        {"event_id": "e7"},
        {"event_id": "e7", "recipient_id": "r2"},
        {"event_id": "nothing"},
        {"reason": "opted_out"},
        {"reason": "no_such"},
        {"category": "promo", "verdict": "held"},
        {"channel": "push"},
        {"channel": "email"},
        {"from_ms": T0 + DAY, "before_ms": T0 + 2 * DAY},
        {"reason": "routed", "from_ms": T0 + 1, "before_ms": T0 + 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("bounds", [(50, 2_000, 50_000), (3, 4, 3)])
def test_pages_together_are_all_that_fits_newest_first(
    tmp_path: Path, asked: dict[str, Any], bounds: tuple[int, int, int]
) -> None:
    limit, rows_max, counters_max = bounds
    known = history(random.Random(7), 120)
    store = filled(tmp_path, known, search_rows_max=rows_max, search_counters_max=counters_max)
    question = SearchQuestion(**{"before_ms": T0 + 100 * DAY, **asked})
    expected = Counter(
        (time_ms, recipient, event_id, verdict)
        for time_ms, recipient, event_id, category, verdict, reason in known
        if question.from_ms <= time_ms < question.before_ms
        and question.recipient_id in (None, recipient)
        and question.event_id in (None, event_id)
        and question.category in (None, category)
        and question.verdict in (None, verdict)
        and question.reason in (None, reason)
        and (question.channel is None or (question.channel == "push" and verdict == "delivering"))
    )
    pages = every_page(LedgerQueries(store, CODEC), limit=limit, **asked)
    hits = [hit for page in pages for hit in page.hits]
    found = [
        (h.entry.decided_at_ms, h.recipient_id, h.entry.event_id, h.entry.verdict) for h in hits
    ]
    assert Counter(found) == expected
    times = [time_ms for time_ms, *_ in found]
    assert times == sorted(times, reverse=True)
    at_once = max(Counter(time_ms for time_ms, *_ in known).values())
    assert all(page.looked_at < rows_max + at_once for page in pages)
    store.close()


def test_pages_of_partitions_are_put_together_without_gap_or_repeat(tmp_path: Path) -> None:
    stores = [
        filled(tmp_path / str(n), history(random.Random(n), 60), search_rows_max=5)
        for n in range(3)
    ]
    found: Counter[tuple[int, str, str | None]] = Counter()
    before_ms: int | None = T0 + 100 * DAY
    while before_ms is not None:
        asked = SearchQuestion(before_ms=before_ms, limit=4, reason="opted_out")
        page = merged([LedgerQueries(s, CODEC).search(asked) for s in stores], True)
        times = [hit.entry.decided_at_ms for hit in page.hits]
        assert times == sorted(times, reverse=True)
        assert all(time_ms < before_ms for time_ms in times)
        found.update((h.entry.decided_at_ms, h.recipient_id, h.entry.event_id) for h in page.hits)
        before_ms = page.before_ms
    expected = Counter(
        (time_ms, recipient, event_id)
        for n in range(3)
        for time_ms, recipient, event_id, _, _, reason in history(random.Random(n), 60)
        if reason == "opted_out"
    )
    assert found == expected
    for store in stores:
        store.close()


def test_hours_without_anything_that_fits_are_not_read(tmp_path: Path) -> None:
    known = [(T0 + n * HOUR, "ann", f"e{n}", "message", "held", "quiet_hours") for n in range(200)]
    known.insert(0, (T0, "ann", "the-one", "message", "suppressed", "opted_out"))
    store = filled(tmp_path, known)
    page = LedgerQueries(store, CODEC).search(SearchQuestion(reason="opted_out"))
    assert [hit.entry.event_id for hit in page.hits] == ["the-one"]
    assert page.looked_at == 2, "only what is in its hour"
    store.close()


# --------------------------------------------------------------------------------------- reasons


def grouped(known: list[Known], step_ms: int | None, *fields: int) -> Counter[tuple[Any, ...]]:
    return Counter(
        (
            None if step_ms is None else one[0] // step_ms * step_ms,
            *(one[field] for field in fields),
        )
        for one in known
    )


def test_reasons_by_day_by_hour_and_as_one(tmp_path: Path) -> None:
    known = history(random.Random(3), 150)
    store = filled(tmp_path, known)
    queries = LedgerQueries(store, CODEC)
    everything: dict[str, Any] = {"from_ms": 0}
    by_day = queries.reasons(ReasonsQuestion(step="day", group_by=("reason",), **everything))
    assert {(c.hour_ms, c.reason): c.count for c in by_day} == grouped(known, DAY, 5)
    whole = queries.reasons(ReasonsQuestion(step="all", group_by=("category",), **everything))
    assert {(c.hour_ms, c.category): c.count for c in whole} == grouped(known, None, 3)
    by_hour = queries.reasons(ReasonsQuestion(only={"reason": "opted_out"}, **everything))
    opted_out = [one for one in known if one[5] == "opted_out"]
    assert {(c.hour_ms, c.category): c.count for c in by_hour} == grouped(opted_out, HOUR, 3)
    store.close()


def test_reasons_of_a_range_count_whole_hours(tmp_path: Path) -> None:
    start = T0 // HOUR * HOUR
    known = [(start + n * HOUR, "a", f"e{n}", "like", "held", "quiet_hours") for n in range(10)]
    store = filled(tmp_path, known, hours_asked_max=4)
    queries = LedgerQueries(store, CODEC)

    def hours(**asked: Any) -> list[int]:
        found = queries.reasons(ReasonsQuestion(**asked))
        return sorted(((c.hour_ms or 0) - start) // HOUR for c in found)

    assert hours(from_ms=start + 3 * HOUR + 5, to_ms=start + 5 * HOUR + 1) == [3, 4, 5]
    assert hours(hours=2) == [8, 9]
    assert hours(from_ms=0) == [6, 7, 8, 9], "no more than hours_asked_max, the latest"
    store.close()


def test_one_event_for_two_people_in_one_millisecond_is_found_for_both(tmp_path: Path) -> None:
    known: list[Known] = [
        (T0, recipient, "launch", "message", "delivering", "routed") for recipient in ("ann", "bo")
    ]
    store = filled(tmp_path, [*known, (T0, "ann", "other", "message", "held", "quiet_hours")])
    (page,) = every_page(LedgerQueries(store, CODEC), event_id="launch")
    assert sorted(hit.recipient_id for hit in page.hits) == ["ann", "bo"]
    assert page.looked_at == 2
    store.close()
