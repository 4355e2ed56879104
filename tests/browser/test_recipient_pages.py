"""The pages for recipients (preferences, unsubscribe) in a real browser: everybody can use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import ViewportSize, expect

from streams import links
from streams.api.gate import Gate
from streams.api.keys import KeyRing
from streams.api.preference_page import PreferencePageRoutes
from streams.api.state_client import StateClient
from streams.api.unsubscribe import UnsubscribeRoutes
from streams.sinks import unsubscribe
from streams.sinks.settings import UnsubscribeSettings
from tests.browser.accessible import is_wider_than_window, serious_findings
from tests.browser.conftest import Open
from tests.web.console_world import NOW_MS, POLICY, ConsoleWorld, running_console

pytestmark = pytest.mark.browser
SECRETS = ("link-secret-of-this-test",)
UNSUBSCRIBE = UnsubscribeSettings("https://n.example", ("unsubscribe-secret-of-this-test",))
PHONE: ViewportSize = {"width": 360, "height": 740}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ConsoleWorld]:
    async with running_console(tmp_path) as running:
        running.tell_a_story()
        yield running


@pytest.fixture
async def pages_url(world: ConsoleWorld, tmp_path: Path) -> AsyncIterator[str]:
    """The API's pages for recipients, over the world's decide worker."""
    settings = msgspec.structs.replace(world.api, link_secrets=SECRETS)
    states = StateClient(settings, world.engine)
    await states.start()
    unused: Any = None
    groups = (
        PreferencePageRoutes(settings, states, lambda: POLICY, lambda: NOW_MS),
        UnsubscribeRoutes(UNSUBSCRIBE, unused, states, lambda: NOW_MS),
    )
    gate = Gate(settings, KeyRing(tmp_path / "none.json", 1_000), is_open=True)
    app = web.Application()
    for route in (route for group in groups for route in group.routes()):
        app.router.add_route(route.method, route.path, gate.wrap(route))
    server = TestServer(app)
    await server.start_server()
    yield str(server.make_url("")).rstrip("/")
    await server.close()
    await states.stop()


async def test_the_preference_page(pages_url: str, open_page: Open) -> None:
    token = links.token(SECRETS, "preferences", links.Link("ann", made_at_ms=NOW_MS))
    page = await open_page(f"{pages_url}/p/{token}", viewport=PHONE)
    await expect(page.get_by_role("main")).to_be_visible()
    assert await page.get_by_role("checkbox").count() > 0
    assert await serious_findings(page) == []
    assert not await is_wider_than_window(page)


async def test_the_unsubscribe_page(pages_url: str, open_page: Open) -> None:
    link = unsubscribe.link(UNSUBSCRIBE, unsubscribe.Unsubscribe("ann", "message", "email"))
    assert link is not None
    page = await open_page(link.replace("https://n.example", pages_url), viewport=PHONE)
    await expect(page.get_by_role("button")).to_be_visible()
    assert await serious_findings(page) == []
    assert not await is_wider_than_window(page)
