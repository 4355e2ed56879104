"""What an answer leaves behind, and where."""

from __future__ import annotations

from typing import Any

import pytest

from streams.agents.deliver_item import Item
from streams.agents.deliver_positions import Entry
from streams.agents.deliver_records import Writer
from streams.agents.deliver_terms import Names
from streams.codec import Codec
from streams.sinks.base import Accepted, Answer, Outcome, Rejected, Retry
from tests.agents.delivering import delivery

CODEC, NAMES = Codec(), Names()


def aside(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Topic -> the record beside the outcome."""
    item = Item(delivery(1, "apns"), "deliveries.apns", Entry(5, 1), critical=False)
    writer = Writer(CODEC, NAMES, 0, stream=False)
    finished = writer.finished(item, Answer(outcome, "apns"), 9_000, lambda offset: None)
    kinds = {NAMES.feedback: "feedback", NAMES.receipts: "receipt"}
    return {topic: CODEC.decode(kinds[topic], value) for topic, (_, value, *_) in finished.aside}


def test_an_acceptance_leaves_its_outcome_alone() -> None:
    assert aside(Accepted("1")) == {}


def test_a_retry_goes_back_with_its_wish() -> None:
    assert aside(Retry("throttled", 7_000))[NAMES.feedback]["retry_after_ms"] == 7_000


@pytest.mark.parametrize(
    ("outcome", "kind", "name"),
    [
        (Rejected("unsubscribed", unsubscribed="channel:sms"), "unsubscribed", "channel:sms"),
        (Rejected("bad_device_token", quarantine=True), "soft_bounced", None),
    ],
)
def test_what_the_answer_says_of_the_recipient_becomes_a_receipt(
    outcome: Outcome, kind: str, name: str | None
) -> None:
    left = aside(outcome)
    assert left[NAMES.feedback]["status"] == "rejected"
    receipt = left[NAMES.receipts]
    assert (receipt["kind"], receipt["name"]) == (kind, name)
    assert receipt["destination_id"] == "device-1"
    assert receipt["occurred_at_ms"] == 9_000


def test_a_plain_rejection_says_nothing_of_the_address() -> None:
    assert set(aside(Rejected("payload_too_large"))) == {NAMES.feedback}
