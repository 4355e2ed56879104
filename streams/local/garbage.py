"""One record for each input topic that nobody can read, each broken in another way.

The demo sends them in mid-run: each must become one dead letter with its reason and its bytes,
and change nothing else. All of these have been sent to somebody's Kafka by mistake.

Invariant: the same seed gives the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from streams import topics
from streams.local.trace import recipient_id

UNKNOWN_SCHEMA_ID = b"\x00" + (999_999).to_bytes(4, "big")
UNKNOWN_FINGERPRINT = b"\xc3\x01"
ENDLESS = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f"
TOO_LARGE_BYTES = 300_000


class Garbage(msgspec.Struct, frozen=True):
    """A record to send as it is; ``fault`` says what is wrong with it."""

    topic: str
    key: str
    value: bytes
    fault: str


def garbage(seed: int, headers: Mapping[str, bytes]) -> list[Garbage]:
    """One for every topic that producers may write to, except the kill switch.

    ``headers``: record name -> the bytes before each value in single-object encoding.
    """
    draw = random.Random(f"{seed}/garbage")
    key = recipient_id(draw.randint(1, 1_000))
    values = {
        topics.EVENTS_CRITICAL: (
            UNKNOWN_SCHEMA_ID + b"\x02a",
            "a schema id that no registry knows",
        ),
        topics.EVENTS_NORMAL: (headers["event"] + b"\x20college-", "cut short"),
        topics.EVENTS_BULK: (headers["event"] + bytes(TOO_LARGE_BYTES), "larger than is read"),
        topics.PREFERENCES: (b'{"recipient_id": "member-0001"}', "JSON where Avro should be"),
        topics.DESTINATIONS: (UNKNOWN_FINGERPRINT + draw.randbytes(9), "an unknown fingerprint"),
        topics.RECEIPTS: (headers["receipt"] + ENDLESS, "a text of exabytes"),
        topics.CANCELLATIONS: (b"\x07" + draw.randbytes(64), "random bytes"),
        topics.FEEDBACK: ("¿qué es esto?".encode(), "text"),
        topics.DESTINATION_CLAIMS: (b"\xc3", "one byte"),
    }
    return [Garbage(topic, key, value, fault) for topic, (value, fault) in values.items()]
