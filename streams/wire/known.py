"""Which schema wrote a value: by fingerprint from our files, by id from a Schema Registry.

Invariants
- A look-up does no IO: ids are resolved before, by ``prepare``.
- Both what is known and what is refused are bounded; the oldest make room. A refusal is asked
  again after ``REFUSAL_SECONDS``: the id may have been registered since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from streams.registry import Answer, RegistryClient
from streams.wire.contracts import (
    CONFLUENT_BYTES,
    SINGLE_OBJECT_BYTES,
    SINGLE_OBJECT_MARK,
    Contracts,
    confluent_header,
)

REGISTRY_IDS_MAX = 10_000
"""Registry ids remembered."""
REFUSALS_MAX = 10_000
"""Registry ids remembered as unreadable."""
REFUSAL_SECONDS = 30.0


class KnownSchemas:
    """Header of a value -> schema of its writer. ``forget`` is told of headers that made room."""

    def __init__(
        self,
        contracts: Contracts,
        registry: RegistryClient | None,
        forget: Callable[[bytes], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._forget = forget
        self._clock = clock
        self._schemas: dict[bytes, Any] = {}
        for _, contract in contracts.released:
            self._schemas[contract.header] = contract.schema
        for contract in contracts.current.values():
            self._schemas[contract.header] = contract.schema
        self._registry_headers: dict[bytes, None] = {}
        self._refusals: dict[bytes, tuple[float, str]] = {}

    def writer(self, header: bytes) -> Any | None:
        """The writer's schema, if it is known."""
        return self._schemas.get(header)

    def why_unknown(self, header: bytes) -> tuple[str, str]:
        """(reason code, sentence) for a header whose writer is not known."""
        if header[0] == 0 and len(header) == CONFLUENT_BYTES:
            if header in self._refusals:
                return "unknown_schema", self._refusals[header][1]
            ending = "there is no registry" if self._registry is None else "it was not asked for"
            return "unknown_schema", f"schema id {int.from_bytes(header[1:], 'big')}, and {ending}"
        if header[0] != 0 and not SINGLE_OBJECT_MARK.startswith(header[:2]):
            return "bad_magic", "it starts neither as Avro single-object encoding nor Confluent's"
        if header[0] == 0 or len(header) < SINGLE_OBJECT_BYTES:
            return "malformed", "the record is cut short"
        return "unknown_schema", f"fingerprint {header[2:].hex()} is not known"

    async def prepare(self, values: Iterable[bytes | None]) -> None:
        """Asks the registry for the ids among ``values`` that are not known.

        Raises ``TemporarilyUnavailable`` when it is away; what it said before that is kept.
        """
        headers = {value[:CONFLUENT_BYTES] for value in values if value and value[0] == 0}
        headers.difference_update(self._registry_headers)
        if not headers or self._registry is None:
            return
        now = self._clock()
        due = [header for header in sorted(headers) if self._is_due(header, now)]
        ids = [int.from_bytes(header[1:], "big") for header in due]
        answers = await asyncio.gather(
            *(self._registry.schema(schema_id) for schema_id in ids), return_exceptions=True
        )
        failure = None
        for schema_id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, BaseException):
                failure = answer
            else:
                self.learn(schema_id, answer)
        if failure is not None:
            raise failure

    def _is_due(self, header: bytes, now: float) -> bool:
        if len(header) < CONFLUENT_BYTES or header in self._schemas:
            return False
        refused = self._refusals.get(header)
        return refused is None or now - refused[0] >= REFUSAL_SECONDS

    def learn(self, schema_id: int, answer: Answer) -> None:
        """Keeps what a registry says of an id."""
        header = confluent_header(schema_id)
        self._refusals.pop(header, None)
        if answer.schema is None:
            if len(self._refusals) >= REFUSALS_MAX:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[header] = (self._clock(), answer.refusal)
            return
        if len(self._registry_headers) >= REGISTRY_IDS_MAX:
            oldest = next(iter(self._registry_headers))
            del self._registry_headers[oldest]
            del self._schemas[oldest]
            self._forget(oldest)
        self._schemas[header] = answer.schema
        self._registry_headers[header] = None
