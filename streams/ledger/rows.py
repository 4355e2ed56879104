"""What a record of ``decisions``, ``outcomes`` or ``receipts`` becomes in the ledger: rows, counts.

Pure. A row is the record's own bytes under a key that sorts a recipient's history by time; nothing
is ever rewritten. Beside it stand index rows, so that whoever holds an id finds the recipient and
the moments without a scan.

Keys of a bucket::

    r <recipient> <time> d <offset>                       a decision, at its decided_at_ms
    r <recipient> <time> o <delivery id> <epoch> <attempt> an answer, at *its decision's* time
    r <recipient> <time> r <offset>                       a receipt, at its append time
    i <id> <time>                                         -> recipient; id of a notification,
                                                          a digest or a delivery
    e <event id's hash> <time> <offset>                   -> recipient; of a producer's event id,
                                                          which several people may have had
    s <time> <offset>                                     -> recipient of the decision there

An answer is filed under the time its delivery was decided: the same try repeated by anyone gets
the same key (that is the deduplication), an answer lies beside its decision, and one index row
finds both. Times are 8 bytes, offsets 8, epoch and attempt 4 each, big endian; the recipient has a
2-byte length before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, Literal, NamedTuple

import msgspec

from streams import topics
from streams.core.ids import event_digest, hash8, to_id
from streams.engine.api import Record

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
OTHER = "(other)"
EVENT = "event"
"""What an event record is counted as, once, with the first verdict on it as the reason."""
_EVENT_TOPICS = frozenset(topics.EVENTS)
UNKNOWN = "(unknown)"
_U64 = Struct(">Q")
_TRY = Struct(">II")
RowKind = Literal["decision", "outcome", "receipt"]
_KINDS: dict[int, RowKind] = {ord("d"): "decision", ord("o"): "outcome", ord("r"): "receipt"}


class CountKey(NamedTuple):
    """What is counted: entries by verdict, answers as ``answer:STATUS``, ``receipt:KIND``, and
    each event record once as ``event``."""

    category: str
    channel: str
    what: str
    reason: str

    def pack(self) -> bytes:
        """The key's bytes in the database."""
        return msgspec.msgpack.encode(tuple(self))

    @classmethod
    def unpack(cls, packed: bytes) -> CountKey:
        """Bytes -> key."""
        return msgspec.msgpack.decode(packed, type=cls)


class Rows(NamedTuple):
    """Everything that one record adds. An outcome whose key is there already is a repeat."""

    kind: RowKind
    time_ms: int
    key: bytes
    value: bytes
    index_keys: tuple[bytes, ...]
    """All have the same value."""
    recipient: bytes
    counts: Counter[CountKey]


class Row(NamedTuple):
    """A row as it is read back."""

    kind: RowKind
    time_ms: int
    suffix: bytes
    """What follows the recipient in the key: unique in a history, in order of time."""
    value: bytes
    """The record's Avro bytes."""


def recipient_prefix(recipient: bytes) -> bytes:
    """Start of every key of one recipient's history."""
    return b"r" + len(recipient).to_bytes(2) + recipient


def id_bytes(public_id: str) -> bytes:
    """16 bytes for any id: the hex of one of ours, a hash of anything else."""
    if len(public_id) == 32:
        try:
            return bytes.fromhex(public_id)
        except ValueError:
            pass
    return blake2b(public_id.encode(), digest_size=16).digest()


def index_key(public_id: str, time_ms: int) -> bytes:
    """Index row's key."""
    return b"i" + id_bytes(public_id) + _U64.pack(time_ms)


def event_key(event_id: str, time_ms: int, offset: int) -> bytes:
    """Key of the index row of a producer's event id, for the decision with this offset: one event
    for several people is decided for all of them in the same millisecond."""
    return b"e" + hash8(event_id) + _U64.pack(time_ms) + _U64.pack(offset)


def time_key(time_ms: int, offset: int) -> bytes:
    """Key of a decision's place in time."""
    return b"s" + _U64.pack(time_ms) + _U64.pack(offset)


def decision_key(recipient: bytes, time_ms: int, offset: int) -> bytes:
    """Key of a decision's row."""
    return recipient_prefix(recipient) + _U64.pack(time_ms) + b"d" + _U64.pack(offset)


def row_of(key: bytes, value: bytes, prefix_length: int) -> Row:
    """A stored pair -> row."""
    suffix = key[prefix_length:]
    (time_ms,) = _U64.unpack_from(suffix)
    kind = _KINDS[suffix[8]]
    return Row(kind, time_ms, suffix, value[8:] if kind == "outcome" else value)


def time_of_index(key: bytes) -> int:
    """Time in an index row's key."""
    return int.from_bytes(key[17:25])


def of_decision(decision: Mapping[str, Any], record: Record) -> Rows:
    """Rows of a decoded ``decision``."""
    time_ms: int = decision["decided_at_ms"]
    recipient: bytes = decision["recipient_id"].encode()
    counts: Counter[CountKey] = Counter()
    for entry in decision["entries"]:
        category = _category(entry)
        deliveries = entry["deliveries"]
        if deliveries:
            for sent in deliveries:
                key = CountKey(category, sent["channel"], entry["verdict"], entry["reason"])
                counts[key] += 1
        else:
            counts[CountKey(category, "", entry["verdict"], entry["reason"])] += 1
    for entry in _verdicts_on_events(decision["entries"]):
        counts[CountKey(_category(entry), "", EVENT, entry["verdict"])] += 1
    return Rows(
        "decision",
        time_ms,
        decision_key(recipient, time_ms, record.offset),
        record.value or b"",
        tuple(index_keys_of_decision(decision, record.offset)),
        recipient,
        counts,
    )


def index_keys_of_decision(decision: Mapping[str, Any], offset: int) -> Iterable[bytes]:
    """Keys of all index rows of a decoded ``decision``."""
    time_ms = decision["decided_at_ms"]
    yield time_key(time_ms, offset)
    for name in ids_of_decision(decision):
        yield index_key(name, time_ms)
    for event_id in {entry["event_id"] for entry in decision["entries"]} - {None}:
        yield event_key(event_id, time_ms, offset)


def ids_of_decision(decision: Mapping[str, Any]) -> Iterable[str]:
    """Ids under which a decoded ``decision`` is found: subjects, digests, deliveries."""
    ids: dict[str, None] = {}
    for entry in decision["entries"]:
        if entry["subject_id"]:
            ids[entry["subject_id"]] = None
        if entry["digest_id"]:
            ids[entry["digest_id"]] = None
        for sent in entry["deliveries"]:
            ids[sent["delivery_id"]] = None
    return ids


def _verdicts_on_events(entries: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The entry that decided each event record: the last one that the record caused."""
    found: dict[tuple[str, int], Mapping[str, Any]] = {}
    for entry in entries:
        topic = entry["source_topic"]
        if topic in _EVENT_TOPICS and entry["event_id"] is not None and entry["verdict"] != "noted":
            found[topic, entry["source_offset"]] = entry
    return found.values()


def _category(entry: Mapping[str, Any]) -> str:
    """An unknown category is whatever a producer wrote: never a counter of its own."""
    if entry["reason"] == "unknown_category":
        return UNKNOWN
    category: str = entry["category"]
    return category


def of_outcome(outcome: Mapping[str, Any], record: Record) -> Rows:
    """Rows of a decoded ``outcome``. Its value starts with its offset; the first one stays."""
    time_ms: int = outcome["decided_at_ms"]
    recipient: bytes = outcome["recipient_id"].encode()
    key = (
        recipient_prefix(recipient)
        + _U64.pack(time_ms)
        + b"o"
        + id_bytes(outcome["delivery_id"])
        + _TRY.pack(outcome["epoch"], outcome["attempt"])
    )
    count = CountKey(
        outcome["category"], outcome["channel"], f"answer:{outcome['status']}", outcome["reason"]
    )
    return Rows(
        "outcome",
        time_ms,
        key,
        _U64.pack(record.offset) + (record.value or b""),
        (),
        recipient,
        Counter({count: 1}),
    )


def of_receipt(receipt: Mapping[str, Any], record: Record) -> Rows:
    """Rows of a decoded ``receipt``, indexed under whichever ids it names."""
    time_ms = max(0, record.timestamp)
    recipient_id: str = receipt["recipient_id"]
    recipient = recipient_id.encode()
    ids = ids_of_receipt(receipt, record.partition)
    key = recipient_prefix(recipient) + _U64.pack(time_ms) + b"r" + _U64.pack(record.offset)
    return Rows(
        "receipt",
        time_ms,
        key,
        record.value or b"",
        tuple(index_key(name, time_ms) for name in ids),
        recipient,
        Counter({CountKey("", "", f"receipt:{receipt['kind']}", ""): 1}),
    )


def ids_of_receipt(receipt: Mapping[str, Any], partition: int) -> Iterable[str]:
    """Ids under which a decoded ``receipt`` is found."""
    ids = {name for name in (receipt["notification_id"], receipt["delivery_id"]) if name}
    if receipt["event_id"]:
        digest = event_digest(receipt["event_id"], receipt["recipient_id"])
        ids.add(to_id(partition, digest))
    return sorted(ids)
