"""Every reason that a dead letter can have: what it means, whose mistake it is, what redrive does.

``docs/reasons.md`` has this table, the page of dead letters shows its meanings, and a test fails
when the code gives a reason that is not in it. What is sent to try one again is in ``redrive.py``.
"""

from __future__ import annotations

import msgspec


class Cause(msgspec.Struct, frozen=True):
    """A reason of dead letters."""

    code: str
    meaning: str
    whose: str
    """Who can mend the cause."""
    redrive: str
    """What trying it again comes to."""


_SAME = "It ends the same way: send a right one instead."
_SENT = "Every rule is asked again, and it is sent with the ids it had, from the first attempt."
_TABLE = (
    # what cannot be read
    Cause("empty", "The record has an empty value.", "its producer", _SAME),
    Cause("undecodable", "The record has no value where one is needed.", "its producer", _SAME),
    Cause("too_large", "The value is larger than 1 MiB and is not read.", "its producer", _SAME),
    Cause(
        "bad_magic",
        "The value is in neither of the two Avro formats: it was written without a serializer, or "
        "with another one (JSON, Protobuf).",
        "its producer",
        _SAME,
    ),
    Cause(
        "unknown_schema",
        "The schema that it was written with is not known: the registry has not got it, or no "
        "registry is configured.",
        "its producer, or the operator (`[registry] url`)",
        "It is decided, once the schema is known.",
    ),
    Cause(
        "incompatible_schema",
        "The schema that it was written with cannot be read as ours; it lacks a field, or has one "
        "of another type.",
        "its producer, and the registry's compatibility (`FULL_TRANSITIVE`)",
        "It ends the same way, also when the subject has a better version: this record names the "
        "old one. Send it again with that.",
    ),
    Cause(
        "malformed",
        "The bytes are not what their schema says, or were sealed with another `privacy.hash_key`.",
        "its producer, or the operator (a role with another key)",
        "It ends the same way, unless it was the key.",
    ),
    # what was read and cannot be decided
    Cause(
        "unknown_category",
        "The catalogue has no such category.",
        "its producer, or the operator (the category is missing)",
        "It is decided, once the catalogue has the category. What was held or gathered when its "
        "category was taken away has no way back.",
    ),
    Cause("empty_id", "The event_id or the recipient_id is empty.", "its producer", _SAME),
    Cause(
        "id_too_long",
        "An id or a name in it is too long.",
        "its producer, or the operator (`[bounds] id_bytes_max`)",
        "It is decided, once the bound allows it.",
    ),
    Cause(
        "event_too_large",
        "Its data are too large, or the whole record is larger than 256 KiB.",
        "its producer, or the operator (`[bounds] event_bytes_max`)",
        "It is decided, once the bound allows it; a record of more than 256 KiB never is.",
    ),
    Cause(
        "too_many_fields",
        "The event has too many data fields.",
        "its producer, or the operator (`[bounds] data_fields_max`)",
        "It is decided, once the bound allows it.",
    ),
    Cause(
        "missing_field",
        "Its category `requires` a field that it has not got.",
        "its producer, or the operator (`requires`)",
        "It is decided, once the category no longer requires the field.",
    ),
    Cause("bad_time", "One of its times cannot be used.", "its producer", _SAME),
    Cause(
        "too_far_ahead",
        "It is to be sent further ahead than is allowed.",
        "its producer, or the operator (`[bounds] future_max`)",
        "It is decided, once its time is near enough.",
    ),
    Cause(
        "preferences_too_large",
        "The choices of one recipient are too large; those of before hold.",
        "its producer, or the operator (`[bounds] preferences_bytes_max`)",
        "They replace the present ones, once the bound allows it: also newer ones.",
    ),
    Cause(
        "destination_too_large",
        "The address is too long.",
        "its producer, or the operator (`[bounds] destination_bytes_max`)",
        "It is registered, once the bound allows it.",
    ),
    # what was decided and cannot be sent
    Cause(
        "attempts_exhausted",
        "So many attempts failed as its category allows.",
        "the provider, or the operator (credentials, `[defaults.retry]`)",
        _SENT,
    ),
    Cause(
        "stale_exhausted",
        "It came too late at its sink again and again: deliver does not keep up, or its provider "
        "was switched off or away for long.",
        "the operator, or the provider",
        _SENT,
    ),
    Cause(
        "retries_overflow",
        "Too many deliveries to this recipient wait for another attempt.",
        "the provider, or the operator (`[bounds] retries_max`, `waiting_bytes_max`)",
        _SENT,
    ),
    Cause(
        "no_provider",
        "No provider is configured for this kind of destination.",
        "the operator (`[providers.NAME]`)",
        _SENT + " Without a provider it ends the same way.",
    ),
)
CAUSES = {cause.code: cause for cause in _TABLE}
