"""Asks a Schema Registry what an id stands for.

Only one call is needed to read (``GET /schemas/ids/{id}``); an id never changes its meaning, so an
answer is kept for ever by the caller. What the registry says decides the record: found, or not
known (a permanent answer). A registry that cannot be asked says nothing about the record, so the
batch waits: ``TemporarilyUnavailable``.

Invariants
- Bounded: a time limit per call, a size limit per answer, calls at once.
- Nothing of the URL's credentials reaches an error or a log.

Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from streams.engine.api import TemporarilyUnavailable

CALL_SECONDS_MAX = 5.0
CALLS_AT_ONCE_MAX = 8
ANSWER_BYTES_MAX = 1_048_576


class Answer(msgspec.Struct, frozen=True):
    """What a registry says of an id: a schema, or why there is none that we can read."""

    schema: Any = None
    """Parsed JSON of the schema; ``None`` when ``refusal`` says why not."""
    refusal: str = ""


class RegistryClient:
    """Resolves ids. Make it anywhere; the first call binds it to the running loop."""

    def __init__(self, url: str, seconds_max: float = CALL_SECONDS_MAX) -> None:
        self._url = URL(url)
        self._timeout = aiohttp.ClientTimeout(total=seconds_max)
        self._session: aiohttp.ClientSession | None = None
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE_MAX)

    async def schema(self, schema_id: int) -> Answer:
        """The schema behind an id. Raises ``TemporarilyUnavailable`` when nobody can tell."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        url = self._url / "schemas" / "ids" / str(schema_id)
        try:
            async with self._calls, self._session.get(url) as response:
                body = await response.content.read(ANSWER_BYTES_MAX + 1)
                while len(body) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                    body += await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
                return _answer(schema_id, response.status, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TemporarilyUnavailable(
                f"the schema registry cannot be reached: {type(error).__name__}"
            ) from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _answer(schema_id: int, status: int, body: bytes) -> Answer:
    """404 is about the id; every other failure is about the registry, or our access to it."""
    if len(body) > ANSWER_BYTES_MAX:
        return Answer(refusal=f"schema {schema_id} is larger than {ANSWER_BYTES_MAX} bytes")
    if status == 404:
        return Answer(refusal=f"the registry knows no schema {schema_id}")
    if status != 200:
        raise TemporarilyUnavailable(f"the schema registry answers with HTTP {status}")
    try:
        found = json.loads(body)
        text, kind = found["schema"], found.get("schemaType", "AVRO")
        if kind != "AVRO":
            return Answer(refusal=f"schema {schema_id} is {kind}, not Avro")
        if found.get("references"):
            return Answer(refusal=f"schema {schema_id} refers to other subjects: write it whole")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TemporarilyUnavailable("the schema registry's answer cannot be read") from error
    try:
        return Answer(schema=json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return Answer(refusal=f"schema {schema_id} is not JSON")
