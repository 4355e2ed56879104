"""``flowstate publish`` without a broker: what a line becomes, and what is said of a bad one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from streams.codec import Codec
from streams.commands.failures import CommandError
from streams.commands.publish import (
    LINE_BYTES_MAX,
    Line,
    arrivals,
    key_of,
    publish,
    read_lines,
    schema_of,
)

NOW_MS = 1_082_040_960_000
SCHEMA = Codec(None).contracts.current["event"].schema
ANN = {"event_id": "e1", "recipient_id": "ann", "category": "message"}


def parsed(*texts: str) -> list[Line]:
    return list(read_lines([text.encode() for text in texts], SCHEMA, NOW_MS))


def test_a_time_that_is_required_and_left_out_is_now() -> None:
    assert parsed(json.dumps(ANN)) == [Line(1, {**ANN, "created_at_ms": NOW_MS}, [])]
    told = {**ANN, "created_at_ms": 5}
    assert parsed(json.dumps(told)) == [Line(1, told, [])]


def test_blank_lines_are_skipped_and_counted() -> None:
    assert [line.number for line in parsed("\n", json.dumps(ANN), "  ", json.dumps(ANN))] == [2, 4]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('"ann"', "expected an object"),
        (json.dumps({**ANN, "categry": "x"}), "did you mean 'category'?"),
        (json.dumps({"event_id": "e1", "category": "message"}), "missing field 'recipient_id'"),
    ],
)
def test_a_bad_line_is_told_and_kept_apart(text: str, says: str) -> None:
    (line,) = parsed(text)
    assert line.problems
    assert says in line.problems[0]


def test_what_is_checked_is_also_what_can_be_encoded() -> None:
    (line,) = parsed(json.dumps({**ANN, "priority": "bulk", "data": {"who": "Bob"}}))
    event = Codec(None).decode_event(Codec(None).encode("event", line.value))
    assert (event.recipient_id, event.priority, event.data) == ("ann", "bulk", {"who": "Bob"})


@pytest.mark.parametrize(
    ("topic", "record"),
    [("events.bulk", "event"), ("preferences", "preference"), ("kill-switch", "kill_switch")],
)
def test_a_topic_has_a_record_type(topic: str, record: str) -> None:
    assert schema_of(topic) == record


@pytest.mark.parametrize("topic", ["evnts.normal", "ticks", "flowstate-decide-state-changelog"])
def test_topics_that_nobody_publishes_to_are_refused(topic: str) -> None:
    with pytest.raises(CommandError):
        schema_of(topic)


def test_keys_are_the_recipient_except_for_what_is_about_something_else() -> None:
    assert key_of("event", {"recipient_id": "ann"}) == b"ann"
    assert key_of("kill_switch", {"scope": "campaign:x"}) == b"campaign:x"


async def test_checking_sends_nothing_and_counts_every_line() -> None:
    said: list[str] = []
    unreachable: dict[str, Any] = {"bootstrap_servers": "127.0.0.1:1"}
    lines = io.BytesIO(f"{json.dumps(ANN)}\n\nnonsense".encode())
    report = await publish("events.normal", lines, unreachable, said.append, NOW_MS, True)
    assert (report.accepted, report.refused, report.failed) == (1, 1, 0)
    assert said[0].startswith("line 3: not JSON")


def test_lines_are_whole_however_they_arrive() -> None:
    text = "".join(f"line {number}\n" for number in range(20_000)) + "the last"
    lines = [line for batch in arrivals(io.BytesIO(text.encode())) for line in batch]
    assert b"\n".join(lines).decode() == text


def test_a_file_without_lines_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(CommandError, match="longer than"):
        list(arrivals(io.BytesIO(b"x" * (LINE_BYTES_MAX * 2))))


def test_bytes_that_are_no_text_are_a_bad_line() -> None:
    (line,) = read_lines([b"\xff\xfe{}"], SCHEMA, NOW_MS)
    assert line.problems
