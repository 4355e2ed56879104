"""What a dead letter keeps of records of every size, and that it can always be written."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import ConsumerRecord

from streams import topics
from streams.agents import deliver_log
from streams.agents.burying import CUT, KEPT_BYTES_MAX, KEY_BYTES_KEPT_MAX, remains_of, size_of
from streams.agents.decide import DecideLogic
from streams.agents.deliver_records import Writer
from streams.agents.deliver_terms import Names
from streams.codec import Codec, DecodeError
from streams.core.policy import Category, Policy
from streams.engine.api import Batch, Output
from streams.engine.packing import packed
from streams.engine.settings import EngineSettings
from streams.redrive import again_of

CODEC = Codec()
LARGE = 5 << 20
POLICY = Policy("test", {"message": Category("message", channels=("push",))})
SHAPES: dict[str, tuple[bytes, bytes | None, tuple[tuple[str, bytes | None], ...]]] = {
    "value": (b"key", bytes(LARGE), ()),
    "key": (bytes(LARGE), b"value", ()),
    "key without value": (bytes(LARGE), None, ()),
    "one header": (b"key", b"value", (("a", b"1"), ("large", bytes(LARGE)))),
    "many headers": (b"key", b"value", (("", None),) * 200_000),
    "names of headers": (b"key", b"value", (("\ufffd" * (LARGE // 3), b""),)),
    "everything": (bytes(LARGE), bytes(LARGE), (("large", bytes(LARGE)),)),
}


def record(topic: str, shape: str, offset: int = 7) -> Any:
    key, value, headers = SHAPES[shape]
    return ConsumerRecord(topic, 1, offset, 1_700, 0, key, value, None, 0, 0, headers)


class Nothing:
    """A state in which nobody is known."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [None] * len(keys)

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        return []


def written(rows: list[Any], record_bytes_max: int) -> None:
    """Raises when the log would not take one of them."""
    packed(lambda: BatchBuilder(1 << 20, 0, is_transactional=1), rows, record_bytes_max, "a topic")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "topic", [topics.EVENTS_NORMAL, topics.PREFERENCES, topics.DESTINATION_CLAIMS]
)
def test_what_is_too_large_to_read_is_buried_in_a_letter_that_can_be_written(
    topic: str, shape: str
) -> None:
    logic = DecideLogic(CODEC, POLICY, 4)
    result = logic.process(Batch(1, 1_700, [record(topic, shape)], False), Nothing())
    (output,) = result.outputs
    assert isinstance(output, Output)
    assert not result.changes
    written([(output.key, output.value, None, [])], EngineSettings(bootstrap="").record_bytes_max)
    letter = CODEC.decode("dead_letter", output.value)
    assert (letter["topic"], letter["partition"], letter["offset"]) == (topic, 1, 7)
    assert (letter["reason"], letter["timestamp_ms"]) == ("event_too_large", 1_700)
    assert "bytes are kept" in letter["detail"]
    assert again_of(CODEC, letter, 1, 0) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_delivery_is_buried_in_a_letter_that_can_be_written(shape: str) -> None:
    writer = Writer(CODEC, Names(), 1, stream=False)
    gone = record(topics.deliveries("apns"), shape)
    error = DecodeError("malformed", "x" * 5_000)
    (((_, row),), outcome) = (writer.dead(gone, error, print).aside, None)
    assert outcome is None
    written([row], deliver_log.RECORD_BYTES_MAX)
    letter = CODEC.decode("dead_letter", row[1])
    assert (letter["topic"], letter["offset"]) == (gone.topic, 7)
    assert "bytes are kept" in letter["detail"]


def test_headers_alone_are_too_much_to_be_decided_on() -> None:
    """Else a record for another partition could be too large for its own topic there."""
    headers = (("large", bytes(300_000)),)
    one = ConsumerRecord(topics.EVENTS_NORMAL, 1, 7, 1, 0, b"k", b"v", None, 0, 0, headers)
    result = DecideLogic(CODEC, POLICY, 4).process(Batch(1, 1, [one], False), Nothing())
    letter = CODEC.decode("dead_letter", result.outputs[0].value)
    assert letter["reason"] == "event_too_large"
    assert letter["headers"] == [{"name": "large", "value": bytes(300_000)}]
    assert again_of(CODEC, letter, 1, 0) is not None


def test_what_fits_is_kept_whole() -> None:
    value = bytes(KEPT_BYTES_MAX - 3)
    one = ConsumerRecord("t", 1, 7, 1, 0, b"key", value, None, 0, 0, ())
    kept = remains_of(one, "why")
    assert size_of(one) == KEPT_BYTES_MAX
    assert (kept["key"], kept["value"], kept["headers"]) == (b"key", value, [])
    assert kept["detail"] == "why"


def test_what_does_not_fit_is_cut_from_behind() -> None:
    kept = remains_of(record("t", "everything"), "why")
    size = 3 * LARGE + len("large") + 8
    assert len(kept["key"]) == KEY_BYTES_KEPT_MAX
    assert len(kept["key"]) + len(kept["value"]) == KEPT_BYTES_MAX
    assert kept["headers"] == [{"name": CUT, "value": b"%d" % size}]
    assert kept["detail"] == f"why; cut, {KEPT_BYTES_MAX} of its {size} bytes are kept"


def test_headers_that_fit_stay() -> None:
    kept = remains_of(record("t", "one header"), "why")
    assert kept["value"] == b"value"
    assert [header["name"] for header in kept["headers"]] == ["a", CUT]
