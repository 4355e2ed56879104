"""``explain``: why someone did, or did not, get a notification, in words.

``explain`` asks a ledger and makes an ``ExplainDocument``; ``render`` prints it. The sentence on
top says where the event stands; below is everything that led there, in order, with the inputs that
mattered. Times are UTC. Nothing shows an address.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from streams.ledger.client import LedgerClient
from streams.ledger.documents import Trace, TraceEntry, TraceOutcome, TraceReceipt

NOTIFICATIONS_SHOWN_MAX = 10
"""Of a recipient's latest, when no event is named."""
_STYLES = {"delivered": "bold green", "digested": "bold green", "open": "bold yellow"}


class Explained(msgspec.Struct, frozen=True):
    """One notification: a plain sentence, and the trace behind it."""

    headline: str
    trace: Trace


class ExplainDocument(msgspec.Struct, frozen=True):
    """What is known of a recipient's event, or of the latest ones, newest first."""

    recipient_id: str
    event_id: str | None
    notifications: list[Explained]


async def explain(
    client: LedgerClient, recipient_id: str, event_id: str | None = None
) -> ExplainDocument:
    """Asks the ledger. Raises ``LedgerError`` when it cannot be asked."""
    if event_id is not None:
        trace = await client.event(recipient_id, event_id)
        traces = [] if trace is None else [trace]
        return ExplainDocument(recipient_id, event_id, [_explained(trace) for trace in traces])
    page = await client.timeline(recipient_id)
    subjects: dict[str, None] = {}
    for item in page.items:
        for entry in reversed(item.entries or []):
            if len(entry.subject_id) == 32:
                subjects[entry.subject_id] = None
    found = [await client.notification(name) for name in list(subjects)[:NOTIFICATIONS_SHOWN_MAX]]
    told = [trace for trace in found if trace is not None and trace.entries]
    # A digest is told with the events in it, not once more by itself.
    inside = {trace.digest.subject_id for trace in told if trace.digest is not None}
    shown = [_explained(trace) for trace in told if trace.subject_id not in inside]
    return ExplainDocument(recipient_id, None, shown)


def _explained(trace: Trace) -> Explained:
    return Explained(headline(trace), trace)


def headline(trace: Trace) -> str:
    """Where it stands, in one plain sentence."""
    status = trace.status
    if status.state == "delivered":
        return _delivered(trace)
    if status.state == "digested" and trace.digest is not None:
        inside = headline(trace.digest)
        return f"Gathered into a digest of {trace.digest.member_count:,}. The digest: {inside}"
    if status.state == "open":
        return _open(trace)
    why = _sentence(trace)
    if status.state == "duplicate":
        return f"Not sent again: {why}"
    if status.state == "dead_lettered":
        return f"Set aside as a dead letter: {why}"
    return f"Not sent: {why}"


def _delivered(trace: Trace) -> str:
    accepted = [answer for answer in trace.outcomes if answer.status == "accepted"]
    if not accepted:
        return "Sent: a provider accepted it."
    first = accepted[0]
    channels = ", ".join(dict.fromkeys(f"{a.channel} ({a.provider})" for a in accepted))
    tries = f", at attempt {first.attempt}" if first.attempt > 1 else ""
    seen = [r.kind for r in trace.receipts if r.kind in ("delivered", "seen", "clicked")]
    evidence = f" The recipient's side says: {', '.join(dict.fromkeys(seen))}." if seen else ""
    what = f"Digest of {trace.member_count:,} sent" if trace.member_count else "Sent"
    return f"{what}: accepted on {channels} at {clock(first.answered_at_ms)}{tries}.{evidence}"


def _open(trace: Trace) -> str:
    status = trace.status
    until = f" until {clock(status.until_ms)}" if status.until_ms is not None else ""
    if status.waits_for == "provider":
        return "Handed over; the provider has not answered yet."
    if status.waits_for == "digest":
        return f"Not sent yet: it is being gathered into a digest{until}."
    if status.waits_for == "retry":
        return f"Not sent yet: an attempt failed, and it waits{until} for the next."
    if status.waits_for == "escalation":
        return f"Not taken yet: it waits{until} before the next channel is tried."
    if status.waits_for == "decision":
        return "Not sent yet: an answer of the provider is about to be decided on."
    return f"Not sent yet: held{until}. {_sentence(trace)}"


def _sentence(trace: Trace) -> str:
    """The sentence of the entry that the status comes from: the latest with its reason."""
    for entry in reversed(trace.entries):
        if entry.reason == trace.status.reason:
            return entry.sentence
    return trace.status.reason


# ------------------------------------------------------------------------------------ printing


def render(document: ExplainDocument, console: Console) -> None:
    """Prints it for people."""
    if not document.notifications:
        what = f"event {document.event_id} of " if document.event_id is not None else ""
        console.print(Text(f"Nothing is recorded about {what}{document.recipient_id}."))
        console.print("It has not arrived, is on another cluster, or is older than the ledger.")
        return
    for explained in document.notifications:
        console.print(_tree(explained.trace, explained.headline))
        console.print()


def _tree(trace: Trace, said: str) -> Tree:
    tree = Tree(Text(said, _STYLES.get(_outlook(trace), "bold red")))
    name = f"event {trace.event_id}" if trace.event_id is not None else "digest"
    tree.add(
        Text.assemble(
            (f"{name} of {trace.recipient_id}", "bold"),
            f"  {trace.category}  ",
            (f"{trace.subject_id}", "dim"),
        )
    )
    answers = list(trace.outcomes)
    for entry in trace.entries:
        branch = tree.add(_entry_line(entry))
        _add_details(branch, entry)
        if entry.verdict in ("delivering", "escalating"):
            _add_deliveries(branch, entry, answers)
    for answer in answers:
        tree.add(_answer_line(answer))
    for receipt in trace.receipts:
        tree.add(_receipt_line(receipt))
    if trace.members:
        names = ", ".join(trace.members)
        more = trace.member_count - len(trace.members)
        tree.add(Text(f"in it: {names}{f' and {more:,} more' if more > 0 else ''}", "dim"))
    if trace.digest is not None:
        tree.add(_tree(trace.digest, headline(trace.digest)))
    if trace.is_cut:
        tree.add(Text("There is more than one answer holds; see the timeline.", "dim"))
    return tree


def _outlook(trace: Trace) -> str:
    """Its state, or that of the digest that it went into."""
    return trace.status.state if trace.digest is None else _outlook(trace.digest)


def _entry_line(entry: TraceEntry) -> Text:
    verdict = entry.verdict.replace("_", " ")
    until = f" until {clock(entry.until_ms)}" if entry.until_ms is not None else ""
    return Text.assemble(
        (clock(entry.decided_at_ms), "cyan"),
        "  ",
        (f"{verdict}{until}", "bold"),
        f"  {entry.sentence}  ",
        (f"[{entry.reason}, rule {entry.rule}]", "dim"),
    )


def _add_details(branch: Tree, entry: TraceEntry) -> None:
    if entry.source_topic is not None:
        place = f"{entry.source_topic}, partition {entry.source_partition}"
        arrived = "arrived on" if entry.source_topic.startswith("events.") else "because of"
        branch.add(Text(f"{arrived} {place}, offset {entry.source_offset}", "dim"))
    if entry.digest_id is not None and entry.digest_id != entry.subject_id:
        branch.add(Text(f"digest {entry.digest_id}", "dim"))
    if entry.inputs:
        inputs = ", ".join(f"{name} = {_value(name, v)}" for name, v in entry.inputs.items())
        branch.add(Text(f"mattered: {inputs}", "dim"))
    branch.add(Text(f"decided by policy {entry.policy_version}", "dim"))


def _add_deliveries(branch: Tree, entry: TraceEntry, answers: list[TraceOutcome]) -> None:
    """Each delivery with the answers to this try; what is shown leaves ``answers``."""
    for sent in entry.deliveries:
        line = f"attempt {sent['attempt']} on {sent['channel']} ({sent['kind']})"
        line += f" to {sent['destination_id']}"
        leaf = branch.add(Text.assemble(line, (f"  {sent['delivery_id']}", "dim")))
        mine = [
            answer
            for answer in answers
            if (answer.delivery_id, answer.attempt, answer.decided_at_ms)
            == (sent["delivery_id"], sent["attempt"], entry.decided_at_ms)
        ]
        for answer in mine:
            leaf.add(_answer_line(answer))
            answers.remove(answer)
        if not mine:
            leaf.add(Text("no answer yet", "yellow"))


def _answer_line(answer: TraceOutcome) -> Text:
    style = "green" if answer.status == "accepted" else "red"
    parts = [f"{answer.provider} answered {answer.status}"]
    if answer.reason not in ("", answer.status):
        parts.append(answer.reason)
    if answer.detail:
        parts.append(answer.detail)
    if answer.provider_id:
        parts.append(f"its id {answer.provider_id}")
    if answer.send_ms:
        parts.append(f"{answer.send_ms:.0f} ms")
    if answer.possible_repeat:
        parts.append("possibly a repeat")
    return Text.assemble((clock(answer.answered_at_ms), "cyan"), "  ", (", ".join(parts), style))


def _receipt_line(receipt: TraceReceipt) -> Text:
    name = f" ({receipt.name})" if receipt.name else ""
    said = f"receipt: {receipt.kind}{name}"
    return Text.assemble((clock(receipt.occurred_at_ms), "cyan"), "  ", (said, "green"))


def _value(name: str, value: str) -> str:
    return clock(int(value)) if name.endswith("_ms") and value.isdigit() else value


def clock(time_ms: int) -> str:
    """A time for people, UTC, to the millisecond."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ms % 1000:03d}Z"
