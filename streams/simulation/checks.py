"""What must hold when a run is over. Each check reads the evidence and says what is wrong.

1. The books balance: accepted = ended, nothing open, nothing unaccounted for (the product's audit,
   over the topics; the audit itself is proven by ``tests/ledger``).
2. Nobody is told what they had opted out of, in their quiet hours, after it expired or was
   cancelled, or at an address that had become somebody else's.
3. A delivery reaches a provider twice only if an answer says that it may have; of a category that
   does not risk a repeat, never.
4. First sends of one recipient to one kind of address keep their order.
5. What is said to have been refused, was.
6. What is stored and produced is what ``decide`` makes of the recorded inputs (``replay.py``).

The second is known twice over. Strictly: what was acknowledged before the event applies to it,
whatever happens. And in time: whatever was acknowledged applies ``Allowance.stale_ms`` later.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime

from streams.core.model import Delivery, Preferences, QuietWindow
from streams.ledger import reconcile
from streams.ledger.audit import Crossing
from streams.ledger.report import Report
from streams.simulation.evidence import Evidence, Reception, Snapshot

SAMPLES_MAX = 20


def all_checks(evidence: Evidence) -> list[str]:
    """Everything that is wrong; empty when all holds."""
    report = books(evidence)
    found = list(book_faults(report))
    for check in (choices, quiet_hours, too_late, repeats, order, refusals):
        found += [f"{check.__name__}: {fault}" for fault in check(evidence)][:SAMPLES_MAX]
    return found


# ------------------------------------------------------------------------------------- the books


def books(evidence: Evidence) -> Report:
    """The product's own audit over the evidence."""
    report = Report()
    received: dict[str, int] = defaultdict(int)
    for reception in evidence.receptions:
        if reception.said == "accepted":
            received[reception.delivery_id] += 1
    crossing = Crossing(report, received, SAMPLES_MAX)
    audit = reconcile._audit(Snapshot(evidence), crossing, evidence.codec)  # type: ignore[arg-type]
    _run_at_once(audit)
    crossing.finish()
    crossing.check_received(received)
    return report


def _run_at_once(work: object) -> None:
    """Runs a coroutine that never has to wait."""
    try:
        work.send(None)  # type: ignore[attr-defined]
    except StopIteration:
        return
    raise AssertionError("the audit of what is in memory waits for something")


def book_faults(report: Report) -> Iterator[str]:
    """What does not balance."""
    yield from (f"books: {problem}" for problem in report.problems)
    if report.remainder:
        yield f"books: {report.remainder} events are unaccounted for"
    for what, count in sorted(report.open.items()):
        yield f"books: {count} events still wait for {what}"
    for state, count in sorted(report.digests.items()):
        if state == "open":
            yield f"books: {count} closed digests have no end"
    if report.digests_gathering:
        yield f"books: {report.digests_gathering} digests are still open"


# ---------------------------------------------------------------------------- what people chose


def choices(evidence: Evidence) -> Iterator[str]:
    """Told although opted out, or unsubscribed."""
    for reception, delivery in _told(evidence):
        event_ms = _event_ms(evidence, delivery)
        stale_ms = reception.at_ms - evidence.allowance.stale_ms - reception.late_ms
        since_ms = _out_since(evidence, delivery, reception.at_ms)
        if since_ms is not None and since_ms < max(event_ms, stale_ms):
            strict = "before the event" if since_ms < event_ms else "too long before"
            yield f"{_name(reception, delivery)} was sent; opted out at {since_ms}, {strict}"


def _out_since(evidence: Evidence, delivery: Delivery, at_ms: int) -> int | None:
    """Since when, without a break until ``at_ms``, the recipient does not want this."""
    category = evidence.policy.categories[delivery.category]
    scopes = ("all", f"category:{delivery.category}", f"channel:{delivery.channel}")
    left = [
        since
        for since, scope in evidence.unsubscribed.get(delivery.recipient_id, ())
        if scope in scopes and since <= at_ms
    ]
    since_ms = min(left, default=None)
    if category.mandatory:
        return since_ms
    out: int | None = None
    for chosen_ms, chosen in evidence.preferences.get(delivery.recipient_id, ()):
        if chosen_ms > at_ms:
            break
        if not _refuses(chosen, delivery):
            out = None
        elif out is None:
            out = chosen_ms
    known = [one for one in (since_ms, out) if one is not None]
    return min(known, default=None)


def _refuses(chosen: Preferences, delivery: Delivery) -> bool:
    """The most specific word that the recipient said about this is no."""
    cell = chosen.cells.get(f"{delivery.category}/{delivery.channel}")
    said = (
        cell,
        chosen.channels.get(delivery.channel),
        chosen.categories.get(delivery.category),
        chosen.default,
    )
    return next((word for word in said if word is not None), True) is False


def quiet_hours(evidence: Evidence) -> Iterator[str]:
    """Told in quiet hours that had been known for long enough. Zone UTC only."""
    allowance = evidence.allowance
    for reception, delivery in _told(evidence):
        category = evidence.policy.categories[delivery.category]
        quiet_enough = (
            category.quiet_action == "downgrade" and delivery.channel in category.downgrade_to
        )
        chosen = evidence.preferences.get(delivery.recipient_id, [])
        known = [one for one in chosen if one[0] <= reception.at_ms]
        if delivery.priority == "critical" or quiet_enough or not known:
            continue
        since_ms, preferences = known[-1]
        began_ms = reception.at_ms - allowance.send_ms - reception.late_ms
        event_ms = _event_ms(evidence, delivery)
        if since_ms >= max(event_ms, began_ms - allowance.stale_ms) or preferences.zone != "UTC":
            continue
        if any(
            _inside(window, reception.at_ms) and _inside(window, began_ms)
            for window in preferences.quiet_hours
        ):
            yield f"{_name(reception, delivery)} was sent in quiet hours"


def _inside(window: QuietWindow, at_ms: int) -> bool:
    """Whether a moment is in a window that does not cross midnight."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    minute = at.hour * 60 + at.minute
    on_day = window.weekdays >> at.weekday() & 1
    return bool(on_day) and window.start_minute <= minute < window.end_minute


def too_late(evidence: Evidence) -> Iterator[str]:
    """Sent after its expiry, or on a decision that was no longer valid."""
    for reception in evidence.receptions:
        handed_over = evidence.deliveries.get(reception.delivery_id, [])
        if not handed_over:
            continue  # the books say so already
        latest_ms = reception.at_ms - evidence.allowance.send_ms - reception.late_ms
        delivery = handed_over[0][1]
        if latest_ms > max(one.expires_at_ms for _, one in handed_over):
            yield f"{_name(reception, delivery)} reached its provider after its expiry"
        elif not any(one.valid_until_ms >= latest_ms for _, one in handed_over):
            yield f"{_name(reception, delivery)} was sent on a decision that was too old"


def _told(evidence: Evidence) -> Iterator[tuple[Reception, Delivery]]:
    """What was accepted by a provider, with the latest delivery that it can have been."""
    for reception in evidence.receptions:
        if reception.said != "accepted":
            continue
        handed_over = evidence.deliveries.get(reception.delivery_id, [])
        before = [one for record, one in handed_over if record.timestamp <= reception.at_ms]
        if before:
            yield reception, before[-1]


def _event_ms(evidence: Evidence, delivery: Delivery) -> int:
    """When the event that this tells of was acknowledged; of a digest, when its first one was."""
    if delivery.event_id is None:
        return delivery.appended_at_ms
    key = (delivery.recipient_id, delivery.event_id)
    return evidence.event_times.get(key, delivery.appended_at_ms)


def _name(reception: Reception, delivery: Delivery) -> str:
    what = delivery.event_id or "a digest"
    return (
        f"{reception.delivery_id[:12]} ({what} of {delivery.recipient_id}, {delivery.category} by"
        f" {delivery.kind}, at {reception.at_ms})"
    )


# ---------------------------------------------------------------------------- repeats and order


def repeats(evidence: Evidence) -> Iterator[str]:
    """Accepted twice, and nobody said that it could have been."""
    times: dict[str, int] = defaultdict(int)
    for reception in evidence.receptions:
        if reception.said == "accepted":
            times[reception.delivery_id] += 1
    for delivery_id, count in times.items():
        if count < 2:
            continue
        outcomes = evidence.outcomes.get(delivery_id, [])
        if not any(is_doubtful(outcome) for outcome in outcomes):
            yield f"{delivery_id[:12]} was accepted {count} times, and no answer is in doubt"
        handed_over = evidence.deliveries.get(delivery_id, [])
        if handed_over and handed_over[0][1].on_ambiguous == "give_up":
            yield f"{delivery_id[:12]} must never be repeated, and was accepted {count} times"


def is_doubtful(outcome: dict[str, object]) -> bool:
    """Whether an answer says that its delivery may have been sent once more than it knows."""
    return bool(outcome["possible_repeat"]) or outcome["status"] == "ambiguous"


def repeat_counts(evidence: Evidence) -> tuple[int, int]:
    """(receptions beyond the first, deliveries of which an answer is in doubt)."""
    times: dict[str, int] = defaultdict(int)
    for reception in evidence.receptions:
        if reception.said == "accepted":
            times[reception.delivery_id] += 1
    doubtful = sum(
        any(is_doubtful(outcome) for outcome in outcomes) for outcomes in evidence.outcomes.values()
    )
    return sum(count - 1 for count in times.values()), doubtful


def order(evidence: Evidence) -> Iterator[str]:
    """First sends of one recipient to one kind of address, in another order than they were made.

    Only of deliveries that went through at once: made once, answered once, with no doubt.
    """
    first_ms: dict[str, int] = {}
    for reception in evidence.receptions:
        first_ms.setdefault(reception.delivery_id, reception.at_ms)
    lines: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for delivery_id, handed_over in evidence.deliveries.items():
        outcomes = evidence.outcomes.get(delivery_id, [])
        plain = len(handed_over) == 1 and len(outcomes) == 1
        if not plain or outcomes[0]["status"] != "accepted" or is_doubtful(outcomes[0]):
            continue
        record, delivery = handed_over[0]
        if delivery_id in first_ms:
            line = lines[record.topic, delivery.recipient_id]
            line.append((record.offset, delivery_id))
    for (topic, recipient), line in lines.items():
        line.sort()
        for (_, earlier), (_, later) in itertools.pairwise(line):
            if first_ms[earlier] > first_ms[later]:
                yield f"{later[:12]} overtook {earlier[:12]} of {recipient} on {topic}"


def refusals(evidence: Evidence) -> Iterator[str]:
    """Said to have been refused by a provider that never refused it; or never to have arrived."""
    said: dict[str, set[str]] = defaultdict(set)
    for reception in evidence.receptions:
        said[reception.delivery_id].add(reception.said)
    final = {"rejected": {"never", "unsubscribed"}, "unregistered": {"gone"}}
    for delivery_id, outcomes in evidence.outcomes.items():
        for outcome in outcomes:
            allowed = final.get(outcome["status"])
            if allowed is None or not outcome["provider"]:
                continue
            if not allowed & said[delivery_id]:
                yield (
                    f"{delivery_id[:12]} is called {outcome['status']} ({outcome['reason']}), but"
                    f" its provider only said {sorted(said[delivery_id])}"
                )
