"""``flowstate tail`` without a broker: how a record is shown."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streams.codec import Codec
from streams.commands.tail import line_of, masked

CODEC = Codec(None)


class FakeRecord(msgspec.Struct):
    """What ``line_of`` looks at of a consumed record."""

    value: bytes | None
    key: bytes | None = b"ann"
    topic: str = "destinations"
    partition: int = 3
    offset: int = 17
    timestamp: int = 1_082_040_960_000


def shown(record: FakeRecord, record_name: str | None, addresses: bool = False) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(line_of(record, record_name, CODEC, addresses))
    return line


def destination() -> bytes:
    return CODEC.encode(
        "destination",
        {"recipient_id": "ann", "destination_id": "p", "kind": "sms", "address": "+12025550123"},
    )


def test_a_record_is_decoded_with_its_place() -> None:
    line = shown(FakeRecord(destination()), "destination")
    assert (line["topic"], line["partition"], line["offset"]) == ("destinations", 3, 17)
    assert line["key"] == "ann"
    assert line["value"]["kind"] == "sms"


def test_addresses_are_masked_unless_asked_for() -> None:
    assert shown(FakeRecord(destination()), "destination")["value"]["address"] == "...0123"
    full = shown(FakeRecord(destination()), "destination", addresses=True)
    assert full["value"]["address"] == "+12025550123"


def test_addresses_inside_other_records_are_masked_too() -> None:
    assert masked({"delivery": {"address": "abcdefgh"}, "items": [{"address": ""}]}) == {
        "delivery": {"address": "...efgh"},
        "items": [{"address": ""}],
    }


def test_what_cannot_be_decoded_is_shown_with_reason_and_bytes() -> None:
    line = shown(FakeRecord(b"\x07nonsense"), "destination")
    assert "bad_magic" in line["undecodable"]
    assert bytes.fromhex(line["bytes"]) == b"\x07nonsense"


def test_tombstones_and_bytes_without_a_type_are_shown_as_they_are() -> None:
    assert shown(FakeRecord(None), "destination")["value"] is None
    assert shown(FakeRecord(b"\xff\x00"), None)["value"] == "0xff00"
