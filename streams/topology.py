"""Draws ``topology.md``: every topic, table and role, who writes and who reads.

What topics and tables are comes from ``topics.py`` and ``tables.py``; who uses them is said here
once, and a test holds it to what the roles declare to the engine. The page is generated
(``flowstate topology --write topology.md``); a test fails when it drifts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import msgspec

from streams import tables, topics
from streams.topics import TopicSpec


class Role(msgspec.Struct, frozen=True):
    """Something that reads and writes topics."""

    name: str
    doc: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


PRODUCERS = Role(
    "producers",
    "Services that tell what happened and what people chose, with any Kafka client.",
    (),
    (*topics.EVENTS, topics.PREFERENCES, topics.DESTINATIONS, topics.RECEIPTS,
     topics.CANCELLATIONS),
)  # fmt: skip
ROLES = (
    Role(
        "api",
        "The same over HTTP; stateless.",
        (),
        (*PRODUCERS.writes, topics.LOOKS),
    ),
    Role(
        "decide",
        "What to send to whom, when; stateful, exactly once. Forwards what was written to the"
        " wrong partition.",
        (*topics.CONTROL, *topics.EVENTS, topics.KILL_SWITCH, topics.STATE_CHANGELOG),
        (*topics.DELIVERIES, topics.DECISIONS, topics.DEAD_LETTERS, topics.DESTINATIONS,
         topics.DESTINATION_CLAIMS, topics.PREFERENCES, topics.STATE_CHANGELOG, topics.TICKS),
    ),
    Role(
        "deliver",
        "Sends, and says what the provider answered. After a restart the tail of `outcomes` tells"
        " it what was sent.",
        (*topics.DELIVERIES, topics.KILL_SWITCH),
        (topics.OUTCOMES, topics.FEEDBACK, topics.RECEIPTS, topics.DEAD_LETTERS, topics.TICKS),
    ),
    Role(
        "ledger",
        "Keeps the history and answers for it.",
        (topics.DECISIONS, topics.OUTCOMES, topics.RECEIPTS, topics.ERASURES,
         topics.LEDGER_HOURS),
        (topics.LOOKS, topics.LEDGER_HOURS),
    ),
)  # fmt: skip
OPERATORS = Role(
    "operators",
    "People with the `flowstate` command.",
    (topics.DEAD_LETTERS, topics.LOOKS),
    (topics.KILL_SWITCH, topics.FEEDBACK, topics.TICKS, topics.ERASURES),
)
EVERYBODY = (PRODUCERS, *ROLES, OPERATORS)

LANES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("control", "drained before any event", topics.CONTROL),
    ("critical", "a batch of its own, first", (topics.EVENTS_CRITICAL,)),
    ("normal", "after critical, capped", (topics.EVENTS_NORMAL,)),
    ("bulk", "partitions take turns", (topics.EVENTS_BULK,)),
)
"""(name, how it is taken, topics) of the decide role, in the order of taking."""

KEYS = {
    topics.KILL_SWITCH: "scope",
    topics.DESTINATION_CLAIMS: "address hash",
    topics.STATE_CHANGELOG: "state key",
    topics.TICKS: "none",
    topics.LOOKS: "recipient hash",
    topics.LEDGER_HOURS: "hour and what is counted",
    topics.ERASURES: "recipient hash, on the recipient's partition",
}
"""Topics that are not keyed by recipient id."""

HEAD = """\
# Topology

<!-- Generated from streams/topics.py, streams/tables.py and streams/topology.py by
     `flowstate topology --write topology.md`: change those, not this. -->

All topics but `kill-switch` have the same number of partitions, and all but those marked below are
keyed by `recipient_id`: a recipient's whole life is on one partition, and a delivery leaves on the
partition that its event came in on.
"""


def render() -> str:
    """The page."""
    parts = [HEAD, _diagram(), _roles(), _topics(), _lanes(), _tables()]
    return "\n".join(parts)


def _diagram() -> str:
    """Groups of topics and the roles between them, for Mermaid."""
    lines = ["```mermaid", "flowchart LR"]
    groups = _groups()
    lines += [f"  {role.name}([{role.name}])" for role in EVERYBODY]
    for group, names in groups.items():
        node = _node(group)
        lines.append(f'  {node}[["{group}"]]' if len(names) > 1 else f'  {node}["{group}"]')
    for role in EVERYBODY:
        lines += [f"  {role.name} --> {_node(g)}" for g in groups if _all(groups[g], role.writes)]
        lines += [f"  {_node(g)} --> {role.name}" for g in groups if _all(groups[g], role.reads)]
    lines += ["  deliver ==> providers((providers))", "  people((people)) --- ledger", "```", ""]
    return "\n".join(lines)


def _groups() -> dict[str, tuple[str, ...]]:
    """Topics that the diagram shows as one, and every other by itself."""
    groups: dict[str, tuple[str, ...]] = {"events.*": topics.EVENTS}
    grouped = {*topics.EVENTS, *topics.DELIVERIES}
    for spec in topics.SPECS:
        if spec.name in topics.DELIVERIES:
            groups["deliveries.*"] = topics.DELIVERIES
        elif spec.name not in grouped:
            groups[spec.name] = (spec.name,)
    return groups


def _all(names: Iterable[str], of: Sequence[str]) -> bool:
    return set(names) <= set(of)


def _node(name: str) -> str:
    return "t_" + "".join(c if c.isalnum() else "_" for c in name)


def _roles() -> str:
    rows = [(f"`{role.name}`", role.doc) for role in EVERYBODY]
    return "## Roles\n\n" + _table(("who", "what"), rows)


def _topics() -> str:
    rows = []
    for spec in topics.SPECS:
        if spec.name in topics.DELIVERIES and spec.name != topics.DELIVERIES[0]:
            continue
        rows.append(_topic_row(spec))
    kinds = ", ".join(f"`{kind}`" for kind in topics.KINDS)
    note = f"`deliveries.KIND` has a topic for each of {kinds}, and one with `.critical` each."
    times = (
        "Times are the broker's (`LogAppendTime`), but where marked *producer's*; in stream mode"
        " all are the producer's and nothing expires."
    )
    head = ("topic", "what", "key", "schema", "cleanup", "kept", "time", "written by", "read by")
    return f"## Topics\n\n{_table(head, rows)}\n{note}\n{times}\n"


def _topic_row(spec: TopicSpec) -> tuple[str, ...]:
    is_delivery = spec.name in topics.DELIVERIES
    name = "`deliveries.KIND[.critical]`" if is_delivery else f"`{spec.name}`"
    if spec.partitions == "one":
        name += " (one partition)"
    schema = f"[{spec.schema}](schemas/{spec.schema}.avsc)" if spec.schema else "-"
    return (
        name,
        "Messages for one kind of destination." if is_delivery else spec.doc,
        KEYS.get(spec.name, "recipient id"),
        schema,
        spec.cleanup,
        _kept(spec.retention_hours),
        "broker's" if spec.append_time else "producer's",
        ", ".join(role.name for role in EVERYBODY if spec.name in role.writes),
        ", ".join(role.name for role in EVERYBODY if spec.name in role.reads),
    )


def _kept(hours: int | None) -> str:
    if hours is None:
        return "latest of each key"
    return f"{hours // 24} d" if hours % 24 == 0 else f"{hours} h"


def _lanes() -> str:
    rows = [
        (str(number), name, how, ", ".join(f"`{topic}`" for topic in names))
        for number, (name, how, names) in enumerate(LANES, 1)
    ]
    return "## Order of taking in decide\n\n" + _table(("", "lane", "how", "topics"), rows)


def _tables() -> str:
    parts = ["## Tables\n"]
    for table in tables.TABLES:
        about = f"`{table.name}` of the role `{table.role}`, changelog `{table.changelog}`:"
        parts.append(f"{about}\n\n{_table(('key', 'value'), table.keys)}")
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render())
