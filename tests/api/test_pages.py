"""Pages for recipients: one-click unsubscribe, and their own preferences, over HTTP."""

from __future__ import annotations

import base64
import re
import time
from urllib.parse import urlencode

import pytest

from streams import links
from streams.sinks import unsubscribe
from streams.sinks.settings import UnsubscribeSettings
from tests.api.pages_html import read
from tests.api.test_preferences import path
from tests.api.world import LINK_SECRETS, UNSUBSCRIBE, Client, new_id

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("api")]
FORM = "application/x-www-form-urlencoded"
ONE_CLICK = b"List-Unsubscribe=One-Click"


def unsubscribe_path(
    recipient_id: str, settings: UnsubscribeSettings = UNSUBSCRIBE, category: str = "message"
) -> str:
    subject = unsubscribe.Unsubscribe(recipient_id, category, "email")
    link = unsubscribe.link(settings, subject)
    assert link is not None
    return link.removeprefix("https://n.example")


async def cells(client: Client, recipient_id: str) -> dict[str, bool]:
    found: dict[str, bool] = (await client.ask("GET", path(recipient_id))).json["preferences"][
        "cells"
    ]
    return found


async def test_one_click_acts_at_once_and_a_look_changes_nothing(client: Client) -> None:
    recipient_id = new_id()
    target = unsubscribe_path(recipient_id)
    looked = await client.ask("GET", target)
    assert looked.status == 200
    page = read(looked.text)
    assert page.form() == [("List-Unsubscribe", "One-Click")]
    assert await cells(client, recipient_id) == {}
    clicked = await client.ask("POST", target, body=ONE_CLICK, kind=FORM)
    assert clicked.status == 200
    assert "Set-Cookie" not in clicked.headers
    assert await cells(client, recipient_id) == {"message/email": False}
    again = await client.ask("POST", target, body=ONE_CLICK, kind=FORM)
    assert again.status == 200


async def test_one_click_as_multipart(client: Client) -> None:
    # RFC 8058 section 3.1 allows both kinds of form.
    recipient_id = new_id()
    disposition = b'Content-Disposition: form-data; name="List-Unsubscribe"'
    body = b"--b\r\n" + disposition + b"\r\n\r\nOne-Click\r\n--b--\r\n"
    target = unsubscribe_path(recipient_id)
    kind = "multipart/form-data; boundary=b"
    assert (await client.ask("POST", target, body=body, kind=kind)).status == 200
    assert await cells(client, recipient_id) == {"message/email": False}


async def test_tampered_and_foreign_tokens_do_nothing(client: Client) -> None:
    recipient_id = new_id()
    target = unsubscribe_path(recipient_id)
    token = target.removeprefix("/u/")
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[-3] ^= 1
    tampered = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    foreign = unsubscribe_path(recipient_id, UnsubscribeSettings("https://n.example", ("other",)))
    click = links.token(LINK_SECRETS, "click", links.Link(recipient_id, 0))
    for bad in ("/u/" + tampered, foreign, "/u/" + click, "/u/x", "/u/%00", "/u/" + "x" * 3_000):
        for method, body in (("GET", None), ("POST", ONE_CLICK)):
            answer = await client.ask(method, bad, body=body, kind=FORM)
            assert 400 <= answer.status < 500, (bad, answer.status)
    assert await cells(client, recipient_id) == {}


@pytest.mark.parametrize("body", [b"", b"List-Unsubscribe=no", b"\xff\xff"])
async def test_a_post_that_is_no_click_does_nothing(client: Client, body: bytes) -> None:
    recipient_id = new_id()
    target = unsubscribe_path(recipient_id)
    assert (await client.ask("POST", target, body=body, kind=FORM)).status == 400
    odd = "multipart/form-data; boundary=b"
    assert (await client.ask("POST", target, body=b"garbage", kind=odd)).status == 400
    assert await cells(client, recipient_id) == {}


async def test_a_category_that_is_gone_is_as_good_as_unsubscribed(client: Client) -> None:
    target = unsubscribe_path(new_id(), category="of-last-year")
    assert (await client.ask("POST", target, body=ONE_CLICK, kind=FORM)).status == 200


# ---------------------------------------------------------------------------------- their own page


async def page_path(client: Client, recipient_id: str) -> str:
    answer = await client.ask("POST", path(recipient_id, "preference-link"))
    assert answer.status == 200, answer.text
    url: str = answer.json["url"]
    assert recipient_id not in url
    return url.removeprefix("https://n.example")


async def test_a_person_changes_their_choices_without_javascript(client: Client) -> None:
    recipient_id = new_id()
    target = await page_path(client, recipient_id)
    shown = await client.ask("GET", target)
    assert shown.status == 200
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert shown.headers["Referrer-Policy"] == "no-referrer"
    assert shown.headers["Cache-Control"] == "no-store"
    assert not re.search(r"(src|href)=\"(https?:)?//", shown.text)
    assert (await client.ask("GET", "/assets/page.css")).status == 200
    form = [pair for pair in read(shown.text).form() if pair != ("cell", "message/email")]
    form = [(k, "Europe/Lisbon" if k == "zone" else v) for k, v in form]
    form = [(k, "daily" if k == "quiet" else v) for k, v in form]
    saved = await client.ask("POST", target, body=urlencode(form).encode(), kind=FORM)
    assert saved.status == 200
    assert "Saved." in saved.text
    chosen = (await client.ask("GET", path(recipient_id))).json["preferences"]
    assert chosen["cells"] == {"message/email": False}
    assert chosen["zone"] == "Europe/Lisbon"
    assert chosen["quiet_hours"] == [{"start_minute": 1320, "end_minute": 420, "weekdays": 127}]


async def test_a_page_that_is_out_of_date_saves_nothing(client: Client) -> None:
    recipient_id = new_id()
    target = await page_path(client, recipient_id)
    form = read((await client.ask("GET", target)).text).form()
    await client.ask("PATCH", path(recipient_id), {"channels": {"email": False}})
    sent = [pair for pair in form if pair[0] != "cell"]
    answer = await client.ask("POST", target, body=urlencode(sent).encode(), kind=FORM)
    assert answer.status == 409
    assert "changed elsewhere" in answer.text
    assert await cells(client, recipient_id) == {}


async def test_links_of_others_and_old_ones_open_nothing(client: Client) -> None:
    recipient_id = new_id()
    now_ms = time.time_ns() // 1_000_000
    old = links.Link(recipient_id, now_ms - 31 * 24 * 3_600_000)
    foreign = links.token(("other",), "preferences", links.Link(recipient_id, now_ms))
    aged = links.token(LINK_SECRETS, "preferences", old)
    wrong = links.token(LINK_SECRETS, "open", links.Link(recipient_id, now_ms))
    for token, status in ((foreign, 400), (aged, 410), (wrong, 400), ("x", 400)):
        for method in ("GET", "POST"):
            answer = await client.ask(method, f"/p/{token}", body=b"", kind=FORM)
            assert answer.status == status
            assert recipient_id not in answer.text


async def test_what_is_suppressed_is_said_on_the_page(client: Client) -> None:
    recipient_id = new_id()
    target = await page_path(client, recipient_id)
    assert "Nothing is sent to" not in (await client.ask("GET", target)).text
