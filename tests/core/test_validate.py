"""Validation at its bounds: what just passes, what just does not, and what it is told to be."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core.dedupe import encoded
from streams.core.model import Event
from streams.core.policy import Bounds, Category
from streams.core.validate import YEAR_10000_MS, fault_of
from tests.core.build import DAY, T0, a_policy

EVENT = Event("e1", "ana", "message", T0)
POLICY = a_policy(
    Category("message"),
    Category("strict", requires=("what", "who")),
    bounds=Bounds(data_fields_max=3, event_bytes_max=20, future_ms_max=2 * DAY, id_bytes_max=24),
)


def fault(**fields: Any) -> tuple[str, dict[str, str]] | None:
    event = replace(EVENT, **fields)
    found = fault_of(event, POLICY, T0)
    assert found == fault_of(event, POLICY, T0, len(encoded(event)))
    return None if found is None else (found.reason, found.inputs)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": {"a": "", "b": "", "c": ""}},
        {"data": {"a": "x" * 19}},
        {"data": {"aé": "é" * 8 + "x"}},
        {"category": "strict", "data": {"what": "", "who": ""}},
        {"created_at_ms": 0},
        {"created_at_ms": YEAR_10000_MS - 1},
        {"expires_at_ms": 0},
        {"expires_at_ms": YEAR_10000_MS - 1},
        {"send_at_ms": 0},
        {"send_at_ms": T0 + 2 * DAY},
        {"send_at_local": "2026-03-03T12:00"},
        {"send_at_local": "0001-01-01T00:00"},
        {"event_id": "x" * 24, "actor_id": "x" * 24, "campaign": "é" * 12},
    ],
)
def test_what_just_passes(fields: dict[str, Any]) -> None:
    assert fault(**fields) is None


@pytest.mark.parametrize(
    ("fields", "reason", "inputs"),
    [
        ({"event_id": ""}, "empty_id", {"field": "event_id"}),
        ({"recipient_id": ""}, "empty_id", {"field": "recipient_id"}),
        ({"event_id": "", "recipient_id": ""}, "empty_id", {"field": "event_id"}),
        ({"event_id": "x" * 25}, "id_too_long", {"field": "event_id", "limit": "24"}),
        ({"campaign": "é" * 13}, "id_too_long", {"field": "campaign", "limit": "24"}),
        ({"category": "x" * 99}, "unknown_category", {"category": "x" * 64}),
        ({"category": "strict", "data": {"what": ""}}, "missing_field", {"field": "data.who"}),
        ({"category": "strict"}, "missing_field", {"field": "data.what"}),
        ({"data": dict.fromkeys("abcd", "")}, "too_many_fields", {"limit": "3"}),
        ({"data": {"a": "x" * 20}}, "event_too_large", {"limit": "20"}),
        ({"created_at_ms": -1}, "bad_time", {"field": "created_at_ms", "value": "-1"}),
        ({"created_at_ms": YEAR_10000_MS}, "bad_time",
         {"field": "created_at_ms", "value": "253402300800000"}),
        ({"expires_at_ms": -1}, "bad_time", {"field": "expires_at_ms", "value": "-1"}),
        ({"expires_at_ms": YEAR_10000_MS}, "bad_time",
         {"field": "expires_at_ms", "value": "253402300800000"}),
        ({"send_at_ms": -1}, "bad_time", {"field": "send_at_ms", "value": "-1"}),
        ({"send_at_ms": YEAR_10000_MS}, "bad_time",
         {"field": "send_at_ms", "value": "253402300800000"}),
        ({"send_at_ms": T0 + 2 * DAY + 1}, "too_far_ahead", {"limit": "2 days"}),
        ({"send_at_local": "2026-03-03T12:01"}, "too_far_ahead", {"limit": "2 days"}),
        ({"send_at_local": "soon" * 9}, "bad_time",
         {"field": "send_at_local", "value": "soon" * 8}),
        ({"send_at_local": "9999-12-31T24:00"}, "bad_time",
         {"field": "send_at_local", "value": "9999-12-31T24:00"}),
        ({"send_at_ms": 1, "send_at_local": "2026-03-03T12:01"}, "too_far_ahead",
         {"limit": "2 days"}),
    ],
)  # fmt: skip
def test_what_just_does_not(fields: dict[str, Any], reason: str, inputs: dict[str, str]) -> None:
    assert fault(**fields) == (reason, inputs)


@pytest.mark.parametrize("field", ["created_at_ms", "expires_at_ms", "send_at_ms"])
def test_no_time_is_after_the_year_9999(field: str) -> None:
    for ms in (YEAR_10000_MS, YEAR_10000_MS + 1, 1 << 62):
        assert fault(**{field: ms}) == ("bad_time", {"field": field, "value": str(ms)})


@pytest.mark.parametrize("field", ["actor_id", "collapse_key", "supersedes", "campaign"])
def test_short_ids_are_not_looked_at_and_all_that_could_be_long_are(field: str) -> None:
    """Up to a quarter of the bound together no UTF-8 of them can be too long."""
    for text, is_long in (("😀" * 6, False), ("😀" * 6 + "x", True), ("x" * 24, False)):
        found = fault(event_id="e", recipient_id="r", **{field: text})
        assert found == (("id_too_long", {"field": field, "limit": "24"}) if is_long else None)


@pytest.mark.parametrize(
    ("fields", "bound", "reason"),
    [
        ({"event_id": "x" * 30}, "id_bytes_max", "id_too_long"),
        ({"data": {"é": "x" * 28}}, "event_bytes_max", "event_too_large"),
    ],
)
def test_what_is_short_as_a_whole_has_nothing_long_in_it(
    fields: dict[str, Any], bound: str, reason: str
) -> None:
    event = replace(EVENT, **fields)
    weight = len(encoded(event))
    for most, expected in ((weight, None), (weight - 1, None), (30, None), (29, reason)):
        policy = a_policy(bounds=Bounds(**{bound: most}))
        for known in ((), (weight,)):
            found = fault_of(event, policy, T0, *known)
            assert (found.reason if found else None) == expected
