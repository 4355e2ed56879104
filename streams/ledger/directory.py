"""Where the ledger's workers answer, as their consumer group remembers it.

The owner of a partition writes its address beside the offsets that it commits, which only the
member of the current generation can do: so the group itself is the directory, always as fresh as
the latest commit, and nobody else keeps a table of workers. What it names may have died since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams import topics

SECRET_HEADER = "Flowstate-Internal"  # noqa: S105 (a name)
"""With the secret that all workers share, on each question between them."""


def address_metadata(url: str) -> str:
    """What an owner commits beside its offsets."""
    return msgspec.json.encode({"url": url}).decode()


def ledger_group(application: str) -> str:
    """Group of the ledger workers; they commit their addresses beside ``decisions``."""
    return f"{application}-ledger"


async def owners_in_group(admin: Any, group: str, topic: str) -> dict[int, str]:
    """Address that was committed for each partition of a topic. ``admin`` has started."""
    offsets = await admin.list_consumer_group_offsets(group)
    found = {}
    for place, committed in offsets.items():
        if place.topic == topic and (url := address_in(committed.metadata)):
            found[place.partition] = url
    return found


async def find_ledger(
    bootstrap: str, application: str = "flowstate", security: Mapping[str, Any] | None = None
) -> str | None:
    """Address of a ledger worker of this cluster, the one with the most partitions; ``None`` when
    the cluster knows none or cannot be asked."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, **(security or {}))
    try:
        await admin.start()
        found = await owners_in_group(admin, ledger_group(application), topics.DECISIONS)
    except KafkaError:
        return None
    finally:
        await admin.close()
    owners = Counter(found.values())
    return owners.most_common(1)[0][0] if owners else None


def address_in(metadata: str | None) -> str | None:
    """The address in an owner's metadata; ``None`` when it holds none."""
    try:
        url = msgspec.json.decode(metadata or "{}").get("url")
    except (msgspec.DecodeError, AttributeError):
        return None
    return url if isinstance(url, str) and url.startswith(("http://", "https://")) else None
