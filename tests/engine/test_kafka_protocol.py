"""Generated readers and writers beside aiokafka's own, for every message that it has."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import random
from io import BytesIO
from typing import Any

import aiokafka.protocol
import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v11
from aiokafka.protocol.struct import Struct
from aiokafka.protocol.types import Array, Schema, String, TaggedFields

from streams.engine import kafka_protocol
from streams.engine.clients import client_settings  # noqa: F401 - whoever has it has what is tested
from streams.engine.kafka_protocol import FORMATS, reader_of, slow_decode, slow_encode, writer_of

BITS = {"b": 7, "h": 15, "i": 31, "I": 32, "q": 63}


def messages() -> list[type[Struct]]:
    """Every request, response and header of aiokafka."""
    for module in pkgutil.iter_modules(aiokafka.protocol.__path__):
        importlib.import_module(f"aiokafka.protocol.{module.name}")
    found, waiting = [], [Struct]
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting += below
        found += [kind for kind in below if kind.__module__.startswith("aiokafka.")]
    found = [kind for kind in found if not inspect.isabstract(kind)]
    return sorted(set(found), key=lambda kind: (kind.__module__, kind.__qualname__))


def some(draw: random.Random, kind: Any) -> Any:
    """A value of a type, or none where that is allowed."""
    if (number := FORMATS.get(kind)) is not None:
        if number == "?":
            return draw.random() < 0.5
        if number == "d":
            return draw.random()
        top = 1 << draw.randrange(1, BITS[number] + 1)
        return draw.randrange(0 if number == "I" else -top, top)
    if isinstance(kind, Schema):
        return tuple(some(draw, field) for field in kind.fields)
    if kind is TaggedFields:
        return {}
    if draw.random() < 0.1:
        return None
    if isinstance(kind, Array):
        return [some(draw, kind.array_of) for _ in range(draw.choice((0, 1, 2, 5)))]
    if isinstance(kind, String):
        return draw.choice(("", "topic", "größer", "x" * 300))
    return draw.randbytes(draw.choice((0, 1, 70, 400)))


@pytest.mark.parametrize("kind", messages(), ids=lambda kind: kind.__qualname__)
def test_the_same_bytes_and_the_same_values(kind: Any) -> None:
    seed = random.randrange(1 << 32)
    draw = random.Random(seed)
    for _ in range(20):
        values = [some(draw, field) for field in kind.SCHEMA.fields]
        message = Struct.__new__(kind)
        message.__dict__.update(zip(kind.SCHEMA.names, values, strict=True))
        encoded = slow_encode(message)
        assert kafka_protocol.encode(message) == encoded, f"seed {seed}"
        if (reader := reader_of(kind.SCHEMA)) is not None:
            behind = BytesIO(b"head" + encoded + b"tail")
            behind.seek(4)
            slow = [field.decode(behind) for field in kind.SCHEMA.fields]
            read, ended = reader(b"head" + encoded + b"tail", 4)
            assert (list(read), ended) == (slow, behind.tell()), f"seed {seed}"


def test_most_messages_are_understood() -> None:
    """Among them all that a worker sends and gets all the time."""
    kinds = messages()
    made = [k for k in kinds if reader_of(k.SCHEMA) and writer_of(k.SCHEMA)]
    assert len(made) > 0.8 * len(kinds)
    assert FetchResponse_v11 in made


def fetched() -> FetchResponse_v11:
    partition = (3, 0, 100, 99, 7, [(5, 6)], -1, b"records")
    return FetchResponse_v11(0, 0, 1, [("topic", [partition, partition])])


def test_clients_use_them() -> None:
    encoded = fetched().encode()
    assert FetchResponse_v11.decode(encoded) == fetched()
    behind = BytesIO(b"head" + encoded)
    behind.seek(4)
    assert FetchResponse_v11.decode(behind) == fetched()
    assert behind.read() == b""
    assert Struct.encode is kafka_protocol.encode


def test_what_is_cut_off_is_refused_as_aiokafka_refuses_it() -> None:
    encoded = slow_encode(fetched())
    for size in range(len(encoded)):
        with pytest.raises(ValueError, match=r"underrun|convert"):
            FetchResponse_v11.decode(encoded[:size])
        with pytest.raises(ValueError, match=r"underrun|convert"):
            slow_decode(FetchResponse_v11, encoded[:size])


@pytest.mark.parametrize("wrong", ["text", 1 << 40, None])
def test_what_is_no_number_is_refused_as_aiokafka_refuses_it(wrong: Any) -> None:
    request = FetchRequest(wrong, 1, 1, 1, [("topic", [(0, 0, 1)])]).prepare({1: (4, 11)})
    with pytest.raises(ValueError, match="convert"):
        request.encode()
