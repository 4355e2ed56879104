"""Every record comes back as it went in; whatever else the bytes are, they are a DecodeError."""

from __future__ import annotations

import contextlib
import copy
import time
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import codec as codec_module
from streams.codec import Codec, DecodeError, EncodeError
from streams.core import model
from streams.wire.contracts import confluent_header, load_contracts, single_object_header
from tests.wire.avro_strategies import encoded, values

CODEC = Codec()
CONTRACTS = load_contracts()
NAMES = sorted(CONTRACTS.current)
SOURCE = model.Source("events.normal", 3, 12_345, 1_082_040_960_120)
EVENT = model.Event(
    "msg-1811-4402", "member-42", "message", 1_082_040_960_000, "member-7",
    {"sender": "Ann", "text": "olá"}, "bulk", "score-551", 1_082_044_560_000, 0, "09:00",
    "msg-1", "spring",
)  # fmt: skip

texts = st.text(max_size=80)
longs = st.integers(-(2**63), 2**63 - 1)
ints = st.integers(-(2**31), 2**31 - 1)
maps = st.dictionaries(texts, texts, max_size=4)
maybe_texts = st.none() | texts
items = st.builds(model.DigestItem, texts, longs, texts, maps)
deliveries = st.builds(
    model.Delivery,
    **dict.fromkeys(
        [n for n, kind in model.Delivery.__annotations__.items() if kind == "str"], texts
    ),
    priority=st.sampled_from(get_args(model.Priority)),
    channel=st.sampled_from(get_args(model.Channel)),
    kind=st.sampled_from(get_args(model.Kind)),
    on_ambiguous=st.sampled_from(["resend", "give_up"]),
    **dict.fromkeys([n for n in model.Delivery.__struct_fields__ if n.endswith("_ms")], longs),
    **dict.fromkeys(["count", "actors", "step", "attempt", "epoch"], ints),
    **dict.fromkeys(["event_id", "digest_key", "collapse_key", "campaign"], maybe_texts),
    attributes=maps,
    data=maps,
    items=st.lists(items, max_size=3).map(tuple),
)
entries = st.builds(
    model.Entry,
    **dict.fromkeys(["subject_id", "verdict", "reason", "rule", "category"], texts),
    event_id=maybe_texts,
    digest_id=maybe_texts,
    until_ms=st.none() | longs,
    count=ints,
    deliveries=st.lists(st.builds(model.Sent, texts, texts, texts, texts, ints), max_size=3).map(
        tuple
    ),
    inputs=maps,
    source=st.none() | st.builds(model.Source, texts, ints, longs, longs),
)


@given(deliveries)
@settings(deadline=None)
def test_a_delivery_comes_back(delivery: model.Delivery) -> None:
    raw = CODEC.encode_delivery(delivery)
    assert CODEC.decode_delivery(raw) == delivery
    assert CODEC.decode("delivery", raw) == model.struct_to_dict(delivery)
    assert CODEC.encode("delivery", model.struct_to_dict(delivery)) == raw


@given(texts, longs, texts, st.lists(entries, max_size=4))
@settings(deadline=None)
def test_a_decision_comes_back_with_flat_sources(
    recipient: str, decided: int, version: str, given_entries: list[model.Entry]
) -> None:
    raw = CODEC.encode_decision(recipient, decided, version, given_entries)
    flat = []
    for entry in given_entries:
        one = model.struct_to_dict(entry)
        source = one.pop("source") or {}
        for name in ("topic", "partition", "offset"):
            one[f"source_{name}"] = source.get(name)
        flat.append(one)
    expected = {
        "recipient_id": recipient,
        "decided_at_ms": decided,
        "policy_version": version,
        "entries": flat,
    }
    assert CODEC.decode("decision", raw) == expected
    assert CODEC.encode("decision", expected) == raw


@given(deliveries, texts, st.none() | longs, longs)
@settings(deadline=None)
def test_feedback_comes_back_with_its_delivery(
    delivery: model.Delivery, reason: str, after: int | None, at: int
) -> None:
    raw = CODEC.encode_feedback(delivery, "retry", reason, after, at, "twilio")
    feedback = CODEC.decode_feedback(raw, SOURCE)
    assert feedback == model.Feedback(delivery, "retry", reason, after, at, SOURCE)
    assert CODEC.decode("feedback", raw)["provider"] == "twilio"


@pytest.mark.parametrize("field", ["priority", "channel", "kind", "on_ambiguous"])
def test_a_word_that_ours_has_not_is_refused_not_kept(field: str) -> None:
    """State is read back with its types: what is kept must be readable again."""
    plain = dict.fromkeys(model.Delivery.__struct_fields__[:9], "")
    delivery = {
        **plain, "priority": "bulk", "channel": "sms", "kind": "sms", "template": "", "locale": "",
        **dict.fromkeys([n for n in model.Delivery.__struct_fields__ if n.endswith("_ms")], 0),
        "policy_version": "",
    }  # fmt: skip
    assert CODEC.decode_delivery(CODEC.encode("delivery", delivery)).channel == "sms"
    wrong = {**delivery, field: "fax"}
    with pytest.raises(DecodeError, match="none that is known"):
        CODEC.decode_delivery(CODEC.encode("delivery", wrong))
    for status, inside in (("retry", wrong), ("shrug", delivery)):
        feedback = {"delivery": inside, "status": status, "reason": "", "at_ms": 0}
        with pytest.raises(DecodeError, match="none that is known"):
            CODEC.decode_feedback(CODEC.encode("feedback", feedback), SOURCE)
    with pytest.raises(DecodeError, match="none that is known"):
        CODEC.decode_claim(CODEC.encode_claim(model.Claim("h", "r", "d", "fax", 5)))  # type: ignore[arg-type]


@given(st.data())
@settings(deadline=None)
def test_every_record_comes_back_as_a_mapping(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    mapping = data.draw(values(CONTRACTS.current[name].schema))
    raw = CODEC.encode(name, mapping)
    assert CODEC.decode(name, raw) == mapping
    if name == "outcome":
        assert CODEC.encode_outcome(mapping) == raw


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_are_nothing_but_a_decode_error_comes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    schema = CONTRACTS.current[name].schema
    raw = bytearray(CODEC.encode(name, data.draw(values(schema))))
    for _ in range(data.draw(st.integers(0, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] + data.draw(st.binary(max_size=20))
    for decode in every_decoder():
        with contextlib.suppress(DecodeError):
            decode(bytes(raw))


def every_decoder() -> list[Any]:
    return [
        CODEC.decode_event,
        CODEC.decode_preference,
        lambda value: CODEC.decode_destination(value, SOURCE),
        lambda value: CODEC.decode_receipt(value, SOURCE),
        lambda value: CODEC.decode_cancellation(value, SOURCE),
        CODEC.decode_claim,
        lambda value: CODEC.decode_feedback(value, SOURCE),
        CODEC.decode_delivery,
        *(lambda value, name=name: CODEC.decode(name, value) for name in NAMES),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"{}", "bad_magic"),
        (b"\x00\x00\x00\x00\x07abc", "unknown_schema"),
        (b"\xc3\x01abcdefgh", "unknown_schema"),
        (b"\xc3\x01abc", "malformed"),
        (CODEC.encode("event", model.struct_to_dict(EVENT))[:-1], "malformed"),
        (CODEC.encode("event", model.struct_to_dict(EVENT)) + b"\x00", "malformed"),
        (CONTRACTS.current["event"].header + b"\x04\xff\xff", "malformed"),
        (CODEC.encode("kill_switch", {"scope": "all", "active": True, "set_at_ms": 1}),
         "incompatible_schema"),
        (b"\xc3\x01" + bytes(codec_module.VALUE_BYTES_MAX), "too_large"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_event_says_why(value: bytes | None, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decode_event(value)
    assert caught.value.reason == reason


def test_an_event_comes_back_in_both_framings() -> None:
    raw = CODEC.encode("event", model.struct_to_dict(EVENT))
    assert CODEC.decode_event(raw) == EVENT
    codec = Codec()
    codec.learn(700_000, CONTRACTS.current["event"].schema)
    assert codec.decode_event(confluent_header(700_000) + raw[10:]) == EVENT


def test_an_older_and_a_newer_producer_are_read() -> None:
    """One without our last fields, one with a field and a symbol that we do not know."""
    older = copy.deepcopy(CONTRACTS.current["event"].schema)
    older["fields"] = older["fields"][:6]
    newer = copy.deepcopy(CONTRACTS.current["event"].schema)
    newer["fields"].insert(0, {"name": "tenant", "type": "string"})
    newer["fields"][7]["type"][1]["symbols"].append("urgent")
    codec = Codec()
    codec.learn(1, older)
    codec.learn(2, newer)
    mapping = model.struct_to_dict(EVENT)
    short = model.Event(*(getattr(EVENT, name) for name in model.Event.__struct_fields__[:6]))
    assert codec.decode_event(confluent_header(1) + encoded(older, mapping)) == short
    raw = confluent_header(2) + encoded(newer, {**mapping, "tenant": "t", "priority": "urgent"})
    assert codec.decode_event(raw) == msgspec.structs.replace(EVENT, priority="normal")


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_every_released_writer_is_read_by_its_fingerprint(data: st.DataObject) -> None:
    _, contract = data.draw(st.sampled_from(CONTRACTS.released))
    mapping = data.draw(values(contract.schema))
    raw = single_object_header(contract.schema) + encoded(contract.schema, mapping)
    found = CODEC.decode(contract.name, raw)
    assert {name: found[name] for name in mapping if name in found} == mapping


def test_a_destination_without_times_takes_those_of_its_append() -> None:
    plain = {"recipient_id": "r", "destination_id": "d", "kind": "sms", "address": "+1"}
    given = CODEC.decode_destination(CODEC.encode("destination", plain), SOURCE)
    assert given.destination.registered_at_ms == given.at_ms == SOURCE.appended_at_ms
    assert not given.removed
    gone = CODEC.decode_destination(
        CODEC.encode("destination", {**plain, "removed": True, "reason": "signed_out"}), SOURCE
    )
    assert (gone.removed, gone.at_ms, gone.reason) == (True, SOURCE.appended_at_ms, "signed_out")
    assert gone.destination.registered_at_ms == 0
    timed = CODEC.decode_destination(
        CODEC.encode("destination", {**plain, "registered_at_ms": 5, "at_ms": 6}), SOURCE
    )
    assert (timed.destination.registered_at_ms, timed.at_ms) == (5, 6)


def test_preferences_come_back() -> None:
    preferences = model.Preferences(
        default=True,
        categories={"marketing": False},
        cells={"message/email": False},
        zone="Europe/Lisbon",
        quiet_hours=(model.QuietWindow(1320, 420, 31),),
        muted=("actor:member-7",),
        digests={"like": "daily@18:00"},
        channel_order={"message": ("email", "push")},
        updated_at_ms=5,
    )
    mapping = {"recipient_id": "member-42", **model.struct_to_dict(preferences)}
    raw = CODEC.encode("preference", mapping)
    assert CODEC.decode_preference(raw) == ("member-42", preferences)


def test_receipts_cancellations_and_claims_come_back() -> None:
    receipt = {"recipient_id": "r", "kind": "seen", "delivery_id": "d", "occurred_at_ms": 5}
    assert CODEC.decode_receipt(CODEC.encode("receipt", receipt), SOURCE) == model.Receipt(
        "r", "seen", None, "d", None, None, None, 5, SOURCE
    )
    cancellation = {"recipient_id": "r", "event_id": "e", "requested_at_ms": 5}
    assert CODEC.decode_cancellation(
        CODEC.encode("cancellation", cancellation), SOURCE
    ) == model.Cancellation("r", "e", None, 5, SOURCE)
    claim = model.Claim("5f70", "r", "d", "sms", 5)
    assert CODEC.decode_claim(CODEC.encode_claim(claim)) == claim


def test_a_dead_letter_keeps_the_bytes() -> None:
    letter = {
        "recipient_id": None,
        "topic": "events.normal",
        "partition": 3,
        "offset": 9,
        "timestamp_ms": 1,
        "key": None,
        "value": b"\x00\xffgarbage",
        "headers": [{"name": "traceparent", "value": b"00"}, {"name": "empty", "value": None}],
        "reason": "bad_magic",
        "detail": "",
        "delivery": None,
        "dead_at_ms": 2,
    }
    assert CODEC.decode("dead_letter", CODEC.encode_dead_letter(letter)) == letter


@given(deliveries)
@settings(max_examples=20, deadline=None)
def test_a_dead_letter_takes_a_delivery_as_it_is(delivery: model.Delivery) -> None:
    letter = {
        "topic": "t", "partition": 0, "offset": 0, "timestamp_ms": 0, "reason": "r",
        "dead_at_ms": 0, "delivery": delivery,
    }  # fmt: skip
    found = CODEC.decode("dead_letter", CODEC.encode_dead_letter(letter))
    assert found["delivery"] == model.struct_to_dict(delivery)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"event_id": 5}, "event_id is <5>"),
        ({"catgory": "x"}, "event has no field catgory; did you mean category?"),
        ({"priority": "urgent"}, "priority"),
        ({"data": {"n": 5}}, "data"),
        ({"created_at_ms": 2**63}, "created_at_ms"),
        ({"event_id": "\ud800"}, "surrogates"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(EncodeError, match=says):
        CODEC.encode("event", {**model.struct_to_dict(EVENT), **change})
    with pytest.raises(EncodeError, match="category is missing"):
        CODEC.encode("event", {"event_id": "e"})


def test_a_megabyte_of_promises_is_refused_quickly() -> None:
    head = CONTRACTS.current["feedback"].header
    started = time.perf_counter()
    with pytest.raises(DecodeError):
        CODEC.decode_feedback(head + b"\xff\xff\x7f" * 300_000, SOURCE)
    assert time.perf_counter() - started < 1
