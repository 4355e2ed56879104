"""The pages over HTTP: three formats of one document, who sees what, and what a form needs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from streams.partitioning import partition_of_recipient
from tests.web.console_world import BODY, EMAIL, PARTITIONS, ConsoleWorld, running_console

PLAIN_PAGES = ("/overview", "/search", "/providers", "/partitions", "/tables", "/tables/state")
HTML = {"Accept": "text/html"}


class Browser:
    """A session of aiohttp that keeps cookies, as a browser does."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def get(self, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
        shown = {"Accept": "text/html"} | {n.replace("_", "-"): t for n, t in headers.items()}
        async with self.session.get(
            self.url + path, headers=shown, allow_redirects=False
        ) as answer:
            return answer, await answer.text()

    async def post(self, path: str, **fields: str) -> tuple[aiohttp.ClientResponse, str]:
        async with self.session.post(self.url + path, data=fields, allow_redirects=False) as answer:
            return answer, await answer.text()

    async def token(self, path: str) -> str:
        _, html = await self.get(path)
        found = re.search(r'name="form_token" value="(\w+)"', html)
        assert found is not None, html
        return found[1]

    async def log_in(self, key: str, back: str = "") -> tuple[aiohttp.ClientResponse, str]:
        token = await self.token("/login")
        return await self.post("/login", form_token=token, key=key, next=back)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ConsoleWorld]:
    async with running_console(tmp_path) as running:
        running.tell_a_story()
        running.send()
        yield running


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[ConsoleWorld]:
    async with running_console(tmp_path, with_keys=True, logins_per_minute=3) as running:
        running.tell_a_story()
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", [*PLAIN_PAGES, "/recipients/ann"])
async def test_a_page_is_html_for_people_and_json_for_programs(
    world: ConsoleWorld, session: aiohttp.ClientSession, path: str
) -> None:
    browser = Browser(session, world.url)
    answer, html = await browser.get(path)
    assert (answer.status, answer.content_type) == (200, "text/html"), html
    assert "<h1>" in html
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    for as_json in (
        await browser.get(path, Accept="application/json"),
        await browser.get(path + ".json", Accept="text/html"),
        await browser.get(path + "?format=json"),
    ):
        assert as_json[0].content_type == "application/json"
        assert isinstance(await as_json[0].json(), dict)


async def test_every_page_is_described_and_is_what_the_description_says(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    async with session.get(world.url + "/openapi.json") as answer:
        description = await answer.json()
    assert set(description["paths"]) == {page.path for page in world.console.pages}
    for path in PLAIN_PAGES:
        page = description["paths"].get(path) or description["paths"]["/tables/{name}"]
        content = page["get"]["responses"]["200"]["content"]
        name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
        async with session.get(world.url + path, headers={"Accept": "application/json"}) as answer:
            document = await answer.json()
        assert set(document) == set(description["components"]["schemas"][name]["properties"])


async def test_a_history_as_csv_has_a_row_for_each_thing_that_happened(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    async with session.get(world.url + "/recipients/ann?format=csv") as answer:
        assert answer.content_type == "text/csv"
        found = list(csv.DictReader(io.StringIO(await answer.text())))
    assert [(row["kind"], row["what"]) for row in found] == [
        ("decision", "held"), ("decision", "suppressed"), ("receipt", "seen"),
        ("answer", "accepted"), ("decision", "delivering"),
    ]  # fmt: skip
    assert found[1]["reason"] == "opted_out"


async def test_the_recipient_page_says_what_they_chose_and_what_waits(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    async with session.get(world.url + "/recipients/ann.json") as answer:
        page = await answer.json()
    state = page["state"]
    cells = {(cell["category"], cell["channel"]): cell for cell in state["cells"]}
    assert cells["like", "push"]["wanted"] is False
    assert cells["like", "push"]["decided_by"] == "category like"
    assert cells["message", "email"]["wanted"] is True
    assert [held["reason"] for held in state["held"]] == ["quiet_hours"]
    assert state["suppressions"][0]["scope"] == "channel:sms"
    assert [(one["used"], one["count_max"]) for one in state["limits"]] == [(1, 12)]
    assert world.looks.kept == [("open", "recipient", "ann", None)]


async def test_a_recipient_whose_state_moves_still_has_a_history(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.decide_ready = False
    answer, html = await Browser(session, world.url).get("/recipients/ann")
    assert answer.status == 200
    assert "cannot be read at the moment" in html
    assert "e-like" in html


async def test_a_ledger_that_catches_up_says_so_with_retry_after(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.ledger_ready = False
    browser = Browser(session, world.url)
    answer, html = await browser.get("/recipients/ann")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert "catching up" in html
    answer, _ = await browser.get("/recipients/ann.json")
    assert (answer.status, answer.content_type) == (503, "application/problem+json")
    answer, html = await browser.get("/overview")
    assert "0 of 2 partitions answer" in html


async def test_one_address_answers_for_what_other_workers_have(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.move(partition_of_recipient("ann", PARTITIONS))
    browser = Browser(session, world.url)
    for path in ("/recipients/ann", "/recipients/ann/events/e-like", "/search?reason=opted_out"):
        answer, html = await browser.get(path)
        assert (answer.status, "e-like" in html) == (200, True), path
    async with session.get(world.url + "/overview.json") as answer:
        page = await answer.json()
    assert (page["events"], page["is_complete"]) == (3, True)
    looked_at = [what for _, what, _, _ in world.looks.kept]
    assert looked_at == ["recipient", "notification", "search"], "once, by whoever shows it"
    world.other.give_up(partition_of_recipient("ann", PARTITIONS))
    answer, html = await browser.get("/recipients/ann")
    assert (answer.status, "Retry-After" in answer.headers) == (503, True)
    assert "not here any more" in html


async def test_what_cannot_be_recorded_is_not_shown(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.looks.refuses = True
    for path in ("/recipients/ann", "/recipients/ann/events/e-sent", "/tables/state?key=ann"):
        answer, html = await Browser(session, world.url).get(path)
        assert answer.status == 503, path
        assert "e-like" not in html
        assert "Europe/Lisbon" not in html


async def test_a_trace_tells_where_the_time_went(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    browser = Browser(session, world.url)
    async with session.get(world.url + "/recipients/ann/events/e-sent?format=json") as answer:
        page = await answer.json()
    steps = [(step["what"], step["lasts_ms"]) for step in page["steps"]]
    assert steps == [
        ("arrived", 20), ("delivering", 40), ("accepted", 59_960), ("receipt: seen", None),
    ]  # fmt: skip
    subject = page["trace"]["subject_id"]
    answer, html = await browser.get(f"/notifications/{subject}")
    assert "accepted on push (apns)" in html
    assert world.looks.kept[-1] == ("open", "notification", "ann", subject)
    answer, html = await browser.get("/notifications/" + "0" * 32)
    assert (answer.status, "Nothing is recorded" in html) == (404, True)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("q=ann", "/recipients/ann"),
        ("q=a%2Fb", "/recipients/a%2Fb"),
        ("q=x.json", "/recipients/x.json?format=html"),
        ("q=ann&event_id=e-sent", "/recipients/ann/events/e-sent"),
        ("q=00" + "AB" * 15, "/notifications/00" + "ab" * 15),
    ],
)
async def test_search_leads_straight_to_the_one_answer(
    world: ConsoleWorld, session: aiohttp.ClientSession, query: str, where: str
) -> None:
    answer, _ = await Browser(session, world.url).get(f"/search?{query}")
    assert (answer.status, answer.headers["Location"]) == (302, where)


async def test_search_lists_what_fits(world: ConsoleWorld, session: aiohttp.ClientSession) -> None:
    async def hits(query: str) -> list[tuple[str, str]]:
        async with session.get(f"{world.url}/search.json?{query}") as answer:
            document = await answer.json()
        return [(hit["recipient_id"], hit["entry"]["event_id"]) for hit in document["hits"]]

    async def found(query: str) -> list[str]:
        return [event_id for _, event_id in await hits(f"recipient=ann&{query}")]

    assert await hits("event_id=e-held") == [("ann", "e-held")]
    world.tell_a_story("bob")
    assert sorted(await hits("reason=opted_out")) == [("ann", "e-like"), ("bob", "e-like")]
    looked_at = {(what, whom) for _, what, whom, _ in world.looks.kept}
    assert looked_at == {("search", "ann"), ("search", "bob")}
    assert await found("reason=opted_out") == ["e-like"]
    assert await found("category=message") == ["e-held", "e-sent"]
    assert await found("since=2023-11-14T22:10") == ["e-held", "e-like"]
    assert await found("until=2023-11-14T22:00") == ["e-sent"]
    answer, _ = await Browser(session, world.url).get("/search?recipient=ann&since=yesterday")
    assert answer.status == 422


async def test_a_table_is_browsed_over_all_partitions_page_by_page(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    for number in range(5):
        world.tell_a_story(f"member-{number}")
    seen: list[str] = []
    cursor = ""
    for _ in range(10):
        path = f"/tables/state?format=json&prefix=member&limit=2&cursor={cursor}"
        async with session.get(world.url + path) as answer:
            page = await answer.json()
        seen += [row["row"]["key"] for row in page["rows"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"member-{number}" for number in range(5)]
    looked_at = {whom for _, what, whom, _ in world.looks.kept if what == "table profile"}
    assert looked_at == set(seen), "everybody on a page was looked at"
    async with session.get(world.url + "/tables/state?format=json&key=member-3") as answer:
        (row,) = (await answer.json())["rows"]
    assert row["row"]["decoded"]["preferences"]["zone"] == "Europe/Lisbon"
    assert row["row"]["value_hex"]
    answer, _ = await Browser(session, world.url).get("/tables/state?kind=nothing")
    assert answer.status == 422


async def test_overview_counts_events_messages_and_reasons(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    async with session.get(world.url + "/overview.json") as answer:
        page = await answer.json()
    assert (page["events"], page["accepted"], page["withheld"]) == (3, 1, 1)
    assert page["reasons"] == [{"verdict": "suppressed", "reason": "opted_out", "count": 1}]
    assert page["now"]["latencies"][0]["priority"] == "normal"
    titles = {chart["title"]: chart for chart in page["charts"]}
    events = titles["Events in, by category"]["series"]
    assert {one["name"]: sum(one["values"]) for one in events} == {"message": 2, "like": 1}


async def test_a_provider_that_goes_down_is_on_both_pages(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.break_provider("apns")
    browser = Browser(session, world.url)
    async with session.get(world.url + "/providers.json") as answer:
        providers = {one["name"]: one for one in (await answer.json())["providers"]}
    assert providers["apns"]["breaker"] == "open"
    assert providers["apns"]["reasons"] == [
        {"status": "retry", "reason": "unavailable", "count": 10}
    ]
    assert providers["smtp"]["breaker"] == "closed"
    _, html = await browser.get("/overview")
    assert "breaker open on 1 of 1 workers" in re.sub(r"<[^>]+>", "", html)
    assert "kill switch" not in html


async def test_every_kill_switch_that_is_on_is_on_the_overview(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    scopes = ["all", "campaign:<spring>", "category:message", "kind:sms", "provider:apns"]
    world.killed = frozenset(scopes)
    world.break_provider("apns")
    async with session.get(world.url + "/overview.json") as answer:
        now = (await answer.json())["now"]
    assert (now["kill_switches"], now["kill_switch_count"]) == (scopes, 5)
    _, html = await Browser(session, world.url).get("/overview")
    text = unescape(re.sub(r"<[^>]+>", "", html))
    for scope in scopes[:-1]:
        assert f"The kill switch {scope} is on: what it stops is dropped" in text
    assert "The kill switch provider:apns is on: what would go there waits" in text
    assert "breaker open on" not in text, "its switch is what counts"
    async with session.get(world.url + "/openapi.json") as answer:
        assert "kill_switch_count" in await answer.text()


async def test_very_many_kill_switches_are_named_in_part_and_counted(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    world.killed = frozenset(f"campaign:{number:03}" for number in range(300))
    _, html = await Browser(session, world.url).get("/overview")
    assert ("campaign:199" in html, "campaign:200" in html) == (True, False)
    assert "300 kill switches are on in all" in html


async def test_live_parts_come_as_events_when_something_changes(
    world: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    async with session.get(world.url + "/providers?format=events") as stream:
        assert stream.content_type == "text/event-stream"
        assert "open" not in await _next_event(stream)
        world.break_provider("apns")
        assert "open" in await _next_event(stream)


async def _next_event(stream: aiohttp.ClientResponse) -> str:
    while True:
        line = (await stream.content.readline()).decode()
        assert line, "the stream ended"
        if line.startswith("data: "):
            return line


async def test_no_more_live_pages_than_the_bound(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with running_console(tmp_path, live_streams_max=1) as world:
        url = world.url + "/providers?format=events"
        async with session.get(url) as first, session.get(url) as second:
            assert first.status == 200
            assert (second.status, "Retry-After" in second.headers) == (503, True)


# --------------------------------------------------------------------------------------- access


async def test_without_a_key_nothing_is_shown(
    closed: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    browser = Browser(session, closed.url)
    for path in (*PLAIN_PAGES, "/recipients/ann", "/notifications/" + "0" * 32):
        answer, _ = await browser.get(path)
        assert (answer.status, answer.headers["Location"][:7]) == (302, "/login?"), path
        answer, text = await browser.get(path, Accept="application/json")
        assert (answer.status, "unauthenticated" in text) == (401, True), path
    for path in ("/openapi.json", "/v1/totals", "/v1/recipients/ann/timeline"):
        answer, _ = await browser.get(path)
        assert answer.status == 401, path
    answer, _ = await browser.get(
        "/v1/totals", Flowstate_Hop="1", **bearer(closed.tokens["reader"])
    )
    assert answer.status == 403, "only a worker passes questions on"
    assert closed.looks.kept == []


async def test_a_login_is_a_session_until_it_is_ended(
    closed: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    browser = Browser(session, closed.url)
    answer, _ = await browser.log_in(closed.tokens["reader"], "/recipients/ann")
    assert (answer.status, answer.headers["Location"]) == (302, "/recipients/ann")
    cookie = answer.cookies["flowstate_session"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
    answer, _ = await browser.get("/recipients/ann")
    assert answer.status == 200
    assert closed.looks.kept[-1][0] != "open", "the key's id is recorded"
    answer, _ = await browser.post("/logout", form_token="0" * 64)
    assert answer.status == 403, "a form of another page does not log out"
    answer, _ = await browser.post("/logout", form_token=await browser.token("/overview"))
    assert answer.headers["Location"] == "/login"
    answer, _ = await browser.get("/overview")
    assert answer.status == 302


@pytest.mark.parametrize("back", ["//evil.example/", "https://evil.example/", "/\\evil", ""])
async def test_a_login_leads_nowhere_else(
    closed: ConsoleWorld, session: aiohttp.ClientSession, back: str
) -> None:
    answer, _ = await Browser(session, closed.url).log_in(closed.tokens["reader"], back)
    assert answer.headers["Location"] == "/overview"


async def test_wrong_keys_are_refused_and_their_number_is_limited(
    closed: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    browser = Browser(session, closed.url)
    answer, html = await browser.log_in("fsk_wrong_key")
    assert (answer.status, "does not open these pages" in html) == (401, True)
    answer, _ = await browser.log_in(closed.tokens["producer"])
    assert answer.status == 401, "a producer's key is for producing"
    await browser.log_in("fsk_wrong_key")
    answer, _ = await browser.log_in(closed.tokens["reader"])
    assert (answer.status, "Retry-After" in answer.headers) == (429, True)
    answer, _ = await browser.post("/login", key=closed.tokens["reader"])
    assert answer.status == 403, "a form without its token is not ours"


async def test_addresses_and_bodies_are_masked_without_reveal(
    closed: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    paths = ("/recipients/ann", "/tables/state?key=ann", "/tables/state?key=ann&kind=moving")
    for path in paths:
        for kind in ("html", "json", "csv"):
            url = f"{closed.url}{path}{'&' if '?' in path else '?'}format={kind}"
            async with session.get(url, headers=bearer(closed.tokens["reader"])) as answer:
                text = await answer.text()
                assert answer.status == 200, url
            for hidden in (EMAIL, BODY, "a1b2c3d4e5f6", EMAIL.encode().hex(), BODY.encode().hex()):
                assert hidden not in text, url
    async with session.get(
        closed.url + "/recipients/ann.json", headers=bearer(closed.tokens["revealer"])
    ) as answer:
        text = await answer.text()
    assert EMAIL in text
    assert BODY in text


async def test_only_who_may_operate_can_try_again(
    closed: ConsoleWorld, session: aiohttp.ClientSession
) -> None:
    browser = Browser(session, closed.url)
    await browser.log_in(closed.tokens["revealer"])
    token = await browser.token("/overview")
    for path in ("/dead-letters/confirm", "/dead-letters/redrive"):
        answer, _ = await browser.post(path, form_token=token, place="0/1")
        assert answer.status == 403, path
    session.cookie_jar.clear(lambda cookie: cookie.key == "flowstate_session")
    await browser.log_in(closed.tokens["operator"])
    answer, html = await browser.post("/dead-letters/redrive", form_token=token, place="0/1")
    assert (answer.status, "not of this browser" in html) == (403, True), "another session's form"


def names(html: str) -> Any:
    return re.findall(r"<h1>(.*?)</h1>", html)
