"""The decision: (state, input, time, policy) -> (next state, effects, when to be called again).

Read this file to understand the product. ``accept`` takes an event through rules 1 to 3, and
``settle`` takes a notification (an event, a closed digest, something released) through rules 4
to 9. Each rule is a module of its own beside this one; here is their order, and nothing else
decides it. What is due is always released before the input is applied (and what the input made
due, such as a digest that it filled, right after), and what is released passes every rule again:
who opted out meanwhile gets nothing.

Invariants: the same arguments give the same bytes; no argument is changed; every accepted event
leaves at least one entry, and the last one either ends it or says what it waits for.
"""

from __future__ import annotations

from streams.core import (
    cancel,
    control,
    dedupe,
    digest,
    gather,
    ids,
    limits,
    preferences,
    quiet_hours,
    release,
    retries,
    routing,
    suppression,
    validate,
)
from streams.core.local_time import resolve_send_at
from streams.core.model import (
    Cancellation,
    DeadLetter,
    Decision,
    DestinationInput,
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
from streams.core.turn import Turn

_RANK = {"critical": 0, "normal": 1, "bulk": 2}


def decide(
    state: RecipientState,
    input: Input,  # noqa: A002
    now_ms: int,
    policy: Policy,
) -> Decision:
    """Decides one input for one recipient at ``now_ms`` (Unix ms). Never raises for bad input."""
    turn = Turn(state, now_ms, policy, None)
    release.release_due(turn, settle)
    if isinstance(input, Wake):
        return turn.decision()
    turn.source = input.source
    if isinstance(input, EventInput):
        accept(turn, input.event)
    elif isinstance(input, Feedback):
        retries.on_feedback(turn, input, settle)
    elif isinstance(input, PreferenceInput):
        control.on_preferences(turn, input)
    elif isinstance(input, DestinationInput):
        control.on_destination(turn, input)
    elif isinstance(input, Receipt):
        control.on_receipt(turn, input)
    elif isinstance(input, Cancellation):
        cancel.on_cancellation(turn, input)
    release.release_due(turn, settle)
    return turn.decision()


def accept(turn: Turn, event: Event) -> None:
    """Rules 1 to 3: is it a usable, new, still wanted event?"""
    policy, now_ms = turn.policy, turn.now_ms
    id_hash = ids.event_digest(event.event_id, turn.recipient_id)
    subject_id = ids.to_id(turn.partition, id_hash)

    # 1. validate
    fault = validate.fault_of(event, policy, now_ms)
    if fault is not None:
        notification = _notification(turn, event, subject_id, None)
        turn.dead_letters.append(DeadLetter(fault.reason, str(fault.inputs), turn.source))
        turn.conclude(notification, "dead_lettered", fault.reason, fault.inputs)
        return
    category = policy.categories[event.category]
    notification = _notification(turn, event, subject_id, category)

    # 2. dedupe
    content = dedupe.content_hash(event)
    seen = dedupe.check(turn.activity, id_hash[:8], content, now_ms, policy)
    if seen != "new":
        turn.conclude(notification, seen, seen)
        return
    turn.activity, fits = dedupe.remember(turn.activity, id_hash[:8], content, now_ms, policy)
    if not fits:
        turn.event_inputs["dedupe_overflow"] = str(policy.bounds.seen_per_hour_max)

    # 3. cancelled, superseding, collapsing, scheduled (expiry and kill switch: in settle)
    if cancel.was_cancelled(turn, event.event_id):
        turn.conclude(notification, "cancelled", "cancelled_before_arrival")
        return
    if event.supersedes is not None:
        cancel.withdraw(turn, event.supersedes, None, "superseded", {"by": event.event_id})
    if event.collapse_key is not None:
        cancel.withdraw(turn, None, event, "collapsed", {"by": event.event_id})
    send_at_ms = _send_at(turn, event)
    if send_at_ms is not None and send_at_ms > now_ms < notification.expires_at_ms:
        turn.hold(notification, send_at_ms, "scheduled")
        return
    settle(turn, notification)


def settle(
    turn: Turn,
    notification: Notification,
    step: int = 0,
    without: str | None = None,
    reason: str = "routed",
) -> None:
    """Rules 3 to 9 on something to tell: ends it, lets it wait, or sends it.

    ``step`` starts further down the order of channels (escalation), ``without`` leaves a channel
    out (its last address is gone).
    """
    policy, now_ms, profile = turn.policy, turn.now_ms, turn.profile
    critical = notification.priority == "critical"

    # 3. expired, stopped
    category = policy.categories.get(notification.category)
    if category is None:
        inputs = {"category": notification.category}
        turn.dead_letters.append(DeadLetter("unknown_category", str(inputs), turn.source))
        return turn.conclude(notification, "dead_lettered", "unknown_category", inputs)
    if notification.expires_at_ms <= now_ms:
        return turn.conclude(notification, "expired", "expired")
    if policy.kills and (switch := _killed(policy, notification)):
        return turn.conclude(notification, "dropped", "killed", {"switch": switch})

    # 4. suppression, 5. preferences
    if forbidden := suppression.of_everything(profile, notification.category, now_ms):
        inputs = {"scope": forbidden.scope}
        return turn.conclude(notification, "suppressed", forbidden.reason, inputs)
    usable, closed = routing.offers(profile, category, policy, now_ms, step, without)
    if not usable:
        why, inputs = routing.why_not(closed)
        return turn.conclude(notification, "noted" if step else "suppressed", why, inputs)
    muted = None if critical else preferences.muted_by(notification, profile.preferences)
    if muted is not None and not category.mandatory:
        return turn.conclude(notification, "suppressed", "muted", {"muted": muted})

    # 6. quiet hours (a snooze is one that the recipient made just now)
    if not critical:
        snooze_ms = profile.preferences.snooze_until_ms
        if snooze_ms > now_ms:
            return turn.hold(notification, snooze_ms, "snoozed", step=step)
        until_ms = quiet_hours.quiet_until(profile.preferences, now_ms)
        if until_ms is not None:
            usable = gather.in_quiet_hours(turn, notification, category, usable, until_ms, step)
            if not usable:
                return None

        # 7. digest
        rule = None if step else digest.rule_for(category, profile.preferences)
        if rule is not None and gather.absorb(turn, notification, rule):
            return None

    # 8. rate limit
    allowed, charged, refusal = limits.allowed(turn, category, usable, critical)
    if refusal is not None:
        return gather.over_limit(turn, notification, category, refusal, step)
    limits.charge(turn, charged)

    # 9. route
    inputs = {}
    if category.route == "escalate":
        inputs = routing.schedule_escalation(turn, notification, category, allowed[0].step)
    gather.remember_send(turn, notification, category)
    return routing.send(turn, notification, category, allowed, inputs, reason)


def _notification(
    turn: Turn, event: Event, subject_id: str, category: Category | None
) -> Notification:
    """The event as something to tell, with its priority and expiry settled."""
    source = turn.source
    appended_at_ms = source.appended_at_ms if source else turn.now_ms
    priority = category.priority if category else "normal"
    if event.priority is not None and _RANK[event.priority] > _RANK[priority]:
        priority = event.priority
    expires_at_ms = appended_at_ms + (category.expires_after_ms if category else 0)
    if event.expires_at_ms is not None:
        expires_at_ms = event.expires_at_ms
    elif event.send_at_ms is not None or event.send_at_local is not None:
        expires_at_ms += max(0, (_send_at(turn, event) or 0) - appended_at_ms)
    return Notification(
        subject_id,
        event.category,
        priority,
        event.created_at_ms,
        appended_at_ms,
        expires_at_ms,
        event.data,
        event.event_id,
        None,
        1,
        1 if event.actor_id else 0,
        (),
        event.collapse_key,
        event.campaign,
        event.actor_id,
    )


def _send_at(turn: Turn, event: Event) -> int | None:
    if event.send_at_local is None:
        return event.send_at_ms
    try:
        zone = turn.profile.preferences.zone
        return resolve_send_at(event.send_at_local, turn.now_ms, zone)
    except (ValueError, OverflowError):
        return None  # Validation answers this; here it only must not raise.


def _killed(policy: Policy, notification: Notification) -> str | None:
    """The kill switch that stops this notification, if one does."""
    switches = ("all", f"category:{notification.category}", f"campaign:{notification.campaign}")
    return next((switch for switch in switches if switch in policy.kills), None)
