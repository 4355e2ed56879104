"""What recipients and apps say: preferences and destinations.

They change the state and may make what waits due; each is idempotent. Receipts are in
``receipts.py``, cancellations in ``cancel.py``.
"""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import digest, ids, preferences, quiet_hours, sizes, suppression
from streams.core.local_time import resolve_send_at
from streams.core.model import (
    Claim,
    DeadLetter,
    Destination,
    DestinationInput,
    Held,
    OpenDigest,
    PreferenceInput,
    Preferences,
    Retry,
    packed,
)
from streams.core.sizes import text_bytes
from streams.core.turn import Turn

CHOSEN = ("quiet_hours", "snoozed")
"""Reasons to wait that the recipient's preferences gave, and can take back."""
BY_ADDRESS = ("bounced", "soft_bounced", "unregistered")
"""Suppressions that are about the address, not about the person behind it."""


def address_hash(kind: str, address: str) -> str:
    """Key of an address claim: the address itself never leaves its recipient's partition."""
    return ids.digest16("address", kind, address).hex()


def on_preferences(turn: Turn, change: PreferenceInput) -> None:
    """Takes the new preferences; what waited for the old ones is due at once, and re-checked."""
    old = turn.profile.preferences
    if change.replaces is not None and change.replaces != preferences.version_of(old):
        inputs = {"made_from": change.replaces[:64], "present": preferences.version_of(old)}
        return turn.note(turn.subject_id("preferences"), "preferences_outdated", inputs=inputs)
    wished = change.preferences or Preferences()
    size, bound = preferences.preferences_bytes(wished), turn.policy.bounds.preferences_bytes_max
    if size > bound:
        inputs = {"limit": str(bound), "bytes": str(size)}
        turn.dead_letters.append(DeadLetter("preferences_too_large", str(inputs), turn.source))
        return turn.note(turn.subject_id("preferences"), "preferences_too_large", inputs=inputs)
    new, ignored = preferences.usable(wished, turn.policy.bounds)
    if new == old:
        return None
    if ignored:
        turn.note(turn.subject_id("preferences"), "preference_ignored", inputs=ignored)
    turn.profile = replace(turn.profile, preferences=new)
    _opt_back_in(turn, old, new)
    waiting = turn.waiting
    turn.wait(
        held=tuple(_due_again(turn, item, old, new) for item in waiting.held),
        retries=tuple(_retry_again(turn, item) for item in waiting.retries),
        digests=tuple(_reschedule(turn, opened, old, new) for opened in waiting.digests),
    )
    if turn.waiting == waiting:
        turn.waiting = waiting
    return None


def opt_out(turn: Turn, cell: str, at_ms: int) -> bool:
    """Chooses against ``category/channel`` as the recipient would; False when there is no room."""
    old = turn.profile.preferences
    new = replace(
        old, cells={**old.cells, cell: False}, updated_at_ms=max(old.updated_at_ms, at_ms)
    )
    if old.cells.get(cell) is False:
        return True
    too_long = text_bytes(cell) > turn.policy.bounds.id_bytes_max
    if too_long or preferences.preferences_bytes(new) > turn.policy.bounds.preferences_bytes_max:
        return False
    assert turn.source is not None, "a receipt has a source"
    on_preferences(turn, PreferenceInput(turn.recipient_id, new, turn.source))
    return True


def _opt_back_in(turn: Turn, old: Preferences, new: Preferences) -> None:
    """An explicit, later "yes" takes back an unsubscription; a complaint stays.

    Only a choice that changed counts: a record that repeats an old "yes" must not undo what the
    recipient asked for meanwhile.
    """
    if not turn.profile.suppressions:
        return
    scopes = ["all"] if new.default and not old.default else []
    scopes += [
        f"category:{n}" for n, yes in new.categories.items() if yes > bool(old.categories.get(n))
    ]
    scopes += [f"channel:{n}" for n, yes in new.channels.items() if yes > bool(old.channels.get(n))]
    for scope in scopes:
        left = suppression.lift(turn.profile, scope, ("unsubscribed",), new.updated_at_ms)
        if left is not turn.profile.suppressions:
            turn.profile = replace(turn.profile, suppressions=left)
            turn.note(turn.subject_id(scope), "suppression_lifted", inputs={"scope": scope})


def _due_again(turn: Turn, held: Held, old: Preferences, new: Preferences) -> Held:
    """What the old preferences made wait is due now; a local time is the new zone's."""
    if held.reason in CHOSEN:
        return replace(held, due_ms=turn.now_ms)
    if held.send_at_local and new.zone != old.zone:
        due_ms = max(turn.now_ms, resolve_send_at(held.send_at_local, turn.now_ms, new.zone))
        told = held.notification
        if held.lifetime_ms:
            told = replace(told, expires_at_ms=due_ms + held.lifetime_ms)
        return replace(held, told=packed(told), due_ms=min(due_ms, told.expires_at_ms))
    return held


def _retry_again(turn: Turn, retry: Retry) -> Retry:
    return replace(retry, due_ms=turn.now_ms) if retry.waits_for in CHOSEN else retry


def _reschedule(turn: Turn, opened: OpenDigest, old: Preferences, new: Preferences) -> OpenDigest:
    """An open digest under the new preferences: at once, at its new time, or as it was."""
    category = turn.policy.categories.get(opened.category)
    if category is None or opened.opened_by == "rate_limited":
        return opened
    now_ms, span_ms = turn.now_ms, turn.policy.release_jitter_ms
    lead_ms = turn.policy.release_lead_ms
    if opened.opened_by == "quiet_hours":
        until_ms = quiet_hours.quiet_until(new, now_ms)
        if until_ms is None:
            return replace(opened, closes_at_ms=now_ms)
        closes_at_ms = quiet_hours.release_at(
            new, until_ms, opened.expires_at_ms, turn.recipient_id, span_ms, lead_ms
        )
        return replace(opened, closes_at_ms=closes_at_ms)
    rule = digest.rule_for(category, new)
    if rule is None:
        return replace(opened, closes_at_ms=now_ms, closing="digest_choice")
    moved = rule.mode == "calendar" and new.zone != old.zone
    if not moved and rule == digest.rule_for(category, old):
        return opened
    since_ms = now_ms if rule.mode == "calendar" else opened.opened_at_ms
    spread = (turn.recipient_id, span_ms, lead_ms)
    closes_at_ms = digest.close_time(rule, since_ms, now_ms, new.zone, spread)
    return replace(opened, closes_at_ms=max(now_ms, closes_at_ms))


def on_destination(turn: Turn, change: DestinationInput) -> None:
    """Adds, replaces or removes an address; an older registration never undoes a newer one."""
    new = change.destination
    known = next(
        (d for d in turn.profile.destinations if d.destination_id == new.destination_id), None
    )
    if change.removed:
        if known is not None and _takes_away(change, known):
            _forget(turn, known, change.reason)
        return
    if known is not None and known.registered_at_ms >= new.registered_at_ms:
        return
    size, bound = _destination_bytes(new), turn.policy.bounds.destination_bytes_max
    if size > bound:
        inputs = {"limit": str(bound), "bytes": str(size)}
        turn.dead_letters.append(DeadLetter("destination_too_large", str(inputs), turn.source))
        turn.note(turn.subject_id("destinations"), "destination_too_large", inputs=inputs)
        return
    turn.claims.append(
        Claim(
            address_hash(new.kind, new.address),
            turn.recipient_id,
            new.destination_id,
            new.kind,
            new.registered_at_ms,
        )
    )
    if known is not None and known.address != new.address:
        scope = f"destination:{new.destination_id}"
        lifted = suppression.lift(turn.profile, scope, BY_ADDRESS, new.registered_at_ms)
        turn.profile = replace(turn.profile, suppressions=lifted)
    others = (d for d in turn.profile.destinations if d.destination_id != new.destination_id)
    ordered = sorted((*others, new), key=lambda d: (d.registered_at_ms, d.destination_id))
    turn.profile = replace(turn.profile, destinations=tuple(ordered))
    for oldest in ordered[: len(ordered) - turn.policy.bounds.destinations_max]:
        _forget(turn, oldest, "too many addresses")


def _forget(turn: Turn, known: Destination, why: str) -> None:
    left = tuple(d for d in turn.profile.destinations if d is not known)
    turn.profile = replace(turn.profile, destinations=left)
    inputs = {"why": why, "destination": known.destination_id}
    turn.note(known.destination_id, "destination_removed", inputs=inputs)


def _takes_away(change: DestinationInput, known: Destination) -> bool:
    """Is the removal about the address that is known, and not older than its registration?

    A removal names the address, or only its hash (it was claimed by somebody else), or neither.
    """
    gone = change.destination
    if known.registered_at_ms > change.at_ms or (gone.address and gone.address != known.address):
        return False
    claimed = gone.attributes.get("address_hash")
    return claimed is None or claimed == address_hash(known.kind, known.address)


def _destination_bytes(new: Destination) -> int:
    return (
        sizes.text_bytes(new.destination_id)
        + sizes.text_bytes(new.address)
        + sizes.map_bytes(new.attributes)
    )
