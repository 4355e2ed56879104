"""Dry runs: what the real core would say of an event, with nothing written anywhere.

Pure. The core is a function, so a preview is a call of it whose next state is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import UNSET

from streams import topics
from streams.agents.recipient_work import load_activities
from streams.core import dedupe, ids
from streams.core.decide import decide
from streams.core.model import Entry, Event, EventInput, RecipientState, Source
from streams.core.policy import Policy
from streams.core.reasons import sentence
from streams.engine.api import StateView
from streams.web.state_documents import (
    EventDocument,
    Preview,
    PreviewDelivery,
    PreviewEntry,
    SeenQuestion,
)

PREVIEW_EVENT_ID = "preview"
"""Id of an event that is previewed without one."""


def to_event(document: EventDocument, event_id: str) -> Event:
    """Document -> model."""
    return Event(
        event_id,
        document.recipient_id,
        document.category,
        document.created_at_ms,
        document.actor_id,
        document.data,
        document.priority,
        document.collapse_key,
        document.expires_at_ms,
        document.send_at_ms,
        document.send_at_local,
        document.supersedes,
        document.campaign,
    )


def preview(state: RecipientState, document: EventDocument, now_ms: int, policy: Policy) -> Preview:
    """What would become of the event at ``now_ms``."""
    event_id = PREVIEW_EVENT_ID if document.event_id is UNSET else document.event_id
    event = to_event(document, event_id)
    source = Source(topics.EVENTS_NORMAL, state.partition, -1, now_ms)
    decision = decide(state, EventInput(event, source), now_ms, policy)
    subject_id = ids.to_id(state.partition, ids.event_digest(event_id, state.recipient_id))
    about = [e for e in decision.entries if subject_id == e.subject_id or e.event_id == event_id]
    others = {e.subject_id for e in decision.entries if e not in about}
    sent = {one.delivery_id for entry in about for one in entry.deliveries}
    return Preview(
        subject_id,
        state.recipient_id,
        policy.version,
        now_ms,
        [_entry(entry) for entry in about],
        [
            PreviewDelivery(
                d.delivery_id, d.channel, d.kind, d.destination_id, d.address, d.template,
                d.locale, d.valid_until_ms, d.expires_at_ms,
            )
            for d in decision.deliveries
            if d.delivery_id in sent
        ],
        len(others),
        decision.notify_at_ms,
    )  # fmt: skip


def seen_before(
    view: StateView, questions: Sequence[SeenQuestion], now_ms: int, policy: Policy
) -> list[Literal["new", "duplicate", "conflict", "unknown"]]:
    """Which ids were accepted before, by what the partition has decided so far."""
    found: list[Literal["new", "duplicate", "conflict", "unknown"]] = []
    activities = load_activities(view, [question.recipient_id for question in questions])
    for question, activity in zip(questions, activities, strict=True):
        id_hash = ids.event_digest(question.event_id, question.recipient_id)[:8]
        content = bytes.fromhex(question.content)
        found.append(dedupe.check(activity, id_hash, content, now_ms, policy))
    return found


def _entry(entry: Entry) -> PreviewEntry:
    return PreviewEntry(
        entry.verdict,
        entry.reason,
        entry.rule,
        sentence(entry.reason, entry.inputs),
        entry.until_ms,
        entry.digest_id,
        entry.inputs,
    )
