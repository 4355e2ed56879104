"""Bytes to nouns and back: the only place where Avro meets the model.

What is read may come from any producer, so nothing is believed: whatever the bytes, decoding gives
a value or raises ``DecodeError`` with a reason code, and the record becomes a dead letter. What is
written is our own, so the typed encoders check nothing; ``encode`` is for what people hand in and
says what is wrong with it.

Invariants
- No IO while decoding. Ids of a registry are resolved before, by ``prepare``.
- Everything that grows is bounded: what is known of a registry, the size of a value.
- A writer's schema is compiled against ours once (``wire/reader.py``); from then on old and new
  producers cost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from streams.core import model
from streams.registry import Answer, RegistryClient
from streams.wire.checked import CheckedWriter, EncodeError
from streams.wire.contracts import Contracts, header_of, load_contracts
from streams.wire.known import KnownSchemas
from streams.wire.primitives import (
    READ_FAILURES,
    MalformedError,
    Reader,
    SchemaRefusedError,
    Writer,
)
from streams.wire.reader import compile_reader
from streams.wire.writer import compile_writer

__all__ = ["Codec", "DecodeError", "EncodeError"]

VALUE_BYTES_MAX = 1_048_576
"""A larger value is refused unread; Kafka's own default is about this."""


class DecodeError(Exception):
    """A value that cannot be read. ``reason`` is a code, ``detail`` a sentence without data.

    Codes: ``empty``, ``too_large``, ``bad_magic``, ``unknown_schema``, ``incompatible_schema``
    and ``malformed``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def _fields(*values: Any) -> tuple[Any, ...]:
    return values


def _preference(recipient_id: str, *chosen: Any) -> tuple[str, model.Preferences]:
    return recipient_id, model.Preferences(*chosen)


def _delivery(*fields: Any) -> model.Delivery:
    """A delivery, unless it has a word that ours has not: it would be kept, and not read again."""
    delivery = model.Delivery(*fields)
    if not (
        delivery.kind in _KINDS
        and delivery.channel in _CHANNELS
        and delivery.priority in _PRIORITIES
        and delivery.on_ambiguous in _ON_AMBIGUOUS
    ):
        raise MalformedError("its kind, channel, priority or on_ambiguous is none that is known")
    return delivery


def _claim(*fields: Any) -> model.Claim:
    claim = model.Claim(*fields)
    if claim.kind not in _KINDS:
        raise MalformedError("its kind is none that is known")
    return claim


_KINDS = frozenset(get_args(model.Kind))
_CHANNELS = frozenset(get_args(model.Channel))
_PRIORITIES = frozenset(get_args(model.Priority))
_STATUSES = frozenset(get_args(model.Status))
_ON_AMBIGUOUS = frozenset({"resend", "give_up"})

CONSTRUCTORS: Mapping[str, Callable[..., Any]] = {
    "event": model.Event,
    "preference": _preference,
    "quiet_window": model.QuietWindow,
    "destination": _fields,
    "receipt": _fields,
    "cancellation": _fields,
    "claim": _claim,
    "delivery": _delivery,
    "digest_item": model.DigestItem,
    "feedback": _fields,
}
"""Record -> what its fields become, in the schema's order, which is the struct's."""

ENTRY_SOURCE = {
    "entry.source_topic": ("source", "topic"),
    "entry.source_partition": ("source", "partition"),
    "entry.source_offset": ("source", "offset"),
}
"""Fields of an entry's record that are in its source, if it has one."""


class Codec:
    """Built once per process. Thread-safe for decoding and encoding; ``prepare`` is for a loop."""

    def __init__(
        self,
        registry_url: str | None = None,
        *,
        contracts: Contracts | None = None,
        registry: RegistryClient | None = None,
    ) -> None:
        self.contracts = contracts or load_contracts()
        self._registry = registry or (RegistryClient(registry_url) if registry_url else None)
        self._known = KnownSchemas(self.contracts, self._registry, self._forget)
        self._structs: dict[str, dict[bytes, Reader]] = {n: {} for n in CONSTRUCTORS}
        self._mappings: dict[str, dict[bytes, Reader]] = {n: {} for n in self.contracts.current}
        self._checked: dict[str, CheckedWriter] = {}
        self._events = self._structs["event"]
        self._delivery = self._writer("delivery")
        self._claim = self._writer("claim")
        self._decision = self._writer("decision", arguments=True, paths=ENTRY_SOURCE)
        self._feedback = self._writer("feedback", arguments=True)
        self._outcome = self._writer("outcome", mappings=True)

    def _writer(self, record: str, **shape: Any) -> Writer:
        contract = self.contracts.current[record]
        return compile_writer(contract.schema, contract.header, **shape)

    # ---------------------------------------------------------------------------------- decoding

    def decode_event(self, value: bytes | None) -> model.Event:
        """An event. Raises DecodeError, as every ``decode_*`` does."""
        event: model.Event = self._read("event", self._events, value)
        return event

    def decode_preference(self, value: bytes | None) -> tuple[str, model.Preferences]:
        """(recipient id, preferences)."""
        preference: tuple[str, model.Preferences] = self._struct("preference", value)
        return preference

    def decode_destination(
        self, value: bytes | None, source: model.Source
    ) -> model.DestinationInput:
        """A destination registered or removed; times left out are the append time's."""
        (
            recipient_id, destination_id, kind, address, registered_at_ms, attributes, removed,
            at_ms, reason,
        ) = self._struct("destination", value)  # fmt: skip
        registered_at_ms = registered_at_ms or (0 if removed else source.appended_at_ms)
        at_ms = at_ms or (source.appended_at_ms if removed else registered_at_ms)
        destination = model.Destination(destination_id, kind, address, registered_at_ms, attributes)
        return model.DestinationInput(recipient_id, destination, removed, at_ms, source, reason)

    def decode_receipt(self, value: bytes | None, source: model.Source) -> model.Receipt:
        """Evidence from outside."""
        fields: tuple[Any, ...] = (*self._struct("receipt", value), source)
        return model.Receipt(*fields)

    def decode_cancellation(self, value: bytes | None, source: model.Source) -> model.Cancellation:
        """A withdrawal."""
        fields: tuple[Any, ...] = (*self._struct("cancellation", value), source)
        return model.Cancellation(*fields)

    def decode_claim(self, value: bytes | None) -> model.Claim:
        """Who an address belongs to."""
        claim: model.Claim = self._struct("claim", value)
        return claim

    def decode_feedback(self, value: bytes | None, source: model.Source) -> model.Feedback:
        """A sink's answer with its delivery."""
        delivery, status, reason, retry_after_ms, at_ms, _ = self._struct("feedback", value)
        if status not in _STATUSES:
            raise DecodeError("malformed", "its status is none that is known")
        return model.Feedback(delivery, status, reason, retry_after_ms, at_ms, source)

    def decode_delivery(self, value: bytes | None) -> model.Delivery:
        """A message to send."""
        delivery: model.Delivery = self._struct("delivery", value)
        return delivery

    def decode(self, record_name: str, value: bytes | None) -> dict[str, Any]:
        """Any record as a dict with every field of our schema."""
        mapping: dict[str, Any] = self._read(record_name, self._mappings[record_name], value)
        return mapping

    def _struct(self, record: str, value: bytes | None) -> Any:
        return self._read(record, self._structs[record], value)

    def _read(self, record: str, readers: dict[bytes, Reader], value: bytes | None) -> Any:
        if not value or len(value) > VALUE_BYTES_MAX:
            raise _unreadable_size(value)
        header = header_of(value)
        read = readers.get(header)
        if read is None:
            read = self._compile(record, readers, header)
        try:
            return read(value, len(header))
        except UnicodeDecodeError as error:
            raise DecodeError("malformed", f"a text is not UTF-8: {error.reason}") from None
        except (IndexError, *READ_FAILURES[2:]):
            raise DecodeError("malformed", "the record is cut short") from None
        except ValueError as error:
            raise DecodeError("malformed", str(error)) from None

    def _compile(self, record: str, readers: dict[bytes, Reader], header: bytes) -> Reader:
        """The reader for a writer met for the first time; an unreadable one gets one that says so.

        Raises DecodeError when nobody knows the writer.
        """
        writer = self._known.writer(header)
        if writer is None:
            raise DecodeError(*self._known.why_unknown(header))
        constructors = CONSTRUCTORS if readers is self._structs.get(record) else None
        try:
            read = compile_reader(writer, self.contracts.current[record].schema, constructors)
        except SchemaRefusedError as refused:
            read = _refusing("incompatible_schema", str(refused))
        readers[header] = read
        return read

    async def prepare(self, values: Iterable[bytes | None]) -> None:
        """Resolves the registry ids among ``values`` that are not known yet.

        Call it before decoding them. Raises ``TemporarilyUnavailable`` when the registry is away.
        """
        await self._known.prepare(values)

    def learn(self, schema_id: int, schema: Any) -> None:
        """Makes a registry's id known without asking for it."""
        self._known.learn(schema_id, Answer(schema))

    def _forget(self, header: bytes) -> None:
        for readers in (*self._structs.values(), *self._mappings.values()):
            readers.pop(header, None)

    async def close(self) -> None:
        """Closes the connections to the registry."""
        if self._registry is not None:
            await self._registry.close()

    # ---------------------------------------------------------------------------------- encoding

    def encode_delivery(self, delivery: model.Delivery) -> bytes:
        """A delivery, for its topic."""
        return self._delivery(delivery)

    def encode_claim(self, claim: model.Claim) -> bytes:
        """A claim, for its topic."""
        return self._claim(claim)

    def encode_decision(
        self,
        recipient_id: str,
        decided_at_ms: int,
        policy_version: str,
        entries: Sequence[model.Entry],
    ) -> bytes:
        """The verdicts of one step, for the ledger."""
        return self._decision(recipient_id, decided_at_ms, policy_version, entries)

    def encode_feedback(
        self,
        delivery: model.Delivery,
        status: str,
        reason: str,
        retry_after_ms: int | None,
        at_ms: int,
        provider: str,
    ) -> bytes:
        """A sink's answer that needs deciding again."""
        return self._feedback(delivery, status, reason, retry_after_ms, at_ms, provider)

    def encode_outcome(self, outcome: Mapping[str, Any]) -> bytes:
        """A provider's answer: all fields of outcome.avsc, unchecked."""
        return self._outcome(outcome)

    def encode_dead_letter(self, dead_letter: Mapping[str, Any]) -> bytes:
        """A dead letter; its ``delivery`` may be a struct."""
        delivery = dead_letter.get("delivery")
        if isinstance(delivery, msgspec.Struct):
            dead_letter = {**dead_letter, "delivery": model.struct_to_dict(delivery)}
        return self.encode("dead_letter", dead_letter)

    def encode(self, record_name: str, mapping: Mapping[str, Any]) -> bytes:
        """Any record from a mapping, checked. Raises EncodeError naming the field."""
        writer = self._checked.get(record_name)
        if writer is None:
            writer = CheckedWriter(self.contracts.current[record_name])
            self._checked[record_name] = writer
        return writer.encode(mapping)


def _unreadable_size(value: bytes | None) -> DecodeError:
    if not value:
        return DecodeError("empty", "the record has no value")
    return DecodeError("too_large", f"{len(value)} bytes, at most {VALUE_BYTES_MAX} are read")


def _refusing(reason: str, detail: str) -> Reader:
    def read(data: bytes, start: int) -> Any:
        raise DecodeError(reason, detail)

    return read
