"""The decision: (state, input, time, policy) -> (next state, effects, when to be called again).

Read this file to understand the product. ``accept`` takes an event through rules 1 to 3, and
``settle`` takes a notification (an event, a closed digest, something released) through rules 4
to 9. Each rule is a module of its own beside this one; here is their order, and nothing else
decides it. What is due is released before an event is applied (and what the input made due, such
as a digest that it filled, right after), but not before what people said is (``SAID_BEFORE``); and
what is released passes every rule again: who opted out meanwhile gets nothing.

Invariants: the same arguments give the same bytes; no argument is changed; every accepted event
leaves at least one entry, and the last one either ends it or says what it waits for.
"""

from __future__ import annotations

from streams.core import (
    cancel,
    control,
    dedupe,
    digest,
    erasure,
    gather,
    ids,
    intake,
    limits,
    offers,
    preferences,
    quiet_hours,
    receipts,
    release,
    retries,
    routing,
    suppression,
    validate,
)
from streams.core.model import (
    Cancellation,
    Decision,
    DestinationInput,
    Erasure,
    Event,
    EventInput,
    Feedback,
    Input,
    Notification,
    PreferenceInput,
    Receipt,
    RecipientState,
    Wake,
)
from streams.core.policy import Category, Policy
from streams.core.terms import FROM_THE_START, Course, Offer
from streams.core.turn import Turn

SAID_BEFORE = (PreferenceInput, DestinationInput, Receipt, Cancellation, Erasure, Feedback)
"""What people said is older than the moment at which it is read, after an outage by as much as that
lasted. It holds for what has become due meanwhile too, and so does the next thing that they said:
what was due already waits for an event or a ``Wake``, before which all of it has been read. So it
does at a provider's answer, behind which their word may still be waiting."""


def decide(
    state: RecipientState,
    input: Input,  # noqa: A002
    now_ms: int,
    policy: Policy,
) -> Decision:
    """Decides one input for one recipient at ``now_ms`` (Unix ms). Never raises for bad input."""
    turn = Turn(state, now_ms, policy, None)
    overdue = release.is_overdue(turn)
    waits = overdue and isinstance(input, SAID_BEFORE)
    if overdue and not waits:
        release.release_due(turn, settle)
    if type(input) is EventInput:  # Nearly all are: ``isinstance`` costs more, of a struct.
        turn.source = source = input.source
        accept(turn, input.event, max(0, source.appended_at_ms))
    elif not isinstance(input, Wake):
        turn.source = input.source
        obey(turn, input)
    if not waits and release.is_overdue(turn):
        release.release_due(turn, settle)
    return turn.decision()


def obey(turn: Turn, input: Input) -> None:  # noqa: A002
    """What people and providers say, each in a module of its own."""
    if isinstance(input, Feedback):
        retries.on_feedback(turn, input, settle)
    elif isinstance(input, PreferenceInput):
        control.on_preferences(turn, input)
    elif isinstance(input, DestinationInput):
        control.on_destination(turn, input)
    elif isinstance(input, Receipt):
        receipts.on_receipt(turn, input)
    elif isinstance(input, Cancellation):
        cancel.on_cancellation(turn, input)
    elif isinstance(input, Erasure):
        erasure.on_erasure(turn, input)


def accept(turn: Turn, event: Event, appended_at_ms: int) -> None:
    """Rules 1 to 3: is it a usable, new, still wanted event?"""
    policy, now_ms = turn.policy, turn.now_ms
    event_id = event.event_id
    id_hash = ids.event_digest(event_id, turn.recipient_id)
    subject_id = ids.to_id(turn.partition, id_hash)

    # 1. validate, 2. dedupe (an invalid record must not speak for a valid one with its id)
    encoding = dedupe.encoded(event)
    fault = validate.fault_of(event, policy, now_ms, len(encoding))
    name, content = id_hash[:8], dedupe.hash_of(encoding)
    seen = dedupe.check(turn.activity, name, content, now_ms, policy)
    if seen == "new" and intake.still_waits(turn, subject_id, event_id):
        seen = "duplicate"
    if fault is not None or seen != "new":
        record = intake.as_received(event, subject_id, appended_at_ms)
        if seen != "new":
            return turn.conclude(record, seen, seen)
        assert fault is not None
        return turn.bury(record, fault.reason, fault.inputs)
    category = policy.categories[event.category]
    send_at_ms = intake.send_at(turn, event)
    notification = intake.notification_of(event, subject_id, category, appended_at_ms, send_at_ms)
    turn.activity, is_full = dedupe.remember(turn.activity, name, content, now_ms, policy)
    if is_full:
        inputs = {"limit": str(policy.bounds.seen_per_hour_max)}
        turn.note(subject_id, "dedupe_overflow", event.category, event_id, inputs)

    # 3. cancelled, expired, replacing what waits, scheduled (kill switches: in settle)
    if withdrawn := cancel.before_arrival(turn, event, appended_at_ms):
        return turn.conclude(notification, "cancelled", withdrawn)
    if notification.expires_at_ms <= now_ms:
        return turn.conclude(notification, "expired", "expired")
    cancel.replace_older(turn, event, appended_at_ms)
    if send_at_ms is not None and send_at_ms > now_ms:
        return intake.schedule(turn, notification, event, category, send_at_ms)
    return settle(turn, notification)


def settle(turn: Turn, notification: Notification, course: Course = FROM_THE_START) -> None:
    """Rules 3 to 9 on something to tell: ends it, lets it wait, or sends it.

    ``course`` says what happened to it before (a step of an escalation, a channel that failed).
    """
    now_ms, choices, name = turn.now_ms, turn.profile.preferences, notification.category
    critical = notification.priority == "critical"
    category = turn.policy.categories.get(name)
    if category is None:
        return turn.bury(notification, "unknown_category", {"category": name})
    is_new = course is FROM_THE_START or course.is_new
    rule = None

    # 3. expired, stopped, 4. suppression, 5. preferences
    usable = _wanted(turn, notification, category, course)
    if not usable:
        return None
    if notification.members:
        notification = gather.still_wanted(turn, notification, category.mandatory)
        if not notification.count:
            return turn.end(notification, course, "suppressed", "muted", {"muted": "everyone"})

    if not critical:
        # 6. quiet hours (a snooze is one that the recipient made just now)
        if choices.snooze_until_ms > now_ms:
            return turn.hold(notification, choices.snooze_until_ms, "snoozed", course=course)
        until_ms = quiet_hours.quiet_until(choices, now_ms)
        if until_ms is not None:
            usable = gather.in_quiet_hours(turn, notification, category, usable, until_ms, course)
            if not usable:
                return None

        # 7. digest
        rule = digest.rule_for(category, choices) if is_new else None
        if rule is not None and gather.absorb(turn, notification, rule):
            return None

    # 8. rate limit
    allowed, charged, refusal = limits.allowed(turn, category, usable, critical, course)
    if refusal is not None:
        return gather.over_limit(turn, notification, category, refusal, course)
    limits.charge(turn, charged)

    # 9. route
    if rule is not None and rule.mode == "lookback":
        gather.remember_send(turn, notification, rule)
    return routing.send(turn, notification, category, allowed, course)


def _wanted(
    turn: Turn, notification: Notification, category: Category, course: Course
) -> list[Offer]:
    """Rules 3 to 5: the channels that may be used; empty when one of them has ended it."""
    policy, now_ms, profile = turn.policy, turn.now_ms, turn.profile

    # 3. expired, stopped
    if notification.expires_at_ms <= now_ms:
        turn.end(notification, course, "expired", "expired")
        return []
    if policy.kills and (switch := _killed(policy, notification)):
        turn.end(notification, course, "dropped", "killed", {"switch": switch})
        return []

    # 4. suppression, 5. preferences
    if profile.suppressions and (
        forbidden := suppression.of_everything(profile, category.name, now_ms)
    ):
        inputs = {"scope": forbidden.scope}
        turn.end(notification, course, "suppressed", forbidden.reason, inputs)
        return []
    usable = offers.usable_now(turn, category, course)
    if not usable:
        verdict, reason, inputs = offers.why_none(turn, category, course)
        turn.end(notification, course, verdict, reason, inputs)
    elif (
        profile.preferences.muted and notification.priority != "critical" and not category.mandatory
    ):
        rule = digest.rule_for(category, profile.preferences)
        if muted := preferences.muted_by(notification, profile.preferences, rule):
            turn.end(notification, course, "suppressed", "muted", {"muted": muted})
            return []
    return usable


def _killed(policy: Policy, notification: Notification) -> str | None:
    """The kill switch that stops this notification, if one does."""
    switches = ("all", f"category:{notification.category}", f"campaign:{notification.campaign}")
    return next((switch for switch in switches if switch in policy.kills), None)
