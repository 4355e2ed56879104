"""The whole system as processes, as ``flowstate up`` runs it, and a person at its pages."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import expect

from streams.local.stack import Stack, StackPlan, open_stack
from tests.browser.conftest import Open
from tests.eventually import eventually

pytestmark = [
    pytest.mark.browser,
    pytest.mark.broker,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("demo"),
]
DOWN_S_MAX = 60.0
RECIPIENTS = 40
"""More failures than a breaker needs to open."""


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    plan = StackPlan(data=tmp_path / "up", partitions=2)
    async with open_stack(plan, lambda event: None, lambda text: None) as running:
        yield running


async def publish(stack: Stack, topic: str, *records: dict[str, Any]) -> None:
    """As a person does it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "publish", topic, "-", "--config",
        str(stack.config_file),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate("\n".join(map(json.dumps, records)).encode())
    assert process.returncode == 0, output.decode()


def mailbox(recipient_id: str) -> dict[str, Any]:
    address = f"{recipient_id}@example.test"
    return {"recipient_id": recipient_id, "destination_id": "mail", "kind": "email",
            "address": address}  # fmt: skip


def message(event_id: str, recipient_id: str) -> dict[str, Any]:
    return {"event_id": event_id, "recipient_id": recipient_id, "category": "message",
            "actor_id": event_id, "data": {"actor": "Bob"}}  # fmt: skip


async def test_from_a_search_to_why_and_a_provider_that_goes_down(
    stack: Stack, open_page: Open
) -> None:
    url = stack.web_urls["ledger"]
    people = [f"person-{number}" for number in range(RECIPIENTS)]
    await publish(stack, "destinations", *map(mailbox, people))
    await publish(stack, "events.normal", message("hello", "person-0"))
    await eventually(lambda: _is_delivered(url, "person-0", "hello"), DOWN_S_MAX)

    page = await open_page(url)
    await page.get_by_label("Recipient or id").first.fill("person-0")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Recipient person-0")
    await page.get_by_role("link", name="hello").click()
    await expect(page.locator(".headline")).to_contain_text("accepted on email (smtp)")

    await page.goto(url + "/providers")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="smtp")).first
    await expect(row).to_contain_text("closed")
    stack.supervisor.kill("providers")
    await publish(stack, "events.normal", *(message(f"later-{name}", name) for name in people))
    await expect(row).not_to_contain_text("closed", timeout=DOWN_S_MAX * 1000)
    await page.goto(url + "/overview")
    await expect(page.locator(".problem").first).to_contain_text("smtp: breaker")


async def _is_delivered(url: str, recipient_id: str, event_id: str) -> bool:
    path = f"{url}/recipients/{recipient_id}/events/{event_id}?format=json"
    async with aiohttp.ClientSession() as session, session.get(path) as answer:
        if answer.status != 200:
            return False
        page = await answer.json()
        return bool(page["trace"]["status"]["state"] == "delivered")
