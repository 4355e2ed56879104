"""How commands talk to Kafka: one connection's settings, and its failures as sentences.

Invariants: a command waits for a cluster that is not there for ``CONNECT_MS_MAX`` and no longer;
nothing here creates a topic by naming it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from streams.commands.failures import CommandError
from streams.engine import header_names

header_names.use()

CONNECT_MS_MAX = 10_000


@contextlib.contextmanager
def kafka_failures(bootstrap: str) -> Iterator[None]:
    """Turns what a Kafka client raises into a sentence that names the server and a way out."""
    # The clients log what they then raise; here the raised error becomes the sentence.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        yield
    except (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, OSError) as error:
        raise CommandError(
            f"cannot reach Kafka at {bootstrap}: {error or type(error).__name__}",
            "Start one here with `flowstate up` (or `flowstate broker`), or name yours with"
            " --bootstrap HOST:PORT.",
        ) from error
    except (AuthenticationFailedError, TopicAuthorizationFailedError) as error:
        raise CommandError(
            f"Kafka at {bootstrap} refused: {error}",
            "Check the security settings under [kafka] in flowstate.toml.",
        ) from error
    except UnknownTopicOrPartitionError as error:
        raise CommandError(
            f"Kafka at {bootstrap} has no topic {error}",
            "Create Flowstate's topics with `flowstate topics create`.",
        ) from error
    except KafkaError as error:
        raise CommandError(f"Kafka at {bootstrap} answered: {error}") from error


async def partition_count(topic: str, client: Mapping[str, Any]) -> int:
    """How many partitions a topic has. Raises ``UnknownTopicOrPartitionError`` without it."""
    admin = AIOKafkaAdminClient(**client, request_timeout_ms=CONNECT_MS_MAX)
    try:
        await admin.start()
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"] != 0 or not described["partitions"]:
        raise UnknownTopicOrPartitionError(topic)
    return len(described["partitions"])
