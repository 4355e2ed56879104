"""The pages in a real browser: what an analyst and an SRE do, and that everybody can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, ViewportSize, expect

from tests.browser.accessible import is_wider_than_window, serious_findings
from tests.browser.conftest import Open
from tests.web.console_world import BODY, EMAIL, ConsoleWorld, running_console

pytestmark = pytest.mark.browser
PAGES = (
    "/overview", "/search?recipient=ann&category=message", "/recipients/ann",
    "/recipients/ann/events/e-sent", "/providers", "/partitions", "/tables", "/tables/state",
    "/recipients/nobody", "/notifications/nothing",
)  # fmt: skip
PHONE: ViewportSize = {"width": 360, "height": 740}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ConsoleWorld]:
    async with running_console(tmp_path) as running:
        running.tell_a_story()
        running.send()
        yield running


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[ConsoleWorld]:
    async with running_console(tmp_path, with_keys=True) as running:
        running.tell_a_story()
        yield running


async def log_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Log in").click()


async def test_an_analyst_finds_out_why(world: ConsoleWorld, open_page: Open) -> None:
    page = await open_page(world.url + "/")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await page.get_by_role("searchbox").or_(page.get_by_label("Recipient or id")).first.fill("ann")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Recipient ann")
    history = page.get_by_role("region", name="History")
    await history.get_by_role("link", name="e-like").click()
    await expect(page.locator(".headline")).to_contain_text(
        "Not sent: The recipient does not want it (category like)."
    )
    await page.get_by_role("link", name="ann").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Recipient ann")


async def test_a_provider_goes_down_and_the_open_page_shows_it(
    world: ConsoleWorld, open_page: Open
) -> None:
    page = await open_page(world.url + "/overview")
    await expect(page.get_by_role("status").first).to_contain_text("Up to date")
    await expect(page.locator(".problem")).to_have_count(0)
    world.break_provider("apns")
    await expect(page.locator(".problem")).to_contain_text("apns: breaker open on 1 of 1 workers")
    await page.locator(".problem").get_by_role("link", name="Providers").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="apns")).first
    await expect(row).to_contain_text("open")
    await expect(page.get_by_role("cell", name="unavailable", exact=True)).to_be_visible()


async def test_updates_can_be_paused(world: ConsoleWorld, open_page: Open) -> None:
    page = await open_page(world.url + "/providers")
    await expect(page.get_by_role("status").first).to_contain_text("Up to date")
    pause = page.get_by_role("button", name="Pause updates")
    await pause.click()
    await expect(page.get_by_role("button", name="Go on")).to_have_attribute("aria-pressed", "true")
    world.break_provider("apns")
    await expect(page.get_by_role("status").first).to_have_text("Paused.")
    assert "open" not in await page.locator("#live").inner_text()
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("#live")).to_contain_text("open")


async def test_without_javascript_everything_is_there(world: ConsoleWorld, open_page: Open) -> None:
    page = await open_page(world.url + "/overview", java_script_enabled=False)
    await expect(page.locator(".tiles")).to_contain_text("Events in")
    await expect(page.get_by_role("button", name="Pause updates")).to_be_hidden()
    await page.get_by_label("Recipient or id").first.fill("ann")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Recipient ann")


async def test_a_login_and_what_is_masked(closed: ConsoleWorld, open_page: Open) -> None:
    page = await open_page(closed.url + "/recipients/ann")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    await log_in(page, "fsk_wrong_key")
    await expect(page.get_by_role("alert")).to_contain_text("does not open these pages")
    await log_in(page, closed.tokens["reader"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("Recipient ann")
    await expect(page.locator("main")).to_contain_text("a***@example.org")
    for hidden in (EMAIL, BODY):
        assert hidden not in await page.content()
    assert await page.evaluate("document.cookie") == "", "no script sees the session"
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
    await page.goto(closed.url + "/recipients/ann")
    await log_in(page, closed.tokens["revealer"])
    await expect(page.locator("main")).to_contain_text(EMAIL)
    await expect(page.locator("main")).to_contain_text(BODY)


async def test_by_keyboard_alone(world: ConsoleWorld, open_page: Open) -> None:
    page = await open_page(world.url + "/recipients/ann")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.textContent") == "e-held":
            break
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Event e-held")


async def test_axe_finds_nothing_serious_and_a_phone_is_wide_enough(
    world: ConsoleWorld, open_page: Open
) -> None:
    world.break_provider("smtp")
    page = await open_page(world.url + PAGES[0])
    found: list[str] = []
    for path in PAGES:
        await page.set_viewport_size({"width": 1200, "height": 800})
        await page.goto(world.url + path)
        found += [f"{path}: {finding}" for finding in await serious_findings(page)]
        await page.set_viewport_size(PHONE)
        if await is_wider_than_window(page):
            found.append(f"{path}: scrolls sideways on a phone")
        assert await page.get_by_role("main").count() == 1
        assert await page.get_by_role("heading", level=1).count() == 1
    assert not found, "\n".join(found)


async def test_axe_finds_nothing_serious_in_the_login(
    closed: ConsoleWorld, open_page: Open
) -> None:
    page = await open_page(closed.url + "/login")
    assert await serious_findings(page) == []
    await page.set_viewport_size(PHONE)
    assert not await is_wider_than_window(page)
