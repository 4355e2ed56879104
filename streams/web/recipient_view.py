"""A recipient as an analyst sees them: choices and which cell decides, what waits, limits in use.

Pure: from the state and the policy to plain documents, the same in Python and in JSON. Made on the
decide worker, which has both; masked by whoever shows it. Every time is Unix milliseconds, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from streams.core.model import RecipientState
from streams.core.policy import Policy
from streams.core.preferences import wants
from streams.core.rate_limit import for_destination, free_at, plan_of
from streams.core.state_codec import next_due_ms
from streams.core.terms import Plan, Scope
from streams.web import preference_rules
from streams.web.state_documents import (
    DestinationDocument,
    PreferencesDocument,
    SuppressionDocument,
)


class CellDocument(msgspec.Struct, frozen=True):
    """Whether a category may come on a channel, and what decided that."""

    category: str
    channel: str
    wanted: bool
    decided_by: str


class HeldDocument(msgspec.Struct, frozen=True):
    """A notification that waits for a time."""

    notification_id: str
    event_id: str | None
    category: str
    reason: str
    since_ms: int
    due_ms: int
    count: int = 1
    data: dict[str, str] = {}


class OpenDigestDocument(msgspec.Struct, frozen=True):
    """Events that are being gathered."""

    digest_id: str
    category: str
    key: str
    count: int
    opened_at_ms: int
    closes_at_ms: int
    opened_by: str
    shown_events: list[str] = []
    """Event ids of the ones that it will show."""


class RetryDocument(msgspec.Struct, frozen=True):
    """A delivery that will be tried again."""

    delivery_id: str
    notification_id: str
    category: str
    channel: str
    destination_id: str
    attempt: int
    reason: str
    due_ms: int


class EscalationDocument(msgspec.Struct, frozen=True):
    """A notification that moves to its next channel unless a receipt comes first."""

    notification_id: str
    event_id: str | None
    category: str
    next_step: int
    due_ms: int


class LimitDocument(msgspec.Struct, frozen=True):
    """How much of a rate limit is used at the moment."""

    scope: str
    name: str
    used: int
    count_max: int
    window_ms: int
    over: str
    free_at_ms: int | None
    """When the next send fits; ``None``: now."""


class RecipientDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of one recipient, explained."""

    recipient_id: str
    partition: int
    at_ms: int
    """The clock that ``used`` and the times are measured by."""
    policy_version: str
    is_known: bool
    """False: nothing was ever stored about them."""
    applied: bool = True
    preferences: PreferencesDocument
    cells: list[CellDocument]
    suppressions: list[SuppressionDocument]
    destinations: list[DestinationDocument]
    held: list[HeldDocument]
    digests: list[OpenDigestDocument]
    retries: list[RetryDocument]
    escalations: list[EscalationDocument]
    limits: list[LimitDocument]
    next_due_ms: int | None
    events_remembered: int
    """Event ids that are remembered so that a repeat is noticed."""


SEEN_BYTES = 12
"""One remembered event id (``Activity.seen``)."""


def recipient_document(
    state: RecipientState, policy: Policy, at_ms: int, is_applied: bool = True
) -> RecipientDocument:
    """The whole view. Pure."""
    profile, waiting = state.profile, state.waiting
    empty = RecipientState(state.recipient_id, state.partition)
    return RecipientDocument(
        recipient_id=state.recipient_id,
        partition=state.partition,
        at_ms=at_ms,
        policy_version=policy.version,
        is_known=state != empty,
        applied=is_applied,
        preferences=preference_rules.to_document(profile.preferences),
        cells=_cells(state, policy),
        suppressions=[
            SuppressionDocument(s.scope, s.reason, s.at_ms, s.until_ms)
            for s in profile.suppressions
        ],
        destinations=[
            DestinationDocument(
                d.destination_id, d.kind, d.address, d.registered_at_ms, d.attributes
            )
            for d in profile.destinations
        ],
        held=_held(state),
        digests=_digests(state),
        retries=_retries(state),
        escalations=[
            EscalationDocument(
                told.notification_id, told.event_id, told.category, e.next_step, e.due_ms
            )
            for e in waiting.escalations
            for told in (e.notification,)
        ],
        limits=_limits(state, policy, at_ms),
        next_due_ms=next_due_ms(waiting),
        events_remembered=sum(len(ids) // SEEN_BYTES for _, ids in state.activity.seen),
    )  # fmt: skip


def _cells(state: RecipientState, policy: Policy) -> list[CellDocument]:
    found = []
    for category in policy.categories.values():
        for channel in category.channels:
            wanted, cell = wants(category, channel, state.profile.preferences)
            found.append(CellDocument(category.name, channel, wanted, cell))
    return found


def _held(state: RecipientState) -> list[HeldDocument]:
    return [
        HeldDocument(
            told.notification_id, told.event_id, told.category,
            h.reason, h.since_ms, h.due_ms, told.count, told.data,
        )
        for h in sorted(state.waiting.held, key=lambda held: held.due_ms)
        for told in (h.notification,)
    ]  # fmt: skip


def _digests(state: RecipientState) -> list[OpenDigestDocument]:
    return [
        OpenDigestDocument(
            d.digest_id, d.category, d.key, d.count, d.opened_at_ms, d.closes_at_ms, d.opened_by,
            [item.event_id for item in d.shown],
        )
        for d in sorted(state.waiting.digests, key=lambda digest: digest.closes_at_ms)
    ]  # fmt: skip


def _retries(state: RecipientState) -> list[RetryDocument]:
    return [
        RetryDocument(
            r.delivery.delivery_id, r.delivery.notification_id, r.delivery.category,
            r.delivery.channel, r.delivery.destination_id, r.delivery.attempt, r.reason, r.due_ms,
        )
        for r in sorted(state.waiting.retries, key=lambda retry: retry.due_ms)
    ]  # fmt: skip


def _limits(state: RecipientState, policy: Policy, at_ms: int) -> list[LimitDocument]:
    """Each limit that applies to the recipient, once, those in use first."""
    scopes: dict[tuple[str, int, int], Scope] = {}
    for category in policy.categories.values():
        plan = plan_of(policy.limits, category.limits, category.name)
        for key, rule in _scopes(plan, [d.destination_id for d in state.profile.destinations]):
            scopes[key, rule.count_max, rule.window_ms] = key, rule
    found = []
    for key, rule in scopes.values():
        times = state.activity.sent.get(key, ())
        used = sum(1 for sent_ms in times if sent_ms > at_ms - rule.window_ms)
        free_ms = free_at(times, rule, at_ms)
        name = key.replace("|", " ").strip()
        found.append(
            LimitDocument(
                rule.scope, name, used, rule.count_max, rule.window_ms, rule.over, free_ms
            )
        )
    return sorted(found, key=lambda limit: (-limit.used, limit.name))


def _scopes(plan: Plan, destination_ids: Iterable[str]) -> list[Scope]:
    found = list(plan.notification)
    for scopes in plan.channels.values():
        found += scopes
    for scopes in plan.destinations.values():
        for destination_id in destination_ids:
            found += for_destination(scopes, destination_id)
    return found
