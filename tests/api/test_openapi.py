"""The description against the server: whatever is generated from it, no answer is a 5xx, and every
answer is one that the description has.

``FLOWSTATE_FUZZ_EXAMPLES`` raises how much is generated of each operation.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from streams.api.problems import KINDS
from tests.api.world import Client, World, running_api

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.xdist_group("api")]

EXAMPLES = int(os.environ.get("FLOWSTATE_FUZZ_EXAMPLES", "12"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


class Server:
    """The API in a thread of its own, because schemathesis is synchronous."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self.url = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        world = self._world
        short: dict[str, Any] = {"cancel_ms_max": 50, "ledger_wait_ms_max": 0, "public_url": ""}
        async with running_api(world.settings, world.folder, **short) as client:
            self.url = client.url
            self._started.set()
            await self._stopping.wait()


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    running = Server(world)
    running.start()
    yield running
    running.stop()


def fire(operation: Any, mode: GenerationMode) -> set[int]:
    """Sends generated requests of one operation; the statuses that came back."""
    statuses: set[int] = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        answer = case.call(timeout=15)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    try:
        send()
    except Unsatisfiable:
        # Nothing can be wrong with a body that may be any object.
        assert mode is GenerationMode.NEGATIVE
    return statuses


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_generated_request_gets_a_5xx(server: Server, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/v1/openapi.json")
    operations = {o.definition.raw["operationId"]: o for o in map(_ok, schema.get_all_operations())}
    assert len(operations) >= 20
    # Links need settings that this server was not given.
    del operations["makePreferenceLink"]
    statuses = {}
    for name, operation in operations.items():
        has_input = list(operation.iter_parameters()) or operation.body
        if mode is GenerationMode.POSITIVE or has_input:
            statuses[name] = fire(operation, mode)
    if mode is GenerationMode.NEGATIVE:
        assert sum(any(400 <= one < 500 for one in found) for found in statuses.values()) > 12
    else:
        assert 200 in statuses["getPreferences"] & statuses["getNotifications"]


def _ok(result: Any) -> Any:
    return result.ok()


async def test_every_operation_says_what_it_may_refuse(client: Client) -> None:
    described = (await client.ask("GET", "/v1/openapi.json")).json
    assert described["openapi"].startswith("3.1")
    known = {str(kind.status) for kind in KINDS.values()}
    names = []
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            names.append(operation["operationId"])
            assert operation["summary"], (method, path)
            refusals = {status for status in operation["responses"] if status >= "400"}
            assert refusals <= known
            assert "429" in refusals
            if operation["security"]:
                assert {"401", "403"} <= refusals
            in_path = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    assert len(names) == len(set(names))


async def test_the_description_is_of_the_routes_that_are_served(client: Client) -> None:
    described = (await client.ask("GET", "/v1/openapi.json")).json
    listed = {(m.upper(), path) for path, methods in described["paths"].items() for m in methods}
    served = {(r.method, r.path) for r in client.api.routes() if not r.is_hidden}
    assert listed == served
