"""What is wrong with a value, said by path and in words; nothing said of a right one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streams.commands.avro_check import PROBLEMS_MAX, problems_of

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVENT: dict[str, Any] = {
    "event_id": "e1",
    "recipient_id": "ann",
    "category": "message",
    "created_at_ms": 1_082_040_960_000,
}


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def test_a_right_value_has_no_problems() -> None:
    assert problems_of(schema("event"), EVENT) == []
    full = {**EVENT, "data": {"sender": "Bob"}, "priority": "bulk", "send_at_ms": None}
    assert problems_of(schema("event"), full) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipent_id": "x"}, "unknown field 'recipent_id'; did you mean 'recipient_id'?"),
        ({"created_at_ms": "now"}, "created_at_ms: expected long, got 'now'"),
        ({"created_at_ms": True}, "created_at_ms: expected long, got True"),
        ({"created_at_ms": 2**63}, "created_at_ms: expected long, got 9223372036854775808"),
        ({"data": {"count": 3}}, "data.count: expected string, got 3"),
        ({"data": []}, "data: expected an object, got []"),
        ({"priority": "urgent"}, "priority: expected one of critical, normal, bulk, got 'urgent'"),
    ],
)
def test_each_mistake_is_named_by_its_path(change: dict[str, Any], says: str) -> None:
    assert problems_of(schema("event"), EVENT | change) == [says]


def test_a_missing_field_is_explained_by_its_documentation() -> None:
    (problem,) = problems_of(schema("event"), {k: v for k, v in EVENT.items() if k != "category"})
    assert problem.startswith("missing field 'category': Name of a category")


def test_all_mistakes_are_told_at_once_and_no_more_than_the_bound() -> None:
    assert len(problems_of(schema("event"), {"data": {"a": 1, "b": 2}})) == 6
    many = EVENT | {"data": {f"n{number}": number for number in range(PROBLEMS_MAX * 2)}}
    assert len(problems_of(schema("event"), many)) == PROBLEMS_MAX


def test_nested_records_are_checked_inside_lists() -> None:
    preference = {"recipient_id": "ann", "quiet_hours": [{"start_minute": 0, "end_minute": "7"}]}
    assert problems_of(schema("preference"), preference) == [
        "quiet_hours[0].end_minute: expected int, got '7'"
    ]
