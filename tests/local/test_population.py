"""The members: right by the contracts, drawn from the seed alone, nobody's real address."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
import pytest

from streams.commands.avro_check import problems_of
from streams.local.population import MEMBERS, ZONES, Member, member_of, population

SCHEMAS = Path(__file__).parents[2] / "schemas"
SIGNED_UP_MS = 1_082_000_000_000
RECEIVER = "https://127.0.0.1:8443"


@pytest.fixture(scope="module")
def members() -> list[Member]:
    return population(7, SIGNED_UP_MS, RECEIVER)


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def test_everyone_is_there_once_with_a_way_to_be_reached(members: list[Member]) -> None:
    assert len({member.recipient_id for member in members}) == len(members) == MEMBERS
    assert all(member.destinations for member in members)


def test_records_are_what_the_contracts_ask_for(members: list[Member]) -> None:
    preference, destination = schema("preference"), schema("destination")
    for member in members:
        assert problems_of(preference, member.preference) == []
        for record in member.destinations:
            assert problems_of(destination, record) == []


def test_no_address_is_shared(members: list[Member]) -> None:
    addresses = Counter(d["address"] for member in members for d in member.destinations)
    assert [address for address, uses in addresses.items() if uses > 1] == []


def test_telephone_numbers_are_valid_and_reserved_for_fiction(members: list[Member]) -> None:
    numbers = [
        str(d["address"]) for member in members for d in member.destinations if d["kind"] == "sms"
    ]
    assert len(numbers) > 200
    for number in numbers:
        assert phonenumbers.is_valid_number(phonenumbers.parse(number)), number
        assert number[5:10] == "55501"


def test_zones_exist_and_every_rule_has_somebody_to_apply_to(members: list[Member]) -> None:
    for zone, _ in ZONES:
        ZoneInfo(zone)
    chosen = [member.preference for member in members]
    assert {str(p["zone"]) for p in chosen} == {zone for zone, _ in ZONES}
    for field in ("categories", "channels", "cells", "quiet_hours", "muted", "digests"):
        share = sum(1 for p in chosen if p[field]) / len(chosen)
        assert 0 < share < 1, field


def test_a_member_depends_on_seed_and_number_alone(members: list[Member]) -> None:
    assert member_of(1_200, 7, SIGNED_UP_MS, RECEIVER) == members[1_199]
    assert member_of(1_200, 8, SIGNED_UP_MS, RECEIVER) != members[1_199]
