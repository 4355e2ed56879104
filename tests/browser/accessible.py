"""axe-core over a page: nothing serious may be found, in light and in dark."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

SERIOUS = ("serious", "critical")


async def serious_findings(page: Page) -> list[str]:
    """What axe finds serious or critical: rule, and where."""
    found: list[str] = []
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        results: dict[str, Any] = (await Axe().run(page)).response
        found += [
            f"{scheme}: {one['id']}: {node['html'][:160]}"
            for one in results["violations"]
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]
    return found


async def is_wider_than_window(page: Page) -> bool:
    """Whether the page itself scrolls sideways (a table in a box of its own may)."""
    wide: bool = await page.evaluate(
        "document.scrollingElement.scrollWidth > document.documentElement.clientWidth"
    )
    return wide
