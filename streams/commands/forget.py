"""``flowstate forget``: erases a recipient, and shows what is left of them.

To forget is one record on ``erasures``, acknowledged, and then waiting until the workers that own
the recipient say that nothing is left in their tables. Claims are where the hash of an address is,
those of addresses that were given up long ago as well: they are looked for in
``destination-claims`` and taken back from here. What Kafka itself still holds goes by compaction
and retention: ``verify`` reads every topic and says what is there and until when
(``forget_logs.py``).

Invariants: nothing is called gone that was not looked at; what could not be asked counts as left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from streams import topics
from streams.agents.forgetting import OWNER
from streams.api.problems import ProblemError
from streams.api.state_client import StateClient
from streams.codec import Codec
from streams.commands.forget_logs import Left, read_logs
from streams.engine.log_writer import LogWriter, OutRecord, Placed
from streams.partitioning import partition_of_recipient
from streams.privacy import Pseudonyms
from streams.settings import Settings
from streams.web.decide_pages import PATH
from streams.web.state_documents import CLAIMS_MAX, ClaimsHeld, ClaimsQuestion, KeptOfRecipient

ACK_MS_MAX = 10_000
DONE_S_MAX = 30.0
POLL_S = 0.1
CLAIMS_TOPIC = [spec for spec in topics.SPECS if spec.name == topics.DESTINATION_CLAIMS]


class Verdict(msgspec.Struct, frozen=True):
    """What is left of a recipient, and what refuses more."""

    left: list[Left]
    marks: dict[str, bool]
    """Table -> whether the mark of the erasure is there."""
    records_read: int

    @property
    def tables_are_clean(self) -> bool:
        """Whether both tables hold nothing and have the mark."""
        held = {one.place for one in self.left} & {"state", "ledger"}
        return not held and all(self.marks.get(table) for table in ("state", "ledger"))


class NotForgotten(Exception):  # noqa: N818 (a state, named for what happened)
    """The erasure could not be written or was not carried out in time; the text says which."""


async def forget(settings: Settings, recipient_id: str, lifted: bool = False) -> None:
    """Writes the erasure and waits until the tables hold nothing. Raises ``NotForgotten``."""
    names = Pseudonyms(settings.privacy)
    name = names.of(recipient_id).hex()
    fields = {
        "recipient_hash": name,
        "sealed": names.seal(recipient_id),
        "forgotten_at_ms": time.time_ns() // 1_000_000,
        "lifted": lifted,
    }
    partition = partition_of_recipient(recipient_id, settings.kafka.partitions)
    value = Codec().encode("erasure", fields)
    record = OutRecord(topics.ERASURES, partition, name.encode(), value)
    await _write(settings, [record], "the erasure")
    if not lifted:
        await _until_done(settings, recipient_id, {})
        found = await read_logs(settings, recipient_id, CLAIMS_TOPIC)
        await _take_back(settings, recipient_id, found.standing)
        await _until_done(settings, recipient_id, found.claims)


async def _take_back(
    settings: Settings, recipient_id: str, standing: Mapping[int, set[str]]
) -> None:
    """Ends claims on addresses that they gave up before, which nothing else would end."""
    header = (OWNER, Pseudonyms(settings.privacy).of(recipient_id))
    records = [
        OutRecord(topics.DESTINATION_CLAIMS, partition, name.encode(), None, [header])
        for partition, names in standing.items()
        for name in names
    ]
    if records:
        await _write(settings, records, "that claims are taken back")


async def _write(settings: Settings, records: list[OutRecord], what: str) -> None:
    name = records[0].topic
    writer = LogWriter(settings.engine, [name], "forget", ack_ms_max=ACK_MS_MAX)
    await writer.start()
    try:
        places = await writer.write(records)
    finally:
        await writer.stop()
    for place in places:
        if not isinstance(place, Placed):
            raise NotForgotten(f"Kafka did not acknowledge {what}: {place.reason}")


async def _until_done(
    settings: Settings, recipient_id: str, claims: Mapping[int, set[str]]
) -> None:
    deadline = time.monotonic() + DONE_S_MAX
    while True:
        left, marks = await _in_tables(settings, recipient_id, claims)
        if not left and all(marks.values()):
            return
        if time.monotonic() > deadline:
            waits = ", ".join(f"{one.place}: {one.what}" for one in left) or "the marks are missing"
            raise NotForgotten(
                f"the erasure is in Kafka and will be carried out, but is not yet ({waits})"
            )
        await asyncio.sleep(POLL_S)


async def verify(settings: Settings, recipient_id: str) -> Verdict:
    """Looks everywhere. Raises aiokafka's errors."""
    found = await read_logs(settings, recipient_id)
    left, marks = await _in_tables(settings, recipient_id, found.claims)
    return Verdict([*left, *found.left], marks, found.records)


async def _in_tables(
    settings: Settings, recipient_id: str, claims: Mapping[int, set[str]]
) -> tuple[list[Left], dict[str, bool]]:
    """(what tables hold, table -> whether it has the mark)."""
    mark = Pseudonyms(settings.privacy).of(recipient_id).hex()
    states = StateClient(settings.api, settings.engine)
    path = f"/v1/recipients/{quote(recipient_id, safe='')}/kept?mark={mark}"
    left: list[Left] = []
    marks: dict[str, bool] = {}
    await states.start()
    try:
        for table in ("state", "ledger"):
            try:
                if table == "state":
                    said = await states.of_recipient("GET", recipient_id, f"kept?mark={mark}")
                else:
                    said = await states.of_ledger(states.partition(recipient_id), path)
                kept = msgspec.json.decode(said.body, type=KeptOfRecipient)
            except (ProblemError, msgspec.DecodeError) as error:
                left.append(Left(table, f"could not be asked: {error}"))
                marks[table] = False
                continue
            marks[table] = kept.is_marked
            if kept.parts:
                left.append(Left(table, ", ".join(kept.parts)))
        for partition, names in claims.items():
            left += await _claims_in_state(states, recipient_id, partition, sorted(names))
    finally:
        await states.stop()
    return left, marks


async def _claims_in_state(
    states: StateClient, recipient_id: str, partition: int, names: Sequence[str]
) -> list[Left]:
    """What a partition's state says of addresses that were ever theirs."""
    held = 0
    try:
        for start in range(0, len(names), CLAIMS_MAX):
            asked = ClaimsQuestion(partition, recipient_id, list(names[start : start + CLAIMS_MAX]))
            body = msgspec.json.encode(asked)
            said = await states.of_partition("POST", partition, f"{PATH}/claims", body)
            held += len(msgspec.json.decode(said.body, type=ClaimsHeld).address_hashes)
    except (ProblemError, msgspec.DecodeError) as error:
        return [Left("state", f"claims of partition {partition} could not be asked: {error}")]
    return [Left("state", f"{held} claims, in partition {partition}")] if held else []
