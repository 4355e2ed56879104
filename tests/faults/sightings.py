"""Questions to the evidence that only the rows about providers and people ask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from streams.core.model import Delivery
from streams.simulation.evidence import Evidence, Reception


def latencies_ms(
    evidence: Evidence,
    since_ms: int,
    until_ms: int,
    kinds: Iterable[str],
    category: str,
    but: str = "",
) -> list[int]:
    """From an event's append to the provider's ledger, of what was appended in a span of time.

    Only what was accepted at the first attempt: retries and digests wait on purpose. ``but``:
    of everybody else.
    """
    wanted, found = frozenset(kinds), []
    for delivery, reception in _accepted(evidence):
        one = len(evidence.deliveries[delivery.delivery_id]) == 1
        inside = since_ms <= delivery.appended_at_ms < until_ms
        meant = delivery.kind in wanted and delivery.category == category
        if one and inside and meant and delivery.recipient_id != but:
            found.append(reception.at_ms - delivery.appended_at_ms)
    return sorted(found)


def percentile(values: Sequence[int], share: float) -> int:
    """Of sorted values; fails when there are too few to have one."""
    assert len(values) >= 1 / (1 - share), f"{len(values)} values have no {share:.0%} percentile"
    return values[min(len(values) - 1, int(len(values) * share))]


def _accepted(evidence: Evidence) -> Iterable[tuple[Delivery, Reception]]:
    """(delivery, its first acceptance)."""
    first: dict[str, Reception] = {}
    for reception in evidence.receptions:
        if reception.said == "accepted":
            first.setdefault(reception.delivery_id, reception)
    for delivery_id, reception in first.items():
        handed_over = evidence.deliveries.get(delivery_id, [])
        if handed_over:
            yield handed_over[0][1], reception


def accepted_by(evidence: Evidence, since_ms: int, people: Iterable[str] = ()) -> dict[str, int]:
    """Kind -> messages that were accepted since then; only of ``people``, if there are any."""
    wanted, counts = frozenset(people), defaultdict(int)  # type: ignore[var-annotated]
    for reception in evidence.receptions:
        if reception.said != "accepted" or reception.at_ms < since_ms:
            continue
        handed_over = evidence.deliveries.get(reception.delivery_id, [])
        if handed_over and (not wanted or handed_over[0][1].recipient_id in wanted):
            counts[reception.kind] += 1
    return dict(counts)


def too_soon(evidence: Evidence, pause_ms: int) -> list[str]:
    """Tried again less than ``pause_ms`` after a provider had said "not before"."""
    found: list[str] = []
    refused_ms: dict[str, int] = {}
    for reception in evidence.receptions:
        before_ms = refused_ms.pop(reception.delivery_id, None)
        if before_ms is not None and reception.at_ms - before_ms < pause_ms:
            waited_ms = reception.at_ms - before_ms
            found.append(f"{reception.delivery_id[:12]} was tried again after {waited_ms} ms")
        if reception.said == "later":
            refused_ms[reception.delivery_id] = reception.at_ms
    return found


def statuses(evidence: Evidence) -> dict[str, int]:
    """Status -> outcomes."""
    counts: dict[str, int] = defaultdict(int)
    for outcomes in evidence.outcomes.values():
        for outcome in outcomes:
            counts[outcome["status"]] += 1
    return counts
