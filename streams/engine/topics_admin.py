"""Makes Flowstate's topics, and says what is wrong with those that are there.

A wrong partition count puts a recipient's records on different workers; a wrong clean-up policy
loses preferences; producer time where append time is expected lets a producer lie about order. All
three go unnoticed until it is too late, so they are checked before a worker begins.

Invariant: nothing that exists is ever changed here; checking never creates anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from streams.topics import FROM_OUTSIDE, TopicSpec

HOUR_MS = 3_600_000
COMPACTED_WITHIN_HOURS = 7 * 24
"""What a compacted topic no longer means is gone by then, so that an erasure comes to an end."""
DELETED_KEPT_HOURS = 72
"""How long a deletion stays in a compacted topic: a copy of it that was not written for longer than
``restore.COPY_AGE_HOURS_MAX`` is begun anew, because it may have missed one."""
LARGE_RECORD_BYTES = 8 << 20
"""What the engine writes may be larger than what it reads: dead letters hold the original."""
INPUT_RECORD_BYTES = 1_048_588
"""Kafka's own default; four times what is read of a record that comes from outside."""
LEADERS_S_MAX = 30.0
LEADERS_POLL_S = 0.1
CHECKED = (
    "cleanup.policy", "message.timestamp.type", "retention.ms", "max.message.bytes",
    "delete.retention.ms",
)  # fmt: skip


class TopicsWrong(Exception):  # noqa: N818 (a state, named for what happened)
    """The topics are not as they must be; the message lists every difference."""


def record_bytes_of(spec: TopicSpec) -> int:
    """The largest record batch that a spec's topic takes."""
    return INPUT_RECORD_BYTES if spec.name in FROM_OUTSIDE else LARGE_RECORD_BYTES


def config_of(spec: TopicSpec, stream_time: bool) -> dict[str, str]:
    """Topic configuration of a spec.

    In stream time records keep their producers' times, which may be years back: nothing expires.
    """
    forever = stream_time or spec.retention_hours is None
    retention_ms = -1 if forever else (spec.retention_hours or 0) * HOUR_MS
    append_time = spec.append_time and not stream_time
    config = {
        "cleanup.policy": spec.cleanup,
        "message.timestamp.type": "LogAppendTime" if append_time else "CreateTime",
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(record_bytes_of(spec)),
    }
    if spec.cleanup == "compact":
        config["delete.retention.ms"] = str(DELETED_KEPT_HOURS * HOUR_MS)
    if spec.cleanup == "compact" and not stream_time:
        # What was replaced or deleted must go some day even where little is written.
        config["max.compaction.lag.ms"] = str(COMPACTED_WITHIN_HOURS * HOUR_MS)
    if stream_time:
        # Kafka 4 refuses records from the far past or future unless told not to.
        config["message.timestamp.before.max.ms"] = str((1 << 63) - 1)
        config["message.timestamp.after.max.ms"] = str((1 << 63) - 1)
    return config


@asynccontextmanager
async def _admin(
    bootstrap: str, security: Mapping[str, Any] | None
) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap, client_id="flowstate-topics", **(security or {})
    )
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def partitions_of(spec: TopicSpec, partitions: int) -> int:
    """How many partitions a spec's topic has in a cluster of ``partitions``."""
    return 1 if spec.partitions == "one" else partitions


async def create_topics(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    partitions: int,
    replication: int,
    stream_time: bool,
    security: Mapping[str, Any] | None = None,
) -> list[str]:
    """Creates what is missing; returns the names created. Raises ``TopicsWrong`` when refused."""
    in_sync = max(1, replication - 1)
    new = [
        NewTopic(
            spec.name,
            partitions_of(spec, partitions),
            replication,
            topic_configs={
                **config_of(spec, stream_time),
                "min.insync.replicas": str(in_sync),
                "unclean.leader.election.enable": "false",
            },
        )
        for spec in specs
    ]
    async with _admin(bootstrap, security) as admin:
        response = await admin.create_topics(new)
        created, refused = [], []
        for name, code, *message in response.topic_errors:
            error = for_code(code)
            if error is NoError:
                created.append(name)
            elif error is not TopicAlreadyExistsError:
                why = message[0] if message and message[0] else error.__name__
                refused.append(f"{name}: {why}")
        if refused:
            raise TopicsWrong("the broker refused to make topics: " + "; ".join(refused))
        await _wait_for_leaders(admin, [spec.name for spec in specs])
    return created


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """A topic that was made is not usable at once: its leaders are told to every broker first."""
    async with asyncio.timeout(LEADERS_S_MAX):
        while True:
            led = {
                topic["topic"]
                for topic in await admin.describe_topics()
                if topic["partitions"] and all(each["leader"] >= 0 for each in topic["partitions"])
            }
            if led.issuperset(names):
                return
            await asyncio.sleep(LEADERS_POLL_S)


async def check_topics(
    bootstrap: str,
    specs: Sequence[TopicSpec],
    partitions: int,
    stream_time: bool,
    security: Mapping[str, Any] | None = None,
) -> list[str]:
    """Everything that is wrong, one sentence each; empty when all is well."""
    async with _admin(bootstrap, security) as admin:
        found = {topic["topic"]: topic for topic in await admin.describe_topics()}
        there = [spec for spec in specs if spec.name in found]
        configs = await _describe_configs(admin, [spec.name for spec in there])
    problems = [f"topic {spec.name} does not exist" for spec in specs if spec.name not in found]
    for spec in there:
        wanted = partitions_of(spec, partitions)
        count = len(found[spec.name]["partitions"])
        if count != wanted:
            problems.append(f"topic {spec.name} has {count} partitions instead of {wanted}")
        problems += _config_problems(spec, stream_time, configs.get(spec.name, {}))
    return problems


def _config_problems(spec: TopicSpec, stream_time: bool, has: Mapping[str, str]) -> list[str]:
    wanted = config_of(spec, stream_time)
    problems = [
        f"topic {spec.name} has {key}={has.get(key)} instead of {wanted[key]}"
        for key in ("cleanup.policy", "message.timestamp.type")
        if key in has and has[key] != wanted[key]
    ]
    kept_ms = wanted.get("delete.retention.ms", "0")
    if int(has.get("delete.retention.ms", kept_ms)) < int(kept_ms):
        problems.append(
            f"topic {spec.name} has delete.retention.ms={has['delete.retention.ms']} instead of"
            f" {kept_ms}: a worker that comes back after that would not see what was deleted"
        )
    if stream_time and has.get("retention.ms", "-1") != "-1":
        problems.append(
            f"topic {spec.name} has retention.ms={has['retention.ms']} instead of -1: in stream"
            " mode records carry old times and would be deleted at once"
        )
    return problems


async def _describe_configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(CHECKED)) for name in names
    ]
    configs: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for _, _, _, name, entries in response.resources:
            configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs


async def check_partition_counts(
    bootstrap: str,
    topics: Sequence[str],
    partitions: int,
    security: Mapping[str, Any] | None = None,
) -> list[str]:
    """As ``check_topics``, for topics without a spec: they exist, with this many partitions."""
    async with _admin(bootstrap, security) as admin:
        found = {
            topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()
        }
    return [
        f"topic {name} has {found[name]} partitions instead of {partitions}"
        if name in found
        else f"topic {name} does not exist"
        for name in topics
        if found.get(name) != partitions
    ]


async def cluster_id(bootstrap: str, security: Mapping[str, Any] | None = None) -> str:
    """The cluster's own id, which no other cluster has."""
    async with _admin(bootstrap, security) as admin:
        cluster = await admin.describe_cluster()
    return str(cluster.get("cluster_id") or "")
