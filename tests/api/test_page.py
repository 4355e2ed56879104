"""docs/http-api.md: every operation and every kind of problem, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from streams.api.app import Api
from streams.api.problems import KINDS
from streams.api.settings import ApiSettings
from streams.engine.settings import EngineSettings
from streams.settings import load
from streams.sinks.settings import UnsubscribeSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http-api.md").read_text(encoding="utf-8")
PROVED_OTHERWISE = ("none", "signature", "link")


async def test_the_page_has_every_operation_with_its_scope(tmp_path: Path) -> None:
    policy = load(ROOT / "flowstate.toml", {}, {}).policy
    settings = ApiSettings(keys_file=str(tmp_path / "none.json"))
    links = UnsubscribeSettings("https://n.example", ("unsubscribe-secret",))
    api = Api(settings, EngineSettings(bootstrap="nowhere:1"), lambda: policy, links)
    served = {(route.method, route.path): route.scope for route in api.routes()}
    rows = re.findall(r"^\| ([A-Z]+) \| `(\S+)` \| `?(\w+)`? \|", PAGE, flags=re.MULTILINE)
    told = {
        (method, path): None if scope in PROVED_OTHERWISE else scope for method, path, scope in rows
    }
    assert told == served


def test_the_page_has_every_kind_of_problem_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", PAGE, flags=re.MULTILINE)
    assert {kind: int(status) for kind, status in rows} == {
        kind: known.status for kind, known in KINDS.items()
    }
