"""Every bound and choice of the engine, by name, with its default.

``streams/settings.py`` fills this from ``flowstate.toml``; tests make it directly. Nothing else
in ``streams/engine`` holds a number that an operator may want to change.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from streams.ranges import OneOrMore, Port

Clock = Literal["wall", "stream"]
OnStateLoss = Literal["refuse", "rebuild"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's engine.

    Times in milliseconds, sizes in bytes.
    """

    # -- the cluster
    bootstrap: str
    """``host:port[,host:port]``."""
    security: dict[str, Any] = {}
    """Passed to every aiokafka client as it is: ``security_protocol``, ``sasl_mechanism``,
    ``sasl_plain_username``, ``sasl_plain_password``, ``ssl_context``."""
    application: str = "flowstate"
    """Prefix of groups and transactional ids: ``<application>-<role>``."""
    partitions: OneOrMore = 16
    """Partitions of every topic; fixed for the life of a cluster."""
    clock: Clock = "wall"
    """``stream``: the partition's clock is the largest record time (backtests, the demo)."""

    clock_error_ms_max: OneOrMore = 60_000
    """A worker whose clock differs from the broker's by more does not begin; one whose clock
    jumps by more ends."""

    # -- this worker
    data_folder: str = ".flowstate"
    """State lives under ``<data_folder>/<role>/``; one worker per folder and role."""
    worker_name: str = ""
    """A stable name: the group instance id, so that a quick restart causes no rebalance. Never of
    two live processes: the second gets the first one's partitions at once, and until the first
    hears of it both may send the same."""
    web_host: str = "127.0.0.1"
    """A ledger worker listens on loopback instead, as long as there are no API keys."""
    web_port: Port = 6066
    """Health, metrics and the role's pages; 0 takes a free port."""
    advertised_url: str = ""
    """How other workers reach this one's pages; empty: ``http://<web_host>:<web_port>``, with this
    machine's name where it listens on every address."""
    web_enabled: bool = True
    log_level: LogLevel = "INFO"

    # -- membership
    standby_replicas: int = 0
    session_timeout_ms: OneOrMore = 6_000
    """A worker that died is missed after so long, and its partitions move. Brokers refuse less than
    their group.min.session.timeout.ms, which is 6 s unless set. Heartbeats have a thread
    of their own, so that no batch delays them."""
    heartbeat_ms: OneOrMore = 1_000
    rebalance_timeout_ms: OneOrMore = 60_000
    """A member must have released its partitions within this when a rebalance begins."""
    revoke_ms_max: OneOrMore = 20_000
    """How long one runner's ``stop`` may take before the partition is given up."""
    metadata_max_age_ms: OneOrMore = 60_000
    """How soon a client notices leaders and partitions that moved without an error."""
    start_ms_max: int = 60_000
    """How long it may take until the cluster answers at all, when a worker starts."""

    # -- reading
    fetch_bytes_max: OneOrMore = 2 << 20
    """Per partition and fetch."""
    fetch_wait_ms: int = 50
    """How long a broker waits for data before it answers a fetch with nothing."""
    batch_records_max: OneOrMore = 1_000
    critical_records_max: OneOrMore = 500
    bulk_records_max: OneOrMore = 250
    """A critical event waits for the batch that its partition is at: with 1,000 of bulk 2 to 4
    times as long. A mixed load is decided as fast."""
    backlog_records_max: int = 16_000
    """When no critical event came for a second, a batch may have so many normal or bulk records
    instead: what a transaction costs, and reading and writing a recipient's state, is shared by
    more of them. No more than the two above: never."""
    backlog_batch_ms_max: int = 150
    """And only as many as take about so long, if that is more than without: a critical event that
    comes then waits for it and for its own batch, and is still decided within 250 ms. ``2s`` works
    a backlog off with about 0.7 of the CPU and a third of the broker's; the first critical event
    after a second without any may then wait for so long."""
    control_records_max: OneOrMore = 2_000
    normal_partitions_max: OneOrMore = 3
    """Partitions of a worker that may have normal records in a batch at the same time: enough to
    decide one while another is acknowledged; more would only make critical records wait."""
    bulk_partitions_max: OneOrMore = 1
    """Partitions of a worker that may have bulk records in a batch at the same time."""
    bulk_rest_share: float = 1.0
    """While critical events come, bulk rests between its batches for so many times as long as the
    last one took. 0: never."""
    bulk_batch_ms_max: OneOrMore = 30
    """And a batch has so few of them, 25 or more, that it takes about so long: with cold caches or
    large states an event takes five times as long as without."""
    rest_share: float = 0.5
    """After a batch that left nothing behind, a partition lets records gather for so many times as
    long as the batch took: a transaction costs as much for one as for a hundred. 0: never."""
    rest_ms_max: int = 40
    """And no longer than this."""
    stream_idle_ms: int = 5_000
    """Stream mode: records later than the latest tick are taken when nothing arrived for so long.
    """
    first_catch_up_ms_log: int = 10_000
    """A partition that still catches up its control topics after this says so in the log."""

    # -- transactions
    transaction_timeout_ms: OneOrMore = 15_000
    request_timeout_ms: OneOrMore = 30_000
    produce_batch_bytes: OneOrMore = 1 << 20
    """A record batch is closed at this size: below the broker's ``message.max.bytes``."""
    produce_request_bytes_max: OneOrMore = 8 << 20
    record_bytes_max: OneOrMore = 4 << 20
    """Largest record that the engine writes; topics that it writes to must take it."""
    compression: Compression = "lz4"
    offsets_commit_ms: OneOrMore = 1_000
    """Group offsets are for displays: committed together, at most this often."""
    idle_fence_ms: OneOrMore = 5_000
    """Positions that moved with nothing to write reach the fence record at most this late."""
    retry_unavailable_ms: OneOrMore = 500
    """How soon a batch that needs something that is away (schema registry) is asked again."""

    # -- timers
    tick_ms: OneOrMore = 100
    wake_owners_max: OneOrMore = 1_000
    """Due owners released per partition and tick."""

    # -- the local store
    block_cache_bytes: OneOrMore = 256 << 20
    write_buffer_bytes: OneOrMore = 128 << 20
    """Both are shared by all partitions of the worker."""
    restore_records_max: OneOrMore = 5_000
    restore_log_ms: OneOrMore = 5_000
    on_state_loss: OnStateLoss = "refuse"
    """When a changelog no longer holds a partition's state: ``refuse`` to start, or ``rebuild``
    what the control topics still say (preferences, destinations) and forget the rest."""

    # -- watchdog
    stall_ms_max: OneOrMore = 60_000
    """Lag above 0 and nothing finished for so long: log why, exit."""
    loop_stall_ms_log: OneOrMore = 1_000
    """The event loop was blocked for so long: say so."""
    shutdown_ms_max: OneOrMore = 30_000
    """A graceful stop that takes longer is cut short, with a non-zero status."""
