"""The ledger's pages: who answers, who is asked instead, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web as aiohttp_web
from aiohttp.test_utils import TestServer, unused_port

from streams.engine.settings import EngineSettings
from streams.ledger.client import LedgerClient, LedgerError
from streams.ledger.directory import address_in
from streams.ledger.explain import explain
from streams.ledger.queries import LedgerQueries
from streams.ledger.settings import LedgerSettings
from streams.ledger.store import LedgerStore
from streams.partitioning import partition_of_recipient
from streams.web.internal import HOP_HEADER
from streams.web.ledger_pages import LedgerWeb
from tests.ledger.build import CODEC, T0, KeptLooks, decision, entry, rows_of, subject_of

PARTITIONS = 2
SETTINGS = LedgerSettings(proxy_timeout_ms=500)


class Worker:
    """A ledger worker's pages on a port of its own, owning one partition of two."""

    def __init__(self, folder: Path, partition: int) -> None:
        self.partition = partition
        self.port = unused_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.looks = KeptLooks()
        engine = EngineSettings(bootstrap="nowhere:1", partitions=PARTITIONS, web_port=self.port)
        self.web = LedgerWeb(SETTINGS, engine, self.looks)
        self.store = LedgerStore(folder, partition, SETTINGS)
        self.is_ready = True
        self.server: TestServer | None = None
        self.asked = 0

    async def start(self, owners: dict[int, str]) -> None:
        async def known() -> dict[int, str]:
            return owners

        await self.web.start()
        self.web._owners.all = known  # type: ignore[method-assign]
        queries = LedgerQueries(self.store, CODEC)
        self.web.take_over(self.partition, queries, lambda: self.is_ready)
        app = aiohttp_web.Application(middlewares=[self._count])
        app.add_routes(self.web.routes())
        self.server = TestServer(app, port=self.port)
        await self.server.start_server()

    @aiohttp_web.middleware
    async def _count(self, request: aiohttp_web.Request, handler: Any) -> Any:
        self.asked += 1
        return await handler(request)

    async def stop(self) -> None:
        assert self.server is not None
        await self.server.close()
        await self.web.stop()
        self.store.close()


def recipient_on(partition: int) -> str:
    return next(
        name for name in (f"member/{n} ü" for n in range(100))
        if partition_of_recipient(name, PARTITIONS) == partition
    )  # fmt: skip


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[list[Worker]]:
    made = [Worker(tmp_path / str(n), n) for n in range(PARTITIONS)]
    owners = {worker.partition: worker.url for worker in made}
    for worker in made:
        recipient = recipient_on(worker.partition)
        subject = subject_of("e/1", recipient, worker.partition)
        opted_out = entry(
            "suppressed", "e/1", subject_id=subject, reason="opted_out", inputs={"cell": "like"}
        )
        worker.store.write(
            rows_of(decision(0, opted_out, recipient_id=recipient)), {"decisions": 1}
        )
        await worker.start(owners)
    yield made
    for worker in made:
        await worker.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def test_anyone_answers_for_everyone(workers: list[Worker]) -> None:
    async with LedgerClient(workers[0].url) as client:
        for partition in range(PARTITIONS):
            recipient = recipient_on(partition)
            trace = await client.event(recipient, "e/1")
            assert trace is not None
            assert trace.status.state == "suppressed"
            assert await client.notification(trace.subject_id) == trace
            page = await client.timeline(recipient)
            assert (page.recipient_id, page.partition) == (recipient, partition)
            assert len(page.items) == 1
            said = await explain(client, recipient)
            assert [one.headline for one in said.notifications] == [
                "Not sent: The recipient does not want it (like)."
            ]
        assert await client.event(recipient_on(1), "nothing") is None
    assert workers[1].asked > 0


async def test_totals_are_over_all_partitions(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    async with LedgerClient(workers[1].url) as client:
        totals = await client.totals()
        assert totals.is_complete
        assert [state.partition for state in totals.partitions] == [0, 1]
        assert [(count.what, count.count) for count in totals.counts] == [("suppressed", 2)]
        workers[0].is_ready = False
        totals = await client.totals()
        assert not totals.is_complete
        assert [state.partition for state in totals.partitions] == [1]
    async with session.get(f"{workers[1].url}/v1/reasons?hours=2") as answer:
        found = await answer.json()
    assert [(one["count"], one["hour_ms"]) for one in found["counts"]] == [
        (1, T0 // 3_600_000 * 3_600_000)
    ]


@pytest.mark.parametrize("asked", [0, 1])
async def test_catching_up_is_503_with_retry_after(
    workers: list[Worker], session: aiohttp.ClientSession, asked: int
) -> None:
    workers[1].is_ready = False
    subject = subject_of("e/1", recipient_on(1), 1)
    async with session.get(f"{workers[asked].url}/v1/notifications/{subject}") as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "catching up" in (await answer.json())["error"]


async def test_no_owner_a_dead_owner_and_a_stale_one_are_503(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    first, second = workers
    url = f"{first.url}/v1/notifications/{subject_of('e/1', recipient_on(1), 1)}"
    known = await first.web._owners.all()
    known[1] = f"http://127.0.0.1:{unused_port()}"
    async with session.get(url) as answer:
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    known[1] = first.url
    async with session.get(url) as answer:
        assert "no owner" in (await answer.json())["error"]
    known[1] = second.url
    second.web.give_up(1)
    async with session.get(url) as answer:
        assert answer.status == 503
        assert "not here any more" in (await answer.json())["error"]


async def test_what_was_passed_on_once_is_not_passed_on_again(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    subject = subject_of("e/1", recipient_on(1), 1)
    before = workers[1].asked
    async with session.get(
        f"{workers[0].url}/v1/notifications/{subject}", headers={HOP_HEADER: "1"}
    ) as answer:
        assert answer.status == 503
    assert workers[1].asked == before


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/notifications/short", 400),
        ("/v1/notifications/" + "g" * 32, 400),
        ("/v1/notifications/" + "f" * 32, 404),
        ("/v1/notifications/000" + "0" * 29, 404),
        ("/v1/recipients/x/timeline?limit=many", 400),
        ("/v1/recipients/x/timeline?before=zz", 400),
        ("/v1/reasons?hours=-1", 400),
        ("/v1/reasons?step=week", 400),
        ("/v1/reasons?group_by=recipient", 400),
        ("/v1/reasons?colour=red", 400),
        ("/v1/search?from=yesterday", 400),
        ("/v1/search?colour=red", 400),
        ("/v1/search?reason=", 400),
    ],
)
async def test_bad_questions_are_refused_in_words(
    workers: list[Worker], session: aiohttp.ClientSession, path: str, status: int
) -> None:
    async with session.get(workers[0].url + path) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]


async def test_search_asks_everybody_and_records_whom_it_shows(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    async with session.get(f"{workers[0].url}/v1/search?reason=opted_out&event_id=e/1") as answer:
        page = await answer.json()
    both = {recipient_on(0), recipient_on(1)}
    assert {hit["recipient_id"] for hit in page["hits"]} == both
    assert page["is_complete"]
    assert {look[2] for look in workers[0].looks.kept} == both
    assert not workers[1].looks.kept
    workers[1].is_ready = False
    async with session.get(f"{workers[0].url}/v1/search?reason=opted_out") as answer:
        page = await answer.json()
    assert [hit["recipient_id"] for hit in page["hits"]] == [recipient_on(0)]
    assert not page["is_complete"]
    one = quote(recipient_on(1), safe="")
    async with session.get(f"{workers[0].url}/v1/search?recipient={one}") as answer:
        assert answer.status == 503, "the whole answer is there, and nobody gives it now"


async def test_reasons_are_grouped_as_asked(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    path = "/v1/reasons?from=0&step=day&group_by=reason&category=message"
    async with session.get(workers[0].url + path) as answer:
        (count,) = (await answer.json())["counts"]
    assert (count["reason"], count["what"], count["count"]) == ("opted_out", "", 2)
    assert count["hour_ms"] % (24 * 3_600_000) == 0


async def test_a_damaged_file_is_said_and_the_rest_is_still_answered(
    workers: list[Worker], session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    recipient, store = recipient_on(0), workers[0].store
    for bucket in store._buckets.values():
        bucket.flush()
    for file in (tmp_path / "0").rglob("*.sst"):
        data = bytearray(file.read_bytes())
        data[: len(data) // 3] = bytes(len(data) // 3)
        file.write_bytes(data)
    late = subject_of("e/2", recipient, 0)
    store.write(
        rows_of(
            decision(1, entry("held", "e/2", subject_id=late), at_ms=T0 + 9 * 86_400_000,
                     recipient_id=recipient)
        ),
        {"decisions": 2},
    )  # fmt: skip
    async with session.get(f"{workers[1].url}/v1/events/{quote(recipient, safe='')}/e%2F1") as said:
        assert said.status == 503
        assert "damaged" in (await said.json())["error"]
    async with session.get(f"{workers[0].url}/v1/notifications/{late}") as said:
        assert said.status in (200, 503), "an id leads through every bucket"
    one = quote(recipient, safe="")
    newer = f"/v1/search?recipient={one}&from={T0 + 8 * 86_400_000}"
    async with session.get(workers[0].url + newer) as said:
        assert [hit["entry"]["event_id"] for hit in (await said.json())["hits"]] == ["e/2"]
    async with session.get(f"{workers[0].url}/v1/search?reason=opted_out") as said:
        page = await said.json()
        assert [hit["recipient_id"] for hit in page["hits"]] == [recipient_on(1)]
        assert not page["is_complete"]


async def test_an_id_in_the_form_of_a_uuid_is_found(
    workers: list[Worker], session: aiohttp.ClientSession
) -> None:
    subject = subject_of("e/1", recipient_on(0), 0).upper()
    parts = (subject[:8], subject[8:12], subject[12:16], subject[16:20], subject[20:])
    async with session.get(f"{workers[0].url}/v1/notifications/{'-'.join(parts)}") as answer:
        assert answer.status == 200


async def test_a_look_is_recorded_once_with_whose_story_it_was(workers: list[Worker]) -> None:
    recipient = recipient_on(1)
    subject = subject_of("e/1", recipient, 1)
    async with LedgerClient(workers[0].url) as client:
        await client.timeline(recipient)
        await client.event(recipient, "e/1")
        await client.notification(subject)
    assert workers[0].looks.kept == [
        ("open", "timeline", recipient, None),
        ("open", "event", recipient, None),
        ("open", "notification", recipient, subject),
    ]
    assert workers[1].looks.kept == [], "recorded where it was asked first, not where passed on to"


@pytest.mark.parametrize("page", ["recipients/{}/timeline", "events/{}/e%2F1", "notifications/{}"])
async def test_what_cannot_be_recorded_is_not_shown(
    workers: list[Worker], session: aiohttp.ClientSession, page: str
) -> None:
    workers[0].looks.refuses = True
    recipient = recipient_on(0)
    name = subject_of("e/1", recipient, 0) if "notif" in page else quote(recipient, safe="")
    async with session.get(f"{workers[0].url}/v1/{page.format(name)}") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert "could not be recorded" in (await answer.json())["error"]


async def test_the_client_says_when_nobody_answers() -> None:
    async with LedgerClient(f"http://127.0.0.1:{unused_port()}") as client:
        with pytest.raises(LedgerError, match="no ledger answers"):
            await client.totals()


@pytest.mark.parametrize(
    ("metadata", "url"),
    [
        ('{"url":"http://a:1"}', "http://a:1"),
        ('{"url":"file:///x"}', None),
        ('{"url":7}', None),
        ("[]", None),
        ("not json", None),
        ("", None),
        (None, None),
    ],
)
def test_only_an_address_is_taken_from_metadata(metadata: str | None, url: str | None) -> None:
    assert address_in(metadata) == url
