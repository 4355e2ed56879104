"""Choices, addresses, cancellations and previews, with real workers behind the API."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import topics
from streams.codec import Codec
from streams.local.processes import ManagedProcess
from streams.partitioning import partition_for
from streams.sinks import unsubscribe
from tests.api.world import PARTITIONS, UNSUBSCRIBE, Client, World, new_id, running_api
from tests.eventually import eventually

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("api")]
MERGE = "application/merge-patch+json"


def path(recipient_id: str, what: str = "preferences") -> str:
    return f"/v1/recipients/{recipient_id}/{what}"


def event(recipient_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": new_id("e"),
        "recipient_id": recipient_id,
        "category": "message",
        "created_at_ms": 1_700_000_000_000,
        **fields,
    }


async def register(client: Client, recipient_id: str, address: str = "ann@example.com") -> None:
    answer = await client.ask(
        "PUT", path(recipient_id, "destinations/mail"), {"kind": "email", "address": address}
    )
    assert answer.status == 202, answer.text

    async def is_there() -> bool:
        found = await client.ask("GET", path(recipient_id, "destinations"))
        return found.status == 200 and bool(found.json["destinations"])

    await eventually(is_there)


async def test_who_chose_nothing_has_the_defaults_and_a_version(client: Client) -> None:
    recipient_id = new_id()
    answer = await client.ask("GET", path(recipient_id))
    assert answer.status == 200
    assert answer.headers["ETag"] == answer.json["etag"]
    assert answer.json["preferences"]["zone"] == "UTC"
    assert answer.json["suppressions"] == []


async def test_a_change_is_read_back_at_once(client: Client) -> None:
    recipient_id = new_id()
    patch = {"cells": {"message/email": False}, "zone": "Europe/Lisbon"}
    changed = await client.ask("PATCH", path(recipient_id), patch, kind=MERGE)
    assert changed.status == 200, changed.text
    read = await client.ask("GET", path(recipient_id))
    assert read.headers["ETag"] == changed.headers["ETag"]
    assert read.json["preferences"]["cells"] == {"message/email": False}
    assert read.json["preferences"]["zone"] == "Europe/Lisbon"
    back = await client.ask("PATCH", path(recipient_id), {"cells": {"message/email": None}})
    assert back.json["preferences"]["cells"] == {}
    assert back.json["preferences"]["zone"] == "Europe/Lisbon"


async def test_two_devices_do_not_overwrite_each_other(client: Client) -> None:
    recipient_id = new_id()
    first = await client.ask("GET", path(recipient_id))
    document = {k: v for k, v in first.json["preferences"].items() if k != "updated_at_ms"}
    tag = {"If-Match": first.headers["ETag"]}
    mine = {**document, "channels": {"email": False}}
    yours = {**document, "channels": {"push": False}}
    answers = await asyncio.gather(
        client.ask("PUT", path(recipient_id), mine, headers=tag),
        client.ask("PUT", path(recipient_id), yours, headers=tag),
    )
    assert sorted(answer.status for answer in answers) == [200, 412]
    (lost,) = [answer for answer in answers if answer.status == 412]
    (won,) = [answer for answer in answers if answer.status == 200]
    assert lost.problem == "precondition_failed"
    assert lost.headers["ETag"] == won.headers["ETag"]
    read = await client.ask("GET", path(recipient_id))
    assert read.json["preferences"]["channels"] == won.json["preferences"]["channels"]


async def test_of_many_conditional_writers_through_two_apis_each_wins_once(
    client: Client, world: World
) -> None:
    recipient_id = new_id()
    async with running_api(world.settings, world.folder) as other:

        async def add(number: int) -> None:
            api = (client, other)[number % 2]
            while True:
                read = await api.ask("GET", path(recipient_id))
                muted = [*read.json["preferences"]["muted"], f"actor:{number}"]
                answer = await api.ask(
                    "PATCH",
                    path(recipient_id),
                    {"muted": muted},
                    headers={"If-Match": read.headers["ETag"]},
                )
                if answer.status == 200:
                    return
                assert answer.status == 412, answer.text

        await asyncio.gather(*(add(number) for number in range(8)))
    read = await client.ask("GET", path(recipient_id))
    assert sorted(read.json["preferences"]["muted"]) == [f"actor:{n}" for n in range(8)]


async def test_a_record_made_from_another_version_is_refused_by_decide(
    client: Client, world: World
) -> None:
    """As a dying owner may write it late, or a producer that says what it has read."""
    recipient_id = new_id()
    first = await client.ask("GET", path(recipient_id))
    codec, key = Codec(), recipient_id.encode()
    producer = AIOKafkaProducer(bootstrap_servers=world.settings.kafka.bootstrap)
    async with producer:
        for zone in ("Asia/Tokyo", "Europe/Lisbon"):
            value = codec.encode("preference", {"recipient_id": recipient_id, "zone": zone})
            await producer.send_and_wait(
                topics.PREFERENCES, value, key, partition_for(key, PARTITIONS),
                headers=[("flowstate-if-match", first.headers["ETag"].encode())],
            )  # fmt: skip

    async def refused() -> bool:
        page = await client.ask("GET", path(recipient_id, "notifications"))
        found = page.json.get("notifications", [])
        return any(step["reason"] == "preferences_outdated" for n in found for step in n["steps"])

    await eventually(refused, 20)
    read = await client.ask("GET", path(recipient_id))
    assert read.json["preferences"]["zone"] == "Asia/Tokyo"


async def test_put_needs_the_version_that_it_replaces(client: Client) -> None:
    recipient_id = new_id()
    refused = await client.ask("PUT", path(recipient_id), {})
    assert (refused.status, refused.problem) == (428, "precondition_required")
    forced = await client.ask("PUT", path(recipient_id), {}, headers={"If-Match": "*"})
    assert forced.status == 200
    bad = await client.ask("PUT", path(recipient_id), {}, headers={"If-Match": "abc"})
    assert (bad.status, bad.problem) == (400, "malformed")


@pytest.mark.parametrize(
    ("patch", "pointer"),
    [
        ({"zone": "Mars/Olympus"}, "/zone"),
        ({"locale": "zz-ZZ-!"}, "/locale"),
        ({"categories": {"nope": True}}, "/categories/nope"),
        ({"cells": {"message/fax": True}}, "/cells/message~1fax"),
        ({"cells": {"nope/email": True}}, "/cells/nope~1email"),
        ({"channels": {"fax": True}}, "/channels"),
        ({"digests": {"message": "weekly"}}, "/digests/message"),
        ({"digests": {"message": "daily@25:00"}}, "/digests/message"),
        ({"quiet_hours": [{"start_minute": 0, "end_minute": 1441}]}, "/quiet_hours/0/end_minute"),
        ({"muted": ["ann"]}, "/muted/0"),
        ({"unknown": 1}, ""),
        ({"channel_order": {"message": ["fax"]}}, "/channel_order/*/0"),
    ],
)
async def test_what_cannot_be_chosen_is_named(
    client: Client, patch: dict[str, Any], pointer: str
) -> None:
    answer = await client.ask("PATCH", path(new_id()), patch)
    assert (answer.status, answer.problem) == (422, "invalid")
    assert pointer in [error.get("pointer", "") for error in answer.json["errors"]]


async def test_snooze(client: Client) -> None:
    recipient_id = new_id()
    now_ms = time.time_ns() // 1_000_000
    snoozed = await client.ask("PUT", path(recipient_id, "snooze"), {"minutes": 30})
    until_ms = snoozed.json["preferences"]["snooze_until_ms"]
    assert now_ms + 29 * 60_000 < until_ms < now_ms + 31 * 60_000
    both = await client.ask("PUT", path(recipient_id, "snooze"), {"minutes": 1, "until_ms": 5})
    assert both.status == 422
    ended = await client.ask("DELETE", path(recipient_id, "snooze"))
    assert ended.json["preferences"]["snooze_until_ms"] == 0


async def test_an_opt_out_answered_before_an_event_applies_to_it(client: Client) -> None:
    recipient_id = new_id()
    await register(client, recipient_id)
    await client.ask("PATCH", path(recipient_id), {"default": False})
    sent = event(recipient_id)
    assert (await client.ask("POST", "/v1/events", sent)).status == 202

    async def steps() -> list[dict[str, Any]]:
        answer = await client.ask("GET", path(recipient_id, "notifications"))
        found = answer.json["notifications"] if answer.status == 200 else []
        about = [n for n in found if n.get("event_id") == sent["event_id"]]
        return about[0]["steps"] if about else []

    (step,) = await eventually(steps)
    assert step["what"] == "suppressed"
    assert step["sentence"]


# ----------------------------------------------------------------------------------- destinations


async def test_addresses_are_masked_and_can_be_taken_away(client: Client, world: World) -> None:
    recipient_id = new_id()
    await register(client, recipient_id, "ann@example.com")
    shown = (await client.ask("GET", path(recipient_id, "destinations"))).json["destinations"]
    assert shown[0]["address"] == "ann@example.com"  # without keys everything may be seen
    removed = await client.ask("DELETE", path(recipient_id, "destinations/mail"))
    assert (removed.status, removed.json["removed"]) == (202, True)

    async def is_gone() -> bool:
        found = await client.ask("GET", path(recipient_id, "destinations"))
        return not found.json["destinations"]

    await eventually(is_gone)


@pytest.mark.parametrize(
    ("kind", "address", "attributes"),
    [
        ("email", "no-at-sign", {}),
        ("sms", "12", {}),
        ("apns", "not hex", {}),
        ("webhook", "http://example.com/", {}),
        ("webhook", "https://127.0.0.1/", {}),
        ("chat", "https://", {}),
        ("webpush", "https://push.example/x", {}),
        ("webpush", "https://push.example/x", {"p256dh": "AA", "auth": "AA"}),
        ("fax", "123", {}),
        ("email", "", {}),
    ],
)
async def test_an_address_that_cannot_work_is_refused(
    client: Client, kind: str, address: str, attributes: dict[str, str]
) -> None:
    document = {"kind": kind, "address": address, "attributes": attributes}
    answer = await client.ask("PUT", path(new_id(), "destinations/d"), document)
    assert (answer.status, answer.problem) == (422, "invalid")


# ---------------------------------------------------------------------------------- cancellations


async def test_what_waits_can_be_cancelled_and_what_was_handed_over_cannot(client: Client) -> None:
    recipient_id = new_id()
    await register(client, recipient_id)
    waiting, gone = event(recipient_id, category="later"), event(recipient_id)
    for each in (waiting, gone):
        assert (await client.ask("POST", "/v1/events", each)).status == 202

    async def cancel(event_id: str) -> Any:
        return await client.ask("DELETE", f"/v1/events/{event_id}?recipient_id={recipient_id}")

    cancelled = await cancel(waiting["event_id"])
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    late = await cancel(gone["event_id"])
    assert (late.status, late.problem) == (409, "too_late")

    async def as_before() -> bool:
        # A repeat says what the first said, once the ledger has it.
        answer = await cancel(waiting["event_id"])
        return bool(answer.status == 200)

    await eventually(as_before)
    unknown = await cancel("never-sent")
    assert (unknown.status, unknown.json["status"]) == (202, "remembered")
    nobody = await client.ask("DELETE", "/v1/events/x")
    assert (nobody.status, nobody.problem) == (422, "invalid")


# --------------------------------------------------------------------------------------- previews


async def test_a_preview_says_what_would_happen_and_changes_nothing(client: Client) -> None:
    recipient_id = new_id()
    await register(client, recipient_id)
    asked = {"event": event(recipient_id)}
    first = await client.ask("POST", "/v1/preview", asked)
    assert first.status == 200, first.text
    assert [entry["verdict"] for entry in first.json["entries"]] == ["delivering"]
    (delivery,) = first.json["deliveries"]
    assert (delivery["channel"], delivery["address"]) == ("email", "ann@example.com")
    second = await client.ask("POST", "/v1/preview", asked)
    same = {"entries", "notification_id", "due_before"}
    assert {k: first.json[k] for k in same} == {k: second.json[k] for k in same}
    off = {**asked, "preferences": {"default": False}}
    (entry,) = (await client.ask("POST", "/v1/preview", off)).json["entries"]
    assert entry["verdict"] == "suppressed"
    unknown = {"event": event(recipient_id, category="nope")}
    (entry,) = (await client.ask("POST", "/v1/preview", unknown)).json["entries"]
    assert (entry["verdict"], entry["reason"]) == ("dead_lettered", "unknown_category")
    # Nothing was sent, so the event is still new when it comes.
    sent = await client.ask("POST", "/v1/events", asked["event"])
    assert (sent.status, "repeated" in sent.json) == (202, False)


# ----------------------------------------------------------------------------- owners that are away


@pytest.mark.slow
async def test_without_its_owner_a_recipient_is_unavailable_and_events_are_taken(
    world: World, client: Client
) -> None:
    recipient_id = new_id()
    decide: ManagedProcess = world.processes["decide"]
    decide.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = await client.ask("GET", path(recipient_id))
        assert (answer.status, answer.problem) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert time.monotonic() - began < 2
        headers = {"Idempotency-Key": new_id("k")}
        sent = await client.ask("POST", "/v1/events", event(recipient_id), headers=headers)
        assert sent.status == 202
        pending = await client.ask("DELETE", f"/v1/events/x?recipient_id={recipient_id}")
        assert (pending.status, pending.json["status"]) == (202, "pending")
        subject = unsubscribe.Unsubscribe(recipient_id, "message", "email")
        link = unsubscribe.link(UNSUBSCRIBE, subject) or ""
        clicked = await client.ask(
            "POST",
            link.removeprefix(UNSUBSCRIBE.base_url),
            body=b"List-Unsubscribe=One-Click",
            kind="application/x-www-form-urlencoded",
        )
        assert clicked.status == 200, "a click is taken whether or not the owner answers"
    finally:
        decide.signal(signal.SIGCONT)

    async def is_back() -> bool:
        return (await client.ask("GET", path(recipient_id))).status == 200

    await eventually(is_back, 60)

    async def is_unsubscribed() -> bool:
        read = await client.ask("GET", path(recipient_id))
        return bool(read.json["preferences"]["cells"] == {"message/email": False})

    await eventually(is_unsubscribed)
