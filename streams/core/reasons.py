"""Every reason a verdict can have, with the rule that gives it and a sentence for people.

``docs/reasons.md`` is generated from this table, and a test fails when a rule uses a code that
is not in it. A sentence may name inputs of the entry in braces.
"""

from __future__ import annotations

import msgspec


class Reason(msgspec.Struct, frozen=True, gc=False):
    """A code's meaning."""

    code: str
    rule: str
    sentence: str


_TABLE = (
    # 1. validate
    Reason("unknown_category", "validate", "The catalogue has no category {category}."),
    Reason("empty_id", "validate", "The {field} is empty."),
    Reason("id_too_long", "validate", "The {field} is longer than {limit} bytes."),
    Reason("event_too_large", "validate", "The event is larger than {limit} bytes."),
    Reason("too_many_fields", "validate", "The event has more than {limit} data fields."),
    Reason("missing_field", "validate", "Its category needs {field}, and the event has none."),
    Reason("bad_time", "validate", "{field} is not a usable time: {value}."),
    Reason("too_far_ahead", "validate", "send_at is further ahead than the {limit} allowed."),
    # 2. dedupe
    Reason("duplicate", "dedupe", "An event with this id was accepted before."),
    Reason("conflict", "dedupe", "An event with this id but another content was accepted before."),
    Reason(
        "dedupe_overflow",
        "dedupe",
        "So many events came that no more than {limit} of this hour are remembered: "
        "repeats of later ones go unnoticed.",
    ),
    # 3. cancelled, expired, stopped, scheduled
    Reason("cancelled", "cancel", "It was cancelled before it was sent."),
    Reason("cancelled_before_arrival", "cancel", "Its cancellation came before it did."),
    Reason("too_late_to_cancel", "cancel", "A withdrawal came after it had been handed over."),
    Reason("cancel_remembered", "cancel", "It is not known yet; it will be cancelled on arrival."),
    Reason("superseded", "cancel", "A newer event replaced it."),
    Reason("collapsed", "cancel", "A newer event with the same collapse key replaced it."),
    Reason("expired", "expire", "It expired before it could be sent."),
    Reason("killed", "kill_switch", "The kill switch {switch} is on."),
    Reason("scheduled", "schedule", "It was asked to be sent later."),
    # 4. suppression
    Reason("unsubscribed", "suppression", "The recipient unsubscribed ({scope})."),
    Reason("complained", "suppression", "The recipient complained about messages ({scope})."),
    Reason("bounced", "suppression", "Messages to this address bounced ({scope})."),
    Reason("soft_bounced", "suppression", "A message to this address bounced lately ({scope})."),
    Reason("unregistered", "suppression", "The provider says that the address is gone ({scope})."),
    Reason("forgotten", "suppression", "The recipient asked to be forgotten."),
    Reason("suppression_added", "suppression", "Suppressed from now on: {scope} ({why})."),
    Reason("suppression_lifted", "suppression", "The recipient opted in again: {scope}."),
    # 5. preferences
    Reason("opted_out", "preferences", "The recipient does not want it ({cell})."),
    Reason("muted", "preferences", "The recipient muted {muted}."),
    Reason("snoozed", "preferences", "The recipient snoozed notifications."),
    Reason("preference_ignored", "preferences", "Some of the preferences could not be used."),
    Reason(
        "preferences_outdated",
        "preferences",
        "A change of preferences was made from older ones than these, and was refused.",
    ),
    # 6. quiet hours
    Reason("quiet_hours", "quiet_hours", "It is quiet time for the recipient ({zone})."),
    # 7. digest
    Reason("digested", "digest", "It was gathered into a digest ({mode})."),
    Reason("digest_due", "digest", "The digest's time came."),
    Reason("digest_full", "digest", "The digest was full with {events} events."),
    Reason("digest_crowded", "digest", "The digest had to close: too much waits for one person."),
    Reason("digest_choice", "digest", "The recipient chose to be told at once."),
    Reason("digest_empty", "digest", "Everything in the digest had been withdrawn."),
    # 8. rate limit
    Reason("rate_limited", "rate_limit", "The limit {limit} was used up."),
    # 9. route, answers
    Reason("routed", "routing", "Handed over for sending ({cell})."),
    Reason("released", "routing", "It had waited, and was handed over for sending ({cell})."),
    Reason("digest_sent", "routing", "The digest was handed over for sending ({cell})."),
    Reason("escalated", "routing", "Not seen in time: the next channel is tried ({cell})."),
    Reason("escalation_ended", "routing", "No further channel is needed ({by})."),
    Reason("step_ended", "routing", "A further channel was waiting, and is not needed ({by})."),
    Reason("fallback", "routing", "The address was gone: another channel is tried ({cell})."),
    Reason("no_destination", "routing", "The recipient has no usable address on {channels}."),
    Reason("retry_scheduled", "retry", "The provider could not take it ({answer}); trying again."),
    Reason("retried", "retry", "Attempt {attempt}."),
    Reason("retry_ended", "retry", "No further attempt is needed ({by})."),
    Reason("decided_again", "retry", "It waited too long at the sink and was decided again."),
    Reason("redriven", "retry", "An operator sent it again."),
    Reason("attempts_exhausted", "retry", "{attempts} attempts failed ({answer})."),
    Reason("stale_exhausted", "retry", "It came too late at its sink {times} times."),
    Reason("rejected", "retry", "The provider refused it ({answer})."),
    Reason("no_provider", "retry", "No provider is configured for {kind}."),
    Reason("replaced", "retry", "A newer message with the same collapse key took its place."),
    Reason(
        "ambiguous_given_up",
        "retry",
        "Nobody knows whether the provider took it, and its category does not risk a repeat.",
    ),
    # bounds and changes
    Reason("held_overflow", "bounds", "Too much already waits for this person ({limit})."),
    Reason("retries_overflow", "bounds", "Too many deliveries already wait ({limit})."),
    Reason("preferences_too_large", "bounds", "The preferences are larger than {limit} bytes."),
    Reason("destination_too_large", "bounds", "The address is larger than {limit} bytes."),
    Reason("destination_removed", "destinations", "The address was removed ({why})."),
    Reason("undecodable", "decode", "The record could not be read."),
)
REASONS = {reason.code: reason for reason in _TABLE}
RULES = {reason.code: reason.rule for reason in _TABLE}
"""Code -> rule that gives it."""


class _Blank(dict[str, str]):
    """Names a missing input instead of failing: an explanation must never raise."""

    def __missing__(self, key: str) -> str:
        return f"[{key}]"


def sentence(code: str, inputs: dict[str, str]) -> str:
    """The code in words, with the entry's inputs filled in."""
    reason = REASONS.get(code)
    if reason is None:
        return code
    return reason.sentence.format_map(_Blank(inputs))
