"""Answers of the last day: counted in their minute, forgotten after a day, always bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.web.deliver_documents import Times
from streams.web.rolling import (
    BOUNDS_MS,
    KEYS_MAX,
    MINUTE_MS,
    MINUTES,
    OTHER,
    Rolling,
    added,
    percentile_ms,
)

T0 = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS


def test_a_window_has_its_minutes_and_no_others() -> None:
    rolling = Rolling()
    for minute in range(10):
        rolling.add(T0 + minute * MINUTE_MS, "apns", "accepted", "", 10.0, "normal", 50)
    rolling.add(T0 + 9 * MINUTE_MS, "apns", "retry", "busy", 10.0)
    now_ms = T0 + 9 * MINUTE_MS + 30_000
    answers = {(a.status, a.reason): a.count for a in rolling.window(now_ms, 3).answers}
    assert answers == {("accepted", ""): 3, ("retry", "busy"): 1}
    assert sum(rolling.window(now_ms, 3).event_times[0].counts) == 3
    last = rolling.minutes(now_ms, 60)[-1]
    assert (last.accepted, last.other) == ({"apns": 1}, {"apns": 1})
    assert rolling.window(now_ms + 60 * MINUTE_MS, 3).answers == []


def test_minutes_and_keys_are_bounded() -> None:
    rolling = Rolling()
    for minute in range(MINUTES + 50):
        rolling.add(T0 + minute * MINUTE_MS, "apns", "accepted", "", 1.0)
    assert len(rolling._slots) == MINUTES
    now_ms = T0 + 10 * MINUTES * MINUTE_MS
    for number in range(3 * KEYS_MAX):
        rolling.add(now_ms, "apns", "rejected", f"reason {number}", 1.0)
    answers = rolling.window(now_ms, 1).answers
    assert len(answers) <= KEYS_MAX + 1
    assert sum(one.count for one in answers) == 3 * KEYS_MAX
    assert next(one.count for one in answers if one.reason == OTHER) > 1


@given(st.lists(st.floats(0.01, 3_600_000), min_size=1), st.floats(0.01, 1.0))
def test_a_percentile_is_no_less_than_the_real_one_and_at_most_a_bucket_more(
    times: list[float], share: float
) -> None:
    rolling = Rolling()
    for one in times:
        rolling.add(T0, "apns", "accepted", "", one)
    (histogram,) = rolling.window(T0, 1).send_times
    said = percentile_ms(histogram.counts, share)
    place = max(0, -(-int(share * len(times) * 1_000_000) // 1_000_000) - 1)
    real = sorted(times)[min(place, len(times) - 1)]
    assert said is not None
    assert said >= real or real > BOUNDS_MS[-1]
    smaller = [bound for bound in BOUNDS_MS if bound < said]
    assert not smaller or sorted(times)[min(place + 1, len(times) - 1)] > smaller[-1]


def test_histograms_of_workers_add_up() -> None:
    one, other = [0] * (len(BOUNDS_MS) + 1), [1] * (len(BOUNDS_MS) + 1)
    assert added([Times("a", one), Times("a", other), Times("b", one)]) == {"a": other, "b": one}
    assert percentile_ms(one, 0.5) is None
