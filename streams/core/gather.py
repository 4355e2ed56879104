"""What waits instead of going out: quiet hours, digests and used-up limits applied to a turn."""

from __future__ import annotations

from msgspec.structs import replace

from streams.core import digest, members, preferences, quiet_hours, sizes
from streams.core.model import Notification, OpenDigest
from streams.core.policy import Category, DigestRule
from streams.core.terms import Course, Offer, Refusal
from streams.core.turn import Turn


def in_quiet_hours(
    turn: Turn,
    notification: Notification,
    category: Category,
    usable: list[Offer],
    until_ms: int,
    course: Course,
) -> list[Offer]:
    """The channels that may be used although it is quiet; empty when the matter is concluded."""
    choices, action = turn.profile.preferences, category.quiet_action
    inputs = {"zone": choices.zone, "quiet_until_ms": str(until_ms), "action": action}
    if action == "drop":
        turn.end(notification, course, "dropped", "quiet_hours", inputs)
        return []
    if action == "downgrade":
        soft = [offer for offer in usable if offer.channel in category.downgrade_to]
        if soft:
            return soft
    release_ms = quiet_hours.release_at(
        choices,
        until_ms,
        notification.expires_at_ms,
        turn.recipient_id,
        turn.policy.release_jitter_ms,
        turn.policy.release_lead_ms,
    )
    if action == "digest" and _is_single(notification, course):
        rule = digest.rule_for(category, choices) or category.digest or digest.BY_DEFAULT
        if _absorb_until(turn, notification, rule, release_ms, "quiet_hours"):
            return []
    turn.hold(notification, release_ms, "quiet_hours", inputs, course)
    return []


def absorb(turn: Turn, notification: Notification, rule: DigestRule) -> bool:
    """Gathers an event into its digest; False when it has to go on by itself."""
    if notification.event_id is None:
        return False  # A closed digest is not gathered again.
    key = digest.key_of(rule, notification)
    opened = _find(turn, notification, key)
    if rule.mode == "lookback" and opened is None:
        last_ms = turn.waiting.lookbacks.get(digest.lookback_key(notification.category, key))
        if last_ms is None or turn.now_ms >= last_ms + rule.window_ms:
            return False
        return _put(turn, notification, rule, key, None, last_ms + rule.window_ms)
    if opened is not None and rule.mode != "debounce":
        return _put(turn, notification, rule, key, opened, opened.closes_at_ms)
    opened_at_ms = opened.opened_at_ms if opened else turn.now_ms
    policy = turn.policy
    spread = (turn.recipient_id, policy.release_jitter_ms, policy.release_lead_ms)
    zone = turn.profile.preferences.zone
    closes_at_ms = digest.close_time(rule, opened_at_ms, turn.now_ms, zone, spread)
    return _put(turn, notification, rule, key, opened, closes_at_ms)


def over_limit(
    turn: Turn, notification: Notification, category: Category, refusal: Refusal, course: Course
) -> None:
    """What happens to something that a limit refused."""
    inputs = {"limit": refusal.label, "free_at_ms": str(refusal.free_at_ms)}
    over = refusal.rule.over
    if over == "drop":
        return turn.end(notification, course, "dropped", "rate_limited", inputs)
    if over == "digest" and _is_single(notification, course):
        choices = turn.profile.preferences
        rule = digest.rule_for(category, choices) or category.digest or digest.BY_DEFAULT
        if _absorb_until(turn, notification, rule, refusal.free_at_ms, "rate_limited"):
            return None
    return turn.hold(notification, refusal.free_at_ms, "rate_limited", inputs, course)


def remember_send(turn: Turn, notification: Notification, rule: DigestRule) -> None:
    """Starts a lookback: what follows within its window will be gathered."""
    name = digest.lookback_key(notification.category, digest.key_of(rule, notification))
    waiting, now_ms = turn.waiting, turn.now_ms
    known = waiting.lookbacks
    bound = turn.policy.bounds.lookbacks_max
    if len(known) >= bound and name not in known:
        known = {n: ms for n, ms in known.items() if ms + _lookback_ms(turn, n) > now_ms}
        if len(known) >= bound:
            oldest = min(known, key=lambda n: (known[n], n))
            known = {n: ms for n, ms in known.items() if n != oldest}
    turn.wait_too(replace(waiting, lookbacks={**known, name: now_ms}), None)


def still_wanted(turn: Turn, notification: Notification, mandatory: bool) -> Notification:
    """A digest without the events that expired, or whose actor was muted, while it waited."""
    if not members.has_facts(notification.members, notification.member_facts):
        return notification
    muted = set() if mandatory else preferences.muted_actors(turn.profile.preferences)
    gone = members.unwanted(notification.member_facts, muted, turn.now_ms)
    return members.leave_closed(notification, gone) if gone else notification


def _lookback_ms(turn: Turn, name: str) -> int:
    """Window of the category that a lookback is about; 0 when it has none any more."""
    category = turn.policy.categories.get(name.partition("|")[0])
    rule = digest.rule_for(category, turn.profile.preferences) if category else None
    return rule.window_ms if rule is not None and rule.mode == "lookback" else 0


def _is_single(notification: Notification, course: Course) -> bool:
    """Only an event is gathered: no closed digest, and no later step of an escalation."""
    return notification.event_id is not None and course.is_new


def _find(turn: Turn, notification: Notification, key: str) -> OpenDigest | None:
    """The open digest of this kind. Campaigns never mix: a kill switch stops one of them."""
    for opened in turn.waiting.digests:
        if (
            opened.key == key
            and opened.category == notification.category
            and opened.campaign == notification.campaign
        ):
            return opened
    return None


def _absorb_until(
    turn: Turn, notification: Notification, rule: DigestRule, closes_at_ms: int, by: str
) -> bool:
    """Puts an event into the open digest of its key, or a new one, that closes then."""
    key = digest.key_of(rule, notification)
    return _put(turn, notification, rule, key, _find(turn, notification, key), closes_at_ms, by)


def _put(
    turn: Turn,
    notification: Notification,
    rule: DigestRule,
    key: str,
    opened: OpenDigest | None,
    closes_at_ms: int,
    by: str = "",
) -> bool:
    """Puts an event into ``opened``, or a new digest, that closes then.

    An event that would expire first is not gathered: it goes on alone, in time. For the same
    reason a digest never stays open longer than the first of its events may wait.
    """
    now_ms, bounds = turn.now_ms, turn.policy.bounds
    closes_at_ms = max(closes_at_ms, now_ms + 1)
    is_new = opened is None
    if opened is not None and closes_at_ms > opened.closes_at_ms:
        first_ms = members.first_expiry_ms(opened.member_facts)
        if first_ms is not None:
            closes_at_ms = min(closes_at_ms, first_ms - 1)
    if opened is not None:
        closes_at_ms = max(closes_at_ms, opened.closes_at_ms)
    if notification.expires_at_ms <= closes_at_ms:
        return False
    if opened is None:
        _make_room(turn)
        opened = digest.open_digest(
            notification, key, turn.recipient_id, turn.partition, now_ms, by
        )
    member = turn.hash_of(notification.event_id or "")
    grown = digest.add(opened, notification, rule, closes_at_ms, now_ms, bounds, member)
    if digest.is_full(grown, rule):
        grown = replace(grown, closes_at_ms=now_ms, closing="digest_full")
    elif not turn.has_room(sizes.digest_bytes(grown) - sizes.digest_bytes(opened)):
        grown = replace(grown, closes_at_ms=now_ms, closing="digest_crowded")
    waiting, closes_at_ms = turn.waiting, grown.closes_at_ms
    known = waiting.digests  # In the order of their opening.
    if is_new:
        turn.wait_too(replace(waiting, digests=(*known, grown)), closes_at_ms)
    else:
        changed = replace(
            waiting, digests=tuple([grown if one is opened else one for one in known])
        )
        if closes_at_ms <= opened.closes_at_ms:
            turn.wait_too(changed, closes_at_ms)
        else:
            turn.waiting = changed
    turn.conclude(
        notification,
        "digested",
        "digested",
        {"mode": rule.mode, "key": key, "because": by or "digest rule"},
        until_ms=closes_at_ms,
        digest_id=grown.digest_id,
    )
    return True


def _make_room(turn: Turn) -> None:
    """At the bound of open digests the one that closes first closes now."""
    digests = turn.waiting.digests
    if len(digests) >= turn.policy.bounds.digests_max:
        first = min(digests, key=lambda d: (d.closes_at_ms, d.digest_id))
        others = tuple(d for d in digests if d is not first)
        early = replace(first, closes_at_ms=turn.now_ms, closing="digest_crowded")
        turn.wait(digests=(*others, early))
