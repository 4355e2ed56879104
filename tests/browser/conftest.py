"""A real Chromium for the tests here: the machine's own, driven by Playwright.

``make chromium`` installs it where the machine lets us (Debian, as root); without one the tests are
skipped and say so. Nothing is fetched from elsewhere: a page that asks another host for anything
fails its test.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
]  # fmt: skip
STEP_MS_MAX = 15_000
Open = Callable[..., Awaitable[Page]]


def chromium_path() -> str | None:
    """The browser of this machine, if there is one."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here: `make chromium` installs it, or name one in $CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def open_page(chromium: Browser) -> AsyncIterator[Open]:
    """Opens pages in a window of their own; whatever one logs as an error fails the test."""
    wrong: list[str] = []
    contexts: list[BrowserContext] = []

    async def opened(url: str, **context: Any) -> Page:
        window = await chromium.new_context(**context)
        window.set_default_timeout(STEP_MS_MAX)
        contexts.append(window)
        page = await window.new_page()
        page.on("pageerror", lambda error: wrong.append(f"{page.url}: {error}"))
        page.on("console", lambda said: _note(wrong, page, said))
        origin = "/".join(url.split("/", 3)[:3])
        page.on("request", lambda asked: _only(wrong, origin, asked.url))
        await page.goto(url)
        return page

    yield opened
    for window in contexts:
        await window.close()
    assert not wrong, "\n".join(wrong)


def _note(wrong: list[str], page: Page, said: Any) -> None:
    """A status that is no success is said as an error too; tests look at these themselves."""
    if said.type == "error" and "Failed to load resource" not in said.text:
        wrong.append(f"{page.url}: {said.text}")


def _only(wrong: list[str], origin: str, asked: str) -> None:
    if not asked.startswith((origin, "data:", "about:")):
        wrong.append(f"a page of {origin} asked for {asked}")
