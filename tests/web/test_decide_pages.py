"""The decide pages alone: a partition's state in a dictionary, and a log that the test applies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from streams import tables, topics
from streams.agents.decide import IF_MATCH
from streams.api.settings import DecideWebSettings
from streams.codec import Codec
from streams.core import state_codec
from streams.core.model import Claim, Preferences, Profile
from streams.core.policy import Category, Policy
from streams.engine.log_writer import NotWritten, OutRecord, Placed, Written
from streams.engine.settings import EngineSettings
from streams.ledger.directory import SECRET_HEADER
from streams.web.decide_pages import DecideWeb
from streams.web.pending import AGE_S_MAX, PendingChanges
from streams.web.preference_rules import etag

CODEC = Codec()
POLICY = Policy("v", {"message": Category("message"), "like": Category("like")})
ENGINE = EngineSettings(bootstrap="unused:1", partitions=1)
MINE = "/recipients/ann/preferences"


class Log:
    """Stands where the writer is: keeps records, and applies them to the store when told to."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.records: list[OutRecord] = []
        self.is_away = False
        self.applies = True

    async def write(self, records: list[OutRecord]) -> list[Written]:
        await asyncio.sleep(0)
        if self.is_away:
            return [NotWritten("away")] * len(records)
        self.records += records
        if self.applies:
            self.apply()
        return [Placed(topics.PREFERENCES, 0, len(self.records))] * len(records)

    def apply(self, count: int | None = None) -> None:
        for record in self.records[:count]:
            recipient_id, preferences = CODEC.decode_preference(record.value)
            encoded = state_codec.encode_profile(Profile(preferences=preferences))
            assert encoded is not None
            self.values[tables.PROFILE + recipient_id.encode()] = encoded

    # -- StateView

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.values.get(key) for key in keys]

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> Iterable[tuple[bytes, bytes]]:
        return []


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def pages(log: Log, monkeypatch: pytest.MonkeyPatch) -> DecideWeb:
    settings = DecideWebSettings(applied_ms_max=30)
    web = DecideWeb(settings, ENGINE, CODEC, lambda: POLICY, lambda: 1_700_000_000_000)
    monkeypatch.setattr(web._changes, "writer", log)
    web.take_over(0, log, lambda: True)
    return web


@pytest.fixture
async def client(pages: DecideWeb) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(pages.application())) as running:
        yield running


def change(number: int, **fields: Any) -> dict[str, Any]:
    return {"at_ms": number, "merge": {"muted": [f"actor:{number}"]}, **fields}


async def test_a_change_names_the_version_that_it_replaces(
    client: TestClient[Any, Any], log: Log
) -> None:
    before = (await client.get(MINE)).headers["ETag"]
    answer = await client.post(MINE, json=change(1))
    assert answer.status == 200
    (record,) = log.records
    assert record.headers == [(IF_MATCH, before.encode())]
    assert (await client.get(MINE)).headers["ETag"] == answer.headers["ETag"]
    # The same choice again is no change: nothing is written.
    again = await client.post(MINE, json=change(2, merge={"muted": ["actor:1"]}))
    assert again.headers["ETag"] == answer.headers["ETag"]
    assert len(log.records) == 1


async def test_what_is_acknowledged_is_seen_before_it_is_applied(
    client: TestClient[Any, Any], log: Log
) -> None:
    log.applies = False
    first = await (await client.post(MINE, json=change(1))).json()
    assert first["applied"] is False
    read = await (await client.get(MINE)).json()
    assert (read["preferences"]["muted"], read["applied"]) == (["actor:1"], False)
    old = etag(Preferences())
    stale = await client.post(MINE, json=change(2, if_match=[old]))
    assert stale.status == 412
    second = await (await client.post(MINE, json=change(2, if_match=[first["etag"]]))).json()
    log.apply(1)  # the decide step has only reached the first
    read = await (await client.get(MINE)).json()
    assert read["preferences"]["muted"] == ["actor:2"]
    log.apply()
    read = await (await client.get(MINE)).json()
    assert (read["etag"], read["applied"]) == (second["etag"], True)


async def test_what_somebody_else_wrote_later_is_never_hidden(
    client: TestClient[Any, Any], log: Log
) -> None:
    log.applies = False
    await client.post(MINE, json=change(1))
    newer = state_codec.encode_profile(Profile(preferences=Preferences(zone="Asia/Tokyo")))
    assert newer is not None
    log.values[tables.PROFILE + b"ann"] = newer
    read = await (await client.get(MINE)).json()
    assert (read["preferences"]["zone"], read["applied"]) == ("Asia/Tokyo", True)


async def test_without_an_acknowledgement_nothing_changed(
    client: TestClient[Any, Any], log: Log
) -> None:
    log.is_away = True
    answer = await client.post(MINE, json=change(1))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    log.is_away = False
    assert (await (await client.get(MINE)).json())["preferences"]["muted"] == []


async def test_a_partition_answers_only_while_it_is_owned_and_caught_up(
    client: TestClient[Any, Any], pages: DecideWeb, log: Log
) -> None:
    pages.take_over(0, log, lambda: False)
    answer = await client.get(MINE)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert await (await client.get("/partitions")).json() == {"ready": [], "catching_up": [0]}
    pages.take_over(0, log, lambda: True)
    assert (await client.get(MINE)).status == 200
    await pages.give_up(0)
    assert (await client.get(MINE)).status == 503
    assert (await client.post("/preview", json=_preview())).status == 503
    seen = {"items": [{"recipient_id": "ann", "event_id": "e", "content": "00000000"}]}
    assert await (await client.post("/seen", json=seen)).json() == {"answers": ["unknown"]}
    await pages.give_up(0)


async def test_giving_up_waits_for_the_change_that_is_under_way(
    client: TestClient[Any, Any], pages: DecideWeb, log: Log
) -> None:
    entered, going = asyncio.Event(), asyncio.Event()
    write = log.write

    async def slow(records: list[OutRecord]) -> list[Written]:
        entered.set()
        await going.wait()
        return await write(records)

    log.write = slow  # type: ignore[method-assign]
    changing = asyncio.create_task(client.post(MINE, json=change(1)))
    await asyncio.wait_for(entered.wait(), 5)
    leaving = asyncio.create_task(pages.give_up(0))
    await asyncio.sleep(0)
    assert not leaving.done()
    going.set()
    await asyncio.wait_for(leaving, 5)
    assert (await changing).status == 200


async def test_a_secret_is_asked_for_when_there_is_one(log: Log) -> None:
    settings = DecideWebSettings(internal_secret="s3cret")
    web = DecideWeb(settings, ENGINE, CODEC, lambda: POLICY)
    web.take_over(0, log, lambda: True)
    async with TestClient(TestServer(web.application())) as client:
        for path in ("/partitions", MINE, "/recipients/ann/destinations"):
            assert (await client.get(path)).status == 401
            wrong = {SECRET_HEADER: "s3cre"}
            assert (await client.get(path, headers=wrong)).status == 401
            assert (await client.get(path, headers={SECRET_HEADER: "s3cret"})).status == 200
        for path in (MINE, "/preview", "/seen"):
            assert (await client.post(path, json={})).status == 401


async def test_what_was_stored_and_is_gone_from_the_catalogue_may_stay(
    client: TestClient[Any, Any], log: Log
) -> None:
    old = Preferences(categories={"of-last-year": False}, zone="Old/Zone", muted=("odd",))
    encoded = state_codec.encode_profile(Profile(preferences=old))
    assert encoded is not None
    log.values[tables.PROFILE + b"ann"] = encoded
    answer = await client.post(MINE, json=change(1, merge={"channels": {"email": False}}))
    assert answer.status == 200
    stored = (await answer.json())["preferences"]
    assert (stored["categories"], stored["zone"]) == ({"of-last-year": False}, "Old/Zone")
    refused = await client.post(MINE, json=change(1, merge={"categories": {"other": True}}))
    assert refused.status == 422


def _preview() -> dict[str, Any]:
    event = {"event_id": "e", "recipient_id": "ann", "category": "message", "created_at_ms": 1}
    return {"event": event}


def test_pending_changes_are_bounded_in_number_and_age() -> None:
    clock = [0.0]
    pending = PendingChanges(2, lambda: clock[0])
    for name in "abc":
        pending.add(0, name, "old", Preferences(locale=name))
    assert pending.get(0, "a", "old") is None
    assert pending.get(0, "c", "old") == Preferences(locale="c")
    clock[0] = AGE_S_MAX
    assert pending.get(0, "c", "old") is None
    pending.add(1, "d", "old", Preferences(locale="d"))
    pending.forget(1)
    assert pending.get(1, "d", "old") is None


async def test_claims_are_told_by_owner_and_what_was_taken_back_is_purged(
    client: TestClient[Any, Any], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged: list[bytes] = []
    monkeypatch.setattr(log, "purge", purged.extend, raising=False)
    for name, owner in (("h1", "ann"), ("h2", "bob")):
        claim = CODEC.encode_claim(Claim(name, owner, "mail", "email", 1))
        log.values[tables.CLAIM + name.encode()] = claim
    asked = {"partition": 0, "recipient_id": "ann", "address_hashes": ["h1", "h2", "h3"]}
    answer = await client.post("/claims", json=asked)
    assert await answer.json() == {"address_hashes": ["h1"]}
    assert purged == [tables.CLAIM + b"h3"]
    assert (await client.post("/claims", json={**asked, "partition": 7})).status == 503
