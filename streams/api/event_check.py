"""One event of a request: from JSON to the record that will be written, or why not.

Pure. The rules are those that will be applied later anyway: the types of ``schemas/event.avsc``,
then the core's own validation against the catalogue. Checked here, the producer hears of it now,
and not an analyst tomorrow.
"""

from __future__ import annotations

import difflib
import re

import msgspec
from msgspec import UNSET

from streams import topics
from streams.api.problems import FieldError, Problem, problem
from streams.core import dedupe, ids
from streams.core.model import Event, Priority
from streams.core.policy import Policy
from streams.core.reasons import sentence
from streams.core.validate import fault_of
from streams.partitioning import partition_for
from streams.web.preference_rules import field_error
from streams.web.preview import to_event
from streams.web.state_documents import EventDocument
from streams.wire.primitives import Writer

RANK = {"critical": 0, "normal": 1, "bulk": 2}
LANES = {
    "critical": topics.EVENTS_CRITICAL,
    "normal": topics.EVENTS_NORMAL,
    "bulk": topics.EVENTS_BULK,
}
FIELDS = EventDocument.__struct_fields__
KNOWN_SHOWN_MAX = 20

_decoder = msgspec.json.Decoder(EventDocument)
_unknown_field = re.compile(r"unknown field `(.*?)`")


class Ready(msgspec.Struct, gc=False):
    """An event that may be written."""

    event: Event
    topic: str
    partition: int
    key: bytes
    value: bytes
    id_hash: bytes
    """8 bytes of event id and recipient, as the core remembers them."""
    content: bytes
    """4 bytes of everything in it, as the core remembers them."""


def check(
    raw: bytes | msgspec.Raw,
    made_id: str | None,
    now_ms: int,
    policy: Policy,
    partitions: int,
    write: Writer,
) -> Ready | tuple[str | None, Problem]:
    """The event to write, or (its id if it has one, the problem).

    ``made_id`` is used where the event has no id of its own.
    """
    try:
        document = _decoder.decode(raw)
    except msgspec.ValidationError as error:
        found = _explained(error)
        return None, problem("invalid", found.detail, [found])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, problem("malformed", f"Not JSON: {error}")
    event_id = made_id if document.event_id is UNSET else document.event_id
    if event_id is None:
        detail = "Give each event an event_id that stays the same when you send it again, or send"
        detail += " an Idempotency-Key from which ids are made."
        return None, problem("invalid", detail, [FieldError(detail, "/event_id")])
    event = to_event(document, event_id)
    fault = fault_of(event, policy, now_ms)
    if fault is not None:
        detail = sentence(fault.reason, fault.inputs)
        if fault.reason == "unknown_category":
            detail += f" It has {', '.join(sorted(policy.categories)[:KNOWN_SHOWN_MAX])}."
        pointer = "/category" if fault.reason == "unknown_category" else ""
        if not pointer and "field" in fault.inputs:
            pointer = "/" + fault.inputs["field"].replace("data.", "data/", 1)
        return event_id, problem("invalid", detail, [FieldError(detail, pointer)])
    key = event.recipient_id.encode()
    return Ready(
        event,
        LANES[priority_of(event, policy)],
        partition_for(key, partitions),
        key,
        write(event),
        ids.event_digest(event_id, event.recipient_id)[:8],
        dedupe.content_hash(event),
    )


def priority_of(event: Event, policy: Policy) -> Priority:
    """The category's, unless the event lowers it: the rule of ``core/decide.py``."""
    priority = policy.categories[event.category].priority
    if event.priority is not None and RANK[event.priority] > RANK[priority]:
        return event.priority
    return priority


def _explained(error: msgspec.ValidationError) -> FieldError:
    """What msgspec says, with what would have been right."""
    found = field_error(error)
    unknown = _unknown_field.search(found.detail)
    if unknown is not None:
        near = difflib.get_close_matches(unknown[1], FIELDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"fields are {', '.join(FIELDS)}."
        return FieldError(f"There is no field {unknown[1][:64]!r}; {hint}", found.pointer)
    if "missing required field `created_at_ms`" in found.detail:
        detail = "created_at_ms is missing: when it happened, in Unix milliseconds, the same when"
        return FieldError(f"{detail} you send it again.", found.pointer)
    return found
