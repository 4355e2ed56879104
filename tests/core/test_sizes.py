"""Weights: sums of the texts, so that a bound in bytes means what it says."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import sizes
from streams.core.model import DigestItem, Preferences
from streams.core.policy import Category
from streams.core.preferences import preferences_bytes
from tests.core.build import HOUR, MAIL, PHONE, Person, a_policy


def test_an_item_weighs_its_texts_in_utf_8() -> None:
    empty = DigestItem("", 0, "", {})
    assert sizes.item_bytes(empty) == sizes.ITEM_BYTES
    full = DigestItem("e" * 16, 0, "b" * 16, {"né": "x" * 13})
    assert sizes.item_bytes(full) == sizes.ITEM_BYTES + 16 + 16 + 3 + 13


def test_each_choice_weighs_its_name_and_one_more() -> None:
    nothing = preferences_bytes(Preferences())
    for field in ("categories", "channels", "cells"):
        chosen = replace(Preferences(), **{field: {"push": True, "é": False}})
        assert preferences_bytes(chosen) == nothing + 4 + 1 + 2 + 1


def test_a_planned_step_weighs_what_it_tells_and_the_ids_that_it_waits_for() -> None:
    category = Category("message", route="escalate", escalate_after_ms=HOUR)
    ana = Person(a_policy(category), PHONE, MAIL)
    ana.gets("e1", data={"who": "Bob"})
    (planned,) = ana.state.waiting.escalations
    ids = sum(len(one) for one in planned.delivery_ids)
    assert ids == 32
    assert planned.size_bytes == sizes.notification_bytes(planned.notification) + ids
