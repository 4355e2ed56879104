"""A typed client for producers and apps: events and preferences, over HTTP or over Kafka.

    from streams.client import Event, HttpClient

    async with HttpClient("https://notify.example", key) as client:
        answers = await client.send([Event(event_id="e1", recipient_id="ann", category="message",
                                           created_at_ms=1_700_000_000_000)])

Both clients retry what may be retried (429, 503, a lost connection), within a bound, and never turn
a failure into a success: an answer says of each event whether it was accepted.
"""

from streams.client.errors import (
    ClientError,
    Conflict,
    Refused,
    Unavailable,
    VersionChanged,
)
from streams.client.http import HttpClient
from streams.client.kafka import KafkaClient
from streams.client.types import Accepted, Answer, Event, NotAccepted, Versioned
from streams.web.state_documents import PreferencesDocument as Preferences
from streams.web.state_documents import QuietWindowDocument as QuietWindow

__all__ = [
    "Accepted",
    "Answer",
    "ClientError",
    "Conflict",
    "Event",
    "HttpClient",
    "KafkaClient",
    "NotAccepted",
    "Preferences",
    "QuietWindow",
    "Refused",
    "Unavailable",
    "VersionChanged",
    "Versioned",
]
