"""The deliver role as a worker process on topics of a test, for ``test_deliver.py``.

Run as ``python -m tests.agents.delivering ARGUMENTS`` with the JSON of ``WorkerArguments``.
"""

from __future__ import annotations

import logging
import sys

import msgspec

from streams import topics
from streams.agents.deliver import deliver_role
from streams.agents.deliver_terms import Names
from streams.codec import Codec
from streams.core.model import CHANNEL_OF_KIND, Delivery
from streams.engine.faust_app import EngineApp
from streams.engine.settings import EngineSettings
from streams.engine.worker import run_worker
from streams.sinks.settings import DeliverSettings


class WorkerArguments(msgspec.Struct, frozen=True):
    """What a worker process is started with, as JSON."""

    suffix: str
    """Ends the name of every topic of the test."""
    engine: EngineSettings
    deliver: DeliverSettings


def names_with(suffix: str) -> Names:
    """Topic names of one test."""

    def deliveries(kind: str, critical: bool) -> str:
        return topics.deliveries(kind, critical) + suffix

    return Names(
        deliveries=deliveries,
        outcomes=topics.OUTCOMES + suffix,
        feedback=topics.FEEDBACK + suffix,
        receipts=topics.RECEIPTS + suffix,
        dead_letters=topics.DEAD_LETTERS + suffix,
        kill_switch=topics.KILL_SWITCH + suffix,
        clock="",
    )


ADDRESSES = {
    "apns": "ab" * 32,
    "fcm": "fcm-token-" + "x" * 130,
    "sms": "+351912345678",
    "email": "someone@example.com",
    "webhook": "http://127.0.0.1:1/webhooks/endpoint",
}


def delivery(number: int, kind: str = "apns", **changes: object) -> Delivery:
    """A delivery that any sink takes; ``number`` makes its ids."""
    plain = Delivery(
        delivery_id=f"000{number:029x}",
        notification_id=f"000{number:028x}f",
        recipient_id=f"recipient-{number}",
        category="message",
        priority="normal",
        channel=CHANNEL_OF_KIND[kind],
        kind=kind,  # type: ignore[arg-type]
        destination_id="device-1",
        address=ADDRESSES.get(kind, ""),
        attributes={},
        registered_at_ms=1_000,
        template="",
        locale="en",
        data={"sender": "Ann", "text": "Hello"},
        event_id=f"event-{number}",
        digest_key=None,
        count=1,
        actors=1,
        items=(),
        collapse_key=None,
        step=0,
        attempt=1,
        epoch=0,
        created_at_ms=1_000,
        appended_at_ms=1_000,
        decided_at_ms=2_000,
        valid_until_ms=1 << 45,
        expires_at_ms=1 << 45,
        on_ambiguous="resend",
        campaign=None,
        policy_version="test",
    )
    return msgspec.structs.replace(plain, **changes)


def main() -> None:
    """Runs a worker until it is told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    arguments = msgspec.json.decode(sys.argv[1], type=WorkerArguments)
    role = deliver_role(arguments.deliver, Codec(), names_with(arguments.suffix))
    sys.exit(run_worker(lambda: EngineApp(role, arguments.engine)))


if __name__ == "__main__":
    main()
