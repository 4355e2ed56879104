"""axe-core over a page: nothing serious may be found; in the dark the contrast again."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

SERIOUS = ("serious", "critical")
ALL_RULES: dict[str, Any] = {"resultTypes": ["violations"]}
CONTRAST: dict[str, Any] = {
    **ALL_RULES, "runOnly": {"type": "rule", "values": ["color-contrast"]},
}  # fmt: skip


async def serious_findings(page: Page) -> list[str]:
    """What axe finds serious or critical: rule, and where."""
    await page.emulate_media(color_scheme="light")
    found = await _findings(page, "light", ALL_RULES)
    await page.emulate_media(color_scheme="dark")
    return found + await _findings(page, "dark", CONTRAST)


async def _findings(page: Page, scheme: str, options: dict[str, Any]) -> list[str]:
    results: dict[str, Any] = (await Axe().run(page, options=options)).response
    return [
        f"{scheme}: {one['id']}: {node['html'][:160]}"
        for one in results["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]


async def is_wider_than_window(page: Page) -> bool:
    """Whether the page itself scrolls sideways (a table in a box of its own may)."""
    wide: bool = await page.evaluate(
        "document.scrollingElement.scrollWidth > document.documentElement.clientWidth"
    )
    return wide
