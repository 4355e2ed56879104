"""A schema registry for one machine: Confluent's REST calls over the schemas of this project.

So that a stock ``AvroSerializer`` (Python, Go, .NET) or ``KafkaAvroSerializer`` (Java) works with
the embedded set-up as it does with a Schema Registry, and producers can be tried without one.

Invariants
- Paths, bodies, content type and error codes are Confluent's.
- An id is on disk before anybody is told of it; ids outlive restarts (``schema_store.py``).
- Avro only, without references between subjects; nothing is ever deleted.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from streams.local.schema_store import Registered, SchemaStore, StoreError
from streams.wire.contracts import load_contracts

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
BODY_BYTES_MAX = 1 << 20
FILE_NAME = "schemas.json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SchemaRegistry:
    """The server. ``await start()``, then ``url`` is where it listens; ``await stop()``."""

    def __init__(self, data_folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._store = SchemaStore(data_folder / FILE_NAME)
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Registers our schemas and listens. Raises OSError when the port is taken."""
        self._store.preload(load_contracts())
        self._runner = web.AppRunner(make_app(self._store), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        address = self._runner.addresses[0]
        self.url = f"http://{self._host}:{address[1]}"

    async def stop(self) -> None:
        """Ends calls under way and stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def serve(data_folder: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Runs until cancelled; ``ready`` is told the URL once it listens."""
    registry = SchemaRegistry(data_folder, host, port)
    await registry.start()
    try:
        ready(registry.url)
        await asyncio.Event().wait()
    finally:
        await registry.stop()


def make_app(store: SchemaStore) -> web.Application:
    """The calls over a store."""
    app = web.Application(middlewares=[_failures_as_json], client_max_size=BODY_BYTES_MAX)
    calls = _Calls(store)
    app.add_routes(
        [
            web.get("/", calls.root),
            web.get("/subjects", calls.subjects),
            web.post("/subjects/{subject}", calls.find),
            web.get("/subjects/{subject}/versions", calls.versions),
            web.post("/subjects/{subject}/versions", calls.register),
            web.get("/subjects/{subject}/versions/{version}", calls.version),
            web.get("/subjects/{subject}/versions/{version}/schema", calls.version_schema),
            web.get("/schemas/types", calls.types),
            web.get("/schemas/ids/{id}", calls.schema),
            web.get("/schemas/ids/{id}/schema", calls.schema_text),
            web.get("/schemas/ids/{id}/versions", calls.schema_versions),
            web.get("/config", calls.level),
            web.put("/config", calls.set_level),
            web.get("/config/{subject}", calls.level),
            web.put("/config/{subject}", calls.set_level),
            web.get("/mode", calls.mode),
            web.get("/mode/{subject}", calls.mode),
            web.post("/compatibility/subjects/{subject}/versions", calls.compatible),
            web.post("/compatibility/subjects/{subject}/versions/{version}", calls.compatible),
        ]
    )
    return app


def _answer(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type=CONTENT_TYPE)


@web.middleware
async def _failures_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals, unknown paths and our own mistakes all have Confluent's shape."""
    try:
        return await handler(request)
    except StoreError as error:
        status = int(str(error.code)[:3])
        return _answer({"error_code": error.code, "message": error.message}, status)
    except web.HTTPException as error:
        return _answer({"error_code": error.status, "message": error.reason}, error.status)


class _Calls:
    """One method per call, in the order of the routes."""

    def __init__(self, store: SchemaStore) -> None:
        self._store = store

    async def root(self, request: web.Request) -> web.Response:
        return _answer({})

    async def subjects(self, request: web.Request) -> web.Response:
        return _answer(self._store.subjects())

    async def find(self, request: web.Request) -> web.Response:
        found = self._store.find(request.match_info["subject"], await _schema_of(request))
        return _answer(_version(found))

    async def versions(self, request: web.Request) -> web.Response:
        return _answer(self._store.versions(request.match_info["subject"]))

    async def register(self, request: web.Request) -> web.Response:
        registered = self._store.register(request.match_info["subject"], await _schema_of(request))
        return _answer({"id": registered.id})

    async def version(self, request: web.Request) -> web.Response:
        found = self._store.version(request.match_info["subject"], request.match_info["version"])
        return _answer(_version(found))

    async def version_schema(self, request: web.Request) -> web.Response:
        found = self._store.version(request.match_info["subject"], request.match_info["version"])
        return _answer(json.loads(found.schema))

    async def types(self, request: web.Request) -> web.Response:
        return _answer(["AVRO"])

    async def schema(self, request: web.Request) -> web.Response:
        return _answer({"schema": self._store.schema(request.match_info["id"])})

    async def schema_text(self, request: web.Request) -> web.Response:
        return _answer(json.loads(self._store.schema(request.match_info["id"])))

    async def schema_versions(self, request: web.Request) -> web.Response:
        users = self._store.users(request.match_info["id"])
        return _answer([{"subject": subject, "version": number} for subject, number in users])

    async def level(self, request: web.Request) -> web.Response:
        subject = request.match_info.get("subject", "")
        or_global = request.query.get("defaultToGlobal", "").lower() == "true"
        return _answer({"compatibilityLevel": self._store.level(subject, or_global)})

    async def set_level(self, request: web.Request) -> web.Response:
        body = await _body_of(request)
        level = str(body.get("compatibility", "")).upper()
        subject = request.match_info.get("subject", "")
        return _answer({"compatibility": self._store.set_level(subject, level)})

    async def mode(self, request: web.Request) -> web.Response:
        return _answer({"mode": "READWRITE"})

    async def compatible(self, request: web.Request) -> web.Response:
        subject, version = request.match_info["subject"], request.match_info.get("version")
        problems = self._store.disagreements(subject, await _schema_of(request), version)
        answer: dict[str, Any] = {"is_compatible": not problems}
        if request.query.get("verbose", "").lower() == "true":
            answer["messages"] = problems
        return _answer(answer)


def _version(found: Registered) -> dict[str, Any]:
    return {
        "subject": found.subject,
        "version": found.version,
        "id": found.id,
        "schema": found.schema,
    }


async def _body_of(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise StoreError(422, "The body must be a JSON object")
    return body


async def _schema_of(request: web.Request) -> str:
    """The Avro schema's text in a body, which may also name a type and references."""
    body = await _body_of(request)
    if body.get("schemaType") not in (None, "AVRO"):
        raise StoreError(42201, f"Invalid schema type {body['schemaType']}: this registry has AVRO")
    if body.get("references"):
        raise StoreError(42201, "Invalid schema: references are not supported, write it whole")
    if not isinstance(body.get("schema"), str):
        raise StoreError(42201, "Invalid schema: the field schema must hold it as text")
    return str(body["schema"])
