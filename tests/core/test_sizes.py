"""Weights: sums of the texts, so that a bound in bytes means what it says."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from streams.core import sizes
from streams.core.model import (
    Delivery,
    DigestItem,
    Escalation,
    Held,
    Notification,
    OpenDigest,
    Preferences,
    QuietWindow,
    Retry,
    Waiting,
    packed,
)
from streams.core.policy import Category
from streams.core.preferences import preferences_bytes
from tests.core.build import HOUR, MAIL, PHONE, T0, Person, a_policy

TOLD = Notification("n", "message", "normal", T0, T0, T0 + HOUR, {})
OPENED = OpenDigest("d", "", "message", T0, T0, T0, "normal", T0, T0, 0, b"", b"", ())
ITEMS = (DigestItem("e1", 0, "bob", {"né": "x" * 7}), DigestItem("é2", 0, "", {}))
ITEMS_BYTES = (2 + 3 + 3 + 7) + (3 + 0) + 2 * sizes.ITEM_BYTES


def a_delivery() -> Delivery:
    ana = Person(a_policy(), replace(PHONE, address=""))
    ana.gets("e1")
    return ana.deliveries[0]


def test_texts_weigh_their_utf_8() -> None:
    assert [sizes.text_bytes(text) for text in ("", "abc", "é", "日本", "a😀")] == [0, 3, 2, 6, 5]
    assert sizes.map_bytes({}) == 0
    assert sizes.map_bytes({"a": "bcd", "é": "日", "": "x"}) == 1 + 3 + 2 + 3 + 0 + 1


def test_an_item_weighs_its_texts_in_utf_8() -> None:
    empty = DigestItem("", 0, "", {})
    assert sizes.item_bytes(empty) == sizes.ITEM_BYTES
    full = DigestItem("e" * 16, 0, "b" * 16, {"né": "x" * 13})
    assert sizes.item_bytes(full) == sizes.ITEM_BYTES + 16 + 16 + 3 + 13


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, 0),
        ({"data": {"né": "x" * 20}}, 23),
        ({"items": ITEMS}, ITEMS_BYTES),
        ({"members": bytes(24)}, 24),
        ({"member_facts": bytes(48)}, 48),
        ({"collapse_key": "clé"}, 4),
        ({"actor_id": "bôb"}, 4),
        ({"collapse": {"score": "e1", "prix": "é2"}}, 14),
    ],
)
def test_what_a_notification_weighs_more(fields: dict[str, Any], more: int) -> None:
    assert sizes.notification_bytes(replace(TOLD, **fields)) == sizes.NOTIFICATION_BYTES + more
    all_else = {"data": {"a": "b"}, "items": ITEMS[:1], "members": bytes(8),
                "member_facts": bytes(16), "collapse_key": "k", "actor_id": "a",
                "collapse": {"k": "e"}}  # fmt: skip
    bare = replace(TOLD, **{**all_else, **{name: getattr(TOLD, name) for name in fields}})
    assert (
        sizes.notification_bytes(replace(bare, **fields)) == sizes.notification_bytes(bare) + more
    )


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, 0),
        ({"address": "é" * 9}, 18),
        ({"address": "x" * 66}, 66),
        ({"attributes": {"list": "members"}}, 11),
        ({"data": {"né": "x"}}, 4),
        ({"items": ITEMS}, ITEMS_BYTES),
    ],
)
def test_what_a_delivery_weighs_more(fields: dict[str, Any], more: int) -> None:
    delivery = a_delivery()
    assert sizes.delivery_bytes(replace(delivery, **fields)) == sizes.DELIVERY_BYTES + more
    all_else = {"address": "a", "attributes": {"a": "b"}, "data": {"c": "d"}, "items": ITEMS[:1]}
    bare = replace(delivery, **{**all_else, **{n: getattr(delivery, n) for n in fields}})
    assert sizes.delivery_bytes(replace(bare, **fields)) == sizes.delivery_bytes(bare) + more


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, 0),
        ({"size_bytes": 77}, 77),
        ({"members": bytes(24)}, 24),
        ({"member_facts": bytes(48)}, 48),
        ({"actors": bytes(40)}, 40),
        ({"collapse": {"score": "é1"}}, 8),
    ],
)
def test_what_an_open_digest_weighs_more(fields: dict[str, Any], more: int) -> None:
    assert sizes.digest_bytes(replace(OPENED, **fields)) == sizes.DIGEST_BYTES + more
    all_else = {"size_bytes": 5, "members": bytes(8), "member_facts": bytes(16),
                "actors": bytes(8), "collapse": {"k": "e"}}  # fmt: skip
    bare = replace(OPENED, **{**all_else, **{name: getattr(OPENED, name) for name in fields}})
    assert sizes.digest_bytes(replace(bare, **fields)) == sizes.digest_bytes(bare) + more


def test_all_that_waits_weighs_the_sum() -> None:
    waiting = Waiting(
        held=tuple(Held(packed(TOLD), T0, "scheduled", T0, size_bytes=size) for size in (1, 3)),
        digests=(OPENED, replace(OPENED, size_bytes=7)),
        retries=tuple(Retry(a_delivery(), T0, "answer", size) for size in (16, 32)),
        escalations=tuple(Escalation(packed(TOLD), 1, T0, (), size) for size in (64, 128)),
    )
    expected = 4 + 7 + 2 * sizes.DIGEST_BYTES + 48 + 192
    assert sizes.waiting_bytes(waiting) == expected
    assert sizes.waiting_bytes(Waiting()) == 0


def test_each_choice_weighs_its_name_and_one_more() -> None:
    nothing = preferences_bytes(Preferences())
    for field in ("categories", "channels", "cells"):
        chosen = replace(Preferences(), **{field: {"push": True, "é": False}})
        assert preferences_bytes(chosen) == nothing + 4 + 1 + 2 + 1


def test_preferences_weigh_the_sum_of_their_texts() -> None:
    bare = Preferences(zone="", locale="")
    assert preferences_bytes(bare) == 0
    full = replace(
        bare,
        categories={"aé": True},
        channels={"push": False},
        cells={"a/push": True, "b/push": False},
        quiet_hours=(QuietWindow(0, 60), QuietWindow(60, 90)),
        muted=("actor:é", "key:k"),
        digests={"a": "hourly", "b": "daily@08:00"},
        channel_order={"a": ("push", "email"), "é": ()},
        zone="UTC",
        locale="pt-PT",
    )
    choices = (3 + 1) + (4 + 1) + 2 * (6 + 1)
    lists = 2 * 12 + (8 + 5) + (1 + 6 + 1 + 11) + (1 + 4 + 5 + 2)
    assert preferences_bytes(full) == choices + lists + 3 + 5


def test_a_planned_step_weighs_what_it_tells_and_the_ids_that_it_waits_for() -> None:
    category = Category("message", route="escalate", escalate_after_ms=HOUR)
    ana = Person(a_policy(category), PHONE, MAIL)
    ana.gets("e1", data={"who": "Bob"})
    (planned,) = ana.state.waiting.escalations
    ids = sum(len(one) for one in planned.delivery_ids)
    assert ids == 32
    assert planned.size_bytes == sizes.notification_bytes(planned.notification) + ids


def test_what_waits_carries_its_own_weight() -> None:
    ana = Person(a_policy(), PHONE)
    ana.gets("e1", send_at_local="18:00", data={"who": "Bob"})
    ana.gets("e2")
    ana.answers(ana.deliveries[0], "retry")
    ((held,), (retry,)) = ana.state.waiting.held, ana.state.waiting.retries
    local_time = len("2026-03-01T18:00")
    assert held.size_bytes == sizes.notification_bytes(held.notification) + local_time
    assert retry.size_bytes == sizes.delivery_bytes(retry.delivery)
